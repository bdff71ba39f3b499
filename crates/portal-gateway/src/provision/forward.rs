//! Forwarding: the batch as the registry side gets it, and its answers sorted back to the requests.

use common::{
    alarm::Alarm,
    digest::RandomFailed,
    evidence::{Outcome as Recorded, Salt, answer_sha256, open_receipt},
    identity::Role,
    policy::Policy,
    projection::{Mask, OutsideMask, Projected},
    refusal::Reason,
    terms::LinkageCode,
};
use koseki_proto::koseki::{
    common::v1::RequesterCopyInfo,
    evidence::v1::ReceiptItem,
    linkage::v1::{
        ConsentRef, Eligibility, EligibilityItem, ItemResult, NotLookedUpReason, ProvideCopyInfoRequest,
        ProvideCopyInfoResponse, ProvideItem, item_result::Outcome as ItemOutcome,
    },
};

use super::{Asked, Provision, proofs::Proofs};
use crate::{
    conditions::{Clearance, Cleared},
    provider_link::ProviderLink,
    recorded_answers::requests_sha256,
};

/// What goes over the line for one request.
enum Line {
    /// The code of a clearance.
    Clear(Clearance),
    /// A random code, and nothing of the person.
    Cover(LinkageCode, &'static str),
    /// Nothing.
    Refused(Reason),
}

/// A batch on its way.
pub(super) struct Forwarded<'a> {
    /// The instance that it goes to, for the whole of its life.
    link: &'a ProviderLink,
    /// Name of the instance's log.
    provider_log: String,
    asked: &'a [Asked],
    lines: Vec<Line>,
    /// SHA-256 of the last eligibility that was signed for it: the registry side may have recorded it.
    eligibility_sha256: Option<[u8; 32]>,
}

/// What came back for one request, or what it was refused for before.
pub(super) enum Answer {
    /// Items within the mask, for a clearance.
    Provided(Projected, Clearance),
    /// The register refusal, with this side's cause, if it has one.
    NotProvided(Option<&'static str>),
    /// Another refusal.
    Refused(Reason),
}

/// A batch that has come back.
pub(super) struct Answered {
    /// One a request, in order.
    pub answers: Vec<Answer>,
    /// SHA-256 of the eligibility; `None` when none was answered.
    pub eligibility_sha256: Option<[u8; 32]>,
    /// What the registry side's receipt says; `None` when there is no answer.
    pub received: Option<Received>,
}

impl Answered {
    /// Nothing was forwarded: what was not refused already is not decided.
    pub(super) fn none(cleared: Vec<Cleared>) -> Self {
        let answers = cleared.into_iter().map(|cleared| match cleared {
            Cleared::Refused(reason) => Answer::Refused(reason),
            Cleared::Clear(_) | Cleared::Cover { .. } => Answer::Refused(Reason::Unavailable),
        });
        Self {
            answers: answers.collect(),
            eligibility_sha256: None,
            received: None,
        }
    }
}

impl<'a> Forwarded<'a> {
    /// Makes the lines; without randomness there are no cover items, and then nothing is forwarded.
    pub(super) fn new(
        link: &'a ProviderLink,
        provider_log: String,
        asked: &'a [Asked],
        cleared: Vec<Cleared>,
    ) -> Result<Self, Vec<Cleared>> {
        let covers = cleared
            .iter()
            .filter(|one| matches!(one, Cleared::Cover { .. }))
            .map(|_| LinkageCode::random());
        let Ok(mut covers) = covers.collect::<Result<Vec<_>, RandomFailed>>() else {
            return Err(cleared);
        };
        let lines = cleared.into_iter().map(|one| match one {
            Cleared::Clear(clearance) => Line::Clear(clearance),
            Cleared::Cover { cause, .. } => match covers.pop() {
                Some(code) => Line::Cover(code, cause),
                None => Line::Refused(Reason::Unavailable),
            },
            Cleared::Refused(reason) => Line::Refused(reason),
        });
        Ok(Self {
            link,
            provider_log,
            asked,
            lines: lines.collect(),
            eligibility_sha256: None,
        })
    }

    /// The line to the instance that it goes to.
    pub(super) fn link(&self) -> &'a ProviderLink {
        self.link
    }

    /// The requests.
    pub(super) fn asked(&self) -> &'a [Asked] {
        self.asked
    }

    /// Leaves out what has no login proof to go with it, cover items as all others (I6).
    pub(super) fn leave_out_unproven(&mut self, proofs: &Proofs) {
        for (asked, line) in self.asked.iter().zip(&mut self.lines) {
            let sent = matches!(line, Line::Clear(_) | Line::Cover(..));
            if sent && proofs.of_session(&asked.session).is_none() {
                *line = Line::Refused(Reason::Unavailable);
            }
        }
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.sent().next().is_none()
    }

    /// What is sent, with the code to look up and the clearance that it stands on.
    fn sent(&self) -> impl Iterator<Item = (&Asked, &LinkageCode, Option<&Clearance>)> {
        self.asked
            .iter()
            .zip(&self.lines)
            .filter_map(|(asked, line)| match line {
                Line::Clear(clearance) => Some((asked, clearance.code(), Some(clearance))),
                Line::Cover(code, _) => Some((asked, code, None)),
                Line::Refused(_) => None,
            })
    }

    /// The gateway's word for the batch.
    fn eligibility(&self, provision: &Provision, policy: &Policy) -> Eligibility {
        let item = |(asked, code, clearance): (&Asked, &LinkageCode, Option<&Clearance>)| EligibilityItem {
            request_id: asked.request_id.to_string(),
            kind: asked.kind.to_proto().into(),
            procedure: asked.procedure.as_str().to_owned(),
            linkage_handle: code.handle().expose().to_vec(),
            session_sha256: clearance.map(|_| asked.session.to_vec()).unwrap_or_default(),
            logged_in_at: clearance.map(|clearance| clearance.logged_in_at().to_proto()),
            consent: clearance.map(Clearance::consent).map(|consent| ConsentRef {
                consent_id: consent.id.to_string(),
                text_sha256: consent.text_sha256.to_vec(),
                given_at: Some(consent.given_at.to_proto()),
                expires_at: Some(consent.expires_at.to_proto()),
            }),
            cover: clearance.is_none(),
            login_proof_sha256: clearance
                .map(|clearance| clearance.proof_sha256().to_vec())
                .unwrap_or_default(),
        };
        Eligibility {
            gateway_instance: provision.instance.clone(),
            provider_log: self.provider_log.clone(),
            sequence: self.link.next_sequence(),
            policy_sha256: policy.sha256.to_vec(),
            signed_at: Some(provision.clock.now().to_proto()),
            items: self.sent().map(item).collect(),
        }
    }

    /// The call's message, under a sequence number of its own, with the login proofs that there are.
    pub(super) fn request(
        &mut self,
        provision: &Provision,
        proofs: &Proofs,
        policy: &Policy,
    ) -> ProvideCopyInfoRequest {
        let eligibility = self.eligibility(provision, policy);
        let (envelope, sha256) = provision.signer.sign(&eligibility);
        self.eligibility_sha256 = Some(sha256);
        let items = self.sent().map(|(asked, code, clearance)| ProvideItem {
            request_id: asked.request_id.to_string(),
            linkage_code: code.expose().to_vec(),
            login_proof: clearance.and_then(|_| proofs.of_session(&asked.session).cloned()),
        });
        ProvideCopyInfoRequest {
            eligibility: Some(envelope),
            items: items.collect(),
        }
    }

    /// No answer came: whatever was sent is not decided, cover items like all others.
    pub(super) fn unanswered(self) -> Answered {
        let answers = self.lines.into_iter().map(|line| match line {
            Line::Refused(reason) => Answer::Refused(reason),
            Line::Clear(_) | Line::Cover(..) => Answer::Refused(Reason::Unavailable),
        });
        Answered {
            answers: answers.collect(),
            eligibility_sha256: self.eligibility_sha256,
            received: None,
        }
    }

    /// Sorts the results back. They must be as many as were sent, in order, each with its request's id.
    pub(super) fn answered(
        self,
        response: ProvideCopyInfoResponse,
        provision: &Provision,
        policy: &Policy,
    ) -> Answered {
        let instance = self.link.instance();
        let in_order = response.results.len() == self.sent().count()
            && self
                .sent()
                .zip(&response.results)
                .all(|((asked, ..), result)| result.request_id == asked.request_id.to_string());
        if !in_order {
            tracing::error!(instance, "the registry side's results do not fit the batch");
            return self.unanswered();
        }
        let Some(received) = self.receipt(&response, provision) else {
            tracing::error!(
                instance,
                "the registry side's receipt does not fit its answers: they are withheld"
            );
            provision.alarms.raise(Alarm::ReceiptRefused, instance);
            return self.unanswered();
        };
        // What was looked up has a login that the registry side has verified.
        let looked_up = self
            .sent()
            .zip(&response.results)
            .filter(|((.., clearance), result)| {
                clearance.is_some()
                    && matches!(
                        result.outcome,
                        Some(ItemOutcome::Provided(_) | ItemOutcome::NotProvided(_))
                    )
            })
            .map(|((asked, ..), _)| asked.session);
        self.link.remember_proven(&self.provider_log, looked_up);
        let mut results = response.results.into_iter();
        let answers = self.asked.iter().zip(self.lines).map(|(asked, line)| match line {
            Line::Refused(reason) => Answer::Refused(reason),
            Line::Clear(clearance) => match results.next().and_then(|result| result.outcome) {
                Some(ItemOutcome::Provided(provided)) => match within_mask(policy, asked, provided.info) {
                    Ok(info) => Answer::Provided(info, clearance),
                    Err(OutsideMask(field)) => {
                        tracing::error!(
                            request_id = %asked.request_id,
                            field,
                            "the registry side's answer is outside the policy's mask: it is withheld"
                        );
                        provision.alarms.raise(Alarm::AnswerOutsideMask, instance);
                        Answer::Refused(Reason::Unavailable)
                    }
                },
                Some(ItemOutcome::NotProvided(_)) => Answer::NotProvided(None),
                Some(ItemOutcome::NotLookedUp(refused)) => {
                    provision.hear_of_login(instance, refused.reason());
                    not_looked_up(refused.reason(), None)
                }
                None => Answer::Refused(Reason::Unavailable),
            },
            // This side's verdict stays; but what would have stopped any other request stops this one too.
            Line::Cover(_, cause) => match results.next().and_then(|result| result.outcome) {
                Some(ItemOutcome::NotProvided(_)) => Answer::NotProvided(Some(cause)),
                Some(ItemOutcome::NotLookedUp(refused)) => not_looked_up(refused.reason(), Some(cause)),
                Some(ItemOutcome::Provided(_)) | None => Answer::Refused(Reason::Unavailable),
            },
        });
        let answers = answers.collect();
        Answered {
            answers,
            eligibility_sha256: self.eligibility_sha256,
            received: Some(received),
        }
    }

    /// The receipt, when it is this log's word for exactly these answers to exactly this batch.
    fn receipt(&self, response: &ProvideCopyInfoResponse, provision: &Provision) -> Option<Received> {
        let provider_log = self.provider_log.as_str();
        let origin = provision.evidence.origin_of(Role::KosekiProvider, provider_log);
        let receipt = open_receipt(response.receipt.as_ref()?, &origin, &provision.evidence.known)?;
        let fits = receipt.log == provider_log
            && receipt.gateway_instance == provision.instance
            && receipt.eligibility_sha256 == self.eligibility_sha256?
            && receipt.items.len() == response.results.len();
        let items = receipt.items.iter().zip(&response.results);
        let answers = items
            .map(|(item, result)| {
                (item.request_id == result.request_id).then(|| ReceivedAnswer::of(item, result))?
            })
            .collect::<Option<Vec<_>>>()?;
        let ids = receipt.items.iter().map(|item| item.request_id.as_str());
        let requests_sha256 = requests_sha256(ids);
        let mut answers = answers.into_iter();
        let of_line = |line: &Line| match line {
            Line::Refused(_) => None,
            Line::Clear(_) | Line::Cover(..) => answers.next(),
        };
        fits.then(|| Received {
            log: receipt.log,
            bundle: receipt.bundle,
            requests_sha256,
            answers: self.lines.iter().map(of_line).collect(),
        })
    }
}

/// What the registry side's receipt says of a batch.
pub(super) struct Received {
    /// Its log.
    pub log: String,
    /// The bundle in it.
    pub bundle: u64,
    /// The requests that were answered.
    pub requests_sha256: [u8; 32],
    /// One a request, in order; `None` for what was not sent.
    pub answers: Vec<Option<ReceivedAnswer>>,
}

/// What was answered to one request, as the receipt has it.
pub(super) struct ReceivedAnswer {
    /// The digest; empty when nothing was provided.
    pub sha256: Vec<u8>,
    /// The salt of the digest.
    pub salt: Salt,
}

impl ReceivedAnswer {
    /// The receipt's word for one result, when it fits it.
    fn of(item: &ReceiptItem, result: &ItemResult) -> Option<Self> {
        let Some(ItemOutcome::Provided(provided)) = &result.outcome else {
            return (item.answer_sha256.is_empty() && item.outcome() != Recorded::Released).then_some(Self {
                sha256: Vec::new(),
                salt: [0; 32],
            });
        };
        let salt = provided.salt.as_slice().try_into().ok()?;
        let sha256 = answer_sha256(&salt, provided.info.as_ref()?);
        (item.outcome() == Recorded::Released && item.answer_sha256 == sha256).then(|| Self {
            sha256: sha256.to_vec(),
            salt,
        })
    }
}

/// What this side's own policy lets through for what was asked (I7): the registry side's word is not enough.
fn within_mask(
    policy: &Policy,
    asked: &Asked,
    info: Option<RequesterCopyInfo>,
) -> Result<Projected, OutsideMask> {
    let info = info.ok_or(OutsideMask("the answer"))?;
    let provision = policy
        .provision(asked.kind, &asked.procedure)
        .ok_or(OutsideMask("the procedure"))?;
    Mask::of(provision).check(info)
}

/// A login that only the registry side refuses is told of nobody but operators: a cover item has no login to refuse, so
/// whoever heard of it would know that theirs was no cover item (I6).
fn not_looked_up(reason: NotLookedUpReason, cause: Option<&'static str>) -> Answer {
    match reason {
        NotLookedUpReason::Suspended => Answer::Refused(Reason::ProvisionSuspended),
        NotLookedUpReason::RequestIdUsed => Answer::Refused(Reason::RequestIdUsed),
        NotLookedUpReason::LoginRefused | NotLookedUpReason::CardExpired | NotLookedUpReason::CardRevoked => {
            Answer::NotProvided(cause)
        }
        // With all proofs sent there is none that it could need.
        NotLookedUpReason::NeedProof | NotLookedUpReason::Unavailable | NotLookedUpReason::Unspecified => {
            Answer::Refused(Reason::Unavailable)
        }
    }
}

impl Provision {
    /// The registry side refuses a login that this side has accepted: roots, lists, policy or clocks differ.
    fn hear_of_login(&self, instance: &str, reason: NotLookedUpReason) {
        if matches!(
            reason,
            NotLookedUpReason::LoginRefused | NotLookedUpReason::CardExpired | NotLookedUpReason::CardRevoked
        ) {
            self.alarms.raise(Alarm::LoginRefusedByRegistrySide, instance);
        }
    }
}

/// Whether the registry side asks for the login proofs of a batch. It does so for all of it or not at all.
pub(super) fn needs_proof(response: &ProvideCopyInfoResponse) -> bool {
    let needed = |outcome: &Option<ItemOutcome>| matches!(outcome, Some(ItemOutcome::NotLookedUp(refused)) if refused.reason() == NotLookedUpReason::NeedProof);
    !response.results.is_empty() && response.results.iter().all(|result| needed(&result.outcome))
}

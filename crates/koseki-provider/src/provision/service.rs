//! The linkage interface.

use std::{sync::Arc, time::Duration};

use common::{
    authorisation::{Permit, permit},
    batch::{BatchError, Batcher},
    cards::Cards,
    clock::Clock,
    eligibility::Verifier,
    evidence::{ReceiptSigner, Released},
    policy::{Policies, Told},
    refusal::{Reason, Refusal},
    terms::{RequestKind, RuleBroken},
    turns::Turns,
    witness::{Verdict, WitnessError, Witnessing},
};
use koseki_proto::koseki::{
    evidence::v1::{Receipt, ReceiptItem},
    linkage::v1::{
        ExchangeCheckpointsRequest, ExchangeCheckpointsResponse, GetLinkageStatusRequest,
        GetLinkageStatusResponse, GetReceiptsRequest, GetReceiptsResponse, InconsistentCheckpoint,
        ItemResult, NotLookedUp, NotLookedUpReason, NotProvided, ProvideCopyInfoRequest,
        ProvideCopyInfoResponse, ProvidedCopyInfo, WatchSuppressionsRequest,
        exchange_checkpoints_response::Outcome as Countersigned, item_result::Outcome,
        linkage_server::Linkage,
    },
};
use tonic::{Request, Response, Status};

use super::{
    admission::{Admission, Admitted},
    decision::Decision,
    login::{LoginFault, Logins},
    receipts,
    release::{Answer, Call, CallOutcome},
};
use crate::{
    gateways::GatewaysSeen,
    store::ProviderStore,
    suppression::{Suppressions, SuppressionsStream},
};

/// Serves `koseki.linkage.v1.Linkage`.
pub struct LinkageService {
    /// The store, for the status.
    pub store: Arc<dyn ProviderStore>,
    /// The queue into the release transaction.
    pub releases: Batcher<Call, CallOutcome>,
    /// Countersigns the gateways' logs, and watches over this one's.
    pub witnessing: Arc<Witnessing>,
    /// Signs receipts.
    pub receipts: ReceiptSigner,
    /// The gateways that are being given receipts again.
    pub receipt_turns: Turns,
    /// The gateways' keys.
    pub verifier: Arc<Verifier>,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// Verifies logins, and makes their beacons.
    pub logins: Arc<Logins>,
    /// Roots and revocation lists of cards, for the status.
    pub cards: Arc<Cards>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The gateways that were here.
    pub gateways: GatewaysSeen,
    /// The suppression feed.
    pub suppressions: Suppressions,
}

impl LinkageService {
    /// The life of a request on the registry side.
    async fn provide(
        &self,
        permit: &Permit,
        request: &ProvideCopyInfoRequest,
    ) -> Result<ProvideCopyInfoResponse, Refusal> {
        let admission = Admission {
            verifier: &self.verifier,
            policies: &self.policies,
            logins: &self.logins,
            log: self.store.side().database().log(),
            now: self.clock.now(),
        };
        let admitted = admission.admit(permit.peer(), request).await.inspect_err(|refusal| {
            tracing::warn!(peer = %permit.peer(), reason = refusal.reason().name(), "a batch was refused");
        })?;
        let call = match admitted {
            Admitted::Call(call) => call,
            Admitted::NeedProof => return Ok(need_proof(request)),
        };
        let max_hand_off = call.policy.exchange.max_hand_off();
        let receipt = Receipt {
            log: self.store.side().database().log().to_owned(),
            gateway_instance: call.sequence.gateway.clone(),
            sequence: call.sequence.number,
            eligibility_sha256: call.eligibility_sha256.to_vec(),
            bundle: 0,
            items: Vec::with_capacity(call.items.len()),
        };
        let released =
            self.releases
                .submit(permit.peer().name(), call)
                .await
                .map_err(|error| match error {
                    BatchError::Full => Reason::Overloaded,
                    BatchError::Lost => Reason::Unavailable,
                })??;
        self.encode(released, receipt, max_hand_off)
    }

    /// Encoding takes what only the release transaction makes.
    fn encode(
        &self,
        released: Released<Vec<Answer>>,
        mut receipt: Receipt,
        max_hand_off: Duration,
    ) -> Result<ProvideCopyInfoResponse, Refusal> {
        let answers = released
            .hand_off(&*self.clock, max_hand_off)
            .map_err(|_| Reason::Unavailable)?;
        receipt.bundle = answers.first().map(|answer| answer.bundle).unwrap_or_default();
        receipt.items.extend(answers.iter().map(|answer| ReceiptItem {
            request_id: answer.request_id.to_string(),
            outcome: answer.decision.outcome().into(),
            answer_sha256: answer.answer_sha256.clone(),
        }));
        let results = answers.into_iter().map(|answer| ItemResult {
            request_id: answer.request_id.to_string(),
            outcome: Some(match answer.decision {
                Decision::Provided(provided) => Outcome::Provided(ProvidedCopyInfo {
                    info: Some(provided.info.into_message()),
                    salt: answer.salt.to_vec(),
                }),
                Decision::NotProvided(_) => Outcome::NotProvided(NotProvided {}),
                Decision::Suspended => not_looked_up(NotLookedUpReason::Suspended),
                Decision::RequestIdUsed => not_looked_up(NotLookedUpReason::RequestIdUsed),
                Decision::Login(fault) => not_looked_up(match fault {
                    LoginFault::CardExpired => NotLookedUpReason::CardExpired,
                    LoginFault::CardRevoked => NotLookedUpReason::CardRevoked,
                    LoginFault::RevocationUnknown => NotLookedUpReason::Unavailable,
                    LoginFault::ProofTooLong
                    | LoginFault::ProofAltered
                    | LoginFault::CardNotAccepted
                    | LoginFault::Signature
                    | LoginFault::Text
                    | LoginFault::TrustDomain
                    | LoginFault::Beacon
                    | LoginFault::OldBeacon
                    | LoginFault::Times
                    | LoginFault::TooOld
                    | LoginFault::AnotherSession => NotLookedUpReason::LoginRefused,
                }),
            }),
        });
        Ok(ProvideCopyInfoResponse {
            results: results.collect(),
            receipt: Some(self.receipts.sign(&receipt)),
        })
    }

    async fn status(
        &self,
        permit: &Permit,
        request: &GetLinkageStatusRequest,
    ) -> Result<GetLinkageStatusResponse, Refusal> {
        if let Some(policy) = &request.policy {
            let theirs = Told {
                in_force: &policy.sha256,
                next: request.next_policy.as_ref(),
            };
            self.policies.compare(permit.peer().name(), &theirs);
        }
        let database = self.store.side().database();
        let facts = database.gate_facts().await.map_err(Reason::from)?;
        let highest = self
            .store
            .highest_sequence(permit.peer().name())
            .await
            .map_err(Reason::from)?;
        let now = self.clock.now();
        let theirs = request.policy.as_ref().map(|policy| policy.sha256.as_slice());
        self.gateways.note(permit.peer().name(), theirs, now);
        let (policy, next_policy) = self.policies.told();
        Ok(GetLinkageStatusResponse {
            provider_log: database.log().to_owned(),
            policy_sha256: policy.sha256,
            policy_effective_at: policy.effective_at,
            next_policy,
            now: Some(now.to_proto()),
            beacon: self.logins.beacon(now).to_vec(),
            highest_sequence: highest,
            log_countersigned: self.witnessing.holds() && !database.is_closed(),
            card_lists_fresh: self.cards.all_fresh(&self.cards.lists()),
            suspended_kinds: RequestKind::ALL
                .into_iter()
                .filter(|kind| facts.suspensions().covers(*kind))
                .map(|kind| kind.to_proto().into())
                .collect(),
        })
    }

    async fn receipts_again(&self, permit: &Permit, from: u64) -> Result<GetReceiptsResponse, Refusal> {
        let gateway = permit.peer();
        let _turn = self
            .receipt_turns
            .take(gateway.name())
            .ok_or(Reason::Overloaded)?;
        let in_flight = receipts::IN_FLIGHT + self.policies.current().exchange.forward_deadline();
        let before = self.clock.now().before(in_flight);
        let database = self.store.side().database();
        let receipts = receipts::again(database, &self.receipts, gateway, from, before).await;
        Ok(receipts.map_err(Reason::from)?)
    }

    async fn exchange(
        &self,
        permit: &Permit,
        request: &ExchangeCheckpointsRequest,
    ) -> Result<ExchangeCheckpointsResponse, WitnessError> {
        let (witnessing, database) = (&self.witnessing, self.store.side().database());
        let mut from = 0;
        if !request.witnessed.is_empty() {
            from = witnessing.take_witnessed(database, &request.witnessed).await?;
        }
        let submitted = request.submitted.as_ref();
        let submitted = submitted.ok_or(WitnessError::Malformed("submitted", RuleBroken("a checkpoint")))?;
        let verdict = witnessing
            .witness(database, permit.peer().name(), submitted, None)
            .await?;
        Ok(ExchangeCheckpointsResponse {
            outcome: Some(match verdict {
                Verdict::Countersigned(line) => Countersigned::Countersignature(line),
                Verdict::Elsewhere(note) => Countersigned::Witnessed(note),
                Verdict::Inconsistent(witnessed) => {
                    Countersigned::Inconsistent(InconsistentCheckpoint { witnessed })
                }
            }),
            submitted: Some(witnessing.submission(database, from).await?),
        })
    }
}

/// The whole batch comes again, so that what is known and what is not, and cover items, have one fate (I6).
fn need_proof(request: &ProvideCopyInfoRequest) -> ProvideCopyInfoResponse {
    let results = request.items.iter().map(|item| ItemResult {
        request_id: item.request_id.clone(),
        outcome: Some(not_looked_up(NotLookedUpReason::NeedProof)),
    });
    ProvideCopyInfoResponse {
        results: results.collect(),
        receipt: None,
    }
}

fn not_looked_up(reason: NotLookedUpReason) -> Outcome {
    Outcome::NotLookedUp(NotLookedUp {
        reason: reason.into(),
    })
}

#[tonic::async_trait]
impl Linkage for LinkageService {
    type WatchSuppressionsStream = SuppressionsStream;

    async fn provide_copy_info(
        &self,
        request: Request<ProvideCopyInfoRequest>,
    ) -> Result<Response<ProvideCopyInfoResponse>, Status> {
        let permit = permit(&request)?;
        Ok(Response::new(self.provide(&permit, request.get_ref()).await?))
    }

    async fn get_linkage_status(
        &self,
        request: Request<GetLinkageStatusRequest>,
    ) -> Result<Response<GetLinkageStatusResponse>, Status> {
        let permit = permit(&request)?;
        Ok(Response::new(self.status(&permit, request.get_ref()).await?))
    }

    async fn exchange_checkpoints(
        &self,
        request: Request<ExchangeCheckpointsRequest>,
    ) -> Result<Response<ExchangeCheckpointsResponse>, Status> {
        let permit = permit(&request)?;
        let exchanged = self.exchange(&permit, request.get_ref()).await;
        Ok(Response::new(exchanged.map_err(Refusal::from)?))
    }

    async fn get_receipts(
        &self,
        request: Request<GetReceiptsRequest>,
    ) -> Result<Response<GetReceiptsResponse>, Status> {
        let permit = permit(&request)?;
        let receipts = self
            .receipts_again(&permit, request.get_ref().from_bundle)
            .await?;
        Ok(Response::new(receipts))
    }

    async fn watch_suppressions(
        &self,
        request: Request<WatchSuppressionsRequest>,
    ) -> Result<Response<SuppressionsStream>, Status> {
        let permit = permit(&request)?;
        Ok(Response::new(self.suppressions.open(permit.peer().name())?))
    }
}

//! The release transaction on the portal side (DESIGN §4): the guards are read again behind the gate, the four
//! conditions checked again, what a release uses up is used up, and the commit of the entries is the release.

use std::{collections::HashSet, ops::Range, time::Duration};

use common::{
    evidence::{Outcome as Recorded, ProvisionEntry, Released},
    policy::Policy,
    refusal::Reason,
    store::{self, StoreError, one_by_one_if_it_fails},
};
use koseki_proto::koseki::evidence::v1::ProvisionDetail;

use super::{
    Asked, Outcome, Provision, Verdict,
    forward::{Answer, Answered},
};
use crate::{
    conditions::{Clearance, Cleared, Conditions, Guards, NotSuppressed, clear},
    store::{GuardsRead, ReleaseTx},
};

/// A batch that has come back.
pub(super) struct Batch<'a> {
    /// The requests.
    pub asked: &'a [Asked],
    /// What admission has read.
    pub admitted: &'a GuardsRead,
    /// What the registry side has answered.
    pub answered: &'a Answered,
    /// When it was sent, by the monotonic clock.
    pub sent: Duration,
    /// The policy under which it lives.
    pub policy: &'a Policy,
}

impl Provision {
    /// Records and releases a batch. When it cannot be recorded there is no answer (I2).
    pub(super) async fn record(&self, batch: &Batch<'_>) -> Vec<Outcome> {
        let outcomes = one_by_one_if_it_fails(batch.asked.len(), |part| async move {
            let released = self.transaction(batch, part).await?;
            Ok(released.each().collect())
        })
        .await;
        // In parts, or by a commit of which nothing is known.
        if let Some(received) = &batch.answered.received
            && !self
                .recorded
                .has(&received.log, received.bundle, &received.requests_sha256)
        {
            self.recorded.doubt(&received.log, received.bundle);
        }
        outcomes
    }

    /// Records and releases a part of a batch.
    async fn transaction(
        &self,
        batch: &Batch<'_>,
        part: Range<usize>,
    ) -> Result<Released<Vec<Verdict>>, StoreError> {
        if part.len() == batch.asked.len()
            && let Some(tx) = self.store.enter_at_once(batch.asked, batch.admitted)
        {
            match self.decided(tx, batch, part.clone()).await {
                Err(StoreError::Moved) => {}
                outcome => return outcome,
            }
        }
        self.decided(self.store.enter().await?, batch, part).await
    }

    async fn decided(
        &self,
        mut tx: Box<dyn ReleaseTx + '_>,
        batch: &Batch<'_>,
        part: Range<usize>,
    ) -> Result<Released<Vec<Verdict>>, StoreError> {
        let &Batch {
            admitted,
            answered,
            sent,
            policy,
            ..
        } = batch;
        let first = part.start;
        let (asked, answers) = (
            store::part(batch.asked, part.clone())?,
            store::part(&answered.answers, part.clone())?,
        );
        // Not before the gate is taken, where it is taken first: what is judged by time is judged at the release.
        let now = self.clock.now();
        if !tx.facts()?.policy_holds(policy, now) {
            return Err(StoreError::BehindPolicy);
        }
        let mut fresh = tx.use_request_ids(asked).await?;
        let again = tx.read_again(asked, admitted).await?;
        let guards = match &again {
            Some(again) => again.guards.as_slice(),
            None => store::part(&admitted.guards, part)?,
        };
        let suspensions = tx.facts()?.suspensions().clone();
        // By the lists that are recorded here, not by those that this instance happens to hold.
        let lists = self.cards.behind_gate(tx.facts()?.list_numbers());
        let conditions = self.conditions(policy, suspensions, lists);

        // A session that has ended is not brought back by being asked with.
        let open = |(asked, guards): &(&Asked, &Guards)| {
            guards.session.as_ref().is_some_and(|session| {
                session.is_open(asked, &conditions) && session.is_to_be_marked(&conditions)
            })
        };
        let used = asked
            .iter()
            .zip(guards)
            .filter(open)
            .map(|(asked, _)| asked.session)
            .collect();

        let decided_at = self.clock.monotonic();
        let mut decided = Vec::with_capacity(asked.len());
        for ((asked, guards), answer) in asked.iter().zip(guards).zip(answers) {
            let decision = if fresh.remove(asked.request_id.as_bytes()) {
                self.decide(asked, guards, answer, &conditions, (sent, decided_at))
            } else {
                Decision {
                    account: guards.session.as_ref().map(|session| session.account),
                    ..Decision::refused(Reason::RequestIdUsed)
                }
            };
            decided.push(decision);
        }
        let one_time = decided.iter().filter_map(Decision::spends).collect();
        let spent = tx.spend(one_time).await?;
        spend(&mut decided, spent);
        let ended = asked
            .iter()
            .zip(&decided)
            .filter(|(_, decision)| decision.ends_session())
            .map(|(asked, _)| asked.session)
            .collect();
        tx.mark_and_end(used, ended, now).await?;

        let received = |at: usize| {
            let received = answered.received.as_ref()?;
            Some((received, received.answers.get(first + at)?.as_ref()?))
        };
        let named = |label, value: &[u8]| self.pseudonym.pseudonym(label, value).to_vec();
        let entry = |(at, ((asked, decision), guards)): (usize, ((&Asked, &Decision), &Guards))| {
            let received = received(at);
            let account = decision.account.map(i64::to_be_bytes);
            let session = guards.session.as_ref();
            ProvisionEntry {
                request_id: asked.request_id,
                kind: asked.kind,
                procedure: &asked.procedure,
                outcome: decision.recorded(),
                reason: decision.reason(),
                items: policy
                    .provision(asked.kind, &asked.procedure)
                    .filter(|_| decision.reason().is_none())
                    .map(|provision| &provision.items),
                detail: ProvisionDetail {
                    cause: decision.cause.to_owned(),
                    subject_pseudonym: account.map(|id| named("account", &id)).unwrap_or_default(),
                    peer: asked.peer.to_string(),
                    consent_id: decision
                        .clearance
                        .as_ref()
                        .map(|held| held.consent_id().to_string())
                        .unwrap_or_default(),
                    eligibility_sha256: answered.eligibility_sha256.map(Vec::from).unwrap_or_default(),
                    session_pseudonym: session
                        .map(|_| named("session", &asked.session))
                        .unwrap_or_default(),
                    card_pseudonym: guards
                        .card_key
                        .map(|key| named("card-key", &key))
                        .unwrap_or_default(),
                    register_pseudonyms: Vec::new(),
                    municipality_codes: Vec::new(),
                    answer_sha256: received
                        .map(|(_, answer)| answer.sha256.clone())
                        .unwrap_or_default(),
                    provider_log: received.map(|(batch, _)| batch.log.clone()).unwrap_or_default(),
                    provider_bundle: received.map(|(batch, _)| batch.bundle).unwrap_or_default(),
                },
            }
            .into_entry()
        };
        let entries = asked
            .iter()
            .zip(&decided)
            .zip(guards)
            .enumerate()
            .map(entry)
            .collect();
        let salts = (0..asked.len()).map(|at| received(at).map_or([0; 32], |(_, answer)| answer.salt));
        let committed = tx.commit(entries, salts.collect(), now).await?;
        if let Some(received) = &answered.received
            && asked.len() == batch.asked.len()
        {
            self.recorded.note(
                &received.log,
                received.bundle,
                received.requests_sha256,
                committed.bundle(),
            );
        }
        let verdicts = decided.into_iter().map(|decision| decision.verdict).collect();
        Ok(Released::new(verdicts, committed, decided_at))
    }

    /// What one answer comes to, by the guards as they are behind the gate.
    fn decide(
        &self,
        asked: &Asked,
        guards: &Guards,
        answer: &Answer,
        conditions: &Conditions<'_>,
        (sent, decided_at): (Duration, Duration),
    ) -> Decision {
        let account = guards.session.as_ref().map(|session| session.account);
        let decision = match answer {
            Answer::Refused(reason) => Decision::refused(*reason),
            Answer::NotProvided(cause) => match clear(asked, guards, &guards.consents, conditions) {
                // What would refuse any other request refuses this one, too (I6).
                Cleared::Refused(reason) => Decision::refused(reason),
                Cleared::Clear(_) | Cleared::Cover { .. } => {
                    Decision::not_provided(cause.unwrap_or(NotSuppressed::OF_THE_REGISTRY_SIDE))
                }
            },
            Answer::Provided(info, forwarded) => {
                // Only the consent that the registry side was told of carries this answer.
                let mut consents = guards.consents.clone();
                consents.retain(|consent| consent.id == forwarded.consent_id());
                match clear(asked, guards, &consents, conditions) {
                    Cleared::Refused(reason) => Decision::refused(reason),
                    Cleared::Cover { cause, .. } => Decision::not_provided(cause),
                    // The linkage was replaced meanwhile: this answer is another code's.
                    Cleared::Clear(again) if again.code() != forwarded.code() => {
                        Decision::not_provided("LINKAGE_CHANGED")
                    }
                    Cleared::Clear(again) => Decision {
                        verdict: Verdict::Provided(info.clone()),
                        cause: "PROVIDED",
                        account: None,
                        clearance: Some(again),
                    },
                }
            }
        };
        let late = self.is_late(conditions.policy, asked, sent, decided_at)
            && !matches!(decision.verdict, Verdict::Refused(reason) if reason != Reason::NotProvided);
        let decision = if late {
            Decision::refused(Reason::Unavailable)
        } else {
            decision
        };
        Decision { account, ..decision }
    }

    /// Whether the answer is older than a conforming gateway releases, or nobody waits for it any more.
    fn is_late(&self, policy: &Policy, asked: &Asked, sent: Duration, decided_at: Duration) -> bool {
        let exchange = &policy.exchange;
        decided_at.saturating_sub(sent) > exchange.max_answer_age()
            || decided_at.saturating_sub(asked.arrived) > exchange.refusal_after()
    }
}

/// What is decided about one request, before it is committed.
struct Decision {
    verdict: Verdict,
    cause: &'static str,
    account: Option<i64>,
    clearance: Option<Clearance>,
}

impl Decision {
    fn refused(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Refused(reason),
            cause: reason.name(),
            account: None,
            clearance: None,
        }
    }

    fn not_provided(cause: &'static str) -> Self {
        Self {
            cause,
            ..Self::refused(Reason::NotProvided)
        }
    }

    /// The one-time consent that releasing this uses up.
    fn spends(&self) -> Option<[u8; 16]> {
        self.clearance.as_ref()?.spends()
    }

    /// Whether the session ends with this: its card counts no more.
    fn ends_session(&self) -> bool {
        matches!(self.reason(), Some(Reason::CardRevoked | Reason::CardExpired))
    }

    /// The reason of a refusal.
    fn reason(&self) -> Option<Reason> {
        match self.verdict {
            Verdict::Provided(_) => None,
            Verdict::Refused(reason) => Some(reason),
        }
    }

    fn recorded(&self) -> Recorded {
        match &self.verdict {
            Verdict::Provided(_) => Recorded::Released,
            Verdict::Refused(Reason::NotProvided) => Recorded::NotProvided,
            Verdict::Refused(Reason::Unavailable) => Recorded::Unavailable,
            Verdict::Refused(_) => Recorded::Refused,
        }
    }
}

/// A one-time consent gives one answer: of several requests in the batch the first has it, and one whose consent could
/// not be spent is refused.
fn spend(decided: &mut [Decision], mut spent: HashSet<[u8; 16]>) {
    for decision in decided {
        if decision.spends().is_some_and(|consent| !spent.remove(&consent)) {
            *decision = Decision {
                account: decision.account,
                ..Decision::refused(Reason::ConsentRequired)
            };
        }
    }
}

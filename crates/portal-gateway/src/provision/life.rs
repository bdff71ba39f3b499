//! The life of a request on the portal side, for a whole batch at a time.

use std::{sync::Arc, time::Duration};

use common::{
    alarm::Alarms,
    card::RevocationLists,
    cards::Cards,
    clock::Clock,
    eligibility::Signer,
    evidence::EvidenceKeys,
    keyring::PseudonymKey,
    policy::{Policies, Policy},
    refusal::Reason,
    suspension::Suspensions,
    witness::Witnessing,
};
use koseki_proto::koseki::linkage::v1::ProvideCopyInfoResponse;
use tokio::sync::RwLock;
use tonic::Status;

use super::{
    Asked, Outcome,
    forward::{Answered, Forwarded, needs_proof},
    proofs::Proofs,
    record::Batch,
    spending::{BatchSpending, Spending},
};
use crate::{
    conditions::{Cleared, Conditions, Guards, clear},
    providers::{Providers, Turn},
    recorded_answers::RecordedAnswers,
    store::{GatewayStore, GuardsRead},
    suppression::Replica,
};

/// Provides copy information.
pub struct Provision {
    /// Name of this instance.
    pub instance: String,
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// What an operator has to look at.
    pub alarms: Alarms,
    /// Roots and revocation lists.
    pub cards: Arc<Cards>,
    /// The lines to the registry side.
    pub providers: Arc<Providers>,
    /// What the registry side has stopped altogether.
    pub suppressions: Arc<Replica>,
    /// Whether this log is countersigned as it has to be.
    pub witnessing: Arc<Witnessing>,
    /// The keys of evidence.
    pub evidence: Arc<EvidenceKeys>,
    /// Signs eligibilities.
    pub signer: Signer,
    /// Pseudonyms for the audit.
    pub pseudonym: PseudonymKey,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// One-time consents that requests on their way are to spend.
    pub spending: Spending,
    /// What was recorded of the registry side's answers of late.
    pub recorded: Arc<RecordedAnswers>,
    /// Held by each batch until it is recorded: whoever closes the log waits for them.
    pub in_flight: Arc<RwLock<()>>,
}

impl Provision {
    /// Takes a batch of requests from admission to release; one outcome each, in order.
    pub async fn provide(&self, asked: Vec<Asked>) -> Vec<Outcome> {
        let _in_flight = self.in_flight.read().await;
        let sent = self.clock.monotonic();
        // One policy for the whole life of the batch, whatever comes into force meanwhile.
        let policy = self.policies.current();
        // And one instance of the registry side: which login proofs it lacks is known before it is asked.
        let turn = self.providers.begin();
        let mut spending = self.spending.begin();
        let admitted = self.admit(&asked, &policy, turn.as_ref(), &mut spending).await;
        let (admitted, cleared) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => return asked.iter().map(|_| Err(reason)).collect(),
        };
        let proofs = Proofs::of(&asked, &admitted.guards);
        let answered = self.forward(&asked, cleared, proofs, &policy, turn).await;
        self.record(&Batch {
            asked: &asked,
            admitted: &admitted,
            answered: &answered,
            sent,
            policy: &policy,
        })
        .await
    }

    /// One query for the whole batch, then the four conditions for each request. The query brings the login proofs, too,
    /// that the batch's instance of the registry side has not had.
    async fn admit(
        &self,
        asked: &[Asked],
        policy: &Policy,
        turn: Option<&Turn<'_>>,
        spending: &mut BatchSpending<'_>,
    ) -> Result<(GuardsRead, Vec<Cleared>), Reason> {
        let sessions = asked.iter().map(|asked| asked.session);
        let link = turn.map(Turn::link);
        let unproven = match link.and_then(|link| Some((link, link.state()?))) {
            Some((link, provider)) => link.unproven(&provider.log, sessions),
            None => Vec::new(),
        };
        let read = self.store.read(asked, &unproven).await?;
        let conditions = self.conditions(policy, read.facts.suspensions().clone(), self.cards.lists());
        let check = |(asked, guards): (&Asked, &Guards)| {
            // A procedure that the policy has no more must not make the registry side refuse the whole batch.
            if self.age(asked.arrived) > policy.exchange.refusal_after()
                || policy.provision(asked.kind, &asked.procedure).is_none()
            {
                return Cleared::Refused(Reason::Unavailable);
            }
            let mut consents = guards.consents.clone();
            consents.retain(|consent| !spending.has(consent.id.as_bytes()));
            let cleared = clear(asked, guards, &consents, &conditions);
            let spends = match &cleared {
                Cleared::Clear(clearance) => clearance.spends(),
                // A cover item takes what any other request would take (I6).
                Cleared::Cover { spends, .. } => *spends,
                Cleared::Refused(_) => None,
            };
            if let Some(consent) = spends {
                spending.take(consent);
            }
            cleared
        };
        let cleared = asked.iter().zip(&read.guards).map(check).collect();
        Ok((read, cleared))
    }

    /// One signed call for all that is cleared or covered, to the batch's instance and no other: whatever becomes of it, it may
    /// have been decided there.
    async fn forward(
        &self,
        asked: &[Asked],
        cleared: Vec<Cleared>,
        proofs: Proofs,
        policy: &Policy,
        turn: Option<Turn<'_>>,
    ) -> Answered {
        let Some(turn) = turn else {
            return Answered::none(cleared);
        };
        let link = turn.link();
        // What cannot be proven or recorded afterwards is not asked for (I9, I2).
        let provider = link.providing().filter(|_| self.witnessing.holds());
        let provider = provider.filter(|_| !self.store.side().database().is_closed());
        let Some(provider) = provider else {
            return Answered::none(cleared);
        };
        let mut forwarded = match Forwarded::new(link, provider.log, asked, cleared) {
            Ok(forwarded) => forwarded,
            Err(cleared) => return Answered::none(cleared),
        };
        if forwarded.is_empty() {
            return forwarded.unanswered();
        }
        let deadline = policy.exchange.forward_deadline();
        let asking = self.ask(&mut forwarded, proofs, policy);
        let answer = tokio::time::timeout(deadline, asking).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(
                "the registry side did not answer in time",
            ))
        });
        match answer {
            Ok(Some(answer)) => {
                let answered = forwarded.answered(answer, self, policy);
                match answered.received {
                    Some(_) => turn.answered(),
                    // What is withheld for want of a receipt is no answer.
                    None => turn.failed(),
                }
                answered
            }
            Ok(None) => forwarded.unanswered(),
            // Whatever the error is: others may do better, and without others it is asked again all the same.
            Err(status) => {
                let (instance, code) = (link.instance(), status.code());
                tracing::warn!(instance, ?code, "a batch got no answer from the registry side");
                turn.failed();
                forwarded.unanswered()
            }
        }
    }

    /// Asks the registry side; when it lacks a login proof, once more with all of them. The first call has used nothing up
    /// then, and cover items go again with all others, so that all have one fate (I6). `None` when they cannot be read here.
    async fn ask(
        &self,
        forwarded: &mut Forwarded<'_>,
        proofs: Proofs,
        policy: &Policy,
    ) -> Result<Option<ProvideCopyInfoResponse>, Status> {
        let deadline = policy.exchange.forward_deadline();
        let link = forwarded.link();
        let request = forwarded.request(self, &proofs, policy);
        let answer = link.provide(request, deadline).await?;
        if !needs_proof(&answer) {
            return Ok(Some(answer));
        }
        let instance = link.instance();
        tracing::info!(
            instance,
            "the registry side has forgotten login proofs: the batch goes again with them"
        );
        link.forget_proven();
        let asked = forwarded.asked();
        let sessions: Vec<[u8; 32]> = asked.iter().map(|asked| asked.session).collect();
        let Ok(read) = self.store.read(asked, &sessions).await else {
            tracing::warn!("the login proofs of a batch cannot be read");
            return Ok(None);
        };
        let proofs = Proofs::of(asked, &read.guards);
        forwarded.leave_out_unproven(&proofs);
        let request = forwarded.request(self, &proofs, policy);
        link.provide(request, deadline).await.map(Some)
    }

    /// What requests are checked against beside the store, as it is now.
    pub(super) fn conditions<'a>(
        &'a self,
        policy: &'a Policy,
        suspensions: Suspensions,
        lists: RevocationLists,
    ) -> Conditions<'a> {
        Conditions {
            policy,
            lists,
            suspensions,
            suppressions: self.suppressions.current(),
            now: self.clock.now(),
        }
    }

    /// How long ago something was, by the monotonic clock.
    pub(super) fn age(&self, since: Duration) -> Duration {
        self.clock.monotonic().saturating_sub(since)
    }
}

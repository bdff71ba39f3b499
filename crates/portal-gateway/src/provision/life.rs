//! The life of a request on the portal side, for a whole batch at a time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use common::{
    alarm::Alarms,
    cards::Cards,
    clock::Clock,
    eligibility::Signer,
    keyring::PseudonymKey,
    policy::{Policies, Policy},
    refusal::Reason,
};

use super::{
    Asked, Outcome,
    forward::{Answered, Forwarded},
};
use crate::{
    conditions::{Cleared, Conditions, Guards, clear},
    provider_link::ProviderLink,
    store::GatewayStore,
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
    /// The line to the registry side.
    pub provider: Arc<ProviderLink>,
    /// What the registry side has stopped altogether.
    pub suppressions: Arc<Replica>,
    /// Signs eligibilities.
    pub signer: Signer,
    /// Pseudonyms for the audit.
    pub pseudonym: PseudonymKey,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Provision {
    /// Takes a batch of requests from admission to release; one outcome each, in order.
    pub async fn provide(&self, asked: Vec<Asked>) -> Vec<Outcome> {
        let sent = self.clock.monotonic();
        // One policy for the whole life of the batch, whatever comes into force meanwhile.
        let policy = self.policies.current();
        let cleared = match self.admit(&asked, &policy).await {
            Ok(cleared) => cleared,
            Err(reason) => return asked.iter().map(|_| Err(reason)).collect(),
        };
        let forwarded = self.forward(&asked, cleared, &policy).await;
        self.record(&asked, forwarded, sent, &policy).await
    }

    /// One query for the whole batch, then the four conditions for each request.
    async fn admit(&self, asked: &[Asked], policy: &Policy) -> Result<Vec<Cleared>, Reason> {
        let (suspensions, mut guards) = self.store.read(asked).await?;
        let conditions = self.conditions(policy, suspensions);
        // A one-time consent carries one request: the next one of the batch needs another.
        let mut taken = HashSet::new();
        let check = |(asked, guards): (&Asked, &mut Guards)| {
            // A procedure that the policy has no more must not make the registry side refuse the whole batch.
            if self.age(asked.arrived) > policy.exchange.refusal_after()
                || policy.provision(asked.kind, &asked.procedure).is_none()
            {
                return Cleared::Refused(Reason::Unavailable);
            }
            guards
                .consents
                .retain(|consent| !taken.contains(consent.id.as_bytes()));
            let cleared = clear(asked, guards, &conditions);
            match &cleared {
                Cleared::Clear(clearance) => taken.extend(clearance.spends()),
                // A cover item takes what any other request would take (I6).
                Cleared::Cover { spends, .. } => taken.extend(*spends),
                Cleared::Refused(_) => {}
            }
            cleared
        };
        Ok(asked.iter().zip(&mut guards).map(check).collect())
    }

    /// One signed call for all that is cleared or covered.
    async fn forward(&self, asked: &[Asked], cleared: Vec<Cleared>, policy: &Policy) -> Answered {
        let Some(provider) = self.provider.state() else {
            return Answered::none(cleared);
        };
        let forwarded = match Forwarded::new(asked, cleared) {
            Ok(forwarded) => forwarded,
            Err(cleared) => return Answered::none(cleared),
        };
        if forwarded.is_empty() {
            return forwarded.unanswered(None);
        }
        let eligibility = forwarded.eligibility(self, policy, &provider.log);
        let (envelope, sha256) = self.signer.sign(&eligibility);
        match self.provider.provide(forwarded.request(envelope)).await {
            Ok(answer) => forwarded.answered(answer, sha256, self, policy),
            Err(status) => {
                tracing::warn!(code = ?status.code(), "a batch got no answer from the registry side");
                forwarded.unanswered(Some(sha256))
            }
        }
    }

    /// What requests are checked against beside the store, as it is now.
    pub(super) fn conditions<'a>(
        &'a self,
        policy: &'a Policy,
        suspensions: common::suspension::Suspensions,
    ) -> Conditions<'a> {
        Conditions {
            policy,
            cards: &self.cards,
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

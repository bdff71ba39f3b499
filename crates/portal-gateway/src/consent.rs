//! Consent (clause 4.3.1): explicit, to one kind of request and one text, for one answer or until a date, withdrawable.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    identity::PeerIdentity,
    policy::Policies,
    refusal::{Reason, Refusal},
    terms::{ActId, RequestKind, RuleBroken},
};

use crate::{
    conditions::ConsentFacts,
    login::token_sha256,
    sessions::Sessions,
    store::{GatewayStore, NewConsent, RequesterError, SessionBounds},
};

/// How long a consent holds.
pub enum Term {
    /// For one answer.
    OneTime,
    /// Until then.
    Until(Timestamp),
}

/// Consents.
pub struct Consents {
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// Sessions, and whether their cards still count.
    pub sessions: Arc<Sessions>,
    /// Texts in force, and bounds.
    pub policies: Arc<Policies>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Consents {
    /// A one-time consent that is not used within this is void.
    const ONE_TIME_HOLDS: Duration = Duration::from_secs(24 * 3_600);

    /// Records a consent; its id and until when it holds.
    pub async fn grant(
        &self,
        frontend: &PeerIdentity,
        token: &[u8],
        kind: RequestKind,
        text_sha256: &[u8],
        term: Term,
    ) -> Result<(ActId, Timestamp), Refusal> {
        let token = token_sha256(token)?;
        let text = text_sha256
            .try_into()
            .map_err(|_| Refusal::malformed("text_sha256", RuleBroken("32 bytes")))?;
        let policy = self.policies.current();
        if !policy.text_hashes(kind).any(|hash| *hash == text) {
            return Err(Reason::ConsentTextUnknown.into());
        }
        let now = self.clock.now();
        let latest = now.after(Duration::from_secs(
            policy.consent_max_days.saturating_mul(24 * 3_600),
        ));
        let (expires_at, one_time) = match term {
            Term::OneTime => (now.after(Self::ONE_TIME_HOLDS), true),
            Term::Until(until) if until > now && until <= latest => (until, false),
            Term::Until(_) => {
                return Err(Refusal::malformed(
                    "until",
                    RuleBroken("later than now, within the policy's maximum"),
                ));
            }
        };
        self.sessions.check(frontend, token).await?;
        let id = ActId::random().map_err(|_| Reason::Unavailable)?;
        let consent = ConsentFacts {
            id,
            text_sha256: text,
            given_at: now,
            expires_at,
            one_time,
        };
        let new = NewConsent { consent, kind };
        self.store
            .grant_consent(token, new, self.bounds(), frontend, now)
            .await
            .map_err(refusal)?;
        Ok((id, expires_at))
    }

    /// Withdraws a consent. The card is not looked at: withdrawing is never refused for it.
    pub async fn withdraw(
        &self,
        frontend: &PeerIdentity,
        token: &[u8],
        consent_id: &str,
    ) -> Result<(), Refusal> {
        let token = token_sha256(token)?;
        let consent = ActId::parse(consent_id).map_err(|rule| Refusal::malformed("consent_id", rule))?;
        let now = self.clock.now();
        self.store
            .withdraw_consent(token, consent, self.bounds(), frontend, now)
            .await
            .map_err(refusal)
    }

    fn bounds(&self) -> SessionBounds {
        SessionBounds {
            absolute: Duration::from_secs(self.policies.current().login.session_seconds),
            idle: Duration::from_secs(self.policies.current().login.session_idle_seconds),
        }
    }
}

fn refusal(error: RequesterError) -> Refusal {
    match error {
        RequesterError::Session => Reason::SessionInvalid.into(),
        RequesterError::Consent => Reason::ConsentUnknown.into(),
        RequesterError::TooManyConsents => Reason::TooManyConsents.into(),
        RequesterError::Store(error) => Reason::from(error).into(),
    }
}

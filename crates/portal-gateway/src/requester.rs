//! Who is logged in, for what a requester sees of their own.

use std::{sync::Arc, time::Duration};

use common::{
    clock::Clock,
    identity::PeerIdentity,
    policy::Policies,
    refusal::{Reason, Refusal},
};

use crate::{
    login::token_sha256,
    sessions::Sessions,
    store::{GatewayStore, RequesterError, SessionBounds},
};

/// Finds out who is logged in.
pub struct Requesters {
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// Sessions, and whether their cards still count.
    pub sessions: Arc<Sessions>,
    /// Bounds.
    pub policies: Arc<Policies>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// A requester with an open session, whose card's certificate is still good.
#[derive(Clone, Copy)]
pub struct Requester {
    account: i64,
    blocked: bool,
}

/// A requester whose card is not blocked: somebody else could hold it. What was provided, and receipts, are shown to nobody
/// else. Consents are given, listed and withdrawn without a look at blocks.
#[derive(Clone, Copy)]
pub struct Unblocked(i64);

impl Requesters {
    /// The requester who has this session.
    pub async fn of(&self, frontend: &PeerIdentity, token: &[u8]) -> Result<Requester, Refusal> {
        let token = token_sha256(token)?;
        let bounds = session_bounds(&self.policies);
        self.sessions.check(frontend, token).await?;
        let session = self
            .store
            .use_session(token, bounds, frontend, self.clock.now())
            .await
            .map_err(refusal)?;
        Ok(Requester {
            account: session.account,
            blocked: session.blocked,
        })
    }
}

impl Requester {
    /// The account.
    pub fn account(&self) -> i64 {
        self.account
    }

    /// The same, unless the card is blocked: then it is the register refusal (I6).
    pub fn unblocked(self) -> Result<Unblocked, Reason> {
        if self.blocked {
            Err(Reason::NotProvided)
        } else {
            Ok(Unblocked(self.account))
        }
    }
}

impl Unblocked {
    /// The account.
    pub fn account(&self) -> i64 {
        self.0
    }
}

/// A session's bounds, by the policy in force.
pub(crate) fn session_bounds(policies: &Policies) -> SessionBounds {
    let login = &policies.current().login;
    SessionBounds {
        absolute: Duration::from_secs(login.session_seconds),
        idle: Duration::from_secs(login.session_idle_seconds),
    }
}

/// Why a requester's own closing was not done, as the caller is told.
pub(crate) fn refusal(error: RequesterError) -> Refusal {
    match error {
        RequesterError::RequestIdUsed => Reason::RequestIdUsed.into(),
        RequesterError::Session => Reason::SessionInvalid.into(),
        RequesterError::Consent => Reason::ConsentUnknown.into(),
        RequesterError::Store(error) => Reason::from(error).into(),
    }
}

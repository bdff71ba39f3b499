//! Sessions that end because the certificate of their card is revoked or has expired: when a call finds it, and, for those
//! that nobody calls with, when newer revocation lists have been read.

use std::{sync::Arc, time::Duration};

use common::{
    card::ListNumbers,
    cards::Cards,
    clock::Clock,
    identity::PeerIdentity,
    policy::Policies,
    refusal::{Reason, Refusal},
    store::{StoreError, worked},
};

use crate::store::GatewayStore;

/// How often it is looked whether newer lists have been read.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Sessions and the cards that they stand on.
pub struct Sessions {
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// Roots and revocation lists.
    pub cards: Arc<Cards>,
    /// Bounds.
    pub policies: Arc<Policies>,
    /// This instance, as the actor of what it does by itself.
    pub own: PeerIdentity,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Sessions {
    /// Looks at a session before it opens something: it is open for this frontend, and its card still counts. One whose card
    /// does not is ended.
    pub async fn check(&self, frontend: &PeerIdentity, token_sha256: [u8; 32]) -> Result<(), Refusal> {
        let now = self.clock.now();
        let login = &self.policies.current().login;
        let session = self.store.session(token_sha256).await.map_err(Reason::from)?;
        let session = session
            .filter(|session| session.is_open_for(frontend, login, now))
            .ok_or(Reason::SessionInvalid)?;
        let Err(reason) = session.check_card(&self.cards.lists(), login, now) else {
            return Ok(());
        };
        if matches!(reason, Reason::CardRevoked | Reason::CardExpired) {
            let ended = self.store.end_sessions(vec![token_sha256], &self.own, now).await;
            worked(ended, "a session whose card does not count could not be ended");
        }
        Err(reason.into())
    }

    /// Ends the sessions of revoked and expired cards each time that newer revocation lists have been read, for as long as
    /// the service runs.
    pub async fn keep_up(self: Arc<Self>) {
        // Lists that came while the service was down have not been looked for either.
        let mut swept = ListNumbers::default();
        loop {
            let read = self.cards.lists().numbers();
            if read != swept
                && let Some(ended) = worked(self.sweep().await, "revoked sessions could not be ended")
            {
                swept = read;
                if ended > 0 {
                    tracing::info!(ended, "sessions of revoked or expired cards were ended");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at every session that may be open, some at a time.
    async fn sweep(&self) -> Result<u64, StoreError> {
        let (lists, policy, now) = (self.cards.lists(), self.policies.current(), self.clock.now());
        let absolute = Duration::from_secs(policy.login.session_seconds);
        let (mut since, mut after) = (now.before(absolute), [0; 32]);
        let mut ended = 0;
        loop {
            let open = self.store.open_sessions(since, after).await?;
            let Some(last) = open.last() else {
                return Ok(ended);
            };
            (since, after) = (last.facts.logged_in_at, last.token_sha256);
            let over: Vec<[u8; 32]> = open
                .iter()
                .filter(|session| {
                    let card = session.facts.check_card(&lists, &policy.login, now);
                    matches!(card, Err(Reason::CardRevoked | Reason::CardExpired))
                })
                .map(|session| session.token_sha256)
                .collect();
            if !over.is_empty() {
                ended += self.store.end_sessions(over, &self.own, self.clock.now()).await?;
            }
        }
    }
}

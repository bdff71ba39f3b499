//! The gateway's store. One trait, written so that another database fits beside SQLite: what requests need takes a
//! batch, and a release is a transaction that takes the gate, reads, and commits with its audit bundle (DESIGN §4).

mod acts;
mod sqlite;

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use common::{
    card::Card,
    clock::Timestamp,
    evidence::{Committed, Epoch},
    identity::PeerIdentity,
    lines::Outcome,
    store::{ActError, SideStore, StoreError},
    suspension::Suspensions,
    terms::{ActId, RequestKind},
};
use koseki_proto::koseki::evidence::v1::Entry;

pub use sqlite::SqliteStore;

use crate::{
    conditions::{ConsentFacts, Guards},
    linkage::LinkageLine,
    provision::Asked,
};

/// A login challenge.
pub struct Challenge {
    /// Names it; 16 random bytes.
    pub id: [u8; 16],
    /// The frontend that it was made for.
    pub frontend: String,
    /// The text to sign.
    pub text: Vec<u8>,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// A session's bounds, by the policy.
#[derive(Clone, Copy)]
pub struct SessionBounds {
    /// After which it ends.
    pub absolute: Duration,
    /// Without a call.
    pub idle: Duration,
}

/// A consent to be recorded.
pub struct NewConsent {
    /// The consent.
    pub consent: ConsentFacts,
    /// The kind that is consented to.
    pub kind: RequestKind,
}

/// Why a requester's own act was not done.
#[derive(Debug, thiserror::Error)]
pub enum RequesterError {
    /// No such session, or it has ended.
    #[error("no such session")]
    Session,
    /// The requester has no such consent.
    #[error("no such consent")]
    Consent,
    /// The requester has as many consents to the kind as can hold at the same time.
    #[error("too many consents")]
    TooManyConsents,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RequesterError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What is stored on the portal side.
#[async_trait]
pub trait GatewayStore: Send + Sync + 'static {
    /// What both sides' stores can do alike.
    fn side(&self) -> &dyn SideStore;

    /// Reads everything that could forbid the requests, for admission.
    async fn read(&self, asked: &[Asked]) -> Result<(Suspensions, Vec<Guards>), StoreError>;

    /// Takes the gate for a release.
    async fn enter(&self) -> Result<Box<dyn ReleaseTx>, StoreError>;

    /// Keeps a challenge.
    async fn add_challenge(&self, challenge: Challenge) -> Result<(), StoreError>;

    /// Uses a challenge up: its text, when it was this frontend's and has not expired.
    async fn take_challenge(
        &self,
        id: &[u8],
        frontend: &str,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Opens a session for a card; an unknown card gets an account.
    async fn open_session(
        &self,
        token_sha256: [u8; 32],
        card: &Card,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Ends a session: in force when this returns. False when this frontend has no such session.
    async fn end_session(
        &self,
        token_sha256: [u8; 32],
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Records a consent of the session's requester.
    async fn grant_consent(
        &self,
        token_sha256: [u8; 32],
        consent: NewConsent,
        bounds: SessionBounds,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), RequesterError>;

    /// Withdraws a consent of the session's requester: in force when this returns.
    async fn withdraw_consent(
        &self,
        token_sha256: [u8; 32],
        consent: ActId,
        bounds: SessionBounds,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), RequesterError>;

    /// Stores linkages; one outcome each, in order, after all of them are durable.
    async fn store_linkages(
        &self,
        lines: Vec<LinkageLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Blocks a card: in force when this returns.
    async fn set_block(
        &self,
        block: Block,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError>;

    /// Removes challenges that have expired; some at a time, and how many it were.
    async fn forget_challenges(&self, now: Timestamp) -> Result<u64, StoreError>;
}

/// A card to be blocked.
pub struct Block {
    /// The act.
    pub act_id: ActId,
    /// SHA-256 of the card's public key.
    pub card_key_sha256: [u8; 32],
    /// Why, for the audit log.
    pub reason: String,
}

/// A release transaction: it holds the gate from [`GatewayStore::enter`] to its end. Dropped, it changes nothing.
#[async_trait]
pub trait ReleaseTx: Send {
    /// Uses request ids up; those that had not been used.
    async fn use_request_ids(
        &mut self,
        asked: &[Asked],
        now: Timestamp,
    ) -> Result<HashSet<[u8; 16]>, StoreError>;

    /// Reads everything that could forbid the requests.
    async fn read(&mut self, asked: &[Asked]) -> Result<(Suspensions, Vec<Guards>), StoreError>;

    /// Spends one-time consents; those that could be.
    async fn spend(&mut self, consents: Vec<[u8; 16]>) -> Result<HashSet<[u8; 16]>, StoreError>;

    /// Marks open sessions, by the hashes of their tokens, as used now.
    async fn touch(&mut self, sessions: Vec<[u8; 32]>, now: Timestamp) -> Result<(), StoreError>;

    /// Appends the bundle and commits: the release.
    async fn commit(self: Box<Self>, entries: Vec<Entry>, now: Timestamp) -> Result<Committed, StoreError>;
}

//! The gateway's store, on either database: what requests need takes a batch, and a release is a transaction that takes the
//! gate, reads, and commits with its audit bundle (DESIGN §4).

mod acts;
mod cards;
mod challenges;
mod closings;
mod consents;
mod linkages;
mod lookups;
mod lost_answers;
mod old_data;
mod openings;
mod read;
mod records;
mod release;

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use common::{
    approval::Opening,
    audit_log::HasLogs,
    card::{Card, CardFault},
    cards::Cards,
    clock::Timestamp,
    evidence::{Committed, Epoch, NewEntry, Salt},
    identity::PeerIdentity,
    keyring::{Keyring, Pseudonym},
    lines::{LoadStart, Outcome},
    refusal::Reason,
    store::{
        ActError, Database, DatabaseConfig, GateFacts, OpenError, SchemaStep, SideStore, StoreError, WriteTx,
    },
    terms::{ActId, RequestKind, RuleBroken},
};
use koseki_proto::koseki::linkage::v1::LoginProof;

pub use lost_answers::{LostAnswerPlace, lost_answer_place, record_lost_answers};
pub use old_data::OldData;

use crate::{
    call::PortalCall,
    conditions::{ConsentFacts, Guards, SessionFacts},
    consent::{Consent, ConsentPlace},
    linkage::LinkageLine,
    own_records::{Record, RecordPlace},
    provision::Asked,
};

/// The portal side's schema.
pub const SCHEMA: &[SchemaStep] = &[SchemaStep {
    version: 1001,
    name: "portal",
    sqlite: include_str!("../../migrations/sqlite/1001_portal.sql"),
    postgres: include_str!("../../migrations/postgres/1001_portal.sql"),
}];

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

/// What is done with a challenge.
pub enum ChallengeStep {
    /// It is kept.
    Keep(Challenge),
    /// It is used up.
    Take {
        /// Its id, as it came.
        id: Vec<u8>,
        /// The frontend that asks for it.
        frontend: String,
    },
}

/// A session's bounds, by the policy.
#[derive(Clone, Copy)]
pub struct SessionBounds {
    /// After which it ends.
    pub absolute: Duration,
    /// Without a call.
    pub idle: Duration,
}

impl SessionBounds {
    /// Whether a session is within them, by the moments of its row.
    fn hold(&self, logged_in_at: i64, last_used_at: i64, now: Timestamp) -> bool {
        let age = |at: i64| now.since(Timestamp::from_unix_ms(at));
        age(logged_in_at) <= self.absolute && age(last_used_at) <= self.idle
    }
}

/// A session to be opened.
pub struct NewSession {
    /// The card that was shown.
    pub card: Card,
    /// Its signature, and what it signed: kept, so that the registry side can verify the login for itself.
    pub proof: LoginProof,
}

/// A consent to be recorded.
pub struct NewConsent {
    /// The consent.
    pub consent: ConsentFacts,
    /// The kind that is consented to.
    pub kind: RequestKind,
    /// Language of the text that was shown.
    pub language: String,
}

/// Who has an open session.
pub struct UsedSession {
    /// The account.
    pub account: i64,
    /// Whether the card is blocked.
    pub blocked: bool,
}

/// Everything that could forbid some requests, as it stood at one moment.
pub struct GuardsRead {
    /// What could forbid every one, with the epoch of the moment. As long as it is the current one, nothing of all this has come to
    /// forbid more: every act that forbids makes a new one.
    pub facts: GateFacts,
    /// One a request, in order.
    pub guards: Vec<Guards>,
}

/// What a requester closes.
pub enum Closing {
    /// The session.
    Session,
    /// One of the requester's consents.
    Consent(ActId),
}

/// A requester's own closing.
pub struct RequesterClosing {
    /// What is closed.
    pub closing: Closing,
    /// The session with which it is asked for.
    pub token_sha256: [u8; 32],
    /// The call.
    pub call: PortalCall,
}

impl RequesterClosing {
    /// The consent, when it is one.
    pub fn consent(&self) -> Option<ActId> {
        match self.closing {
            Closing::Session => None,
            Closing::Consent(id) => Some(id),
        }
    }
}

/// What a requester opens.
pub enum Opens {
    /// A session, for a card that is not revoked by the lists that count behind the gate; an unknown card gets an account.
    Session(Box<NewSession>),
    /// A consent.
    Consent(NewConsent),
}

/// A requester's own opening.
pub struct RequesterOpening {
    /// What is opened.
    pub opens: Opens,
    /// SHA-256 of the token of the session: of the new one, or of the one with which a consent is given.
    pub token_sha256: [u8; 32],
    /// The call.
    pub call: PortalCall,
}

/// Why a requester's own closing was not done.
#[derive(Debug, thiserror::Error)]
pub enum RequesterError {
    /// The call's id was used before.
    #[error("the request id was used before")]
    RequestIdUsed,
    /// No such session, or it has ended.
    #[error("no such session")]
    Session,
    /// The requester has no such consent.
    #[error("no such consent")]
    Consent,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a requester's own opening was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The call's id was used before.
    #[error("the request id was used before")]
    RequestIdUsed,
    /// No such session, or it has ended.
    #[error("no such session")]
    Session,
    /// The requester has as many consents to the kind as can hold at the same time.
    #[error("too many consents")]
    TooManyConsents,
    /// The card does not count, by the revocation lists that are recorded.
    #[error(transparent)]
    Card(#[from] CardFault),
    /// It was not tried, or the store failed.
    #[error("{0:?}")]
    Refused(Reason),
}

/// What is stored on the portal side.
#[async_trait]
pub trait GatewayStore: Send + Sync + 'static {
    /// What both sides' stores can do alike.
    fn side(&self) -> &dyn SideStore;

    /// Reads everything that could forbid the requests, for admission, and the login proofs of the sessions `unproven`, by
    /// the hashes of their tokens.
    async fn read(&self, asked: &[Asked], unproven: &[[u8; 32]]) -> Result<GuardsRead, StoreError>;

    /// Takes the gate for a release.
    async fn enter(&self) -> Result<Box<dyn ReleaseTx + '_>, StoreError>;

    /// Begins a release that takes the gate only for its commit, where that can be done and nothing is known to forbid more than when
    /// this was read; it fails with [`StoreError::Moved`] when what it was decided by does not stand any more.
    fn enter_at_once(&self, asked: &[Asked], read: &GuardsRead) -> Option<Box<dyn ReleaseTx + '_>>;

    /// Keeps login challenges and uses them up; of each that is used up the text, when it was the frontend's and has not expired.
    async fn challenges(
        &self,
        steps: &[ChallengeStep],
        now: Timestamp,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Opens what requesters ask for; their account each, in order.
    async fn open(
        &self,
        asked: &[RequesterOpening],
        cards: &Cards,
        bounds: SessionBounds,
        now: Timestamp,
    ) -> Result<Vec<Result<i64, NotOpened>>, StoreError>;

    /// Closes what requesters ask for; one outcome each, in order. In force when this returns.
    async fn close(
        &self,
        asked: &[RequesterClosing],
        bounds: SessionBounds,
        now: Timestamp,
    ) -> Result<Vec<Result<(), RequesterError>>, StoreError>;

    /// Who has this session and with which card; the session counts as used now.
    async fn use_session(
        &self,
        token_sha256: [u8; 32],
        bounds: SessionBounds,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<UsedSession, RequesterError>;

    /// Consents of an account, the newest first, behind a place.
    async fn list_consents(
        &self,
        account: i64,
        behind: Option<&ConsentPlace>,
        limit: i64,
    ) -> Result<Vec<Consent>, StoreError>;

    /// One consent of an account.
    async fn consent(&self, account: i64, id: ActId) -> Result<Option<Consent>, StoreError>;

    /// What became of the requests of an account, by the index of the log, the newest first, behind a place.
    async fn list_records(
        &self,
        account: i64,
        behind: Option<&RecordPlace>,
        limit: i64,
    ) -> Result<Vec<Record>, StoreError>;

    /// Takes the next bundles of each log of this database into the index; whether it has caught up with the logs as they
    /// were at the beginning.
    async fn index_records(&self) -> Result<bool, StoreError>;

    /// Stores linkages; one outcome each, in order, after all of them are durable.
    async fn store_linkages(
        &self,
        start: LoadStart,
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

    /// A session, for what is looked at before something is done with it.
    async fn session(&self, token_sha256: [u8; 32]) -> Result<Option<SessionFacts>, StoreError>;

    /// Sessions that were not ended, of logins since then; some at a time, in an order in which they follow each other.
    async fn open_sessions(&self, since: Timestamp, after: [u8; 32]) -> Result<Vec<OpenSession>, StoreError>;

    /// Ends sessions whose card does not count any more; how many it were.
    async fn end_sessions(
        &self,
        tokens_sha256: Vec<[u8; 32]>,
        own: &PeerIdentity,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Removes rows that are older than this; some at a time, and how many it were.
    async fn remove(&self, old: OldData, before: Timestamp) -> Result<u64, StoreError>;
}

/// A session among others.
pub struct OpenSession {
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
    /// The session.
    pub facts: SessionFacts,
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

/// A release transaction. Dropped, it changes nothing.
#[async_trait]
pub trait ReleaseTx: Send {
    /// What could forbid every release, as it stands at the commit.
    fn facts(&self) -> Result<&GateFacts, StoreError>;

    /// Everything that could forbid the requests, where what admission has read may not stand any more.
    async fn read_again(
        &mut self,
        asked: &[Asked],
        admitted: &GuardsRead,
    ) -> Result<Option<GuardsRead>, StoreError>;

    /// Uses request ids up; those that had not been used.
    async fn use_request_ids(&mut self, asked: &[Asked]) -> Result<HashSet<[u8; 16]>, StoreError>;

    /// Spends one-time consents; those that could be.
    async fn spend(&mut self, consents: Vec<[u8; 16]>) -> Result<HashSet<[u8; 16]>, StoreError>;

    /// Marks open sessions, by the hashes of their tokens, as used now, and ends others, whose card does not count any more.
    async fn mark_and_end(
        &mut self,
        marked: Vec<[u8; 32]>,
        ended: Vec<[u8; 32]>,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Appends the bundle and commits: the release. The salts of the answers, one an entry, are kept beside it, sealed.
    async fn commit(
        self: Box<Self>,
        entries: Vec<NewEntry>,
        salts: Vec<Salt>,
        now: Timestamp,
    ) -> Result<Committed, StoreError>;
}

impl HasLogs for dyn GatewayStore {
    fn database(&self) -> &Database {
        self.side().database()
    }
}

/// The gateway's store.
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the store; a SQLite file is made when it is not there.
    pub async fn open(config: &DatabaseConfig, log: &str, keys: Arc<Keyring>) -> Result<Self, OpenError> {
        Ok(Self {
            database: Database::open(config, log, keys, SCHEMA).await?,
        })
    }
}

#[async_trait]
impl SideStore for Store {
    fn database(&self) -> &Database {
        &self.database
    }

    async fn open(
        &self,
        tx: &mut WriteTx,
        opening: &Opening,
        _: Timestamp,
    ) -> Result<Option<Pseudonym>, ActError> {
        let keys = &self.database.keys;
        match opening {
            Opening::LiftBlock(card) => acts::lift_block(tx, keys, card).await,
            Opening::ReactivateLinkage(card) => linkages::reactivate(tx, keys, card).await,
            Opening::ResumeProvision(_)
            | Opening::ArchiveLog(..)
            | Opening::ReleaseNonProvision(_)
            | Opening::ShortenNonProvision(..) => Err(ActError::Malformed(
                "act",
                RuleBroken("an act of the portal side"),
            )),
        }
    }
}

#[async_trait]
impl GatewayStore for Store {
    fn side(&self) -> &dyn SideStore {
        self
    }

    async fn read(&self, asked: &[Asked], unproven: &[[u8; 32]]) -> Result<GuardsRead, StoreError> {
        let mut reader = self.database.admission().await?;
        let read = read::guards(&mut reader.connection(), &self.database.keys, asked, unproven).await?;
        reader.finish();
        Ok(read)
    }

    async fn enter(&self) -> Result<Box<dyn ReleaseTx + '_>, StoreError> {
        Ok(Box::new(release::Gated::begin(&self.database).await?))
    }

    fn enter_at_once(&self, asked: &[Asked], read: &GuardsRead) -> Option<Box<dyn ReleaseTx + '_>> {
        if !self.database.appends_at_once() {
            return None;
        }
        Some(Box::new(release::Single::begin(&self.database, asked, read)))
    }

    async fn challenges(
        &self,
        steps: &[ChallengeStep],
        now: Timestamp,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        challenges::step(&self.database, steps, now).await
    }

    async fn open(
        &self,
        asked: &[RequesterOpening],
        cards: &Cards,
        bounds: SessionBounds,
        now: Timestamp,
    ) -> Result<Vec<Result<i64, NotOpened>>, StoreError> {
        openings::open(&self.database, cards, asked, bounds, now).await
    }

    async fn close(
        &self,
        asked: &[RequesterClosing],
        bounds: SessionBounds,
        now: Timestamp,
    ) -> Result<Vec<Result<(), RequesterError>>, StoreError> {
        closings::close(&self.database, asked, bounds, now).await
    }

    async fn use_session(
        &self,
        token_sha256: [u8; 32],
        bounds: SessionBounds,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<UsedSession, RequesterError> {
        acts::use_session(&self.database, token_sha256, bounds, frontend, now).await
    }

    async fn list_consents(
        &self,
        account: i64,
        behind: Option<&ConsentPlace>,
        limit: i64,
    ) -> Result<Vec<Consent>, StoreError> {
        consents::list(&self.database, account, behind, limit).await
    }

    async fn consent(&self, account: i64, id: ActId) -> Result<Option<Consent>, StoreError> {
        consents::one(&self.database, account, id).await
    }

    async fn list_records(
        &self,
        account: i64,
        behind: Option<&RecordPlace>,
        limit: i64,
    ) -> Result<Vec<Record>, StoreError> {
        records::list(&self.database, account, behind, limit).await
    }

    async fn index_records(&self) -> Result<bool, StoreError> {
        records::index(&self.database).await
    }

    async fn store_linkages(
        &self,
        start: LoadStart,
        lines: Vec<LinkageLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        linkages::store(&self.database, start, &lines, operator, now).await
    }

    async fn set_block(
        &self,
        block: Block,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        acts::set_block(&self.database, block, operator, now).await
    }

    async fn session(&self, token_sha256: [u8; 32]) -> Result<Option<SessionFacts>, StoreError> {
        let mut reader = self.database.admission().await?;
        let session = read::session(&mut reader.connection(), &self.database.keys, token_sha256).await?;
        reader.finish();
        Ok(session)
    }

    async fn open_sessions(&self, since: Timestamp, after: [u8; 32]) -> Result<Vec<OpenSession>, StoreError> {
        let mut reader = self.database.reader().await?;
        read::open_sessions(&mut reader.connection(), &self.database.keys, since, after).await
    }

    async fn end_sessions(
        &self,
        tokens_sha256: Vec<[u8; 32]>,
        own: &PeerIdentity,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        acts::end_sessions(&self.database, &tokens_sha256, own, now).await
    }

    async fn remove(&self, old: OldData, before: Timestamp) -> Result<u64, StoreError> {
        old_data::remove(&self.database, old, before).await
    }
}

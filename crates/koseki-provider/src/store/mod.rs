//! The provider's store, on either database: everything takes a batch, and a release is a transaction that takes the gate,
//! reads, and commits with its audit bundle (DESIGN §4).

mod copies;
mod current_registers;
mod lookups;
mod non_provision;
mod persons;
mod read;
mod release;
mod reports;
mod sequences;
pub(crate) mod suppression;

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use common::{
    approval::Opening,
    audit_log::HasLogs,
    clock::Timestamp,
    evidence::{Committed, Epoch, NewEntry, Salt},
    identity::PeerIdentity,
    keyring::{Keyring, Lookup, Pseudonym},
    lines::{LoadStart, Outcome},
    store::{
        ActError, Database, DatabaseConfig, GateFacts, OpenError, SchemaStep, SideStore, StoreError, WriteTx,
    },
    terms::{LinkageHandle, RequestId, RuleBroken},
};
use koseki_proto::koseki::admin::v1::{MunicipalityCopies, NonProvisionRecord as RecordMessage};

use crate::{
    non_provision::{Named, NonProvisionRecord, RecordFacts},
    persons::PersonLine,
    register::{RegisterCopy, RegisterFacts},
};

pub use lookups::card_key;
pub use read::READ_SQLITE as RELEASE_READ_ON_SQLITE;

/// The registry side's schema.
pub const SCHEMA: &[SchemaStep] = &[SchemaStep {
    version: 1001,
    name: "register",
    sqlite: include_str!("../../migrations/sqlite/1001_register.sql"),
    postgres: include_str!("../../migrations/postgres/1001_register.sql"),
}];

/// What the release transaction read about one item.
#[derive(Default)]
pub struct ItemFacts {
    /// The linkage of the item's handle.
    pub linkage: Option<LinkageFacts>,
    /// The registers in which the person is entered.
    pub registers: Vec<RegisterFacts>,
    /// Non-provision records in force that name the person or one of the registers.
    pub non_provision: Vec<RecordFacts>,
    /// Whether something of it cannot be read: then nothing is provided.
    pub unreadable: bool,
}

/// A linkage.
pub struct LinkageFacts {
    /// Whether it is ACTIVE.
    pub active: bool,
    /// When it was confirmed last.
    pub confirmed_at: Timestamp,
    /// The person.
    pub person: Lookup,
    /// What the key of the card that it is bound to is found by.
    pub card_key: Lookup,
}

/// What is read for an item.
#[derive(Clone, Copy)]
pub struct LookUp {
    /// Handle of the linkage code.
    pub handle: LinkageHandle,
    /// Whether registers that are closed are read, too: the current one always is.
    pub closed_registers: bool,
}

/// A gateway's batch, for its sequence number.
#[derive(Clone)]
pub struct Sequence {
    /// The gateway instance.
    pub gateway: String,
    /// The number.
    pub number: u64,
}

/// What is stored on the registry side.
#[async_trait]
pub trait ProviderStore: Send + Sync + 'static {
    /// What both sides' stores can do alike.
    fn side(&self) -> &dyn SideStore;

    /// Takes the gate for a release.
    async fn enter(&self) -> Result<Box<dyn ReleaseTx + '_>, StoreError>;

    /// Begins a release that takes the gate only for its commit, where that can be done; it fails with [`StoreError::Moved`] when what
    /// it has read does not stand any more.
    fn enter_at_once(&self) -> Option<Box<dyn ReleaseTx + '_>>;

    /// The highest sequence number that a gateway has used at this instance's log; 0 when none.
    async fn highest_sequence(&self, gateway: &str) -> Result<u64, StoreError>;

    /// Stores copies; one outcome each, in order, after all of them are durable.
    async fn store_copies(
        &self,
        copies: Vec<RegisterCopy>,
        sender: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Stores persons and linkages; one outcome each, in order, after all of them are durable.
    async fn store_persons(
        &self,
        start: LoadStart,
        lines: Vec<PersonLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Loaded, StoreError>;

    /// Records a non-provision record: in force when this returns.
    async fn record_non_provision(
        &self,
        record: NonProvisionRecord,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError>;

    /// The records about a person or a register; reading them is recorded.
    async fn list_non_provision(
        &self,
        named: Named,
        reader: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<RecordMessage>, StoreError>;

    /// How many copies of each municipality are stored, and how old they are.
    async fn municipalities(&self) -> Result<Vec<MunicipalityCopies>, StoreError>;

    /// When the oldest copy was received.
    async fn oldest_copy(&self) -> Result<Option<Timestamp>, StoreError>;

    /// How many persons are entered in more than one current register.
    async fn several_current_registers(&self) -> Result<u64, StoreError>;
}

/// What became of a batch of persons and linkages.
pub struct Loaded {
    /// One outcome a line.
    pub outcomes: Vec<Outcome>,
    /// Whether one of them forbids releases: then the caller is told only after the guard wait.
    pub forbids: bool,
    /// The side's epoch when they were stored.
    pub epoch: Epoch,
}

/// A release transaction. Everything that could forbid is read first; what is read stands until the commit, or there is none.
/// Dropped, it changes nothing.
#[async_trait]
pub trait ReleaseTx: Send {
    /// Reads guards and registers of all items, in order.
    async fn read(&mut self, asked: &[LookUp], now: Timestamp) -> Result<Vec<ItemFacts>, StoreError>;

    /// What could forbid every release, of the same moment or behind the gate.
    fn facts(&self) -> Result<&GateFacts, StoreError>;

    /// Uses sequence numbers up; for each whether it had not been used.
    async fn use_sequences(&mut self, sequences: &[Sequence]) -> Result<Vec<bool>, StoreError>;

    /// Uses request ids up; those that had not been used.
    async fn use_request_ids(&mut self, ids: &[RequestId]) -> Result<HashSet<[u8; 16]>, StoreError>;

    /// Appends the bundle and commits: the release. The salts of the answers, one an entry, are kept beside it, sealed.
    async fn commit(
        self: Box<Self>,
        entries: Vec<NewEntry>,
        salts: Vec<Salt>,
        now: Timestamp,
    ) -> Result<Committed, StoreError>;
}

impl HasLogs for dyn ProviderStore {
    fn database(&self) -> &Database {
        self.side().database()
    }
}

/// The provider's store.
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
        now: Timestamp,
    ) -> Result<Option<Pseudonym>, ActError> {
        let keys = &self.database.keys;
        match opening {
            Opening::ReleaseNonProvision(record) => non_provision::end(tx, keys, *record, None, now).await,
            Opening::ShortenNonProvision(record, until) => {
                non_provision::end(tx, keys, *record, Some(*until), now).await
            }
            Opening::ReactivateLinkage(card) => persons::reactivate(tx, keys, card).await,
            Opening::ResumeProvision(_) | Opening::ArchiveLog(..) | Opening::LiftBlock(_) => Err(
                ActError::Malformed("act", RuleBroken("an act of the registry side")),
            ),
        }
    }
}

#[async_trait]
impl ProviderStore for Store {
    fn side(&self) -> &dyn SideStore {
        self
    }

    async fn enter(&self) -> Result<Box<dyn ReleaseTx + '_>, StoreError> {
        Ok(Box::new(release::Gated::begin(&self.database).await?))
    }

    fn enter_at_once(&self) -> Option<Box<dyn ReleaseTx + '_>> {
        let begun = self
            .database
            .appends_at_once()
            .then(|| release::Single::begin(&self.database));
        begun.map(|begun| Box::new(begun) as _)
    }

    async fn highest_sequence(&self, gateway: &str) -> Result<u64, StoreError> {
        sequences::highest(&self.database, gateway).await
    }

    async fn store_copies(
        &self,
        copies: Vec<RegisterCopy>,
        sender: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        copies::store(&self.database, copies, sender, now).await
    }

    async fn store_persons(
        &self,
        start: LoadStart,
        lines: Vec<PersonLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Loaded, StoreError> {
        persons::store(&self.database, start, &lines, operator, now).await
    }

    async fn record_non_provision(
        &self,
        record: NonProvisionRecord,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        non_provision::record(&self.database, record, actor, now).await
    }

    async fn list_non_provision(
        &self,
        named: Named,
        reader: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<RecordMessage>, StoreError> {
        non_provision::list(&self.database, named, reader, now).await
    }

    async fn municipalities(&self) -> Result<Vec<MunicipalityCopies>, StoreError> {
        reports::municipalities(&self.database).await
    }

    async fn oldest_copy(&self) -> Result<Option<Timestamp>, StoreError> {
        reports::oldest_copy(&self.database).await
    }

    async fn several_current_registers(&self) -> Result<u64, StoreError> {
        current_registers::several(&self.database).await
    }
}

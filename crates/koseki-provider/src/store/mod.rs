//! The provider's store. One trait, written so that another database fits beside SQLite: everything takes a batch, and a
//! release is a transaction that takes the gate, reads, and commits with its audit bundle (DESIGN §4).

mod load;
mod sqlite;

use std::collections::HashSet;

use async_trait::async_trait;
use common::{
    clock::Timestamp,
    evidence::{Committed, Epoch},
    identity::PeerIdentity,
    keyring::Lookup,
    lines::Outcome,
    store::{ActError, SideStore, StoreError},
    suspension::Suspensions,
    terms::{LinkageHandle, RequestId},
};
use koseki_proto::koseki::evidence::v1::Entry;

pub use sqlite::SqliteStore;

use crate::{
    non_provision::{NonProvisionRecord, RecordFacts},
    persons::PersonLine,
    register::{RegisterCopy, RegisterFacts},
};

/// What the release transaction read about one item.
#[derive(Default)]
pub struct ItemFacts {
    /// The linkage of the item's handle.
    pub linkage: Option<LinkageFacts>,
    /// The registers in which the person is entered.
    pub registers: Vec<RegisterFacts>,
    /// Non-provision records in force that name the person or one of the registers.
    pub non_provision: Vec<RecordFacts>,
}

/// A linkage.
pub struct LinkageFacts {
    /// Whether it is ACTIVE.
    pub active: bool,
    /// The person.
    pub person: Lookup,
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

    /// Name of the audit log that this store writes.
    fn log(&self) -> &str;

    /// Takes the gate for a release.
    async fn enter(&self) -> Result<Box<dyn ReleaseTx>, StoreError>;

    /// The highest sequence number that a gateway has used; 0 when none.
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
        lines: Vec<PersonLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Loaded, StoreError>;

    /// Records a non-provision record: in force when this returns.
    async fn record_non_provision(
        &self,
        record: NonProvisionRecord,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError>;
}

/// What became of a batch of persons and linkages.
pub struct Loaded {
    /// One outcome a line.
    pub outcomes: Vec<Outcome>,
    /// Whether one of them forbids releases: then the caller is told only after the guard wait.
    pub forbids: bool,
}

/// A release transaction: it holds the gate from [`ProviderStore::enter`] to its end. Dropped, it changes nothing.
#[async_trait]
pub trait ReleaseTx: Send {
    /// Uses sequence numbers up; for each whether it had not been used.
    async fn use_sequences(&mut self, sequences: &[Sequence]) -> Result<Vec<bool>, StoreError>;

    /// Uses request ids up; those that had not been used.
    async fn use_request_ids(
        &mut self,
        ids: &[RequestId],
        now: Timestamp,
    ) -> Result<HashSet<[u8; 16]>, StoreError>;

    /// The kinds that are suspended.
    async fn suspensions(&mut self) -> Result<Suspensions, StoreError>;

    /// Reads guards and registers of all items, in order.
    async fn read(&mut self, handles: &[LinkageHandle], now: Timestamp)
    -> Result<Vec<ItemFacts>, StoreError>;

    /// Appends the bundle and commits: the release.
    async fn commit(self: Box<Self>, entries: Vec<Entry>, now: Timestamp) -> Result<Committed, StoreError>;
}

//! The two ways in which a release is recorded: step by step behind the gate, or by one statement that takes the gate itself and
//! holds only when nothing has moved since it was read.

use std::collections::HashSet;

use async_trait::async_trait;
use common::{
    appended,
    clock::Timestamp,
    evidence::{Committed, NewEntry, Salt},
    store::{Access, AtOnce, ClosingKeys, Column, Database, GateFacts, StoreError, Value, WriteTx},
    terms::RequestId,
};

use super::{ItemFacts, LookUp, ReleaseTx, Sequence, read, sequences};

/// It holds the gate from its beginning to its end.
pub(super) struct Gated<'a> {
    database: &'a Database,
    tx: WriteTx,
}

impl<'a> Gated<'a> {
    pub(super) async fn begin(database: &'a Database) -> Result<Self, StoreError> {
        Ok(Self {
            database,
            tx: database.begin(Access::Release).await?,
        })
    }
}

#[async_trait]
impl ReleaseTx for Gated<'_> {
    async fn read(&mut self, asked: &[LookUp], now: Timestamp) -> Result<Vec<ItemFacts>, StoreError> {
        let (items, _) = read::items(&mut self.tx.connection(), &self.database.keys, asked, now).await?;
        Ok(items)
    }

    fn facts(&self) -> Result<&GateFacts, StoreError> {
        self.tx.facts()
    }

    async fn use_sequences(&mut self, sequences: &[Sequence]) -> Result<Vec<bool>, StoreError> {
        sequences::use_up(&mut self.tx, self.database.log(), sequences).await
    }

    async fn use_request_ids(&mut self, ids: &[RequestId]) -> Result<HashSet<[u8; 16]>, StoreError> {
        self.tx.use_request_ids(ids).await
    }

    async fn commit(
        self: Box<Self>,
        entries: Vec<NewEntry>,
        salts: Vec<Salt>,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.tx
            .release(entries, &salts, &self.database.keys.sealer, now)
            .await
    }
}

/// It takes the gate when it commits.
pub(super) struct Single<'a> {
    database: &'a Database,
    at_once: Option<AtOnce>,
    sequences: Vec<Sequence>,
}

impl<'a> Single<'a> {
    pub(super) fn begin(database: &'a Database) -> Self {
        Self {
            database,
            at_once: None,
            sequences: Vec::new(),
        }
    }
}

const NOT_READ: StoreError = StoreError::Unreadable("a release before what could forbid it");

#[async_trait]
impl ReleaseTx for Single<'_> {
    async fn read(&mut self, asked: &[LookUp], now: Timestamp) -> Result<Vec<ItemFacts>, StoreError> {
        // Whatever is in the way of this read, nothing has been done: the other way tells it, on another connection.
        let moved = |_| StoreError::Moved;
        let mut reader = self.database.admission().await.map_err(moved)?;
        let read = read::items(&mut reader.connection(), &self.database.keys, asked, now).await;
        let (items, facts) = read.map_err(moved)?;
        reader.finish();
        // Requesters close nothing at this side.
        self.at_once = Some(AtOnce::new(Access::Release, facts, ClosingKeys::new()));
        Ok(items)
    }

    fn facts(&self) -> Result<&GateFacts, StoreError> {
        self.at_once.as_ref().map(AtOnce::facts).ok_or(NOT_READ)
    }

    async fn use_sequences(&mut self, sequences: &[Sequence]) -> Result<Vec<bool>, StoreError> {
        self.sequences = sequences.to_vec();
        Ok(vec![true; sequences.len()])
    }

    async fn use_request_ids(&mut self, ids: &[RequestId]) -> Result<HashSet<[u8; 16]>, StoreError> {
        let at_once = self.at_once.as_mut().ok_or(NOT_READ)?;
        Ok(at_once.use_request_ids(ids))
    }

    async fn commit(
        self: Box<Self>,
        entries: Vec<NewEntry>,
        salts: Vec<Salt>,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let at_once = self.at_once.ok_or(NOT_READ)?;
        let gateways = self.sequences.iter().map(|sequence| sequence.gateway.clone());
        let numbers = self
            .sequences
            .iter()
            .map(|sequence| sequences::number(sequence).map(Some));
        let params = vec![
            ("gateways", Value::Array(Column::Text(gateways.collect()))),
            (
                "sequences",
                Value::Array(Column::Int(numbers.collect::<Result<_, _>>()?)),
            ),
        ];
        const RELEASE: &str = concat!(
            "SELECT release_batches(",
            appended!(),
            ", {gateways}, {sequences})"
        );
        at_once
            .commit(self.database, RELEASE, params, (entries, Some(&salts)), now)
            .await
    }
}

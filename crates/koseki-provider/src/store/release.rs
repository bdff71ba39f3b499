//! The two ways in which a release is recorded: step by step behind the gate, or by one statement that takes the gate itself and
//! holds only when nothing has moved since it was read.

use std::collections::HashSet;

use async_trait::async_trait;
use common::{
    appended,
    clock::Timestamp,
    evidence::{Committed, NewEntry, Salt},
    store::{Access, AtOnce, Column, Database, GateFacts, StoreError, WriteTx, table},
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
        let mut reader = self.database.admission().await?;
        let (items, facts) = read::items(&mut reader.connection(), &self.database.keys, asked, now).await?;
        reader.finish();
        let epoch = facts.epoch();
        self.at_once = Some(AtOnce::new(facts, epoch));
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
        let batches = table([
            ("gateway", Column::Text(gateways.collect())),
            ("sequence", Column::Int(numbers.collect::<Result<_, _>>()?)),
        ]);
        const RELEASE: &str = concat!(
            "SELECT release_batches(",
            appended!(),
            ", (SELECT array_agg(gateway ORDER BY at) FROM {batches}), (SELECT array_agg(sequence ORDER BY at) FROM {batches}))"
        );
        let params = vec![("batches", batches)];
        at_once
            .commit(self.database, RELEASE, params, (entries, &salts), now)
            .await
    }
}

//! The two ways in which a release is recorded: step by step behind the gate, or by one statement that takes the gate itself and
//! holds only when nothing has moved since admission.

use std::collections::HashSet;

use async_trait::async_trait;
use common::{
    appended,
    clock::Timestamp,
    evidence::{Committed, NewEntry, Salt},
    store::{Access, AtOnce, Connection, Database, GateFacts, StoreError, Value, WriteTx},
    terms::RequestId,
};

use super::{GuardsRead, ReleaseTx, acts, read};
use crate::provision::Asked;

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

fn ids(asked: &[Asked]) -> Vec<RequestId> {
    asked.iter().map(|asked| asked.request_id).collect()
}

#[async_trait]
impl ReleaseTx for Gated<'_> {
    fn facts(&self) -> Result<&GateFacts, StoreError> {
        self.tx.facts()
    }

    /// What admission has read still stands as long as the epoch does.
    async fn read_again(
        &mut self,
        asked: &[Asked],
        admitted: &GuardsRead,
    ) -> Result<Option<GuardsRead>, StoreError> {
        if self.tx.epoch()? == admitted.facts.epoch() {
            return Ok(None);
        }
        let keys = &self.database.keys;
        let read = read::guards(&mut self.tx.connection(), keys, asked, &[]).await?;
        Ok(Some(read))
    }

    async fn use_request_ids(&mut self, asked: &[Asked]) -> Result<HashSet<[u8; 16]>, StoreError> {
        self.tx.use_request_ids(&ids(asked)).await
    }

    async fn spend(&mut self, consents: Vec<[u8; 16]>) -> Result<HashSet<[u8; 16]>, StoreError> {
        if consents.is_empty() {
            return Ok(HashSet::new());
        }
        // Several instances write: each locks its rows in one order, so that no two wait for each other.
        let sql = match self.tx.connection() {
            Connection::Sqlite(_) => {
                "UPDATE consent SET state = 'SPENT' WHERE state = 'GIVEN' AND one_time \
                 AND id IN (SELECT value FROM {consents}) RETURNING id"
            }
            Connection::Postgres(_) => {
                "UPDATE consent SET state = 'SPENT' WHERE state = 'GIVEN' AND one_time \
                 AND id IN (SELECT id FROM consent WHERE id IN (SELECT value FROM {consents}) \
                            ORDER BY id FOR NO KEY UPDATE) RETURNING id"
            }
        };
        let rows = self
            .tx
            .all(
                sql,
                &[("consents", Value::keys(consents.iter().map(<[u8; 16]>::as_slice)))],
            )
            .await?;
        rows.iter().map(|row| row.array(0)).collect()
    }

    async fn mark_and_end(
        &mut self,
        marked: Vec<[u8; 32]>,
        ended: Vec<[u8; 32]>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        acts::mark_and_end(&mut self.tx, &marked, &ended, now).await
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
    at_once: AtOnce,
    spent: Vec<[u8; 16]>,
    marked: Vec<[u8; 32]>,
}

impl<'a> Single<'a> {
    pub(super) fn begin(database: &'a Database, asked: &[Asked], read: &GuardsRead) -> Self {
        let sessions = asked.iter().map(|asked| asked.session.to_vec());
        let consents = read.guards.iter().flat_map(|guards| &guards.consents);
        let stands_on = sessions.chain(consents.map(|consent| consent.id.as_bytes().to_vec()));
        Self {
            database,
            at_once: AtOnce::new(Access::Release, read.facts.clone(), stands_on.collect()),
            spent: Vec::new(),
            marked: Vec::new(),
        }
    }
}

#[async_trait]
impl ReleaseTx for Single<'_> {
    fn facts(&self) -> Result<&GateFacts, StoreError> {
        Ok(self.at_once.facts())
    }

    /// It stands, or there is no commit.
    async fn read_again(&mut self, _: &[Asked], _: &GuardsRead) -> Result<Option<GuardsRead>, StoreError> {
        Ok(None)
    }

    async fn use_request_ids(&mut self, asked: &[Asked]) -> Result<HashSet<[u8; 16]>, StoreError> {
        Ok(self.at_once.use_request_ids(&ids(asked)))
    }

    async fn spend(&mut self, consents: Vec<[u8; 16]>) -> Result<HashSet<[u8; 16]>, StoreError> {
        self.spent = consents;
        Ok(self.spent.iter().copied().collect())
    }

    async fn mark_and_end(
        &mut self,
        marked: Vec<[u8; 32]>,
        ended: Vec<[u8; 32]>,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        if !ended.is_empty() {
            // A card counts no more: that is seldom.
            return Err(StoreError::Moved);
        }
        self.marked = marked;
        Ok(())
    }

    async fn commit(
        self: Box<Self>,
        entries: Vec<NewEntry>,
        salts: Vec<Salt>,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        const RELEASE: &str = concat!(
            "SELECT release_answers(",
            appended!(),
            ", {spent}, {marked}, {now})"
        );
        let params = vec![
            ("spent", Value::array(self.spent.iter().map(<[u8; 16]>::as_slice))),
            (
                "marked",
                Value::array(self.marked.iter().map(<[u8; 32]>::as_slice)),
            ),
            ("now", now.unix_ms().into()),
        ];
        self.at_once
            .commit(self.database, RELEASE, params, (entries, Some(&salts)), now)
            .await
    }
}

use std::{collections::HashSet, sync::Arc};

use tokio::sync::OwnedMutexGuard;

use super::{
    StoreError, commit_warning,
    database::{Access, Tx},
    gate_facts::GateFacts,
    health::LogHealth,
    log_end::{KnownEnd, LogEnd, NewBundle},
    postgres,
    query::{Column, Connection, Params, Row, Value},
    recent_closings::{ClosingKeys, RecentClosings},
};
use crate::{
    clock::Timestamp,
    evidence::{Committed, Epoch, Frontier, NewEntry, Salt},
    policy::Policy,
    sealing::Sealer,
    terms::RequestId,
};

macro_rules! move_head {
    () => {
        "UPDATE log_head SET size = {size}, bundles = bundles + 1, frontier = {frontier} \
         WHERE log = {log} AND generation = {generation} AND size = {before}"
    };
}
macro_rules! insert_bundle {
    () => {
        "INSERT INTO bundle (log, number, first_index, epoch, body, hashes, sealed) \
         SELECT {log}, {number}, {before}, {epoch}, {body}, {hashes}, {sealed}"
    };
}
const MOVE_HEAD: &str = move_head!();
const INSERT_BUNDLE: &str = insert_bundle!();
/// Both in one message.
const MOVE_HEAD_AND_INSERT_BUNDLE: &str = concat!(
    "WITH moved AS (",
    move_head!(),
    " RETURNING 1) ",
    insert_bundle!(),
    " FROM moved"
);

/// What the gate and the log's head say, read behind the gate.
pub(super) struct Head {
    facts: GateFacts,
    end: LogEnd,
}

impl Head {
    /// Reads it. On PostgreSQL the head's row is locked, which waits for a transaction of this log whose outcome is not known
    /// yet: nothing is appended before it is.
    async fn read(connection: &mut Connection<'_>, log: &str, generation: i64) -> Result<Self, StoreError> {
        macro_rules! read {
            () => {
                "SELECT (SELECT facts FROM gate_facts), generation, size, bundles, frontier, closed \
                 FROM log_head WHERE log = {log}"
            };
        }
        let sql = match connection {
            Connection::Sqlite(_) => read!(),
            Connection::Postgres(_) => concat!(read!(), " FOR UPDATE"),
        };
        let row = connection.one(sql, &[("log", log.into())]).await?;
        if row.int(1)? != generation {
            return Err(StoreError::Fenced);
        }
        if row.bool(5)? {
            return Err(StoreError::Closed);
        }
        Ok(Self {
            facts: GateFacts::parse(row.text(0)?)?,
            end: LogEnd {
                frontier: Frontier::read(row.int(2)?.unsigned_abs(), row.bytes(4)?)
                    .ok_or(StoreError::Unreadable("the frontier of the log"))?,
                bundles: row.int(3)?,
            },
        })
    }
}

/// A transaction that writes. While it is open only the database is awaited. Dropped, it changes nothing.
pub struct WriteTx {
    pub(super) tx: Tx,
    /// Held until the end of the log is known again.
    pub(super) turn: Option<OwnedMutexGuard<()>>,
    pub(super) head: Option<Head>,
    pub(super) access: Access,
    pub(super) log: String,
    pub(super) generation: i64,
    pub(super) health: Arc<LogHealth>,
    pub(super) known_end: KnownEnd,
    pub(super) recent_closings: RecentClosings,
    pub(super) closes: ClosingKeys,
}

impl WriteTx {
    /// The connection, for the side's own statements.
    pub fn connection(&mut self) -> Connection<'_> {
        self.tx.connection()
    }

    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Result<u64, StoreError> {
        self.connection().execute(sql, params).await
    }

    /// Runs a statement; its rows.
    pub async fn all(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.connection().all(sql, params).await
    }

    /// Runs a statement; its row, when it has one.
    pub async fn optional(
        &mut self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Option<Row>, StoreError> {
        self.connection().optional(sql, params).await
    }

    /// Runs a statement; its row.
    pub async fn one(&mut self, sql: &'static str, params: Params<'_>) -> Result<Row, StoreError> {
        self.connection().one(sql, params).await
    }

    fn head(&self) -> Result<&Head, StoreError> {
        self.head
            .as_ref()
            .ok_or(StoreError::Unreadable("the gate before it is taken"))
    }

    /// Takes the gate, where the transaction has not had it from its beginning.
    pub async fn take_gate(&mut self) -> Result<(), StoreError> {
        if self.head.is_none() {
            self.execute(postgres::SHARE_GATE, &[]).await?;
        }
        self.take_head().await
    }

    /// Takes the log's head, where the transaction has had the gate from its beginning and not the head.
    pub async fn take_head(&mut self) -> Result<(), StoreError> {
        if self.head.is_none() {
            let head = Head::read(&mut self.tx.connection(), &self.log, self.generation).await;
            if let Err(error @ (StoreError::Fenced | StoreError::Closed)) = &head {
                self.health.failed(error);
            }
            self.head = Some(head?);
        }
        Ok(())
    }

    /// The epoch under which this commits.
    pub fn epoch(&self) -> Result<Epoch, StoreError> {
        Ok(self.facts()?.epoch())
    }

    /// What could forbid every release, read behind the gate.
    pub fn facts(&self) -> Result<&GateFacts, StoreError> {
        Ok(&self.head()?.facts)
    }

    /// Tells every instance that this policy is in force; false when that is known, or a newer one is.
    pub(super) async fn take_policy(&mut self, policy: &Policy) -> Result<bool, StoreError> {
        let changed = self
            .execute(
                "UPDATE gate SET policy_effective_at = {moment} WHERE policy_effective_at < {moment}",
                &[("moment", policy.effective_at.unix_ms().into())],
            )
            .await?;
        Ok(changed > 0)
    }

    /// Makes a new epoch: this is a forbidding act. Only who has the gate alone may.
    pub async fn advance_epoch(&mut self) -> Result<Epoch, StoreError> {
        if !self.access.is_exclusive() {
            return Err(StoreError::Unreadable("a forbidding act that shares the gate"));
        }
        let row = self
            .one("UPDATE gate SET epoch = epoch + 1 RETURNING epoch", &[])
            .await?;
        let epoch = row.int(0)?;
        if let Some(head) = &mut self.head {
            head.facts.epoch = epoch;
        }
        self.epoch()
    }

    /// Says all that this closes, for a requester: so that what does not stand on it need not be read again.
    pub fn closes(&mut self, closed: ClosingKeys) {
        self.closes = closed;
    }

    /// Uses request ids up; returns those that had not been used. In one order everywhere: two instances that get the same
    /// ids do not wait for each other.
    pub async fn use_request_ids(&mut self, ids: &[RequestId]) -> Result<HashSet<[u8; 16]>, StoreError> {
        let ids = Value::keys(ids.iter().map(|id| id.as_bytes().as_slice()));
        let rows = self
            .all(
                "INSERT INTO used_request_id (id) SELECT value FROM {ids} WHERE true ORDER BY value \
                 ON CONFLICT DO NOTHING RETURNING id",
                &[("ids", ids)],
            )
            .await?;
        rows.iter().map(|row| row.array(0)).collect()
    }

    /// The epoch of an act that was done before with this id, with the digest of its content.
    pub async fn act(&mut self, id: &[u8; 16]) -> Result<Option<([u8; 32], Epoch)>, StoreError> {
        let row = self
            .optional(
                "SELECT content, epoch FROM act WHERE id = {id}",
                &[("id", id.into())],
            )
            .await?;
        row.map(|row| Ok((row.array(0)?, Epoch(row.int(1)?.unsigned_abs()))))
            .transpose()
    }

    /// Remembers an act that is done by this transaction.
    pub async fn remember_act(&mut self, id: &[u8; 16], content: &[u8; 32]) -> Result<(), StoreError> {
        let epoch = self.facts()?.epoch;
        self.execute(
            "INSERT INTO act (id, content, epoch) VALUES ({id}, {content}, {epoch})",
            &[
                ("id", id.into()),
                ("content", content.into()),
                ("epoch", epoch.into()),
            ],
        )
        .await?;
        Ok(())
    }

    /// Appends a bundle with the entries and commits. The head row is moved on the condition that nobody else has moved
    /// it: two writers cannot fork a log.
    pub async fn commit(self, entries: Vec<NewEntry>, at: Timestamp) -> Result<Committed, StoreError> {
        self.recorded(entries, None, at).await
    }

    /// Commits a release. The salts of its answers, one an entry, are kept beside the bundle, sealed.
    pub async fn release(
        self,
        entries: Vec<NewEntry>,
        salts: &[Salt],
        sealer: &Sealer,
        at: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.recorded(entries, Some((sealer, salts)), at).await
    }

    async fn recorded(
        self,
        entries: Vec<NewEntry>,
        kept: Option<(&Sealer, &[Salt])>,
        at: Timestamp,
    ) -> Result<Committed, StoreError> {
        let (health, known_end) = (self.health.clone(), self.known_end.clone());
        let appended = self.append(entries, kept, at).await;
        health.appended(&appended);
        if appended.is_err() {
            known_end.forget();
        }
        appended
    }

    async fn append(
        mut self,
        entries: Vec<NewEntry>,
        kept: Option<(&Sealer, &[Salt])>,
        at: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.take_gate().await?;
        let head = self
            .head
            .take()
            .ok_or(StoreError::Unreadable("the gate before it is taken"))?;
        let (epoch, number) = (head.facts.epoch(), head.end.bundles.unsigned_abs());
        let bundle = NewBundle::new(&self.log, epoch, entries, at)?;
        let placed = bundle.place(head.end, self.generation, kept)?;
        // Two writers cannot fork a log: the bundle goes where the head was moved from, or nowhere.
        let inserted = match self.connection() {
            Connection::Sqlite(_) => match self.execute(MOVE_HEAD, &placed.columns).await? {
                1 => self.execute(INSERT_BUNDLE, &placed.columns).await?,
                _ => 0,
            },
            Connection::Postgres(_) => self.execute(MOVE_HEAD_AND_INSERT_BUNDLE, &placed.columns).await?,
        };
        if inserted != 1 {
            return Err(StoreError::Fenced);
        }
        let (known_end, _turn) = (self.known_end.clone(), self.turn.take());
        let (recent_closings, closes) = (self.recent_closings.clone(), std::mem::take(&mut self.closes));
        self.end().await?;
        known_end.moved(placed.end);
        if !closes.is_empty() {
            recent_closings.note(epoch, closes);
        }
        Ok(Committed::new(epoch, number))
    }

    /// Ends an act that was done before. Its own commit may have been cut off from its standby: a commit that writes something
    /// waits for the standby again, so that success means now what it would have meant then.
    pub async fn commit_again(mut self) -> Result<(), StoreError> {
        let log = self.log.clone();
        self.execute(
            "UPDATE log_head SET size = size WHERE log = {log}",
            &[("log", log.as_str().into())],
        )
        .await?;
        self.end().await
    }

    /// Commits what is neither a release nor an act: login challenges and the like. It proves nothing.
    pub async fn commit_unrecorded(self) -> Result<(), StoreError> {
        self.end().await
    }

    async fn end(self) -> Result<(), StoreError> {
        match self.tx {
            Tx::Sqlite(tx, _turn) => tx.commit().await.map_err(StoreError::OutcomeUnknown),
            Tx::Postgres(tx) => {
                let (committed, warned) = commit_warning::watch(tx.commit()).await;
                committed.map_err(StoreError::OutcomeUnknown)?;
                if warned {
                    return Err(StoreError::CommitWarning);
                }
                Ok(())
            }
        }
    }
}

/// A batch of rows, column by column, for a statement's table parameter.
pub fn table<const N: usize>(columns: [(&'static str, Column); N]) -> Value {
    Value::Table(columns.into())
}

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Sqlite};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit};

use super::{
    OpenError, StoreError,
    at_once::committed_at_once,
    connections::{Connections, Held, State},
    gate_facts::GateFacts,
    health::LogHealth,
    log_end::KnownEnd,
    pooled_tx::PooledTx,
    postgres::{self, PostgresPools},
    query::{Connection, Params, Row},
    recent_closings::{ClosingKeys, RecentClosings},
    schema::SchemaStep,
    sqlite::{self, SqlitePools},
    write_tx::WriteTx,
};
use crate::{clock::Timestamp, keyring::Keyring, terms::RequestId};

/// Which database a service stands on: the section `[database]` of its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DatabaseConfig {
    /// Embedded: one file, one instance, nothing to install.
    Sqlite {
        /// The file; made when it is not there.
        file: PathBuf,
    },
    /// A server: several instances on one database. Its schema is made by `migrate`.
    Postgres {
        /// A file with the URL of the service's role: `postgres://ROLE:PASSWORD@HOST/DATABASE?sslmode=verify-full`.
        url_file: PathBuf,
    },
}

/// What a write is for: it decides how the gate is taken, and on which connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A release: shares the gate with other releases.
    Release,
    /// An operator's act that forbids releases or lifts such an act: has the gate alone.
    Guard,
    /// A requester's act that forbids releases, on connections of its own.
    RequestersGuard,
    /// What requesters open: logins, consents given. They take the log's head only to write ([`WriteTx::take_head`]).
    Openings,
    /// Everything else that is recorded. However much there is, releases and guards do not wait for more than a few of them (I4).
    Ordinary,
    /// Persons and linkages that forbid nothing: one load at a time.
    Load,
    /// Persons and linkages that forbid something.
    GuardLoad,
    /// What forbids nothing, is not recorded, and needs no order with releases: the index of own records, the last use of a
    /// session, the removal of what is old. It takes neither the gate nor the log's head.
    Ungated,
    /// Copies. They take the gate only to commit, since no guard waits for a row that they write.
    Copies,
}

impl Access {
    /// Whether it may advance the epoch: nothing else is written while it has the gate.
    pub(super) fn is_exclusive(self) -> bool {
        matches!(self, Self::Guard | Self::RequestersGuard | Self::GuardLoad)
    }
}

enum Pools {
    Sqlite(SqlitePools),
    Postgres(PostgresPools),
}

/// A side's database, and the audit log that this process writes in it.
pub struct Database {
    pools: Pools,
    log: String,
    generation: i64,
    health: Arc<LogHealth>,
    known_end: KnownEnd,
    recent_closings: RecentClosings,
    turn_to_append: Arc<Mutex<()>>,
    /// The side's keys.
    pub keys: Arc<Keyring>,
    moved: bool,
}

pub(super) enum Tx {
    Sqlite(PooledTx<Sqlite>, Option<OwnedSemaphorePermit>),
    Postgres(PooledTx<Postgres>),
}

impl Tx {
    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(tx, _) => Connection::Sqlite(tx),
            Self::Postgres(tx) => Connection::Postgres(tx),
        }
    }
}

/// A connection for reads that decide nothing.
pub enum Reader {
    /// SQLite.
    Sqlite(ReaderOf<Sqlite>),
    /// PostgreSQL.
    Postgres(ReaderOf<Postgres>),
}

/// A connection of a reader.
pub struct ReaderOf<DB: sqlx::Database>(Held<DB>);

impl Reader {
    /// The connection.
    pub fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(held) => Connection::Sqlite(&mut held.0),
            Self::Postgres(held) => Connection::Postgres(&mut held.0),
        }
    }

    /// Gives it back after everything that was asked has been answered: it need not be asked whether it is well.
    pub fn finish(self) {
        match self {
            Self::Sqlite(mut held) => held.0.is(State::Settled),
            Self::Postgres(mut held) => held.0.is(State::Settled),
        }
    }
}

impl Database {
    /// Opens the database and takes the log over: its owner generation rises, and a process that wrote it before can write
    /// no more. A SQLite file is made and brought up to date.
    pub async fn open(
        config: &DatabaseConfig,
        log: &str,
        keys: Arc<Keyring>,
        steps: &[SchemaStep],
    ) -> Result<Self, OpenError> {
        let mut database = Self {
            pools: match config {
                DatabaseConfig::Sqlite { file } => Pools::Sqlite(sqlite::open(file, steps).await?),
                DatabaseConfig::Postgres { url_file } => {
                    Pools::Postgres(postgres::open(url_file, log, steps).await?)
                }
            },
            log: log.to_owned(),
            generation: 0,
            health: Arc::default(),
            known_end: KnownEnd::default(),
            recent_closings: RecentClosings::default(),
            turn_to_append: Arc::default(),
            keys,
            moved: false,
        };
        database.check_lookup_key(config).await?;
        database.moved = database.has_moved().await?;
        let row = database
            .write(
                // A closed log is not taken from a process that still has its last entry countersigned.
                "INSERT INTO log_head (log, generation, size, bundles, frontier, closed) \
                 VALUES ({log}, 1, 0, 0, {empty}, {no}) \
                 ON CONFLICT (log) DO UPDATE SET generation = log_head.generation \
                    + CASE WHEN log_head.closed THEN 0 ELSE 1 END \
                 RETURNING generation, closed",
                &[
                    ("log", log.into()),
                    ("empty", [].as_slice().into()),
                    ("no", false.into()),
                ],
            )
            .await?;
        if row.bool(1)? {
            return Err(OpenError::Closed { log: log.to_owned() });
        }
        database.generation = row.int(0)?;
        Ok(database)
    }

    /// Brings a PostgreSQL schema up to date, as the role that owns it; SQLite's is made at the start of the service.
    pub async fn migrate(owner_url_file: &Path, steps: &[SchemaStep]) -> Result<(), OpenError> {
        postgres::migrate(owner_url_file, steps).await
    }

    async fn check_lookup_key(&self, config: &DatabaseConfig) -> Result<(), OpenError> {
        let ours = self.keys.lookup.fingerprint();
        let row = self
            .write(
                "INSERT INTO lookup_key (one, fingerprint) VALUES (1, {ours}) \
             ON CONFLICT (one) DO UPDATE SET one = 1 RETURNING fingerprint",
                &[("ours", ours.as_slice().into())],
            )
            .await?;
        if row.bytes(0)? == ours {
            return Ok(());
        }
        let database = match config {
            DatabaseConfig::Sqlite { file } => file.display().to_string(),
            DatabaseConfig::Postgres { .. } => "the PostgreSQL database".to_owned(),
        };
        Err(OpenError::OtherKey { database })
    }

    /// Whether this is another database than the one that the service stood on: a restored copy, or a promoted standby. The
    /// first start tells it which one it is.
    async fn has_moved(&self) -> Result<bool, OpenError> {
        let Pools::Postgres(pools) = &self.pools else {
            return Ok(false);
        };
        let row = self
            .write(
            "INSERT INTO database_identity (one, system_identifier, timeline) VALUES (1, {system}, {timeline}) \
             ON CONFLICT (one) DO UPDATE SET one = 1 RETURNING system_identifier, timeline",
            &[
                ("system", pools.identity.system_identifier.as_str().into()),
                ("timeline", pools.identity.timeline.as_str().into()),
            ],
        )
        .await?;
        Ok(row.text(0)? != pools.identity.system_identifier || row.text(1)? != pools.identity.timeline)
    }

    /// Whether the database is another one than at the last start: provision is to be stopped until two persons resume it.
    pub fn moved(&self) -> bool {
        self.moved
    }

    /// Takes note, in a transaction that stops provision, of which database this is now.
    pub(super) async fn settle(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        let Pools::Postgres(pools) = &self.pools else {
            return Ok(());
        };
        tx.execute(
            "UPDATE database_identity SET system_identifier = {system}, timeline = {timeline}",
            &[
                ("system", pools.identity.system_identifier.as_str().into()),
                ("timeline", pools.identity.timeline.as_str().into()),
            ],
        )
        .await?;
        Ok(())
    }

    /// One statement that commits by itself, on a connection that may write.
    async fn write(&self, sql: &'static str, params: Params<'_>) -> Result<Row, StoreError> {
        match &self.pools {
            Pools::Sqlite(pools) => {
                let mut held = pools.writer.acquire().await?;
                Connection::Sqlite(&mut held).one(sql, params).await
            }
            Pools::Postgres(pools) => {
                let mut held = pools.ordinary.acquire().await?;
                Connection::Postgres(&mut held).one(sql, params).await
            }
        }
    }

    /// `SQLite` or `PostgreSQL`.
    pub fn engine(&self) -> &'static str {
        match self.pools {
            Pools::Sqlite(_) => "SQLite",
            Pools::Postgres(_) => "PostgreSQL",
        }
    }

    /// Name of the log that this process writes.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The owner generation under which this process writes its log.
    pub(super) fn generation(&self) -> i64 {
        self.generation
    }

    /// What is known of whether it can.
    pub(super) fn health(&self) -> &LogHealth {
        &self.health
    }

    /// What is known of its end.
    pub(super) fn known_end(&self) -> &KnownEnd {
        &self.known_end
    }

    /// What requesters have closed through this process of late.
    pub(super) fn recent_closings(&self) -> &RecentClosings {
        &self.recent_closings
    }

    /// Whether it is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self.pools, Pools::Postgres(_))
    }

    /// Whether something can be recorded by one statement: the database is PostgreSQL, and the end of the log is known.
    pub fn appends_at_once(&self) -> bool {
        self.is_postgres() && self.known_end.get().is_some()
    }

    /// Whoever appends on PostgreSQL and shares the gate waits for this process's others here, before the gate: so the end of the log is
    /// what is known of it, and what waits for the head's row does not hold the gate. Nobody waits for longer than this, so that what
    /// waits behind a server that does not answer fails together, and not one after the other.
    pub(super) async fn turn_to_append(&self, within: Duration) -> Option<OwnedMutexGuard<()>> {
        let turn = self.turn_to_append.clone().lock_owned();
        tokio::time::timeout(within, turn).await.ok()
    }

    /// The connections for this, on PostgreSQL.
    pub(super) fn connections(&self, access: Access) -> Option<&Connections<Postgres>> {
        match &self.pools {
            Pools::Sqlite(_) => None,
            Pools::Postgres(pools) => Some(pools.of(access).0),
        }
    }

    /// A connection for reads that decide nothing.
    pub async fn reader(&self) -> Result<Reader, StoreError> {
        Ok(match &self.pools {
            Pools::Sqlite(pools) => Reader::Sqlite(ReaderOf(pools.reader.acquire().await?)),
            Pools::Postgres(pools) => Reader::Postgres(ReaderOf(pools.ordinary.acquire().await?)),
        })
    }

    /// A connection for reading what could forbid a batch: with the plans of a release.
    pub async fn admission(&self) -> Result<Reader, StoreError> {
        Ok(match &self.pools {
            Pools::Sqlite(pools) => Reader::Sqlite(ReaderOf(pools.reader.acquire().await?)),
            Pools::Postgres(pools) => Reader::Postgres(ReaderOf(pools.admissions.acquire().await?)),
        })
    }

    /// What could forbid every release, for telling and for what is not released; a release reads it in its own transaction.
    pub async fn gate_facts(&self) -> Result<GateFacts, StoreError> {
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .one("SELECT facts FROM gate_facts", &[])
            .await?;
        GateFacts::parse(row.text(0)?)
    }

    /// One statement that commits by itself, on the connections for this, without the gate: what forbids nothing, is not recorded, and
    /// needs no order with releases. Its rows, after they are durable.
    pub async fn once(
        &self,
        access: Access,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        match &self.pools {
            Pools::Sqlite(pools) => {
                let _turn = ordinary_turn(pools).await?;
                let mut held = pools.writer.acquire().await?;
                let rows = Connection::Sqlite(&mut held).all(sql, params).await?;
                held.is(State::Settled);
                Ok(rows)
            }
            Pools::Postgres(pools) => {
                let mut held = pools.of(access).0.acquire().await?;
                committed_at_once(&mut held, sql, params).await
            }
        }
    }

    /// Begins a write and takes the gate as `access` says: what forbids and is read from here on stays as it is until the
    /// commit.
    pub async fn begin(&self, access: Access) -> Result<WriteTx, StoreError> {
        let turn = match (&self.pools, access) {
            (Pools::Sqlite(_), _) | (_, Access::Ungated | Access::Copies) => None,
            // Who forbids something waits for the gate and for nothing else.
            (_, access) if access.is_exclusive() => None,
            (Pools::Postgres(_), _) => {
                let turn = self.turn_to_append(postgres::GATE_AT_MOST).await;
                Some(turn.ok_or_else(StoreError::timed_out)?)
            }
        };
        let mut tx = WriteTx {
            tx: match &self.pools {
                Pools::Sqlite(pools) => self.begin_sqlite(pools, access).await?,
                Pools::Postgres(pools) => Tx::Postgres(begin_postgres(pools, access).await?),
            },
            turn,
            head: None,
            access,
            log: self.log.clone(),
            generation: self.generation,
            health: self.health.clone(),
            known_end: self.known_end.clone(),
            recent_closings: self.recent_closings.clone(),
            closes: ClosingKeys::new(),
        };
        // Whoever takes the gate late, or never, reads the log's head so, too.
        match (&self.pools, access) {
            (Pools::Postgres(_), Access::Copies | Access::Openings) | (_, Access::Ungated) => {}
            _ => tx.take_head().await?,
        }
        Ok(tx)
    }

    async fn begin_sqlite(&self, pools: &SqlitePools, access: Access) -> Result<Tx, StoreError> {
        let turn = match access {
            Access::Openings | Access::Ordinary | Access::Ungated | Access::Copies => {
                Some(ordinary_turn(pools).await?)
            }
            Access::Release | Access::Guard | Access::RequestersGuard | Access::Load | Access::GuardLoad => {
                None
            }
        };
        Ok(Tx::Sqlite(
            PooledTx::begin(&pools.writer, "BEGIN IMMEDIATE").await?,
            turn,
        ))
    }

    /// Forgets request ids that no fresh request can carry any more; in bounded batches.
    pub(super) async fn forget_request_ids(&self, now: Timestamp) -> Result<u64, StoreError> {
        let before = now.before(RequestId::WINDOW * 3);
        let mut tx = self.begin(Access::Ungated).await?;
        let forgotten = tx
            .execute(
                "DELETE FROM used_request_id WHERE id IN \
                 (SELECT id FROM used_request_id WHERE id < {before} ORDER BY id LIMIT 1000)",
                &[("before", (&RequestId::lowest_of(before)).into())],
            )
            .await?;
        tx.commit_unrecorded().await?;
        Ok(forgotten)
    }
}

impl PostgresPools {
    /// The connections for this, and how its transactions begin.
    fn of(&self, access: Access) -> (&Connections<Postgres>, &'static str) {
        match access {
            Access::Release => (&self.releases, postgres::BEGIN_SHARED),
            Access::Guard => (&self.guards, postgres::BEGIN_GUARD),
            Access::RequestersGuard => (&self.requesters, postgres::BEGIN_GUARD),
            Access::Openings => (&self.requesters, postgres::BEGIN_SHARED),
            Access::GuardLoad => (&self.guards, postgres::BEGIN_GUARD_LOAD),
            Access::Ordinary => (&self.ordinary, postgres::BEGIN_SHARED),
            Access::Ungated => (&self.ordinary, postgres::BEGIN_UNGATED),
            Access::Load => (&self.loads, postgres::BEGIN_SHARED_LOAD),
            Access::Copies => (&self.loads, postgres::BEGIN_UNGATED),
        }
    }
}

/// A turn of SQLite's one writer for what is ordinary.
async fn ordinary_turn(pools: &SqlitePools) -> Result<OwnedSemaphorePermit, StoreError> {
    let turn = tokio::time::timeout(sqlite::GATE_TIMEOUT, pools.ordinary.clone().acquire_owned());
    let turn = turn.await.ok().and_then(Result::ok);
    turn.ok_or(StoreError::Failed(sqlx::Error::PoolTimedOut))
}

/// A connection that broke while it was idle shows it here, where nothing has been done yet: another one is taken.
async fn begin_postgres(pools: &PostgresPools, access: Access) -> Result<PooledTx<Postgres>, StoreError> {
    let (pool, begin) = pools.of(access);
    let mut tries = pool.size() + 1;
    loop {
        match PooledTx::begin(pool, begin).await {
            // Who has waited in vain once does not wait again.
            Err(sqlx::Error::Io(error)) if tries > 0 && error.kind() != ErrorKind::TimedOut => tries -= 1,
            Err(sqlx::Error::Protocol(_)) if tries > 0 => tries -= 1,
            // What the server says when it ends a connection: by the operator, by a restart, for being idle too long.
            Err(sqlx::Error::Database(error))
                if tries > 0
                    && error
                        .code()
                        .is_some_and(|code| code.starts_with("57P") || code == "25P03") =>
            {
                tries -= 1;
            }
            outcome => return Ok(outcome?),
        }
    }
}

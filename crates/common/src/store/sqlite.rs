use std::{
    collections::HashSet,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use koseki_proto::koseki::evidence::v1::{Bundle, Entry};
use prost::Message as _;
use sqlx::{
    Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::StoreError;
use crate::{
    clock::Timestamp,
    evidence::{Committed, Epoch},
    keyring::LookupKey,
    suspension::Suspensions,
    terms::{RequestId, RequestKind},
};

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("{path}: cannot be opened")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process owns it.
    #[error("{path}: another process owns this database; one process at a time may")]
    Owned {
        /// The database.
        path: PathBuf,
    },
    /// It was made with another look-up key.
    #[error("{path}: was made with another look-up key; give the keyring that belongs to it")]
    OtherKey {
        /// The database.
        path: PathBuf,
    },
    /// SQLite fails.
    #[error("{path}: SQLite cannot use it")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema is not one that this program knows.
    #[error("{path}: its schema is not one that this program knows")]
    Schema {
        /// The database.
        path: PathBuf,
        /// Why.
        source: MigrateError,
    },
}

/// A numbered migration. Once merged it is never changed: a database refuses one whose text differs.
pub fn migration(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration::new(
        version,
        name.into(),
        MigrationType::Simple,
        sqlx::SqlSafeStr::into_sql_str(sql),
        false,
    )
}

/// One SQLite database of a side (WAL, synchronous=FULL): one writer connection, which is the gate, and some readers.
/// The process owns the file for as long as this lives.
pub struct Database {
    writer: SqlitePool,
    ordinary: Arc<Semaphore>,
    reader: SqlitePool,
    log: String,
    generation: i64,
    _owner: File,
}

impl Database {
    /// How long a write waits for the gate; then it fails loudly.
    const GATE_TIMEOUT: Duration = Duration::from_secs(2);
    const READERS: u32 = 4;
    /// Ordinary writers that may wait for the gate at a time, so that releases and forbidding acts wait for few.
    const ORDINARY_WRITERS: usize = 2;

    /// Opens or makes the database, takes its log over (the owner generation rises) and brings the schema up to date.
    pub async fn open(
        path: &Path,
        log: &str,
        lookup: &LookupKey,
        mut migrations: Vec<Migration>,
    ) -> Result<Self, OpenError> {
        let owner = own(path)?;
        let failed = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Self::GATE_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Self::GATE_TIMEOUT)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        migrations.push(migration(
            1,
            "side",
            include_str!("../../migrations/0001_side.sql"),
        ));
        Migrator::with_migrations(migrations)
            .run(&writer)
            .await
            .map_err(|source| OpenError::Schema {
                path: path.to_owned(),
                source,
            })?;
        let reader = SqlitePoolOptions::new()
            .max_connections(Self::READERS)
            .acquire_timeout(Self::GATE_TIMEOUT)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        let (fingerprint,): (Vec<u8>,) = sqlx::query_as(
            "INSERT INTO lookup_key (one, fingerprint) VALUES (1, ?1) \
             ON CONFLICT (one) DO UPDATE SET one = 1 RETURNING fingerprint",
        )
        .bind(lookup.fingerprint().as_slice())
        .fetch_one(&writer)
        .await
        .map_err(failed)?;
        if fingerprint != lookup.fingerprint() {
            return Err(OpenError::OtherKey {
                path: path.to_owned(),
            });
        }
        let (generation,): (i64,) = sqlx::query_as(
            "INSERT INTO log_head (log, generation, size, bundles) VALUES (?1, 1, 0, 0) \
             ON CONFLICT (log) DO UPDATE SET generation = generation + 1 RETURNING generation",
        )
        .bind(log)
        .fetch_one(&writer)
        .await
        .map_err(failed)?;
        Ok(Self {
            writer,
            ordinary: Arc::new(Semaphore::new(Self::ORDINARY_WRITERS)),
            reader,
            log: log.to_owned(),
            generation,
            _owner: owner,
        })
    }

    /// Name of the log that this process writes.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// A connection for reads that decide nothing.
    pub async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.reader.acquire().await?)
    }

    /// Takes the gate for a write that is neither a release nor a forbidding act: logins, consents given, files loaded.
    /// However many there are, they do not hold up the others (I4).
    pub async fn begin_ordinary(&self) -> Result<WriteTx, StoreError> {
        let turn = tokio::time::timeout(Self::GATE_TIMEOUT, self.ordinary.clone().acquire_owned());
        let turn = turn.await.ok().and_then(Result::ok);
        let turn = turn.ok_or(StoreError::Failed(sqlx::Error::PoolTimedOut))?;
        let mut tx = self.begin().await?;
        tx._turn = Some(turn);
        Ok(tx)
    }

    /// Takes the gate: from here to the commit nothing else is written, so everything that is read stays true.
    pub async fn begin(&self) -> Result<WriteTx, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query(
            "SELECT gate.epoch, log_head.generation, log_head.size, log_head.bundles \
             FROM gate JOIN log_head ON log_head.log = ?1",
        )
        .bind(&self.log)
        .fetch_one(&mut *tx)
        .await?;
        if row.try_get::<i64, _>(1)? != self.generation {
            return Err(StoreError::Fenced);
        }
        Ok(WriteTx {
            tx,
            log: self.log.clone(),
            generation: self.generation,
            epoch: row.try_get(0)?,
            size: row.try_get(2)?,
            bundles: row.try_get(3)?,
            _turn: None,
        })
    }

    /// Forgets request ids that no fresh request can carry any more; in bounded batches.
    pub async fn forget_request_ids(&self, now: Timestamp) -> Result<u64, StoreError> {
        let window_ms = i64::try_from(RequestId::WINDOW.as_millis()).unwrap_or(i64::MAX);
        let done = sqlx::query(
            "DELETE FROM used_request_id WHERE id IN \
             (SELECT id FROM used_request_id WHERE used_at < ?1 ORDER BY used_at LIMIT 1000)",
        )
        .bind(now.unix_ms().saturating_sub(window_ms.saturating_mul(3)))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }
}

/// Takes the lock beside the database; a second process is refused. The database's file is made for its owner only.
fn own(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::File {
        path: path.to_owned(),
        source,
    };
    let private = |path: &Path| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
    };
    private(path).map_err(failed)?;
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let owner = private(Path::new(&lock)).map_err(failed)?;
    match owner.try_lock() {
        Ok(()) => Ok(owner),
        Err(TryLockError::WouldBlock) => Err(OpenError::Owned {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// A transaction that holds the gate. While it is open only the database is awaited. Dropped, it changes nothing.
pub struct WriteTx {
    tx: Transaction<'static, Sqlite>,
    log: String,
    generation: i64,
    epoch: i64,
    size: i64,
    bundles: i64,
    _turn: Option<OwnedSemaphorePermit>,
}

impl WriteTx {
    /// The connection, for the side's own statements.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    /// The epoch under which this commits.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.unsigned_abs())
    }

    /// Makes a new epoch: this is a forbidding act.
    pub async fn advance_epoch(&mut self) -> Result<Epoch, StoreError> {
        (self.epoch,) = sqlx::query_as("UPDATE gate SET epoch = epoch + 1 RETURNING epoch")
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(self.epoch())
    }

    /// The kinds that are suspended at this side.
    pub async fn suspensions(&mut self) -> Result<Suspensions, StoreError> {
        suspensions(&mut self.tx).await
    }

    /// Uses request ids up; returns those that had not been used.
    pub async fn use_request_ids(
        &mut self,
        ids: &[RequestId],
        now: Timestamp,
    ) -> Result<HashSet<[u8; 16]>, StoreError> {
        let rows: Vec<(Vec<u8>,)> = sqlx::query_as(
            "INSERT INTO used_request_id (id, used_at) SELECT unhex(value), ?2 FROM json_each(?1) WHERE true \
             ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(hex_array(ids.iter().map(|id| id.as_bytes().as_slice())))
        .bind(now.unix_ms())
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into_iter().filter_map(|(id,)| id.try_into().ok()).collect())
    }

    /// The epoch of an act that was done before with this id, with the digest of its content.
    pub async fn act(&mut self, id: &[u8; 16]) -> Result<Option<([u8; 32], Epoch)>, StoreError> {
        let row: Option<(Vec<u8>, i64)> = sqlx::query_as("SELECT content, epoch FROM act WHERE id = ?1")
            .bind(id.as_slice())
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(|(content, epoch)| {
            let content = content.try_into().map_err(|_| StoreError::Unreadable("an act"))?;
            Ok((content, Epoch(epoch.unsigned_abs())))
        })
        .transpose()
    }

    /// Remembers an act that is done by this transaction.
    pub async fn remember_act(&mut self, id: &[u8; 16], content: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO act (id, content, epoch) VALUES (?1, ?2, ?3)")
            .bind(id.as_slice())
            .bind(content.as_slice())
            .bind(self.epoch)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Appends a bundle with the entries and commits. The head row is moved on the condition that nobody else has moved
    /// it: two writers cannot fork a log.
    pub async fn commit(mut self, entries: Vec<Entry>, at: Timestamp) -> Result<Committed, StoreError> {
        let added =
            i64::try_from(entries.len()).map_err(|_| StoreError::Unreadable("the size of a bundle"))?;
        let moved = sqlx::query(
            "UPDATE log_head SET size = size + ?1, bundles = bundles + 1 \
             WHERE log = ?2 AND generation = ?3 AND size = ?4",
        )
        .bind(added)
        .bind(&self.log)
        .bind(self.generation)
        .bind(self.size)
        .execute(&mut *self.tx)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(StoreError::Fenced);
        }
        let bundle = Bundle {
            log: self.log,
            first_index: self.size.unsigned_abs(),
            epoch: self.epoch.unsigned_abs(),
            at: Some(at.to_proto()),
            entries,
        };
        sqlx::query("INSERT INTO bundle (log, number, first_index, epoch, body) VALUES (?1, ?2, ?3, ?4, ?5)")
            .bind(&bundle.log)
            .bind(self.bundles)
            .bind(self.size)
            .bind(self.epoch)
            .bind(bundle.encode_to_vec())
            .execute(&mut *self.tx)
            .await?;
        self.tx.commit().await.map_err(StoreError::OutcomeUnknown)?;
        Ok(Committed::new(Epoch(bundle.epoch)))
    }

    /// Commits what is neither a release nor an act: login challenges and the like. It proves nothing.
    pub async fn commit_unrecorded(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(StoreError::OutcomeUnknown)
    }
}

/// Blobs as a JSON array of hexadecimal text: how a batch travels in one parameter, for `json_each` and `unhex`.
pub fn hex_array<'a>(values: impl Iterator<Item = &'a [u8]>) -> String {
    let hex: Vec<String> = values
        .map(|value| data_encoding::HEXLOWER.encode(value))
        .collect();
    serde_json::Value::from(hex).to_string()
}

/// The kinds that are suspended, as this connection sees them.
pub async fn suspensions(connection: &mut SqliteConnection) -> Result<Suspensions, StoreError> {
    let kinds: Vec<(i32,)> = sqlx::query_as("SELECT kind FROM suspension")
        .fetch_all(connection)
        .await?;
    let mut suspensions = Suspensions::default();
    for (kind,) in kinds {
        // A kind that this program does not know stops everything (I4).
        suspensions.add(RequestKind::parse(kind).ok());
    }
    Ok(suspensions)
}

//! SQLite (WAL, synchronous=FULL): one writer connection, which is the gate, and some readers. One process owns the file.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use sqlx::{
    Sqlite,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Semaphore;

use super::{
    OpenError,
    connections::Connections,
    schema::{SchemaStep, migrator},
};

/// How long a write waits for the gate; then it fails loudly.
pub(super) const GATE_TIMEOUT: Duration = Duration::from_secs(2);
const READERS: u32 = 4;
/// Ordinary writers that may wait for the gate at a time, so that releases and forbidding acts wait for few.
const ORDINARY_WRITERS: usize = 2;

/// The writer's pages in memory, in KiB: keys are HMACs, so that each row goes to pages of its own.
const WRITER_CACHE_KIB: u32 = 64 * 1024;
/// Pages that the log may have before they are written back (64 MiB): pages that were written often go back once.
const CHECKPOINT_PAGES: u32 = 16 * 1024;

/// The pools of a file, and the lock that makes it this process's.
pub(super) struct SqlitePools {
    pub(super) writer: Connections<Sqlite>,
    pub(super) ordinary: std::sync::Arc<Semaphore>,
    pub(super) reader: Connections<Sqlite>,
    _owner: File,
}

/// Opens or makes the file and brings its schema up to date.
pub(super) async fn open(path: &Path, steps: &[SchemaStep]) -> Result<SqlitePools, OpenError> {
    let owner = own(path)?;
    let place = || path.display().to_string();
    let failed = |source| OpenError::Database {
        database: place(),
        source,
    };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(GATE_TIMEOUT);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(GATE_TIMEOUT)
        .connect_with(
            options
                .clone()
                .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
                // What a statement would have to take back is a batch at most: no file is written for it.
                .pragma("temp_store", "MEMORY"),
        )
        .await
        .map_err(failed)?;
    migrator(steps, |step| step.sqlite)
        .run(&writer)
        .await
        .map_err(|source| OpenError::Schema {
            database: place(),
            source,
        })?;
    let reader = SqlitePoolOptions::new()
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(GATE_TIMEOUT)
        .connect_with(options.read_only(true))
        .await
        .map_err(failed)?;
    Ok(SqlitePools {
        writer: Connections::kept(writer),
        ordinary: std::sync::Arc::new(Semaphore::new(ORDINARY_WRITERS)),
        reader: Connections::kept(reader),
        _owner: owner,
    })
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

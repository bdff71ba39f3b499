use std::{io, path::PathBuf};

use sqlx::migrate::MigrateError;

use super::StoreError;
use crate::files::FileError;

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
    /// The file with the URL cannot be read.
    #[error(transparent)]
    Secret(FileError),
    /// The URL is not one that a service may use.
    #[error("{path}: {rule}")]
    Url {
        /// The file with the URL.
        path: PathBuf,
        /// What it should be.
        rule: &'static str,
    },
    /// It was made with another look-up key.
    #[error("{database}: was made with another look-up key; give the keyring that belongs to it")]
    OtherKey {
        /// The database.
        database: String,
    },
    /// The instance's audit log is closed.
    #[error(
        "the audit log of {log} is closed for good: start an instance with a new name, and with a key of its own in \
         log-keys.txt on both sides; docs/runbooks/log-differs.md says how"
    )]
    Closed {
        /// The log.
        log: String,
    },
    /// The server, the role or the schema is not one that a service may stand on.
    #[error("{database}: {rule}")]
    Unfit {
        /// The database.
        database: String,
        /// What it should be.
        rule: String,
    },
    /// The database fails.
    #[error("{database}: cannot be used")]
    Database {
        /// The database.
        database: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema is not one that this program knows.
    #[error("{database}: its schema is not one that this program knows")]
    Schema {
        /// The database.
        database: String,
        /// Why.
        source: MigrateError,
    },
    /// It fails at the first statement.
    #[error("the database fails at the start")]
    Start(#[from] StoreError),
}

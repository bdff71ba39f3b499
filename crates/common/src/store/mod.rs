//! What the stores of both sides share: the gate and the epoch, the audit log's bundles and head row, suspensions,
//! acts, used request ids (DESIGN §4, §5, §7). Everything is written once and runs on SQLite and on PostgreSQL.

mod commit_warning;
mod database;
mod housekeeping;
mod load;
mod log;
mod open_error;
mod pooled_tx;
mod postgres;
mod query;
mod replaced_cards;
mod revocation;
mod schema;
mod side;
mod sqlite;
mod write_tx;

pub use database::{Access, Database, DatabaseConfig, Reader};
pub use housekeeping::{Housekeeping, worked};
pub use load::{Change, Load, LoadEnd, check_changes, check_rotates};
pub use log::{StoredCheckpoint, Witnessed};
pub use open_error::OpenError;
pub use query::{Column, Connection, Params, Row, Value};
pub use replaced_cards::ReplacedCards;
pub use schema::SchemaStep;
pub use side::{ActError, SideStore};
pub(crate) use side::{kind_number, suspension_epoch};
pub use write_tx::{WriteTx, suspensions, table};

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed.
    #[error("the store failed and nothing was changed")]
    Failed(#[source] sqlx::Error),
    /// The commit failed: whether it counts is not known.
    #[error("the outcome of a commit is not known")]
    OutcomeUnknown(#[source] sqlx::Error),
    /// The server warned at the commit: a synchronous standby may not have it, so whether it counts is not known.
    #[error("the outcome of a commit is not known: the server warned that a standby may not have it")]
    CommitWarning,
    /// Another process has taken the log: this one must not write any more.
    #[error("another process has taken this log")]
    Fenced,
    /// Another instance has gone over to a newer policy, and this one has not.
    #[error("another instance holds a newer policy: give this one the next policy's file")]
    BehindPolicy,
    /// What is stored cannot be read.
    #[error("what is stored cannot be read: {0}")]
    Unreadable(&'static str),
}

impl StoreError {
    /// Whether the server has ended the transaction so that others could go on: nothing of it counts, and the same again may
    /// succeed.
    fn gave_way(&self) -> bool {
        // A deadlock; a failure to serialise.
        matches!(self, Self::Failed(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| code == "40P01" || code == "40001"))
    }
}

/// Does a transaction, and once more from its beginning when it had to give way to another one.
pub async fn again_if_it_gave_way<T, F>(transaction: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    match transaction().await {
        Err(error) if error.gave_way() => {
            tracing::warn!(
                error = crate::telemetry::chain(&error),
                "a transaction gave way to another one and is done once more"
            );
            transaction().await
        }
        outcome => outcome,
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<crate::sealing::SealError> for StoreError {
    fn from(_: crate::sealing::SealError) -> Self {
        Self::Unreadable("a sealed value")
    }
}

impl From<StoreError> for crate::refusal::Reason {
    /// Callers learn that it did not work; operators get the chain in the log.
    fn from(error: StoreError) -> Self {
        tracing::error!(error = crate::telemetry::chain(&error), "the store failed");
        Self::Unavailable
    }
}

//! What the stores of both sides share: the gate and the epoch, the audit log's bundles and head row, suspensions,
//! acts, used request ids (DESIGN §4, §5, §7). Everything is written once and runs on SQLite and on PostgreSQL.

mod archive;
mod at_once;
mod closing;
mod commit_warning;
mod connections;
mod database;
mod gate_facts;
mod health;
mod housekeeping;
mod load;
mod log;
mod log_end;
mod log_export;
mod open_error;
mod pooled_tx;
mod postgres;
mod query;
mod recent_closings;
mod replaced_cards;
mod revocation;
mod schema;
mod side;
mod sqlite;
mod write_tx;

pub use archive::ArchiveError;
pub use at_once::AtOnce;
pub use database::{Access, Database, DatabaseConfig, Reader};
pub use gate_facts::GateFacts;
pub use housekeeping::{Housekeeping, worked};
pub use load::{Change, Forbids, Load, LoadEnd, check_changes, check_rotates};
pub use log::{StoredCheckpoint, Witnessed};
pub use log_export::{LogFacts, RangeStart};
pub use open_error::OpenError;
pub use query::{Column, Connection, Params, Row, Value};
pub use recent_closings::ClosingKeys;
pub use replaced_cards::ReplacedCards;
pub use schema::SchemaStep;
pub use side::{ActError, SideStore};
pub(crate) use side::{kind_number, suspension_epoch};
pub use write_tx::{WriteTx, table};

use std::ops::Range;

use crate::refusal::Reason;

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
    /// The log was closed: nothing is ever appended to it again.
    #[error("this log was closed for good")]
    Closed,
    /// Another instance has gone over to a newer policy, and this one has not.
    #[error("another instance holds a newer policy: give this one the next policy's file")]
    BehindPolicy,
    /// What a release was decided by has changed since it was read: nothing was changed, and it is decided again behind the gate.
    #[error("something was changed meanwhile")]
    Moved,
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

    /// Nothing came back in time.
    fn timed_out() -> Self {
        Self::Failed(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
    }
}

impl StoreError {
    /// Whether it is about what stands in a row, not about the database itself; then nothing was changed.
    fn is_of_one_item(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Failed(sqlx::Error::Database(error)) => {
                // Data exceptions, integrity constraints and raised errors of PostgreSQL; constraints and mismatches of SQLite.
                let code = error.code().unwrap_or_default();
                let class = code.get(..2).unwrap_or_default();
                (code.len() == 5 && matches!(class, "21" | "22" | "23" | "P0"))
                    || error.is_unique_violation()
                    || error.is_check_violation()
                    || error.is_foreign_key_violation()
                    || code == "20"
            }
            Self::Failed(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => true,
            Self::Failed(_)
            | Self::OutcomeUnknown(_)
            | Self::CommitWarning
            | Self::Fenced
            | Self::Closed
            | Self::BehindPolicy
            | Self::Moved => false,
        }
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

/// Does a transaction for a whole batch of so many items. When it fails for what one of them has met, and nothing of it counts,
/// each item has one of its own, so that the others are not refused for it. The transaction is told which items it is for.
pub async fn one_by_one_if_it_fails<O, F>(
    items: usize,
    transaction: impl Fn(Range<usize>) -> F,
) -> Vec<Result<O, Reason>>
where
    F: Future<Output = Result<Vec<O>, StoreError>>,
{
    let error = match again_if_it_gave_way(|| transaction(0..items)).await {
        Ok(outcomes) => return outcomes.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if items < 2 || !error.is_of_one_item() {
        let reason = Reason::from(error);
        return (0..items).map(|_| Err(reason)).collect();
    }
    tracing::warn!(
        error = crate::telemetry::chain(&error),
        "a batch failed: each of its items is tried by itself"
    );
    let mut outcomes = Vec::with_capacity(items);
    for item in 0..items {
        let one = again_if_it_gave_way(|| transaction(item..item + 1)).await;
        let one = one.and_then(|mut one| one.pop().ok_or(StoreError::Unreadable("an item's outcome")));
        outcomes.push(one.map_err(Reason::from));
    }
    outcomes
}

/// The items of a batch that a transaction is for.
pub fn part<I>(items: &[I], part: Range<usize>) -> Result<&[I], StoreError> {
    items.get(part).ok_or(StoreError::Unreadable("a batch's order"))
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, ops::Range};

    use super::*;

    /// What becomes of four items when whatever has the third in it fails so; and the parts that were tried.
    async fn with_a_bad_third(failure: fn() -> StoreError) -> (Vec<Option<usize>>, Vec<Range<usize>>) {
        let tried = RefCell::new(Vec::new());
        let outcomes = one_by_one_if_it_fails(4, |part: Range<usize>| {
            tried.borrow_mut().push(part.clone());
            async move {
                match part.contains(&2) {
                    true => Err(failure()),
                    false => Ok(part.collect()),
                }
            }
        })
        .await;
        let outcomes = outcomes.into_iter().map(Result::ok).collect();
        (outcomes, tried.into_inner())
    }

    #[tokio::test]
    async fn what_one_item_holds_refuses_that_item_alone() {
        let (outcomes, tried) = with_a_bad_third(|| StoreError::Unreadable("a row")).await;
        assert_eq!(outcomes, [Some(0), Some(1), None, Some(3)]);
        assert_eq!(tried, [0..4, 0..1, 1..2, 2..3, 3..4]);
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_not_tried_again() {
        for failure in [
            (|| StoreError::OutcomeUnknown(sqlx::Error::PoolClosed)) as fn() -> StoreError,
            || StoreError::CommitWarning,
            || StoreError::Fenced,
            || StoreError::Failed(sqlx::Error::PoolTimedOut),
        ] {
            let (outcomes, tried) = with_a_bad_third(failure).await;
            assert_eq!(outcomes, [None; 4]);
            assert_eq!(tried, vec![0..4; 1]);
        }
    }
}

//! Removing what is old, in bounded batches beside everything else: on PostgreSQL without the gate, and of rows that are
//! locked by somebody else none.

use common::{
    clock::Timestamp,
    store::{Access, Connection, Database, StoreError},
};

/// What is kept for a bounded time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldData {
    /// Sessions, by their login.
    Sessions,
    /// Consents, by their end.
    Consents,
    /// Challenges, by their end.
    Challenges,
    /// The index of own records, by the moment of the record.
    Records,
}

macro_rules! removal {
    ($table:literal, $key:literal, $time:literal, $lock:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE (",
            $key,
            ") IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $time,
            " < {before} ORDER BY ",
            $time,
            " LIMIT 500",
            $lock,
            ")"
        )
    };
}

/// Removes rows of before a moment; some at a time, and how many it were.
pub(super) async fn remove(database: &Database, old: OldData, before: Timestamp) -> Result<u64, StoreError> {
    let mut tx = database.begin(Access::Ungated).await?;
    let on_postgres = matches!(tx.connection(), Connection::Postgres(_));
    let sql = match (old, on_postgres) {
        (OldData::Sessions, false) => removal!("session", "token", "logged_in_at", ""),
        (OldData::Sessions, true) => {
            removal!("session", "token", "logged_in_at", " FOR UPDATE SKIP LOCKED")
        }
        (OldData::Consents, false) => removal!("consent", "id", "expires_at", ""),
        (OldData::Consents, true) => removal!("consent", "id", "expires_at", " FOR UPDATE SKIP LOCKED"),
        (OldData::Records, false) => removal!("provision_record", "account, at, log, entry_index", "at", ""),
        (OldData::Records, true) => {
            removal!(
                "provision_record",
                "account, at, log, entry_index",
                "at",
                " FOR UPDATE SKIP LOCKED"
            )
        }
        (OldData::Challenges, false) => removal!("challenge", "id", "expires_at", ""),
        (OldData::Challenges, true) => {
            removal!("challenge", "id", "expires_at", " FOR UPDATE SKIP LOCKED")
        }
    };
    let removed = tx.execute(sql, &[("before", before.unix_ms().into())]).await?;
    tx.commit_unrecorded().await?;
    Ok(removed)
}

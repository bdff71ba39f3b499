//! The sequence numbers that gateways have used at this log.

use common::store::{Connection, Database, StoreError, WriteTx};

use super::Sequence;

pub(super) async fn highest(database: &Database, gateway: &str) -> Result<u64, StoreError> {
    let mut reader = database.reader().await?;
    let row = reader
        .connection()
        .optional(
            "SELECT highest FROM eligibility_window WHERE log = {log} AND gateway = {gateway}",
            &[("log", database.log().into()), ("gateway", gateway.into())],
        )
        .await?;
    row.map_or(Ok(0), |row| Ok(row.int(0)?.unsigned_abs()))
}

/// As the function `use_sequence` of PostgreSQL's schema.
const USE_ON_SQLITE: &str = "INSERT INTO eligibility_window AS used (log, gateway, highest, below) \
    VALUES ({log}, {gateway}, {number}, 0) ON CONFLICT (log, gateway) DO UPDATE SET \
        highest = max(used.highest, {number}), \
        below = CASE \
            WHEN {number} - used.highest > 62 THEN 0 \
            WHEN {number} > used.highest \
            THEN ((used.below << ({number} - used.highest)) | (1 << ({number} - used.highest - 1))) & 4611686018427387903 \
            ELSE used.below | (1 << (used.highest - {number} - 1)) \
        END \
    WHERE {number} > used.highest \
       OR {number} >= used.highest - 62 AND {number} < used.highest \
          AND (used.below >> (used.highest - {number} - 1)) & 1 = 0";

/// Uses them up; for each whether it had not been used.
pub(super) async fn use_up(
    tx: &mut WriteTx,
    log: &str,
    sequences: &[Sequence],
) -> Result<Vec<bool>, StoreError> {
    let mut fresh = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let params = [
            ("log", log.into()),
            ("gateway", sequence.gateway.as_str().into()),
            ("number", number(sequence)?.into()),
        ];
        fresh.push(match tx.connection() {
            Connection::Sqlite(_) => tx.execute(USE_ON_SQLITE, &params).await? == 1,
            Connection::Postgres(_) => {
                let used = tx
                    .one("SELECT use_sequence({log}, {gateway}, {number})", &params)
                    .await?;
                used.bool(0)?
            }
        });
    }
    Ok(fresh)
}

/// The number, as it is stored.
pub(super) fn number(sequence: &Sequence) -> Result<i64, StoreError> {
    i64::try_from(sequence.number).map_err(|_| StoreError::Unreadable("a sequence number"))
}

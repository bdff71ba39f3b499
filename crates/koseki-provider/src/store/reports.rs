//! What operators ask about the copies.

use common::{
    clock::Timestamp,
    store::{Database, StoreError},
};
use koseki_proto::koseki::admin::v1::MunicipalityCopies;

pub(super) async fn municipalities(database: &Database) -> Result<Vec<MunicipalityCopies>, StoreError> {
    let rows = database
        .reader()
        .await?
        .connection()
        .all(
            "SELECT municipality_code, count(*), min(received_at), max(received_at) FROM register_copy \
             GROUP BY municipality_code ORDER BY municipality_code LIMIT 4096",
            &[],
        )
        .await?;
    let moment = |ms| Some(Timestamp::from_unix_ms(ms).to_proto());
    rows.iter()
        .map(|row| {
            Ok(MunicipalityCopies {
                municipality_code: row.text(0)?.to_owned(),
                copies: row.int(1)?.unsigned_abs(),
                oldest_received_at: moment(row.int(2)?),
                newest_received_at: moment(row.int(3)?),
            })
        })
        .collect()
}

/// The index begins with the municipality: from code to code, the oldest of each is one step.
pub(super) async fn oldest_copy(database: &Database) -> Result<Option<Timestamp>, StoreError> {
    let row = database
        .reader()
        .await?
        .connection()
        .one(
            "WITH RECURSIVE codes (code) AS (SELECT min(municipality_code) FROM register_copy UNION ALL \
                SELECT (SELECT min(municipality_code) FROM register_copy WHERE municipality_code > code) \
                FROM codes WHERE code IS NOT NULL) \
             SELECT min((SELECT min(received_at) FROM register_copy WHERE municipality_code = code)) \
             FROM codes WHERE code IS NOT NULL",
            &[],
        )
        .await?;
    Ok(row.optional_int(0)?.map(Timestamp::from_unix_ms))
}

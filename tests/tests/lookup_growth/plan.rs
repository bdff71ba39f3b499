//! How the release's statement is searched for: by indexes only, at any size.

use std::time::Duration;

use common::{
    clock::{Clock as _, SystemClock},
    store::{Column, Connection, table},
};
use koseki_provider::store::RELEASE_READ_ON_SQLITE;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::timed::{Place, Timed};

/// Tables that grow with the register.
const LARGE: [&str; 5] = ["register_copy", "member", "person", "person_member", "linkage"];
/// A server's process tells what it has counted when it has been idle for a while, or ends.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// Rows that one look into an index gives at most, on average: a person's registers are few.
const ROWS: i64 = 8;

/// Scans of the large tables so far: sequential ones, those by an index, and rows of indexes that were read for them.
pub(crate) async fn scans(behind: &mut PgConnection) -> (i64, i64, i64) {
    sqlx::query_as(
        "SELECT sum(seq_scan)::bigint, sum(idx_scan)::bigint, sum(read)::bigint FROM pg_stat_user_tables \
         JOIN (SELECT relid, sum(idx_tup_read) AS read FROM pg_stat_user_indexes GROUP BY relid) AS indexes USING (relid) \
         WHERE relname = ANY($1)",
    )
    .bind(LARGE.map(str::to_owned).to_vec())
    .fetch_one(behind)
    .await
    .unwrap()
}

impl Timed {
    /// Ends with the store. On PostgreSQL the server has counted how the prepared statement was really run, whatever plan
    /// it took; SQLite has but one plan.
    pub(crate) async fn check_plan(self) {
        let (place, before, _directory) = self.close();
        match place {
            Place::Postgres(mut behind) => {
                let clock = SystemClock::new();
                loop {
                    let (sequential, by_index, rows) = scans(&mut behind).await;
                    if by_index > before.1 {
                        let whole = sequential - before.0;
                        assert_eq!(whole, 0, "times that a table was read from end to end");
                        let (looks, rows) = (by_index - before.1, rows - before.2);
                        assert!(rows <= ROWS * looks, "{rows} rows of indexes for {looks} looks");
                        return;
                    }
                    assert!(
                        clock.monotonic() < COUNTED_WITHIN,
                        "the server has counted nothing"
                    );
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            Place::Sqlite(file) => {
                let url = format!("sqlite://{}", file.display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                let sql: &'static str =
                    Box::leak(format!("EXPLAIN QUERY PLAN {RELEASE_READ_ON_SQLITE}").into_boxed_str());
                let asked = table([
                    ("handle", Column::Bytes(Vec::new())),
                    ("closed", Column::Int(Vec::new())),
                ]);
                let params = [("asked", asked), ("now", 0.into())];
                let rows = Connection::Sqlite(&mut connection)
                    .all(sql, &params)
                    .await
                    .unwrap();
                for row in rows {
                    let step = row.text(3).unwrap();
                    // By an index or not: all of it is gone through.
                    let whole = LARGE
                        .iter()
                        .any(|table| step.split_whitespace().take(2).eq(["SCAN", *table]));
                    assert!(!whole, "{step}");
                }
            }
        }
    }
}

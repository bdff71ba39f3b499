//! PostgreSQL's gate, as a test gets in its way: the advisory lock of crates/common/src/store/postgres.rs.

use std::{future::Future, path::Path, time::Duration};

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::time::{interval, timeout};

use crate::{raw::PATIENCE, stores::Behind};

/// Its key.
pub const GATE: i64 = 7_236_837_466;

/// Does an act and a request in this order, both waiting for the gate, which somebody else has; what came of them.
pub async fn both_wait_at_the_gate<A: Send + 'static, T: Send + 'static>(
    database: &Path,
    act: impl Future<Output = A> + Send + 'static,
    request: impl Future<Output = T> + Send + 'static,
) -> (A, T) {
    let Behind::Postgres(mut behind) = Behind::open(database).await else {
        panic!("the database is PostgreSQL")
    };
    call(&mut behind, "pg_advisory_lock").await;
    let act = tokio::spawn(act);
    waits(&mut behind, "ExclusiveLock").await;
    let request = tokio::spawn(request);
    waits(&mut behind, "ShareLock").await;
    call(&mut behind, "pg_advisory_unlock").await;
    (act.await.unwrap(), request.await.unwrap())
}

/// Takes the gate for the session, or gives it back.
pub async fn call(connection: &mut PgConnection, function: &str) {
    let sql = AssertSqlSafe(format!("SELECT {function}({GATE})"));
    connection.execute(sql).await.unwrap();
}

/// Waits until somebody waits for the gate in this mode.
async fn waits(behind: &mut PgConnection, mode: &str) {
    let there = async {
        let mut looks = interval(Duration::from_millis(10));
        loop {
            looks.tick().await;
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database \
                 WHERE locktype = 'advisory' AND mode = $1 AND NOT granted AND datname = current_database() \
                   AND (classid::bigint << 32 | objid::bigint) = $2",
            )
            .bind(mode)
            .bind(GATE)
            .fetch_one(&mut *behind)
            .await
            .unwrap();
            if waiting > 0 {
                return;
            }
        }
    };
    timeout(PATIENCE, there).await.expect("nobody comes to the gate");
}

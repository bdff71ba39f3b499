//! A bare commit, alone on the machine: what durability costs, whatever is made durable.

use anyhow::Result;
use common::{
    clock::{Clock as _, SystemClock},
    store::Connection,
};

const WARM_UP: usize = 50;
const COMMITS: usize = 300;

/// The median of one-row inserts, each committed by itself, in milliseconds.
pub(crate) async fn alone(connection: &mut Connection<'_>) -> Result<f64> {
    connection
        .execute("CREATE TABLE bench_commit (number BIGINT NOT NULL)", &[])
        .await?;
    let clock = SystemClock::new();
    let mut took = Vec::with_capacity(COMMITS);
    for number in 0..WARM_UP + COMMITS {
        let began = clock.monotonic();
        let params = [("number", i64::try_from(number)?.into())];
        connection
            .execute("INSERT INTO bench_commit (number) VALUES ({number})", &params)
            .await?;
        if number >= WARM_UP {
            took.push(clock.monotonic().saturating_sub(began).as_secs_f64() * 1_000.0);
        }
    }
    connection.execute("DROP TABLE bench_commit", &[]).await?;
    took.sort_by(f64::total_cmp);
    Ok(took.get(COMMITS / 2).copied().unwrap_or_default())
}

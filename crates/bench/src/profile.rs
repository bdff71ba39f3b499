//! Where the time goes: `perf record` of both services and the database while they answer, and what the database server has
//! counted of each statement.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sqlx::{Executor as _, PgConnection, Row as _};
use tokio::process::Command;

use crate::{load::closed, visits, world::World};

const WARM_UP: Duration = Duration::from_secs(3);
const TIME: Duration = Duration::from_secs(15);
/// Samples a second and processor.
const FREQUENCY: &str = "997";
/// Statements that are shown.
const STATEMENTS: i64 = 40;

/// What the product does while it is profiled.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// It answers so many callers.
    Callers(usize),
    /// It is visited.
    Visits,
}

impl Load {
    /// Does it for so long; answers or visits a second.
    async fn run(self, world: &World, time: Duration) -> Result<String> {
        match self {
            Self::Callers(callers) => {
                let calls = closed(&world.product, &world.crowd, callers, Duration::ZERO, time).await?;
                calls.must_be_whole("product")?;
                Ok(format!("{:.0} answers", calls.rate()))
            }
            Self::Visits => {
                let found = visits::mix(world, &visits::text(world).await?, time).await?;
                Ok(format!("{} visits", found["visits_per_s"]))
            }
        }
    }
}

/// Profiles the product under this load; the files go to this folder.
pub(crate) async fn run(world: &World, load: Load, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    load.run(world, WARM_UP).await?;
    let mut superusers = world.superusers().await?;
    for connection in &mut superusers {
        for sql in [
            "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
            "SELECT pg_stat_statements_reset()",
        ] {
            connection.execute(sql).await?;
        }
    }
    let [gateway, provider] = world.services()?;
    for (name, pids) in [
        ("gateway", vec![gateway]),
        ("provider", vec![provider]),
        ("database", world.database_processes()),
    ] {
        if pids.is_empty() {
            continue;
        }
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let data = folder.join(format!("{name}.perf"));
        let seconds = TIME.as_secs().to_string();
        let recording = Command::new("perf")
            .args([
                "record",
                "--call-graph",
                "fp",
                "-F",
                FREQUENCY,
                "-p",
                &pids.join(","),
                "-o",
            ])
            .arg(&data)
            .args(["--", "sleep", &seconds])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("perf (package linux-perf) cannot be run")?;
        let done = load.run(world, TIME).await?;
        ensure!(
            recording.wait_with_output().await?.status.success(),
            "perf record failed"
        );
        println!(
            "{name}: {done} a second while it was recorded in {}",
            data.display()
        );
    }
    for connection in &mut superusers {
        println!("{}", statements(connection).await?);
    }
    Ok(())
}

/// Statements of a database since it began to count, by the time that they took.
async fn statements(connection: &mut PgConnection) -> Result<String> {
    let rows = sqlx::query(
        "SELECT calls, total_plan_time, total_exec_time, rows, regexp_replace(query, '\\s+', ' ', 'g') \
         FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user) \
         ORDER BY total_plan_time + total_exec_time DESC LIMIT $1",
    )
    .bind(STATEMENTS)
    .fetch_all(connection)
    .await?;
    let mut text = String::from("   calls  plan ms  exec ms     rows  ms/call  statement\n");
    for row in rows {
        let (calls, rows): (i64, i64) = (row.try_get(0)?, row.try_get(3)?);
        let (plan, execution): (f64, f64) = (row.try_get(1)?, row.try_get(2)?);
        let query: String = row.try_get(4)?;
        let each = (plan + execution) / calls.max(1) as f64;
        let short: String = query.chars().take(110).collect();
        text.push_str(&format!(
            "{calls:8} {plan:8.0} {execution:8.0} {rows:8} {each:8.3}  {short}\n"
        ));
    }
    Ok(text)
}

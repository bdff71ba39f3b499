//! The speed of both services as they are deployed, beside the *floor*: what merely forwarding costs on the same machine at
//! the same time. `cargo xtask bench` builds and runs it; docs/performance.md says how to read what it tells.
#![allow(
    clippy::print_stdout,
    reason = "a command talks to the person at the terminal"
)]
#![allow(
    clippy::indexing_slicing,
    reason = "only JSON values are indexed: one that is not there is null"
)]

mod commit;
mod floor;
mod ladder;
mod load;
mod machine;
mod overload;
mod population;
mod profile;
mod report;
mod sessions;
mod sizes;
mod visits;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use report::Report;
use sizes::Sizes;
use world::{Engine, World};

#[derive(Parser)]
struct Arguments {
    /// Fewer persons, sessions and rounds: a look that takes minutes.
    #[arg(long)]
    quick: bool,
    /// Next to nothing of everything: whether the bench works at all.
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Only on this database.
    #[arg(long)]
    store: Option<Engine>,
    /// Only at these numbers of callers.
    #[arg(long)]
    concurrency: Vec<usize>,
    /// Only these parts.
    #[arg(long)]
    only: Vec<Part>,
    /// Where the report goes.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
    /// Measure nothing, but profile the services and the database, at 256 callers or the number given, or with visits when
    /// only they are wanted; perf's files go to this
    /// folder.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// A statement for each side's database before the services start, as its superuser: what another index or setting would
    /// bring. A statement that one side's database does not have the table for is passed over there.
    #[arg(long)]
    sql: Vec<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Product beside floor at several numbers of callers.
    Runs,
    /// From few persons to many.
    Growth,
    /// People who come and go.
    Visits,
    /// More than can be done.
    Overload,
}

/// What else this program is: the floor's processes.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    FloorEcho { deployment: PathBuf, answer: PathBuf },
    #[command(hide = true)]
    FloorForwarder { deployment: PathBuf, echo: String },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.role {
        Some(Role::FloorEcho { deployment, answer }) => floor::run_echo(deployment, answer).await,
        Some(Role::FloorForwarder { deployment, echo }) => floor::run_forwarder(deployment, echo).await,
        None => run(&arguments).await,
    }
}

/// Numbers of callers.
const CONCURRENCY: [usize; 5] = [1, 16, 64, 256, 512];
/// At which growth is looked at, and what is profiled.
const BUSY: usize = 256;

async fn run(arguments: &Arguments) -> Result<()> {
    let mut sizes = match (arguments.quick, arguments.smoke) {
        (true, _) => Sizes::quick(),
        (_, true) => Sizes::smoke(),
        _ => Sizes::stated(),
    };
    sizes.count_statements = arguments.profile.is_some();
    let seed = rand::random();
    let machine = machine::describe();
    println!("seed {seed}, {machine}");
    let mut report = Report::new(seed, arguments.quick, &machine);
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    for engine in [Engine::Postgres, Engine::Sqlite] {
        if arguments.store.is_some_and(|only| only != engine) {
            continue;
        }
        let world = World::start(engine, sizes.persons, &sizes, seed, &arguments.sql).await?;
        if let Some(folder) = &arguments.profile {
            let load = match (arguments.only.as_slice(), arguments.concurrency.as_slice()) {
                ([Part::Visits], _) => profile::Load::Visits,
                (_, [callers, ..]) => profile::Load::Callers(*callers),
                (_, []) => profile::Load::Callers(BUSY),
            };
            profile::run(&world, load, folder).await?;
        } else {
            let concurrency = match arguments.concurrency.as_slice() {
                [] => CONCURRENCY.as_slice(),
                some => some,
            };
            if wanted(Part::Runs) {
                report::print_head(&world);
                for callers in concurrency {
                    let step = world.step(*callers, &sizes).await?;
                    report::print_step(&step);
                    report.add_run(&step, &world);
                }
            }
            // The rest has targets on PostgreSQL only.
            if engine == Engine::Postgres {
                measure_more(&world, &sizes, &wanted, &mut report).await?;
            }
        }
        world.stop().await?;
        if engine == Engine::Postgres && arguments.profile.is_none() && wanted(Part::Growth) {
            let world = World::start(engine, sizes.few_persons, &sizes, seed, &arguments.sql).await?;
            report::print_head(&world);
            let step = world.step(BUSY, &sizes).await?;
            report::print_step(&step);
            report.add_growth(&step, &world);
            world.stop().await?;
        }
        report.write(&arguments.report)?;
    }
    report.print_targets();
    report.write(&arguments.report)?;
    println!("wrote {}", arguments.report.display());
    Ok(())
}

/// Growth's larger part, visits and overload.
async fn measure_more(
    world: &World,
    sizes: &Sizes,
    wanted: &impl Fn(Part) -> bool,
    report: &mut Report,
) -> Result<()> {
    if wanted(Part::Growth) {
        let step = world.step(BUSY, sizes).await?;
        report::print_step(&step);
        report.add_growth(&step, world);
    }
    if wanted(Part::Visits) {
        let visits = visits::measure(world, sizes).await?;
        println!("visits: {visits:#}");
        report.add_visits(visits);
    }
    if wanted(Part::Overload) {
        let overload = overload::measure(world, sizes).await?;
        println!("overload: {overload:#}");
        report.add_overload(overload);
    }
    Ok(())
}

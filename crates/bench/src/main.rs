//! The speed of both services as they are deployed, beside the *floor*: what merely forwarding costs on the same machine at
//! the same time. `cargo xtask bench` builds and runs it; docs/performance.md says how to read what it tells.
#![allow(
    clippy::print_stdout,
    reason = "a command talks to the person at the terminal"
)]

mod commit;
mod floor;
mod ladder;
mod load;
mod machine;
mod population;
mod sessions;
mod sizes;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use sizes::Sizes;
use world::{Engine, World};

#[derive(Parser)]
struct Arguments {
    /// Fewer persons, sessions and rounds: a look that takes minutes.
    #[arg(long)]
    quick: bool,
    /// Only on this database.
    #[arg(long)]
    store: Option<Engine>,
    /// Only at these numbers of callers.
    #[arg(long)]
    concurrency: Vec<usize>,
    #[command(subcommand)]
    role: Option<Role>,
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

async fn run(arguments: &Arguments) -> Result<()> {
    let sizes = if arguments.quick {
        Sizes::quick()
    } else {
        Sizes::stated()
    };
    let seed = rand::random();
    println!("seed {seed}, {}", machine::describe());
    for engine in [Engine::Postgres, Engine::Sqlite] {
        if arguments.store.is_some_and(|only| only != engine) {
            continue;
        }
        let world = World::start(engine, sizes.persons, &sizes, seed, &|text| println!("{text}")).await?;
        for callers in &arguments.concurrency {
            let step = world.step(*callers, &sizes).await?;
            println!("{:#}", step.to_json(&world));
        }
        world.stop().await?;
    }
    Ok(())
}

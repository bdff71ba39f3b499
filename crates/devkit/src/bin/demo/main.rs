//! `cargo demo`: plays the story of one exchange with both services as processes. Its subcommands do the parts of it that
//! containers need, each in its own place.
#![allow(clippy::print_stdout, reason = "the story is told on standard output")]

mod database;
mod local;
mod play;
mod prepare;
mod probe;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Registers in the data set, unless told otherwise.
const REGISTERS: usize = 1_000;
/// Seed of the data set, unless told otherwise.
const SEED: u64 = 1;

/// Plays the story of one exchange, with both services as processes on loopback. Exit code 0 only when every step came
/// out as it must.
#[derive(Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    local: local::Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make certificates, keys, data and configurations for the containers of deploy/compose.yaml
    Prepare(prepare::Options),
    /// Set up a side's PostgreSQL database as its server's superuser: roles, passwords, rights
    Database(database::Options),
    /// Play one scene against running services
    Play(play::Options),
    /// Try to connect: exit code 0 when one answers, 4 when none does, 3 when no name resolves
    Probe(probe::Options),
}

/// What data to make.
#[derive(clap::Args)]
struct Data {
    /// Registers in the data set
    #[arg(long, default_value_t = REGISTERS)]
    registers: usize,
    /// Seed of the data set
    #[arg(long, default_value_t = SEED)]
    seed: u64,
}

/// Where a deployment is.
#[derive(clap::Args)]
struct Directory {
    /// The deployment's directory
    #[arg(long)]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => local::run(&cli.local).await,
        Some(Command::Prepare(options)) => prepare::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Database(options)) => database::run(&options).await.map(|()| ExitCode::SUCCESS),
        Some(Command::Play(options)) => play::run(&options).await,
        Some(Command::Probe(options)) => Ok(probe::run(&options).await),
    };
    outcome.unwrap_or_else(|error| {
        println!("the demo could not go on: {error:#}");
        ExitCode::FAILURE
    })
}

/// What the steps came to, for a person and as an exit code.
fn conclude(teller: &devkit::story::Teller) -> ExitCode {
    let steps = teller.steps().len();
    let failed: Vec<_> = teller.failed().collect();
    println!();
    for step in &failed {
        println!("✗ {}: {}", step.what, step.verdict);
    }
    if failed.is_empty() && steps > 0 {
        println!("{steps} steps, all as they must be");
        ExitCode::SUCCESS
    } else {
        println!("{} of {steps} steps did not come out as they must", failed.len());
        ExitCode::FAILURE
    }
}

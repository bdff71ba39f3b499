//! The project's own commands. `cargo xtask test` is the one test command; the others are its stages one by one, the
//! images, and the long checks.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command talks to the person at the terminal"
)]

mod bench;
mod cargo_test;
mod changelog;
mod clock;
mod conformance;
mod conformance_page;
mod images;
mod mutant_tree;
mod mutants;
mod proto;
mod proto_comments;
mod proto_diff;
mod python;
mod shell;
mod soak;
mod source_tests;
mod supply_chain;
mod test;
mod test_results;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check and every test that this machine can run; with CI=true, all of them.
    Test,
    /// Say which tools are there, and how to install what is missing.
    Tools,
    /// Build the container images from static binaries.
    Images,
    /// Compare the protos with the committed descriptor set, and look for missing comments.
    Proto {
        /// Take the protos as they are: rewrite proto/descriptor.binpb and note the differences in CHANGELOG.md.
        #[arg(long)]
        accept: bool,
    },
    /// Check docs/conformance.toml and the page that is generated from it.
    Conformance {
        /// Write docs/conformance.md anew.
        #[arg(long)]
        write: bool,
    },
    /// Break the product on purpose, one place at a time, and see that a test fails each time.
    Mutants {
        /// The mutants to try; without a name, all.
        names: Vec<String>,
    },
    /// Measure the speed of both services beside that of merely forwarding, and write target/bench/report.json.
    Bench {
        /// `--quick`, or what `cargo xtask bench -- --help` lists.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a long check at its stated size and write target/soak/NAME.json.
    Soak {
        /// Which one.
        name: soak::Name,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test => test::run(),
        Command::Tools => tools::show(),
        Command::Images => images::build(),
        Command::Proto { accept } => proto::run(accept),
        Command::Conformance { write } => conformance::run(write),
        Command::Mutants { names } => mutants::run(&names),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Soak { name } => soak::run(name),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

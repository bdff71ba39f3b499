//! kosekictl: the operators' command line for both sides, over their admin listeners, and the municipalities' over the
//! ingest listener. docs/kosekictl.md has every command.
//!
//! A command parses everything before it connects, says what it is about to do, asks when that is dangerous, and makes one
//! [`report::Report`] or one [`failure::Failure`]: `lib.rs` prints it, and nothing else writes to standard output.

mod answer;
mod approvals;
mod arguments;
mod cli;
mod command_line;
mod commands;
mod connection;
mod context;
mod failure;
mod moment;
mod next_step;
pub mod profile;
mod report;
mod sending;
mod table;
mod terminal;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;

use crate::{
    cli::Cli,
    context::Context,
    failure::{Failure, Kind},
    terminal::{OutputFormat, Terminal},
};

/// Runs the program. Exit code 0 when it is done, 1 when the server refused or there is a finding, 2 when it could not be
/// done or its outcome is not known.
pub fn main() -> ExitCode {
    // A panic's text could carry what it choked on: only its place is told.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        Terminal::new(OutputFormat::Table).tell(&format!("kosekictl: panic at {place}"));
    }));
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, &words),
    };
    let terminal = Terminal::new(cli.output);
    let run = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let run = runtime.block_on(cli.command.run(&Context::new(cli.config, terminal, words)));
            // A file that is being read, or a connection that does not close, must not hold up the exit.
            runtime.shutdown_background();
            run
        }
        Err(error) => Err(Failure::new(
            Kind::System,
            format!("the program's threads cannot be started: {error}"),
            "free memory or raise the limit of threads, then repeat the command",
        )),
    };
    match run {
        Ok(report) => {
            terminal.show(&report);
            ExitCode::from(match (report.finding, report.unchecked) {
                (true, _) => 1,
                (false, true) => 2,
                (false, false) => 0,
            })
        }
        Err(failure) => {
            terminal.fail(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Help was asked for, or the command line is wrong.
fn not_parsed(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let text = error.render().to_string();
    // What the output should be is not known yet: the words are all that there is.
    let json = words
        .windows(2)
        .any(|pair| matches!(pair, [flag, value] if flag == "--output" && value == "json"))
        || words.iter().any(|word| word == "--output=json");
    let terminal = Terminal::new(if json {
        OutputFormat::Json
    } else {
        OutputFormat::Table
    });
    if !error.use_stderr() {
        terminal.print(&text);
        return ExitCode::SUCCESS;
    }
    if json {
        let what = text.lines().next().unwrap_or_default();
        let what = what.strip_prefix("error: ").unwrap_or(what);
        let next = "`kosekictl --help` and `kosekictl COMMAND --help` have every command and flag";
        terminal.fail(&Failure::new(Kind::Usage, what, next));
    } else {
        terminal.tell(text.trim_end());
    }
    ExitCode::from(Kind::Usage.exit_code())
}

//! Running the real services as processes, as an operator would: a configuration file, log lines on standard error, a
//! signal to stop. Only what was started here is ever signalled, and nothing outlives its handle.

mod binaries;
mod pair;
mod service;

pub use binaries::Binaries;
pub use pair::{Pair, start_gateway, start_provider};
pub use service::{Program, Service};

use std::path::PathBuf;

use crate::deployment::DeploymentError;

/// A service could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be built.
    #[error("`{command}` failed: {fault}")]
    Build {
        /// The command.
        command: String,
        /// How it ended.
        fault: String,
    },
    /// The program is not where it should be.
    #[error(
        "{path}: is not there; run `cargo build -p koseki-provider -p portal-gateway -p kosekictl`, or say in KOSEKI_BIN_DIR where the programs are"
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It could not be started or signalled.
    #[error("{program}: {doing}")]
    Io {
        /// The program.
        program: &'static str,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It ended before it was ready.
    #[error("{program} ended before it was ready ({status}); its last words in {log}:\n{last_words}")]
    Ended {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        last_words: String,
    },
    /// It did not get as far in time.
    #[error("{program} was not {state} within {seconds} s; its log is {log}")]
    Late {
        /// The program.
        program: &'static str,
        /// What was waited for.
        state: &'static str,
        /// How long.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// It does not have a listener of this name.
    #[error("{program} told no address of the listener {listener}")]
    NoListener {
        /// The program.
        program: &'static str,
        /// The listener.
        listener: String,
    },
    /// The deployment's files.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
}

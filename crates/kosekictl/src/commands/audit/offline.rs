//! What works on exported files and the list of keys, and opens no connection.

use std::path::PathBuf;

use audit::{Keys, Language, Verdict};
use clap::{Args, ValueEnum};

use crate::{
    failure::{Failure, Result},
    report::Report,
};

/// Language of the text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LanguageArgument {
    /// Japanese (日本語)
    Ja,
    /// English
    En,
}

/// What every offline command reads.
#[derive(Args)]
pub(super) struct Input {
    /// The exported logs of both sides; of one log several that follow each other
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The public keys of both sides: log-keys.txt
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Language of the text for people
    #[arg(long, value_enum, default_value = "en")]
    language: LanguageArgument,
}

impl Input {
    fn keys(&self) -> Result<Keys> {
        Keys::load(&self.keys).map_err(|error| {
            let next = "give the list of public keys that both sides have published";
            Failure::file(&self.keys, common::telemetry::chain(&error), next)
        })
    }

    fn report(&self, report: &audit::Report) -> Report {
        let language = match self.language {
            LanguageArgument::Ja => Language::Ja,
            LanguageArgument::En => Language::En,
        };
        Report {
            json: report.to_json(),
            text: report.to_text(language),
            finding: report.verdict() == Verdict::Finding,
            unchecked: report.verdict() == Verdict::CouldNotCheck,
        }
    }
}

/// Verify exported logs: what was signed, and that nothing was released against an act in force. Exit code 0: everything was
/// checked and nothing found; 1: something was found; 2: not everything could be checked
#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    input: Input,
}

impl Verify {
    pub(crate) fn run(self) -> Result<Report> {
        let keys = self.input.keys()?;
        Ok(self.input.report(&audit::verify(&self.input.files, &keys)))
    }
}

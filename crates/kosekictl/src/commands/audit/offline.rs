//! What works on exported files and the list of keys, and opens no connection.

use std::path::PathBuf;

use audit::{Asked, Keys, Language, Verdict};
use clap::{Args, ValueEnum};
use common::terms::MunicipalityCode;
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::{
    arguments,
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
    pub(super) files: Vec<PathBuf>,
    /// The public keys of both sides: log-keys.txt
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Language of the text for people
    #[arg(long, value_enum, default_value = "en")]
    language: LanguageArgument,
}

impl Input {
    pub(super) fn keys(&self) -> Result<Keys> {
        Keys::load(&self.keys).map_err(|error| {
            let next = "give the list of public keys that both sides have published";
            Failure::file(&self.keys, common::telemetry::chain(&error), next)
        })
    }

    pub(super) fn report(&self, report: &audit::Report) -> Report {
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

/// Find a request's entries in exported logs of both sides, and prove that each is under a countersigned root
#[derive(Args)]
pub(crate) struct Prove {
    /// The request's id (UUID)
    #[arg(long, value_name = "UUID")]
    request_id: String,
    #[command(flatten)]
    input: Input,
}

impl Prove {
    pub(crate) fn run(self) -> Result<Report> {
        let id = request_id(&self.request_id)?;
        let keys = self.input.keys()?;
        Ok(self.input.report(&audit::prove(&self.input.files, &keys, &id)))
    }
}

/// Compare exported logs of both sides answer by answer: each has its twin, or is listed with its cause
#[derive(Args)]
pub(crate) struct Reconcile {
    #[command(flatten)]
    input: Input,
}

impl Reconcile {
    pub(crate) fn run(self) -> Result<Report> {
        let keys = self.input.keys()?;
        Ok(self.input.report(&audit::reconcile(&self.input.files, &keys)))
    }
}

/// What was released, to whom, and under which consent, in exported logs; all that is given must hold
#[derive(Args)]
pub(crate) struct WhoReceived {
    /// Pseudonym of the card, as `prove` shows it
    #[arg(long, value_name = "HEX")]
    card: Option<String>,
    /// Pseudonym of the session, as `prove` shows it
    #[arg(long, value_name = "HEX")]
    session: Option<String>,
    /// Pseudonym of the person (registry side) or the account (portal side), as `prove` shows it
    #[arg(long, value_name = "HEX")]
    subject: Option<String>,
    /// The portal frontend that asked
    #[arg(long, value_name = "NAME")]
    frontend: Option<String>,
    /// Code of a municipality a register of which was released; six digits
    #[arg(long, value_name = "CODE")]
    municipality: Option<String>,
    /// The request's id (UUID)
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
    /// Not before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    input: Input,
}

impl WhoReceived {
    pub(crate) fn run(self) -> Result<Report> {
        let asked = Asked {
            card: pseudonym("--card", self.card.as_deref())?,
            session: pseudonym("--session", self.session.as_deref())?,
            subject: pseudonym("--subject", self.subject.as_deref())?,
            frontend: self.frontend,
            municipality_code: self.municipality.map(|code| municipality(&code)).transpose()?,
            request_id: self.request_id.map(|id| request_id(&id)).transpose()?,
            from_ms: moment("--from", self.from.as_deref())?,
            until_ms: moment("--until", self.until.as_deref())?,
        };
        let keys = self.input.keys()?;
        Ok(self
            .input
            .report(&audit::who_received(&self.input.files, &keys, &asked)))
    }
}

fn request_id(text: &str) -> Result<String> {
    Ok(arguments::id("--request-id", text)?.to_string())
}

fn municipality(code: &str) -> Result<String> {
    let rule = "six digits, the sixth the check digit";
    let code = MunicipalityCode::parse(code).map_err(|_| Failure::flag("--municipality", rule))?;
    Ok(code.as_str().to_owned())
}

fn pseudonym(flag: &str, text: Option<&str>) -> Result<Option<[u8; 16]>> {
    let parsed = |text: &str| {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok())
    };
    text.map(|text| parsed(text).ok_or_else(|| Failure::flag(flag, "32 hexadecimal digits")))
        .transpose()
}

fn moment(flag: &str, text: Option<&str>) -> Result<Option<i64>> {
    text.map(|text| Ok(arguments::moment(flag, text)?.unix_ms()))
        .transpose()
}

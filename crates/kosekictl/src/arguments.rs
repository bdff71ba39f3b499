//! Taking flags into types that cannot be wrong. A fault names the flag and its rule, never the value.

use clap::{Args, ValueEnum};
use common::{
    clock::Timestamp,
    suspension::parse_reason,
    terms::{ActId, RequestKind, parse_sha256_text},
};

use crate::{
    connection::Side,
    failure::{Failure, Kind, Result},
};

/// Which side.
#[derive(Args)]
pub(crate) struct SideArgument {
    /// The side that is meant; may be left out when the profile names the admin listener of one side only
    #[arg(long, value_enum)]
    pub(crate) side: Option<Side>,
}

/// What every act of one person takes.
#[derive(Args)]
pub(crate) struct ActArguments {
    /// The act's id (UUID); a new one is made and shown when it is left out. Give it to repeat an act of unknown outcome
    #[arg(long, value_name = "UUID")]
    pub(crate) act_id: Option<String>,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// It is meant: do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What every proposal takes.
#[derive(Args)]
pub(crate) struct ProposalArguments {
    /// Why, for the audit log; 1 to 256 bytes, nothing personal
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// The proposal's id (UUID); a new one is made and shown when it is left out. Give it to repeat a proposal of unknown
    /// outcome
    #[arg(long, value_name = "UUID")]
    pub(crate) proposal_id: Option<String>,
    /// Say what would be proposed, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArgument {
    /// Certificates are requested (交付の請求)
    CertificateRequest,
    /// Notifications are filed (届出等)
    Notification,
    /// Identification codes are requested (識別符号等の発行等の請求)
    ProvisionCodeRequest,
}

impl KindArgument {
    pub(crate) fn kind(self) -> RequestKind {
        match self {
            Self::CertificateRequest => RequestKind::CertificateRequest,
            Self::Notification => RequestKind::Notification,
            Self::ProvisionCodeRequest => RequestKind::ProvisionCodeRequest,
        }
    }
}

/// An id that was given.
pub(crate) fn id(flag: &str, text: &str) -> Result<ActId> {
    ActId::parse(text).map_err(|rule| Failure::flag(flag, rule))
}

/// The id that was given, or a new one.
pub(crate) fn id_or_new(flag: &str, given: Option<&str>) -> Result<ActId> {
    match given {
        Some(text) => id(flag, text),
        None => ActId::random().map_err(|_| {
            Failure::new(
                Kind::System,
                "the system gives no randomness",
                format!("give an id with {flag}"),
            )
        }),
    }
}

/// A moment.
pub(crate) fn moment(flag: &str, text: &str) -> Result<Timestamp> {
    let rule = "a time as RFC 3339, such as 2026-12-01T00:00:00+09:00";
    Timestamp::from_rfc3339(text).ok_or_else(|| Failure::flag(flag, rule))
}

/// A SHA-256.
pub(crate) fn sha256(flag: &str, text: &str) -> Result<[u8; 32]> {
    parse_sha256_text(text).map_err(|rule| Failure::flag(flag, rule))
}

/// An operator's words for the audit log.
pub(crate) fn reason(text: &str) -> Result<String> {
    parse_reason(text).map_err(|rule| Failure::flag("--reason", rule))
}

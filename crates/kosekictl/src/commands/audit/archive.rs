//! `audit archive`: the first of two persons proposes that bodies of old bundles may be dropped, once exported files have shown
//! that all of them are kept elsewhere.

use audit::Verdict;
use clap::Args;
use common::approval::Opening;

use super::offline::Input;
use crate::{
    arguments::{self, ProposalArguments, SideArgument},
    commands::propose::propose,
    context::Context,
    failure::{Failure, Kind, Result},
    report::Report,
};

/// Propose that the bodies of a log's old bundles may be dropped; the exported files have to hold them and to verify, and another
/// operator approves
#[derive(Args)]
pub(crate) struct Archive {
    /// The log: the name of its instance
    #[arg(long, value_name = "NAME")]
    log: String,
    /// Bundles before the first one of this time or later (RFC 3339); all must be older than the policy keeps them
    #[arg(long, value_name = "TIME")]
    before: String,
    #[command(flatten)]
    proposal: ProposalArguments,
    #[command(flatten)]
    side: SideArgument,
    #[command(flatten)]
    input: Input,
}

impl Archive {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let before = arguments::moment("--before", &self.before)?;
        let keys = self.input.keys()?;
        let (report, bundle) = audit::archivable(&self.input.files, &keys, &self.log, before.unix_ms());
        if report.verdict() != Verdict::Clean {
            return Ok(self.input.report(&report));
        }
        let Some(bundle) = bundle else {
            return Err(Failure::new(
                Kind::Usage,
                "the files hold no body of this log from before that time; nothing was proposed",
                "give the exported files of the log, and a later --before",
            ));
        };
        let opening = Opening::ArchiveLog(self.log, bundle);
        propose(context, self.side.side, &opening, &self.proposal).await
    }
}

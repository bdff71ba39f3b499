//! `audit`: the logs over RPC, as an auditor, and exported logs offline (docs/audit-log.md, docs/audit-report.md).

mod archive;
mod export;
mod offline;

use clap::Subcommand;

use crate::{context::Context, failure::Result, report::Report};

/// Audit logs: export them, and verify exported ones offline
#[derive(Subcommand)]
pub(crate) enum Audit {
    Logs(export::Logs),
    Export(export::Export),
    Verify(offline::Verify),
    Prove(offline::Prove),
    Reconcile(offline::Reconcile),
    WhoReceived(offline::WhoReceived),
    Archive(archive::Archive),
}

impl Audit {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Logs(command) => command.run(context).await,
            Self::Export(command) => command.run(context).await,
            Self::Verify(command) => command.run(),
            Self::Prove(command) => command.run(),
            Self::Reconcile(command) => command.run(),
            Self::WhoReceived(command) => command.run(),
            Self::Archive(command) => command.run(context).await,
        }
    }
}

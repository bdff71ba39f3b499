//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        approve::{Approve, Confirm},
        audit::Audit,
        block::Block,
        ingest::Ingest,
        linkages::{Linkage, Linkages, Persons},
        log::Log,
        municipalities::Municipalities,
        non_provision::NonProvision,
        pending::Pending,
        policy::Policy,
        receipt::Receipt,
        status::Status,
        suspension::{Resume, Suspend},
    },
    context::Context,
    failure::Result,
    report::Report,
    terminal::OutputFormat,
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  the server refused, some lines were refused, or there is a finding (policies differ, nothing is provided, an alarm stands,
     a receipt is not good, an audit log does not verify)
  2  it could not be done: wrong usage, unreadable file, no connection, not confirmed; its outcome is not known; not everything
     of an audit log could be checked

Closing (suspend, block set, non-provision record, log close and close-peer) takes one person and acts at once. Opening (resume,
block lift, non-provision release and shorten, linkage reactivate) takes two: the command proposes, and another operator approves.";

/// The operators' command line for both sides of the family-register copy exchange
#[derive(Parser)]
#[command(name = "kosekictl", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// The connection profile (TOML) [default: $KOSEKICTL_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How the result is written
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub(crate) output: OutputFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Ingest(Ingest),
    #[command(subcommand)]
    Persons(Persons),
    #[command(subcommand)]
    Linkages(Linkages),
    #[command(subcommand)]
    Linkage(Linkage),
    #[command(subcommand)]
    NonProvision(NonProvision),
    #[command(subcommand)]
    Block(Block),
    #[command(subcommand)]
    Log(Log),
    Suspend(Suspend),
    Resume(Resume),
    Approve(Approve),
    Confirm(Confirm),
    Pending(Pending),
    Municipalities(Municipalities),
    #[command(subcommand)]
    Policy(Policy),
    #[command(subcommand)]
    Receipt(Receipt),
    Status(Status),
    #[command(subcommand)]
    Audit(Audit),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Ingest(command) => command.run(context).await,
            Self::Persons(Persons::Load(command)) => command.run_persons(context).await,
            Self::Linkages(Linkages::Load(command)) => command.run_linkages(context).await,
            Self::Linkage(command) => command.run(context).await,
            Self::NonProvision(command) => command.run(context).await,
            Self::Block(command) => command.run(context).await,
            Self::Log(command) => command.run(context).await,
            Self::Suspend(command) => command.run(context).await,
            Self::Resume(command) => command.run(context).await,
            Self::Approve(command) => command.run(context).await,
            Self::Confirm(command) => command.run(context).await,
            Self::Pending(command) => command.run(context).await,
            Self::Municipalities(command) => command.run(context).await,
            Self::Policy(Policy::Compare(command)) => command.run(context).await,
            Self::Receipt(Receipt::Verify(command)) => command.run(),
            Self::Status(command) => command.run(context).await,
            Self::Audit(command) => command.run(context).await,
        }
    }
}

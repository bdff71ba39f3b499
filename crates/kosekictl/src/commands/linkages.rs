//! `persons load`, `linkages load` and `linkage reactivate`.

use clap::{Args, Subcommand};
use common::{approval::Opening, lines::LineFault, terms::LinkageState};
use koseki_provider::persons::{self, PersonLine};
use portal_gateway::linkage::{self, LinkageLine};

use super::propose::propose;
use crate::{
    arguments::{self, ProposalArguments, SideArgument},
    connection::{Admin, Side},
    context::Context,
    failure::Result,
    report::Report,
    sending::{Scan, SendingArguments, Target, Wording, checked, scan},
};

/// Persons and linkages of the registry side
#[derive(Subcommand)]
pub(crate) enum Persons {
    /// Load a file of persons and linkages (docs/linkage-file-format.md) into the registry side
    Load(Load),
}

/// Linkages of the portal side
#[derive(Subcommand)]
pub(crate) enum Linkages {
    /// Load a file of linkages (docs/linkage-file-format.md) into the portal side
    Load(Load),
}

/// One linkage
#[derive(Subcommand)]
pub(crate) enum Linkage {
    Reactivate(Reactivate),
}

#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    sending: SendingArguments,
    /// The load's id (UUID); a new one is made and shown when it is left out. Give it to go on after a break
    #[arg(long, value_name = "UUID")]
    load_id: Option<String>,
    /// Let the server tell what each line would do, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// It is meant: do not ask before linkages are suspended, revoked or replaced
    #[arg(long)]
    yes: bool,
}

/// Propose to make a suspended linkage active again: another operator approves
#[derive(Args)]
pub(crate) struct Reactivate {
    /// SHA-256 of the public key of the card that the linkage is bound to; 64 lower-case hexadecimal digits
    #[arg(long, value_name = "SHA256")]
    card_key: String,
    #[command(flatten)]
    side: SideArgument,
    #[command(flatten)]
    proposal: ProposalArguments,
}

impl Linkage {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let Self::Reactivate(Reactivate {
            card_key,
            side,
            proposal,
        }) = self;
        let opening = Opening::ReactivateLinkage(arguments::sha256("--card-key", &card_key)?);
        propose(context, side.side, &opening, &proposal).await
    }
}

/// Whether a line with this state stops a linkage.
fn closes(state: LinkageState) -> bool {
    match state {
        LinkageState::Active | LinkageState::Pending => false,
        LinkageState::Suspended | LinkageState::Revoked => true,
    }
}

fn judge_registry(line: &[u8]) -> std::result::Result<bool, LineFault> {
    Ok(match persons::parse_line(line)? {
        PersonLine::Linkage { state, .. } => closes(state),
        PersonLine::Rotate { .. } | PersonLine::ReplaceCard { .. } => true,
        PersonLine::Person { .. } | PersonLine::Confirm { .. } => false,
    })
}

fn judge_portal(line: &[u8]) -> std::result::Result<bool, LineFault> {
    Ok(match linkage::parse_line(line)? {
        LinkageLine::Linkage { state, .. } => closes(state),
        LinkageLine::Rotate { .. } | LinkageLine::ReplaceCard { .. } => true,
        LinkageLine::Confirm { .. } => false,
    })
}

impl Load {
    pub(crate) async fn run_persons(self, context: &Context) -> Result<Report> {
        self.sending.check_file()?;
        let scan = scan(&self.sending.file, judge_registry).await?;
        self.run(context, &scan, Side::Registry, "persons load").await
    }

    pub(crate) async fn run_linkages(self, context: &Context) -> Result<Report> {
        self.sending.check_file()?;
        let scan = scan(&self.sending.file, judge_portal).await?;
        self.run(context, &scan, Side::Portal, "linkages load").await
    }

    async fn run(self, context: &Context, scan: &Scan, side: Side, command: &str) -> Result<Report> {
        if self.sending.check {
            return Ok(checked(&self.sending.file, scan));
        }
        let load_id = arguments::id_or_new("--load-id", self.load_id.as_deref())?.to_string();
        let admin: Admin = context.profile()?.admin(side)?;
        if scan.forbidding > 0 && !self.dry_run {
            let what = format!(
                "{} of {} lines suspend, revoke or replace linkages: what was active there is stopped at once \
                 on {}",
                scan.forbidding, scan.lines, admin.server
            );
            context.terminal.confirm(&what, self.yes)?;
        }
        context.terminal.tell(&format!("load id: {load_id}"));
        let wording = Wording {
            command,
            dry_run: self.dry_run,
            goes_on_with: Some(("--load-id", &load_id)),
        };
        let target = Target::Load {
            admin: admin.clone(),
            load_id: load_id.clone(),
            dry_run: self.dry_run,
        };
        let mut report = self.sending.send(context, &target, scan.lines, &wording).await?;
        if !self.dry_run {
            // The server knows best what the load has closed: a person's members and a card that is replaced are among it.
            let closed = match admin.pending().await {
                Ok(pending) => pending.closings.iter().any(|closing| closing.act_id == load_id),
                Err(_) => scan.forbidding > 0,
            };
            if let Some(json) = report.json.as_object_mut() {
                json.insert("to_be_confirmed".to_owned(), closed.into());
            }
            if closed {
                report.text = format!(
                    "{}\nnext: another operator confirms what was closed: kosekictl confirm {load_id} --side {}",
                    report.text.trim_end(),
                    side.name()
                );
            }
        }
        Ok(report)
    }
}

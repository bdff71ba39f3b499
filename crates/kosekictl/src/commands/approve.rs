//! `approve` and `confirm`: what the second person does.

use clap::Args;
use common::approval::Opening;
use data_encoding::HEXLOWER;
use koseki_proto::koseki::common::v1::{ApproveRequest, PendingProposal};
use serde_json::json;

use crate::{
    answer::{self, Sent},
    approvals,
    arguments::{self, SideArgument},
    context::Context,
    failure::{Failure, Kind, Result},
    moment,
    report::Report,
    table,
};

const FLAGS: &[(&str, &str)] = &[
    ("proposal_id", "PROPOSAL"),
    ("act_sha256", "--act-sha256"),
    ("act_id", "ACT"),
];

/// Approve what another operator has proposed: it is done
#[derive(Args)]
pub(crate) struct Approve {
    /// The proposal's id (UUID), as the proposer tells it
    proposal: String,
    /// SHA-256 of the act, as the proposer tells it: what is opened is exactly that
    #[arg(long, value_name = "SHA256")]
    act_sha256: String,
    #[command(flatten)]
    side: SideArgument,
    /// The outcome of an earlier approval is not known: send the same again although it does not wait any more
    #[arg(long)]
    repeat: bool,
    /// Show what would be opened, and approve nothing
    #[arg(long)]
    dry_run: bool,
    /// It is meant: do not ask
    #[arg(long)]
    yes: bool,
}

/// Confirm what another operator has closed (suspension, non-provision record, block, linkage)
#[derive(Args)]
pub(crate) struct Confirm {
    /// The closing's id (UUID), as `kosekictl pending` lists it
    act: String,
    #[command(flatten)]
    side: SideArgument,
    /// Show what would be confirmed, and confirm nothing
    #[arg(long)]
    dry_run: bool,
}

/// A proposal, with what it would open as this program understands it.
fn shown(proposal: &PendingProposal) -> Option<(Opening, String)> {
    let opening = Opening::parse(proposal.act.as_ref()?).ok()?;
    let text = table::of_pairs(&[
        ("would", approvals::in_words(&opening)),
        ("proposed by", proposal.proposer.clone()),
        ("reason", proposal.reason.clone()),
        ("proposed at", moment::text(proposal.proposed_at.as_ref())),
        ("expires at", moment::text(proposal.expires_at.as_ref())),
        ("act SHA-256", HEXLOWER.encode(&proposal.act_sha256)),
    ]);
    Some((opening, text))
}

impl Approve {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let id = arguments::id("PROPOSAL", &self.proposal)?.to_string();
        let hash = arguments::sha256("--act-sha256", &self.act_sha256)?;
        let profile = context.profile()?;
        let admin = profile.admin(profile.side(self.side.side)?)?;
        let pending = admin.pending().await?;
        let proposal = pending.proposals.iter().find(|pending| pending.proposal_id == id);
        let act = match proposal {
            Some(proposal) => {
                let (opening, text) = shown(proposal).ok_or_else(unreadable)?;
                context
                    .terminal
                    .tell(&format!("proposal {id}\n{}", text.trim_end()));
                // What was shown is what is hashed is what is approved.
                if opening.sha256() != hash || proposal.act_sha256 != hash {
                    return Err(another_act());
                }
                Some(opening)
            }
            None if self.repeat => None,
            None => return Err(not_waiting(&admin.server)),
        };
        let words = act
            .as_ref()
            .map_or("the act that has this hash".to_owned(), approvals::in_words);
        let json_act = act.as_ref().map(approvals::to_json);
        if self.dry_run {
            let json = json!({"dry_run": true, "proposal_id": id, "act": json_act, "server": admin.server});
            let text = format!(
                "dry run: nothing was approved. It would {words}, on {}",
                admin.server
            );
            return Ok(Report::done(json, text));
        }
        let question = format!("approving will {words}, on {}", admin.server);
        context.terminal.confirm(&question, self.yes)?;
        let sent = Sent {
            server: &admin.server,
            repeat: context.command_line.with(&[("--repeat", None)], &[]),
            flags: FLAGS,
        };
        let message = ApproveRequest {
            proposal_id: id.clone(),
            act_sha256: hash.to_vec(),
        };
        let epoch = admin.approve(message).await;
        let epoch = epoch.map_err(|status| answer::of_act(&status, sent))?;
        let json = json!({"proposal_id": id, "act": json_act, "epoch": epoch, "server": admin.server});
        Ok(Report::done(
            json,
            format!("approved and done: {words}\nepoch: {epoch}"),
        ))
    }
}

fn unreadable() -> Box<Failure> {
    Failure::new(
        Kind::Refused,
        "this program does not know the act that is proposed, so it cannot show it; nothing was approved",
        "use the kosekictl of the server's version: `kosekictl status` tells it",
    )
}

fn another_act() -> Box<Failure> {
    let mut failure = Failure::new(
        Kind::Refused,
        "the proposal is for another act than the hash that was given; nothing was approved",
        "ask the proposer which act is meant, by another channel than the one that the hash came by",
    );
    failure.field = Some("--act-sha256".to_owned());
    failure.rule = Some("the SHA-256 of the act that is proposed".to_owned());
    failure
}

fn not_waiting(server: &str) -> Box<Failure> {
    let mut failure = Failure::new(
        Kind::Refused,
        format!("no such proposal waits at {server}; nothing was approved"),
        "`kosekictl pending` lists what waits: it has expired, is void because the thing was closed anew, was approved \
         already, or is of the other side; after an approval of unknown outcome add --repeat",
    );
    failure.field = Some("PROPOSAL".to_owned());
    failure.rule = Some("the id of a proposal that waits".to_owned());
    failure
}

impl Confirm {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let id = arguments::id("ACT", &self.act)?.to_string();
        let profile = context.profile()?;
        let admin = profile.admin(profile.side(self.side.side)?)?;
        let pending = admin.pending().await?;
        let closing = pending.closings.iter().find(|pending| pending.act_id == id);
        let (what, json_closing) = match closing {
            Some(closing) => (
                format!(
                    "{} by {}, {}",
                    closing.act,
                    closing.actor,
                    moment::text(closing.at.as_ref())
                ),
                json!({"act": closing.act, "actor": closing.actor, "at": moment::json(closing.at.as_ref())}),
            ),
            None => ("no closing of this id waits".to_owned(), json!(null)),
        };
        if self.dry_run {
            let json =
                json!({"dry_run": true, "act_id": id, "closing": json_closing, "server": admin.server});
            return Ok(Report::done(
                json,
                format!("dry run: nothing was confirmed. {id}: {what}"),
            ));
        }
        let sent = Sent {
            server: &admin.server,
            repeat: context.command_line.with(&[], &[]),
            flags: FLAGS,
        };
        let confirmed = admin.confirm(id.clone()).await;
        confirmed.map_err(|status| answer::of_act(&status, sent))?;
        let json = json!({"act_id": id, "confirmed": true, "closing": json_closing, "server": admin.server});
        let text = match closing {
            Some(_) => format!("confirmed: {what}\nact id: {id}"),
            None => format!("confirmed, by now or before\nact id: {id}"),
        };
        Ok(Report::done(json, text))
    }
}

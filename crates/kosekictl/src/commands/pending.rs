//! `pending`: what waits for a second person.

use clap::Args;
use common::approval::Opening;
use data_encoding::HEXLOWER;
use koseki_proto::koseki::common::v1::{ListPendingResponse, PendingProposal, UnconfirmedClosing};
use serde_json::{Value, json};

use crate::{
    approvals, arguments::SideArgument, connection::Side, context::Context, failure::Result, moment,
    report::Report, table,
};

/// List the proposals that wait for approval, and the closings that nobody has confirmed
#[derive(Args)]
pub(crate) struct Pending {
    #[command(flatten)]
    side: SideArgument,
}

impl Pending {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let profile = context.profile()?;
        let sides = match self.side.side {
            Some(side) => vec![side],
            None if profile.sides().is_empty() => vec![profile.side(None)?],
            None => profile.sides(),
        };
        let (mut proposals, mut closings) = (Vec::new(), Vec::new());
        let (mut proposal_rows, mut closing_rows) = (Vec::new(), Vec::new());
        for side in sides {
            let ListPendingResponse {
                proposals: waiting,
                closings: unconfirmed,
            } = profile.admin(side)?.pending().await?;
            for proposal in &waiting {
                let opening = proposal.act.as_ref().and_then(|act| Opening::parse(act).ok());
                proposals.push(proposal_json(side, proposal, opening.as_ref()));
                proposal_rows.push(proposal_row(side, proposal, opening.as_ref()));
            }
            for closing in &unconfirmed {
                let overdue = moment::read(closing.due_at.as_ref()).is_some_and(|due| due < context.now());
                closings.push(closing_json(side, closing, overdue));
                closing_rows.push(closing_row(side, closing, overdue));
            }
        }
        let proposals_text = match proposal_rows.as_slice() {
            [] => "no proposals wait\n".to_owned(),
            rows => table::with_headings(
                &[
                    "side",
                    "proposal",
                    "would",
                    "by",
                    "reason",
                    "expires",
                    "act SHA-256",
                ],
                rows,
            ),
        };
        let closings_text = match closing_rows.as_slice() {
            [] => "no closings wait\n".to_owned(),
            rows => table::with_headings(&["side", "closing", "act", "by", "at", "confirm by", ""], rows),
        };
        let json = json!({"proposals": proposals, "closings": closings});
        Ok(Report::done(json, format!("{proposals_text}\n{closings_text}")))
    }
}

fn proposal_json(side: Side, proposal: &PendingProposal, opening: Option<&Opening>) -> Value {
    json!({
        "side": side.name(),
        "proposal_id": proposal.proposal_id,
        "act": opening.map(approvals::to_json),
        "act_sha256": HEXLOWER.encode(&proposal.act_sha256),
        "proposer": proposal.proposer,
        "reason": proposal.reason,
        "proposed_at": moment::json(proposal.proposed_at.as_ref()),
        "expires_at": moment::json(proposal.expires_at.as_ref()),
    })
}

fn proposal_row(side: Side, proposal: &PendingProposal, opening: Option<&Opening>) -> Vec<String> {
    vec![
        side.name().to_owned(),
        proposal.proposal_id.clone(),
        opening.map_or_else(
            || "an act that this program does not know".to_owned(),
            approvals::in_words,
        ),
        proposal.proposer.clone(),
        proposal.reason.clone(),
        moment::text(proposal.expires_at.as_ref()),
        HEXLOWER.encode(&proposal.act_sha256),
    ]
}

fn closing_json(side: Side, closing: &UnconfirmedClosing, overdue: bool) -> Value {
    json!({
        "side": side.name(),
        "act_id": closing.act_id,
        "act": closing.act,
        "actor": closing.actor,
        "at": moment::json(closing.at.as_ref()),
        "due_at": moment::json(closing.due_at.as_ref()),
        "overdue": overdue,
    })
}

fn closing_row(side: Side, closing: &UnconfirmedClosing, overdue: bool) -> Vec<String> {
    vec![
        side.name().to_owned(),
        closing.act_id.clone(),
        closing.act.clone(),
        closing.actor.clone(),
        moment::text(closing.at.as_ref()),
        moment::text(closing.due_at.as_ref()),
        if overdue { "OVERDUE" } else { "" }.to_owned(),
    ]
}

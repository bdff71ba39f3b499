//! Proposing to open something: what the first of two persons does.

use common::approval::Opening;
use data_encoding::HEXLOWER;
use koseki_proto::koseki::common::v1::ProposeRequest;
use serde_json::json;

use crate::{
    answer::{self, Sent},
    approvals,
    arguments::{self, ProposalArguments},
    connection::Side,
    context::Context,
    failure::Result,
    moment,
    report::Report,
};

/// From the message's fields to the flags that they come from.
const FLAGS: &[(&str, &str)] = &[
    ("proposal_id", "--proposal-id"),
    ("reason", "--reason"),
    ("act.resume_provision.kind", "--kind"),
    ("act.release_non_provision.record_id", "RECORD"),
    ("act.shorten_non_provision.record_id", "RECORD"),
    ("act.shorten_non_provision.valid_until", "--until"),
    ("act.lift_block.card_key_sha256", "--card-key"),
    ("act.archive_log.log", "--log"),
    ("act.archive_log.before_bundle", "--before"),
    ("act.reactivate_linkage.card_key_sha256", "--card-key"),
];

/// Proposes, and tells what the second person has to give.
pub(super) async fn propose(
    context: &Context,
    side: Option<Side>,
    opening: &Opening,
    proposal: &ProposalArguments,
) -> Result<Report> {
    let reason = arguments::reason(&proposal.reason)?;
    let id = arguments::id_or_new("--proposal-id", proposal.proposal_id.as_deref())?.to_string();
    let profile = context.profile()?;
    let side = profile.side(side)?;
    let admin = profile.admin(side)?;
    let (words, act, hash) = (
        approvals::in_words(opening),
        approvals::to_json(opening),
        HEXLOWER.encode(&opening.sha256()),
    );
    if proposal.dry_run {
        let text = format!(
            "dry run: nothing was sent. {} would get the proposal to {words}\nact SHA-256: {hash}",
            admin.server
        );
        let json = json!({"dry_run": true, "server": admin.server, "act": act, "act_sha256": hash});
        return Ok(Report::done(json, text));
    }
    admin.reach().await?;
    context.terminal.tell(&format!("proposal id: {id}"));
    let message = ProposeRequest {
        proposal_id: id.clone(),
        act: Some(opening.to_proto()),
        reason,
    };
    let sent = Sent {
        server: &admin.server,
        repeat: context.command_line.with(&[("--proposal-id", Some(&id))], &[]),
        flags: FLAGS,
    };
    let proposed = admin.propose(message).await;
    let proposed = proposed.map_err(|status| answer::of_act(&status, sent))?;
    let hash = HEXLOWER.encode(&proposed.act_sha256);
    let approve = format!(
        "kosekictl approve {id} --act-sha256 {hash} --side {}",
        side.name()
    );
    let text = format!(
        "proposed, not done yet: {words}\nproposal id: {id}\nact SHA-256: {hash}\nexpires: {}\nnext: another operator \
         approves it: {approve}",
        moment::text(proposed.expires_at.as_ref())
    );
    let json = json!({
        "proposal_id": id,
        "act": act,
        "act_sha256": hash,
        "expires_at": moment::json(proposed.expires_at.as_ref()),
        "server": admin.server,
        "approve": approve,
    });
    Ok(Report::done(json, text))
}

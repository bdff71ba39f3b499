//! `block set` and `block lift`: cards that somebody else may hold (portal side).

use clap::{Args, Subcommand};
use common::approval::Opening;
use koseki_proto::portal::admin::v1::SetBlockRequest;
use serde_json::json;

use super::{closing::Closing, propose::propose};
use crate::{
    arguments::{self, ActArguments, ProposalArguments},
    connection::{Side, request},
    context::Context,
    failure::Result,
    report::Report,
};

/// Cards that somebody else may hold (portal side)
#[derive(Subcommand)]
pub(crate) enum Block {
    Set(SetBlock),
    Lift(LiftBlock),
}

/// Block a card: acts at once
#[derive(Args)]
pub(crate) struct SetBlock {
    /// SHA-256 of the card's public key, as in the linkage file; 64 lower-case hexadecimal digits
    #[arg(long, value_name = "SHA256")]
    card_key: String,
    /// Why, for the audit log; 1 to 256 bytes, nothing personal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    act: ActArguments,
}

/// Propose to lift the block of a card: another operator approves
#[derive(Args)]
pub(crate) struct LiftBlock {
    /// SHA-256 of the card's public key; 64 lower-case hexadecimal digits
    #[arg(long, value_name = "SHA256")]
    card_key: String,
    #[command(flatten)]
    proposal: ProposalArguments,
}

impl Block {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Set(command) => command.run(context).await,
            Self::Lift(LiftBlock { card_key, proposal }) => {
                let opening = Opening::LiftBlock(arguments::sha256("--card-key", &card_key)?);
                propose(context, Some(Side::Portal), &opening, &proposal).await
            }
        }
    }
}

impl SetBlock {
    async fn run(self, context: &Context) -> Result<Report> {
        let card_key = arguments::sha256("--card-key", &self.card_key)?;
        let reason = arguments::reason(&self.reason)?;
        let act_id = arguments::id_or_new("--act-id", self.act.act_id.as_deref())?;
        let (mut client, admin) = context.profile()?.portal()?;
        let closing = Closing {
            what: format!("block the card with the key {}", self.card_key),
            side: Side::Portal,
            act_id,
            method: "portal.admin.v1.PortalAdmin/SetBlock",
            message: json!({
                "act_id": act_id.to_string(),
                "card_key_sha256": self.card_key,
                "reason": reason,
            }),
            flags: &[
                ("act_id", "--act-id"),
                ("card_key_sha256", "--card-key"),
                ("reason", "--reason"),
            ],
            confirmed_at: "",
        };
        let message = SetBlockRequest {
            act_id: act_id.to_string(),
            card_key_sha256: card_key.to_vec(),
            reason,
        };
        let send = async move { Ok(client.set_block(request(message)).await?.into_inner().epoch) };
        closing
            .run(context, &self.act, &admin.server, Some(&admin), send)
            .await
    }
}

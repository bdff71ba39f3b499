//! `log close` and `log close-peer`.

use clap::{Args, Subcommand};
use koseki_proto::koseki::common::v1::{CloseLogRequest, ClosePeerLogRequest};
use serde_json::json;

use super::closing::Closing;
use crate::{
    arguments::{self, ActArguments, SideArgument},
    connection::Side,
    context::Context,
    failure::Result,
    report::Report,
};

/// Audit logs of instances that end
#[derive(Subcommand)]
pub(crate) enum Log {
    Close(CloseLog),
    ClosePeer(ClosePeerLog),
}

/// Close the audit log of the instance that the profile names, for good: it provides and records nothing any more
#[derive(Args)]
pub(crate) struct CloseLog {
    #[command(flatten)]
    side: SideArgument,
    /// Why, for the audit log; 1 to 256 bytes, nothing personal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    act: ActArguments,
}

/// Close the audit log of an instance of the other side, for good: it is not countersigned any more and provides nothing
#[derive(Args)]
pub(crate) struct ClosePeerLog {
    /// The instance of the other side
    #[arg(value_name = "INSTANCE")]
    instance: String,
    #[command(flatten)]
    side: SideArgument,
    /// Why, for the audit log; 1 to 256 bytes, nothing personal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    act: ActArguments,
}

impl Log {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Close(command) => command.run(context).await,
            Self::ClosePeer(command) => command.run(context).await,
        }
    }
}

impl CloseLog {
    async fn run(self, context: &Context) -> Result<Report> {
        let reason = arguments::reason(&self.reason)?;
        let act_id = arguments::id_or_new("--act-id", self.act.act_id.as_deref())?;
        let profile = context.profile()?;
        let side = profile.side(self.side.side)?;
        let admin = profile.admin(side)?;
        let closing = Closing {
            what: format!(
                "close the audit log of this {} side instance for good",
                side.name()
            ),
            side,
            act_id,
            method: match side {
                Side::Registry => "koseki.admin.v1.KosekiAdmin/CloseLog",
                Side::Portal => "portal.admin.v1.PortalAdmin/CloseLog",
            },
            message: json!({"act_id": act_id.to_string(), "reason": reason}),
            flags: &[("act_id", "--act-id"), ("reason", "--reason")],
            confirmed_at: " at another instance of the side, since this one records nothing any more",
        };
        let message = CloseLogRequest {
            act_id: act_id.to_string(),
            reason,
        };
        let send = admin.close_log(message);
        closing
            .run(context, &self.act, &admin.server, Some(&admin), send)
            .await
    }
}

impl ClosePeerLog {
    async fn run(self, context: &Context) -> Result<Report> {
        let reason = arguments::reason(&self.reason)?;
        let act_id = arguments::id_or_new("--act-id", self.act.act_id.as_deref())?;
        let profile = context.profile()?;
        let side = profile.side(self.side.side)?;
        let admin = profile.admin(side)?;
        let closing = Closing {
            what: format!(
                "close the audit log of the other side's instance {} for good at the {} side",
                self.instance,
                side.name()
            ),
            side,
            act_id,
            method: match side {
                Side::Registry => "koseki.admin.v1.KosekiAdmin/ClosePeerLog",
                Side::Portal => "portal.admin.v1.PortalAdmin/ClosePeerLog",
            },
            message: json!({
                "act_id": act_id.to_string(),
                "instance": self.instance,
                "reason": reason,
            }),
            flags: &[
                ("act_id", "--act-id"),
                ("instance", "INSTANCE"),
                ("reason", "--reason"),
            ],
            confirmed_at: "",
        };
        let message = ClosePeerLogRequest {
            act_id: act_id.to_string(),
            instance: self.instance,
            reason,
        };
        let send = admin.close_peer_log(message);
        closing
            .run(context, &self.act, &admin.server, Some(&admin), send)
            .await
    }
}

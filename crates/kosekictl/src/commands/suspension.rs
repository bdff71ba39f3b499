//! `suspend` and `resume`.

use clap::Args;
use common::{approval::Opening, terms::RequestKind};
use koseki_proto::koseki::common::v1::{RequestKind as ProtoKind, SuspendProvisionRequest};
use serde_json::json;

use super::{closing::Closing, propose::propose};
use crate::{
    approvals,
    arguments::{self, ActArguments, KindArgument, ProposalArguments, SideArgument},
    connection::Side,
    context::Context,
    failure::Result,
    report::Report,
};

/// Stop provision, of one kind or of all: acts at once
#[derive(Args)]
pub(crate) struct Suspend {
    #[command(flatten)]
    side: SideArgument,
    /// The kind to stop; all kinds when it is left out
    #[arg(long, value_enum)]
    kind: Option<KindArgument>,
    /// Why, for the audit log; 1 to 256 bytes, nothing personal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    act: ActArguments,
}

/// Propose to provide again: another operator approves
#[derive(Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    side: SideArgument,
    /// The kind whose suspension ends; the suspension of all kinds when it is left out
    #[arg(long, value_enum)]
    kind: Option<KindArgument>,
    #[command(flatten)]
    proposal: ProposalArguments,
}

impl Suspend {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let kind = self.kind.map(KindArgument::kind);
        let reason = arguments::reason(&self.reason)?;
        let act_id = arguments::id_or_new("--act-id", self.act.act_id.as_deref())?;
        let profile = context.profile()?;
        let side = profile.side(self.side.side)?;
        let admin = profile.admin(side)?;
        let name = approvals::kind_name(kind);
        let closing = Closing {
            what: match kind {
                None => format!("stop provision of every kind at the {} side", side.name()),
                Some(_) => format!("stop provision of {name} at the {} side", side.name()),
            },
            side,
            act_id,
            method: match side {
                Side::Registry => "koseki.admin.v1.KosekiAdmin/SuspendProvision",
                Side::Portal => "portal.admin.v1.PortalAdmin/SuspendProvision",
            },
            message: json!({"act_id": act_id.to_string(), "kind": name, "reason": reason}),
            flags: &[("act_id", "--act-id"), ("kind", "--kind"), ("reason", "--reason")],
            confirmed_at: "",
        };
        let message = SuspendProvisionRequest {
            act_id: act_id.to_string(),
            kind: kind.map_or(ProtoKind::Unspecified, RequestKind::to_proto).into(),
            reason,
        };
        closing
            .run(
                context,
                &self.act,
                &admin.server,
                Some(&admin),
                admin.suspend(message),
            )
            .await
    }
}

impl Resume {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let opening = Opening::ResumeProvision(self.kind.map(KindArgument::kind));
        propose(context, self.side.side, &opening, &self.proposal).await
    }
}

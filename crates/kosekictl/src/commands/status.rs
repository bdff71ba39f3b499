//! `status`: how each side is doing, on one screen.

use clap::Args;
use koseki_proto::{
    koseki::admin::v1::{GetStatusRequest as RegistryStatusRequest, GetStatusResponse as RegistryStatus},
    portal::admin::v1::{GetStatusRequest as PortalStatusRequest, GetStatusResponse as PortalStatus},
};
use serde_json::json;

use super::status_screen::{Screen, portal, registry};
use crate::{
    answer,
    arguments::SideArgument,
    connection::{Profiled, Side, request},
    context::Context,
    failure::{Failure, Result},
    report::Report,
};

/// Tell how both sides are doing, on one screen; exit code 1 when something needs a look
#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    side: SideArgument,
}

/// What a side told.
pub(super) enum Told {
    Registry(Box<RegistryStatus>),
    Portal(Box<PortalStatus>),
}

/// Asks a side how it is doing.
pub(super) async fn ask(profile: &Profiled, side: Side) -> Result<Told> {
    match side {
        Side::Registry => {
            let (mut client, admin) = profile.registry()?;
            let told = client.get_status(request(RegistryStatusRequest {})).await;
            let told = told.map_err(|status| answer::of_reading(&status, &admin.server))?;
            Ok(Told::Registry(Box::new(told.into_inner())))
        }
        Side::Portal => {
            let (mut client, admin) = profile.portal()?;
            let told = client.get_status(request(PortalStatusRequest {})).await;
            let told = told.map_err(|status| answer::of_reading(&status, &admin.server))?;
            Ok(Told::Portal(Box::new(told.into_inner())))
        }
    }
}

impl Status {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let profile = context.profile()?;
        let sides = match self.side.side {
            Some(side) => vec![side],
            None if profile.sides().is_empty() => vec![profile.side(None)?],
            None => profile.sides(),
        };
        let mut screens: Vec<Screen> = Vec::new();
        let mut failed: Option<Box<Failure>> = None;
        for side in sides {
            match ask(&profile, side).await {
                Ok(Told::Registry(told)) => screens.push(registry(&told, context.now())),
                Ok(Told::Portal(told)) => screens.push(portal(&told, context.now())),
                Err(failure) => failed = Some(failure),
            }
        }
        let text: Vec<_> = screens.iter().map(|screen| screen.text.as_str()).collect();
        let findings = screens.iter().any(|screen| !screen.findings.is_empty());
        let documents: Vec<_> = screens.iter().map(|screen| screen.json.clone()).collect();
        let json = json!({ "sides": documents });
        if let Some(mut failure) = failed {
            // The side that did answer is told all the same.
            context.terminal.tell(&text.join("\n"));
            failure.done = Some(json);
            return Err(failure);
        }
        Ok(Report {
            json,
            text: text.join("\n"),
            finding: findings,
            unchecked: false,
        })
    }
}

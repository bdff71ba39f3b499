//! One scene against running services, from where its players are.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use common::clock::SystemClock;
use devkit::{
    client::{Access, Reach},
    deployment::Deployment,
    story::{self, Cast, Offices, Side, Teller, When},
};

use crate::{Directory, conclude};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    directory: Directory,
    /// What to play
    #[arg(long, value_enum)]
    scene: Scene,
    /// host:port of the gateway's portal listener
    #[arg(long, default_value = "gateway:7451")]
    portal: String,
    /// host:port of the gateway's admin listener
    #[arg(long, default_value = "gateway:7453")]
    portal_admin: String,
    /// host:port of the provider's ingest listener
    #[arg(long, default_value = "provider:7442")]
    ingest: String,
    /// host:port of the provider's admin listener
    #[arg(long, default_value = "provider:7443")]
    registry_admin: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scene {
    /// Municipalities and operators: load everything, record what forbids
    Offices,
    /// The frontend: one requester, then every scenario person
    Frontend,
    /// The registry side's operators: suspend provision
    Suspend,
    /// The frontend: what a requester meets then
    Suspended,
    /// The registry side's operators: provide again
    Resume,
    /// The frontend: provided again
    Resumed,
}

pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let deployment = Deployment::at(&options.directory.dir);
    let access = Access::new(&deployment, Arc::new(SystemClock::new()));
    let reach = Reach {
        ingest: options.ingest.clone(),
        registry_admin: options.registry_admin.clone(),
        portal: options.portal.clone(),
        portal_admin: options.portal_admin.clone(),
    };
    // Each scene needs the files of its own players only: a frontend has no operator's key.
    let cast = || Cast::new(&deployment, &access, &reach.portal).context("the frontend's files");
    let offices = || Offices::new(&deployment, &access, &reach).context("the offices' files");
    let mut teller = Teller::new(|line| println!("{line}"));
    match options.scene {
        Scene::Offices => {
            let offices = offices()?;
            story::load(&deployment, &offices, &mut teller).await?;
            story::record(&deployment.scenarios()?, &offices, &mut teller).await?;
        }
        Scene::Frontend => {
            let cast = cast()?;
            story::one_requester(&cast, &mut teller).await?;
            story::every_person(&cast, When::AfterRecords, &mut teller).await?;
        }
        Scene::Suspend => story::suspend(&offices()?, Side::Registry, &mut teller).await,
        Scene::Suspended => story::while_suspended(&cast()?, Side::Registry, &mut teller).await?,
        Scene::Resume => story::ask_to_resume(&offices()?, Side::Registry, &mut teller).await,
        Scene::Resumed => story::provided_again(&cast()?, &mut teller).await?,
    }
    Ok(conclude(&teller))
}

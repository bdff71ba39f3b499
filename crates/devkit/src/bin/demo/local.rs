//! The whole demo on this machine.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use common::{clock::SystemClock, identity::Role};
use devkit::{
    client::{Access, Reach},
    deployment::{Addresses, Deployment, FRONTEND, OFFICER, OPERATORS, Plan},
    process::{Binaries, Pair},
    story::{self, Cast, Offices, Teller},
};
use tempfile::TempDir;

use crate::{Data, conclude};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    data: Data,
    /// Leave both services running after the story, until Ctrl-C, and print how to call them
    #[arg(long)]
    serve: bool,
    /// Keep everything in this directory, which is made, instead of a temporary one
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Both services after the story. Dropped, it kills them and removes their files.
struct Played {
    pair: Pair,
    reach: Reach,
    deployment: Deployment,
    teller: Teller,
    _temporary: TempDir,
}

pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let played = tokio::select! {
        played = play(options) => played?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("Ctrl-C cannot be waited for")?;
            println!("\ninterrupted");
            return Ok(ExitCode::FAILURE);
        }
    };
    let verdict = conclude(&played.teller);
    if options.serve && played.teller.failed().next().is_none() {
        let copies = played.deployment.copies()?;
        describe(&played.deployment, &played.reach, copies.first());
        tokio::signal::ctrl_c()
            .await
            .context("Ctrl-C cannot be waited for")?;
        println!("\nstopping");
    }
    played.pair.stop().await?;
    Ok(verdict)
}

async fn play(options: &Options) -> Result<Played> {
    println!("Building the services ...");
    let binaries = Binaries::locate()?;
    let temporary = tempfile::Builder::new()
        .prefix("koseki-demo-")
        .tempdir()
        .context("no temporary directory")?;
    let dir = options.dir.as_deref().unwrap_or(temporary.path());
    if Deployment::at(dir).gateway_config().exists() {
        bail!(
            "{} holds a deployment already: name a new directory",
            dir.display()
        );
    }
    let Data { registers, seed } = options.data;
    println!("Making certificates, cards and {registers} registers (seed {seed}) ...");
    let addresses = Addresses::loopback();
    let plan = Plan {
        seed,
        registers,
        addresses,
    };
    let deployment = Deployment::create(dir, &plan)?;
    println!("Starting koseki-provider (registry side) and portal-gateway (portal side) ...");
    let pair = Pair::start(&binaries, &deployment).await?;
    let reach = pair.reach()?;

    let access = Access::new(&deployment, Arc::new(SystemClock::new()));
    let cast = Cast::new(&deployment, &access, &reach.portal)?;
    let offices = Offices::new(&deployment, &access, &reach)?;
    let mut teller = Teller::new(|line| println!("{line}"));
    story::play(&cast, &offices, &mut teller).await?;
    Ok(Played {
        pair,
        reach,
        deployment,
        teller,
        _temporary: temporary,
    })
}

/// How to go on from here. `copies` are a municipality's code and its file.
fn describe(deployment: &Deployment, reach: &Reach, copies: Option<&(String, PathBuf)>) {
    let client = |role, name| deployment.client(role, name).certificate;
    let [operator, _] = OPERATORS;
    println!("\nBoth services run until Ctrl-C.\n");
    for (what, value) in [
        ("portal listener", reach.portal.clone()),
        ("portal side's admin listener", reach.portal_admin.clone()),
        ("ingest listener", reach.ingest.clone()),
        ("registry side's admin listener", reach.registry_admin.clone()),
        (
            "frontend's certificate",
            client(Role::PortalFrontend, FRONTEND).display().to_string(),
        ),
        (
            "operator's certificate",
            client(Role::Operator, operator).display().to_string(),
        ),
        (
            "CA",
            deployment
                .client(Role::PortalFrontend, FRONTEND)
                .peer_ca
                .display()
                .to_string(),
        ),
        (
            "scenario persons and cards",
            deployment.data().display().to_string(),
        ),
        ("logs", deployment.logs().display().to_string()),
    ] {
        println!("  {what:<31} {value}");
    }
    println!("\nThe same from Python, in the root of the repository; once:\n");
    println!("  python3 -m venv target/python");
    println!("  target/python/bin/pip install -r examples/python/requirements.txt");
    println!("\nthen, as a portal frontend:\n");
    println!(
        "  target/python/bin/python examples/python/portal_client.py --gateway {} --dir {}",
        reach.portal,
        deployment.dir().display()
    );
    if let Some((code, file)) = copies {
        let desk = deployment.client(Role::Municipality, &format!("{code}/{OFFICER}"));
        println!("\nand as a municipality, which sends its register copies:\n");
        println!(
            "  target/python/bin/python examples/python/send_copies.py --ingest {} --certificate {} --key {} --ca {} \
             --results {} {}",
            reach.ingest,
            desk.certificate.display(),
            desk.private_key.display(),
            desk.peer_ca.display(),
            deployment.logs().join("results.jsonl").display(),
            file.display()
        );
    }
}

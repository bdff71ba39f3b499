//! Makes the deployment of the containers.

use anyhow::Result;
use devkit::deployment::{Addresses, Deployment, Plan};

use crate::{Data, Directory};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    data: Data,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = &options.directory.dir;
    if Deployment::at(dir).gateway_config().exists() {
        // The containers were started again: new keys would not open what the databases hold.
        println!("{} is prepared already", dir.display());
        return Ok(());
    }
    let Data { registers, seed } = options.data;
    Deployment::create(
        dir,
        &Plan {
            seed,
            registers,
            addresses: Addresses::containers(),
        },
    )?;
    println!("made certificates, cards and {registers} registers (seed {seed})");
    Ok(())
}

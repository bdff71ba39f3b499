//! Sets up a side's database, as the superuser of its server.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use devkit::{deployment::Deployment, postgres};

use crate::Directory;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    directory: Directory,
    /// Whose database
    #[arg(long, value_enum)]
    side: Side,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Provider,
    Gateway,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let side = match options.side {
        Side::Provider => postgres::Side::Provider,
        Side::Gateway => postgres::Side::Gateway,
    };
    let folder = Deployment::at(&options.directory.dir).dba(side);
    let url = read(&folder.join("superuser-url"))?;
    let passwords = read(&folder.join("passwords.sql"))?;
    postgres::set_up(&url, side, &passwords).await?;
    println!("roles, database and rights are set up");
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

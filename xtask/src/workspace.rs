//! What cargo says about the workspace: its packages and their targets.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::shell;

/// The part of `cargo metadata` that is used here.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let said = shell::output(&mut shell::cargo(&[
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
        ]))?;
        serde_json::from_str(&said).context("cannot read what `cargo metadata` says")
    }

    /// Whether the package has a target of this kind (`bin`, `test`) and name.
    pub(crate) fn has_target(&self, package: &str, kind: &str, name: &str) -> bool {
        self.packages
            .iter()
            .filter(|known| known.name == package)
            .flat_map(|known| &known.targets)
            .any(|target| target.name == name && target.kind.iter().any(|known| known == kind))
    }
}

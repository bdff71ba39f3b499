//! The programs that the checks need: which are there, and the command that installs each one that is not.

use std::{env, fs};

use anyhow::Result;

use crate::shell;

/// A program that some stage needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Rustfmt,
    Clippy,
    CCompiler,
    Python,
    CargoDeny,
    Engine,
    Compose,
    Postgres,
    Openssl,
}

const ALL: [Tool; 9] = [
    Tool::Rustfmt,
    Tool::Clippy,
    Tool::CCompiler,
    Tool::Python,
    Tool::CargoDeny,
    Tool::Engine,
    Tool::Compose,
    Tool::Postgres,
    Tool::Openssl,
];

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
            Self::CCompiler => "C compiler (for aws-lc and SQLite)",
            Self::Python => "Python 3 with venv (for the foreign client)",
            Self::CargoDeny => "cargo-deny (for the supply chain)",
            Self::Engine => "container engine",
            Self::Compose => "docker compose or docker-compose",
            Self::Postgres => "PostgreSQL 15 or newer, the server's programs (nothing of it runs by itself)",
            Self::Openssl => "OpenSSL 3, the command (for certificates by another tool)",
        }
    }

    /// The command that installs it; those of system packages are Debian's.
    pub(crate) fn installed_by(self) -> &'static str {
        match self {
            Self::Rustfmt => "rustup component add rustfmt",
            Self::Clippy => "rustup component add clippy",
            Self::CCompiler => "apt-get update && apt-get install -y gcc libc6-dev",
            Self::Python => "apt-get update && apt-get install -y python3-venv",
            Self::CargoDeny => "cargo install --locked cargo-deny@0.20.2",
            Self::Engine => "apt-get update && apt-get install -y docker.io && service docker start",
            Self::Compose => "apt-get update && apt-get install -y docker-compose",
            // Tests start servers of their own. The package would make and start one on the usual port.
            Self::Postgres => {
                "mkdir -p /etc/postgresql-common/createcluster.d \
                 && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/no-main-cluster.conf \
                 && apt-get update && apt-get install -y postgresql"
            }
            Self::Openssl => "apt-get update && apt-get install -y openssl",
        }
    }
}

/// Whether the tool is there and answers.
pub(crate) fn is_there(tool: Tool) -> bool {
    let answers =
        |program: &str, arguments: &[&str]| shell::succeeds(shell::command(program).args(arguments));
    match tool {
        Tool::Rustfmt => answers("cargo", &["fmt", "--version"]),
        Tool::Clippy => answers("cargo", &["clippy", "--version"]),
        Tool::CCompiler => answers("cc", &["--version"]),
        Tool::Python => answers("python3", &["-c", "import ensurepip, venv"]),
        Tool::CargoDeny => answers("cargo", &["deny", "--version"]),
        Tool::Engine => answers("docker", &["info"]),
        Tool::Compose => {
            answers("docker", &["compose", "version"]) || answers("docker-compose", &["version"])
        }
        Tool::Postgres => has_postgres(),
        Tool::Openssl => answers("openssl", &["version"]),
    }
}

/// Whether the server's programs are where `devkit::postgres` looks for them: on PATH or where Debian has them.
fn has_postgres() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    env::split_paths(&path)
        .chain(debian.map(|version| version.path().join("bin")))
        .any(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// `cargo xtask tools`.
pub(crate) fn show() -> Result<()> {
    for tool in ALL {
        if is_there(tool) {
            println!("there    {}", tool.name());
        } else {
            println!("missing  {}: `{}`", tool.name(), tool.installed_by());
        }
    }
    Ok(())
}

/// Installs what is missing: only the run that decides does this. What cannot be installed is missed by the stage that
/// needs it.
pub(crate) fn install_missing() {
    for tool in ALL.into_iter().filter(|tool| !is_there(*tool)) {
        if let Err(error) = shell::run(shell::command("sh").args(["-c", tool.installed_by()])) {
            println!("{}: {error:#}", tool.name());
        }
    }
}

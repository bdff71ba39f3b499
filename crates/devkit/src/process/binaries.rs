//! Where the services' programs are.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use super::{ProcessError, Program};

/// The folder of the programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

/// The operators' program, which is no service.
const KOSEKICTL: &str = "kosekictl";

/// Tests of one process ask at the same time: one of them builds.
static BUILD: Mutex<()> = Mutex::new(());

impl Binaries {
    /// The folder that `KOSEKI_BIN_DIR` names; or the one beside the running program, after cargo, when it runs this, has
    /// built the services there: `cargo run` and `cargo test` build only what they were asked for.
    ///
    /// # Errors
    /// When the services cannot be built or are not there.
    pub fn locate() -> Result<Self, ProcessError> {
        let folder = match env::var_os("KOSEKI_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => built(&Program::ALL.map(Program::name))?,
        };
        Self::in_folder(folder)
    }

    /// What is in a folder under the services' names.
    ///
    /// # Errors
    /// When one is not there.
    pub fn in_folder(folder: PathBuf) -> Result<Self, ProcessError> {
        let this = Self { folder };
        for program in Program::ALL {
            let path = this.path(program);
            if !path.is_file() {
                return Err(ProcessError::Missing { path });
            }
        }
        Ok(this)
    }

    /// The file of kosekictl, found and built like the services.
    ///
    /// # Errors
    /// When it cannot be built or is not there.
    pub fn kosekictl() -> Result<PathBuf, ProcessError> {
        let folder = match env::var_os("KOSEKI_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => built(&[KOSEKICTL])?,
        };
        let path = folder.join(KOSEKICTL);
        match path.is_file() {
            true => Ok(path),
            false => Err(ProcessError::Missing { path }),
        }
    }

    /// The program's file.
    pub fn path(&self, program: Program) -> PathBuf {
        self.folder.join(program.name())
    }
}

/// The folder beside the running program, after cargo, when it runs this, has built the packages there.
fn built(packages: &[&str]) -> Result<PathBuf, ProcessError> {
    let folder = beside_this_program()?;
    if let Some(cargo) = env::var_os("CARGO") {
        build(Path::new(&cargo), &folder, packages)?;
    }
    Ok(folder)
}

/// Test programs are one folder further down, in `deps`.
fn beside_this_program() -> Result<PathBuf, ProcessError> {
    let this = env::current_exe().map_err(|source| ProcessError::Io {
        program: "this program",
        doing: "cannot find itself",
        source,
    })?;
    let folder = this.parent().unwrap_or(Path::new("."));
    let folder = match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder),
        _ => folder,
    };
    Ok(folder.to_owned())
}

/// Builds packages into `folder`, with the profile that it is named after.
fn build(cargo: &Path, folder: &Path, packages: &[&str]) -> Result<(), ProcessError> {
    let _one_at_a_time = BUILD.lock();
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]);
    for package in packages {
        command.args(["--package", package]);
    }
    if folder.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    // What cargo sets for this program would make build scripts run again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            command.env_remove(name.as_ref());
        }
    }
    let shown = format!("{command:?}");
    let failed = |fault: String| ProcessError::Build {
        command: shown.clone(),
        fault,
    };
    let status = command.status().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(status.to_string()))
    }
}

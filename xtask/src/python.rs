//! The Python of the foreign client: a virtual environment in target/, so that nothing of the machine is touched.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

const REQUIREMENTS: &str = "examples/python/requirements.txt";

/// What a person runs once.
pub(crate) const SET_UP: [&str; 2] = [
    "python3 -m venv target/python",
    "target/python/bin/pip install -r examples/python/requirements.txt",
];

/// The interpreter, whether it is there or not.
pub(crate) fn interpreter() -> PathBuf {
    shell::root().join("target/python/bin/python")
}

/// Whether the interpreter is there with what the example imports.
pub(crate) fn is_ready() -> bool {
    shell::succeeds(
        shell::command(&interpreter().to_string_lossy())
            .args(["-c", "import cryptography, grpc, grpc_status, grpc_tools"]),
    )
}

/// Whether the example says what it needs.
pub(crate) fn has_requirements() -> bool {
    shell::root().join(REQUIREMENTS).exists()
}

/// Makes the environment; only the run that decides does this.
pub(crate) fn set_up() -> Result<()> {
    SET_UP
        .iter()
        .try_for_each(|line| shell::run(shell::command("sh").args(["-c", line])))
}

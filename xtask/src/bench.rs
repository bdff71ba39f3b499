//! The bench: builds both services and the bench as they are released, and runs it (docs/performance.md).

use anyhow::Result;

use crate::shell;

/// What the bench is made of.
const PACKAGES: [&str; 3] = ["koseki-provider", "portal-gateway", "bench"];

/// `cargo xtask bench`; the arguments are the bench's own.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let root = shell::root();
    let profiling = arguments.iter().any(|argument| argument.starts_with("--profile"));
    let mut build = shell::cargo(&["build", "--release"]);
    let mut target = root.join("target");
    if profiling {
        // Whole stacks, with names; in a target directory of their own, since the flags would rebuild everything.
        target.push("profile");
        build
            .env("RUSTFLAGS", "-C force-frame-pointers=yes")
            .env("CARGO_PROFILE_RELEASE_STRIP", "none")
            .arg("--target-dir")
            .arg(&target);
    }
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    shell::run(&mut build)?;
    let programs = target.join("release");
    let mut bench = shell::command(&programs.join("bench").to_string_lossy());
    bench.args(arguments).env("KOSEKI_BIN_DIR", &programs);
    shell::run(&mut bench)
}

//! Other programs: how they are called, and what is said when one fails.

use std::{
    env,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::clock::Stopwatch;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Whether this is the run that decides (`CI=true`): what is missing is installed, and nothing is skipped.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// A program, called in the root of the repository, without the variables that cargo sets for xtask itself: build
/// scripts look at them, and would run again for each other value.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Cargo, called with these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = command("cargo");
    command.args(arguments);
    command
}

/// Runs a program, its output on the terminal; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    println!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`: is it installed?"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a program and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{line}`: is it installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}): {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not write UTF-8"))
}

/// Whether a program can be started and succeeds; what it says is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command to its end or its time; whether it succeeded (nothing when time ran out), and what it said.
pub(crate) fn finish(command: &mut Command, limit: Option<Duration>) -> Result<(Option<bool>, String)> {
    let line = line_of(command);
    let (mut reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot share a pipe")?)
        .stderr(writer);
    // A group of its own, so that what the test has started ends with it.
    let mut child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        reader
            .read_to_end(&mut said)
            .map(|_| String::from_utf8_lossy(&said).into_owned())
    });

    let watch = Stopwatch::start();
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("lost `{line}`"))? {
            break Some(status.success());
        }
        if limit.is_some_and(|limit| watch.elapsed() > limit) {
            break None;
        }
        thread::sleep(Duration::from_millis(50));
    };
    // Also after a regular end: a failed test may leave the services that it started.
    succeeds(Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]));
    child.wait().with_context(|| format!("lost `{line}`"))?;
    let said = said
        .join()
        .ok()
        .with_context(|| format!("lost the output of `{line}`"))?
        .with_context(|| format!("cannot read the output of `{line}`"))?;
    Ok((status, said))
}

/// The command as a person would type it.
fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_ended_with_all_that_it_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; sleep 600 & sleep 600"]);
        let (status, said) = finish(&mut command, Some(Duration::from_millis(200))).unwrap();
        assert_eq!((status, said.as_str()), (None, "started\n"));
    }
}

//! Runs test binaries as `cargo test` does, but several at a time: most tests wait for something most of the time.
//!
//! What a binary writes is shown when it has ended, in one piece. One that does not end is ended.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{clock::Stopwatch, shell, test_results::Results};

/// A binary that has not ended by now hangs: the longest takes a minute on two processors with nothing beside it.
const MAX_BINARY: Duration = Duration::from_secs(900);

/// They compare times that they measure, or need all processors for their load: nothing runs beside them.
const ALONE: [&str; 5] = [
    "ingest_load",
    "instances",
    "lookup_growth",
    "refusal_timing",
    "smoke",
];

/// They take longest: with these first, no processor is idle at the end.
const FIRST: [&str; 4] = ["kosekictl", "withdrawal_wins", "witnessing", "approvals"];

/// What tests look for in their environment: they find what the selection says, whatever is set around.
const SWITCHES: [&str; 4] = ["KOSEKI_COMPOSE", "KOSEKI_PYTHON", "KOSEKI_SOAK", "KOSEKI_STORE"];

/// Which tests to run, and how.
#[derive(Clone, Copy, Default)]
pub(crate) struct Selection<'a> {
    /// What `cargo test` is told to select targets.
    pub(crate) targets: &'a [&'a str],
    /// What each binary is told.
    pub(crate) harness: &'a [&'a str],
    pub(crate) variables: &'a [(&'a str, &'a OsStr)],
    /// Stands before the names of the tests.
    pub(crate) label: &'a str,
}

/// A test binary.
#[derive(Debug)]
struct Binary {
    name: String,
    executable: PathBuf,
    /// The folder of its package, where cargo runs it.
    folder: PathBuf,
}

/// Builds and runs the tests; whether all succeeded. Each is added to the results.
pub(crate) fn run(selection: &Selection<'_>, results: &mut Results) -> Result<bool> {
    let Some(mut binaries) = build(selection.targets)? else {
        return Ok(false);
    };
    binaries.sort_by_key(|binary| {
        let place = FIRST.iter().position(|first| *first == binary.name);
        place.unwrap_or(FIRST.len())
    });
    let (alone, together) = binaries
        .into_iter()
        .partition(|binary| ALONE.contains(&binary.name.as_str()));
    let at_once = 2 * thread::available_parallelism().map_or(1, usize::from);
    let results = Mutex::new(results);
    let together = run_all(together, at_once, selection, &results)?;
    let alone = run_all(alone, 1, selection, &results)?;
    Ok(together && alone)
}

/// Runs the documentation's tests of all packages.
pub(crate) fn run_documentation(results: &mut Results) -> Result<bool> {
    let mut command = shell::cargo(&["test", "--no-fail-fast", "--workspace", "--doc"]);
    let (succeeded, said) = shell::finish(&mut command, None)?;
    println!("{said}");
    results.read("", &said);
    Ok(succeeded == Some(true))
}

/// Builds the test binaries; nothing when one does not compile, which cargo has said.
fn build(targets: &[&str]) -> Result<Option<Vec<Binary>>> {
    let mut command = shell::cargo(&["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    let mut cargo = command
        .args(targets)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let said = cargo.stdout.take().context("cargo has no output")?;
    let mut binaries = Vec::new();
    for line in BufReader::new(said).lines() {
        binaries.extend(binary_of(&line.context("cannot read what cargo says")?)?);
    }
    let succeeded = cargo.wait().context("lost cargo")?.success();
    Ok(succeeded.then_some(binaries))
}

/// The part of cargo's messages that is used here.
#[derive(Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The test binary that a message of cargo tells of, if it does.
fn binary_of(line: &str) -> Result<Option<Binary>> {
    let message: Message = serde_json::from_str(line).context("cannot read what cargo says")?;
    let Message {
        manifest_path: Some(manifest),
        target: Some(target),
        profile: Some(Profile { test: true }),
        executable: Some(executable),
    } = message
    else {
        return Ok(None);
    };
    let folder = manifest.parent().context("cargo names no folder")?.to_owned();
    Ok(Some(Binary {
        name: target.name,
        executable,
        folder,
    }))
}

/// Runs binaries, so many at once; whether all succeeded.
fn run_all(
    binaries: VecDeque<Binary>,
    at_once: usize,
    selection: &Selection<'_>,
    results: &Mutex<&mut Results>,
) -> Result<bool> {
    let waiting = Mutex::new(binaries);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let run = || -> Result<bool> {
        let mut succeeded = true;
        while let Some(binary) = next() {
            succeeded &= run_one(&binary, selection, results)?;
        }
        Ok(succeeded)
    };
    thread::scope(|scope| {
        let runners: Vec<_> = (0..at_once).map(|_| scope.spawn(run)).collect();
        let mut succeeded = true;
        for runner in runners {
            succeeded &= runner.join().ok().context("a runner of tests panicked")??;
        }
        Ok(succeeded)
    })
}

/// Runs one to its end, then shows what it wrote and reads its results from it.
fn run_one(binary: &Binary, selection: &Selection<'_>, results: &Mutex<&mut Results>) -> Result<bool> {
    let mut command = Command::new(&binary.executable);
    command
        .args(selection.harness)
        .current_dir(&binary.folder)
        .env("CARGO_MANIFEST_DIR", &binary.folder);
    for switch in SWITCHES {
        command.env_remove(switch);
    }
    command.envs(selection.variables.iter().copied());
    let watch = Stopwatch::start();
    let (ending, said) = shell::finish(&mut command, Some(MAX_BINARY))?;
    let seconds = watch.elapsed().as_secs();

    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
    let output = format!(
        "     Running {} ({})\n{said}",
        binary.name,
        binary.executable.display()
    );
    println!("\n{}", output.trim_end());
    results.read(selection.label, &output);
    match ending {
        Some(true) => println!("{}: {seconds} s", binary.name),
        Some(false) => println!("{}: FAILED, {seconds} s", binary.name),
        None => println!("{}: FAILED: it was ended after {seconds} s", binary.name),
    }
    Ok(ending == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{test_results::Ending, workspace::Workspace};

    fn script(name: &str, text: &str) -> (tempfile::TempDir, Binary) {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("deps").join(format!("{name}-0"));
        std::fs::create_dir(folder.path().join("deps")).unwrap();
        std::fs::write(&executable, format!("#!/bin/sh\n{text}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&executable, mode).unwrap();
        let binary = Binary {
            name: name.to_owned(),
            executable,
            folder: folder.path().to_owned(),
        };
        (folder, binary)
    }

    #[test]
    fn what_is_named_here_is_a_test_binary() {
        let workspace = Workspace::load().unwrap();
        for name in ALONE.iter().chain(&FIRST) {
            let known =
                ["integration-tests", "bench"].map(|package| workspace.has_target(package, "test", name));
            assert!(known.contains(&true), "{name}");
        }
    }

    #[test]
    fn a_test_binary_is_told_from_what_else_cargo_says() {
        let line = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/p/tests/Cargo.toml","target":{{"name":"consent",
                "kind":["test"]}},"profile":{{"test":{test},"opt_level":"0"}},"executable":{executable}}}"#
            )
        };
        let binary = binary_of(&line(true, "\"/t/deps/consent-0\"")).unwrap().unwrap();
        assert_eq!(binary.name, "consent");
        assert_eq!(binary.folder, PathBuf::from("/p/tests"));
        assert!(binary_of(&line(true, "null")).unwrap().is_none());
        assert!(binary_of(&line(false, "\"/t/demo\"")).unwrap().is_none());
        let finished = r#"{"reason":"build-finished","success":true}"#;
        assert!(binary_of(finished).unwrap().is_none());
    }

    #[test]
    fn each_is_run_and_one_that_fails_is_told() {
        let (_one, first) = script("first", "echo \"test $1 ... ok\"; echo \"test $WHERE ... ok\"");
        let (_two, second) = script("second", "echo 'test b ... FAILED' >&2; exit 1");
        let selection = Selection {
            targets: &[],
            harness: &["a"],
            variables: &[("WHERE", OsStr::new("here"))],
            label: "on X: ",
        };
        let mut results = Results::default();
        let all = VecDeque::from([first, second]);
        assert!(!run_all(all, 2, &selection, &Mutex::new(&mut results)).unwrap());
        for (test, ending) in [
            ("on X: first::a", Ending::Passed),
            ("on X: first::here", Ending::Passed),
            ("on X: second::b", Ending::Failed),
        ] {
            assert_eq!(results.ending(test), Some(ending), "{test}");
        }
    }
}

//! The long checks at their stated size, each with a record in target/soak/ that says what was run on what.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::{
    clock::{self, Stopwatch},
    mutants, shell,
};

/// The long checks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// Every mutant.
    Mutants,
    /// Both services and their PostgreSQL servers killed again and again while they work.
    Kills,
    /// Both services killed again and again on SQLite.
    KillsSqlite,
    /// Records made through one instance while the other answers.
    Instances,
    /// Everything that requesters and operators do, interleaved at random.
    Interleavings,
    /// An instance stopped in everybody's way, again and again.
    Stuck,
    /// A million copies taken in on both databases, beside raw loading.
    Ingest,
    /// Look-ups at ten thousand and at a million persons.
    Lookups,
    /// A thousand refusals of each cause, also under overload, and whether their latencies tell the causes apart.
    Refusals,
    /// A suppression feed of a million linkages.
    Suppressions,
}

/// What a check found: the record's figures, its seed among them, and what it did not pass, if so.
struct Found {
    figures: Map<String, Value>,
    fault: Option<String>,
}

/// `cargo xtask soak NAME`.
pub(crate) fn run(name: Name) -> Result<()> {
    let label = name
        .to_possible_value()
        .context("the check has no name")?
        .get_name()
        .to_owned();
    let folder = shell::root().join("target/soak");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (commit, dirty) = commit()?;
    let started_at = clock::now_utc()?;
    let watch = Stopwatch::start();
    let found = match name {
        Name::Mutants => run_mutants()?,
        Name::Kills => run_test_on(
            &folder,
            "kills",
            "what_was_acknowledged",
            Profile::Dev,
            Some("postgres"),
        )?,
        Name::KillsSqlite => run_test_on(
            &folder,
            "kills",
            "what_was_acknowledged",
            Profile::Dev,
            Some("sqlite"),
        )?,
        Name::Instances => run_test(
            &folder,
            "instances",
            "obeyed_by_the_other_under_load",
            Profile::Dev,
        )?,
        Name::Interleavings => run_test(&folder, "interleavings", "", Profile::Dev)?,
        Name::Stuck => run_test(&folder, "stuck_instance", "holds_the_others_up", Profile::Dev)?,
        // Speed is that of what one deploys.
        Name::Ingest => run_test(&folder, "ingest_load", "", Profile::Release)?,
        Name::Lookups => run_test(&folder, "lookup_growth", "", Profile::Release)?,
        Name::Refusals => run_test(&folder, "refusal_timing", "", Profile::Dev)?,
        Name::Suppressions => run_test(&folder, "suppression_feed", "of_many_linkages", Profile::Release)?,
    };

    let seconds = watch.elapsed().as_secs();
    let record = record(
        &label,
        &commit,
        dirty,
        &started_at,
        seconds,
        found.figures,
        found.fault.is_none(),
    );
    let file = folder.join(format!("{label}.json"));
    fs::write(&file, format!("{record:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote target/soak/{label}.json");
    match found.fault {
        Some(fault) => bail!("{fault}"),
        None => Ok(()),
    }
}

/// The seed stands beside the commit: with both, the run can be had again.
fn record(
    name: &str,
    commit: &str,
    dirty: bool,
    started_at: &str,
    seconds: u64,
    mut figures: Map<String, Value>,
    passed: bool,
) -> Value {
    let seed = figures.remove("seed").unwrap_or(Value::Null);
    json!({
        "name": name,
        "seed": seed,
        "commit": commit,
        "dirty": dirty,
        "started_at": started_at,
        "seconds": seconds,
        "passed": passed,
        "figures": figures,
    })
}

/// What is checked: the commit, and whether the working tree differs from it.
fn commit() -> Result<(String, bool)> {
    let head = shell::output(shell::command("git").args(["rev-parse", "HEAD"]))?;
    let changes = shell::output(shell::command("git").args(["status", "--porcelain"]))?;
    Ok((head.trim().to_owned(), !changes.trim().is_empty()))
}

/// No chance is in it, so the record has no seed.
fn run_mutants() -> Result<Found> {
    let outcome = mutants::try_share(mutants::Share::All)?;
    let missed: Map<String, Value> = outcome
        .missed
        .into_iter()
        .map(|(name, reason)| (name, Value::from(reason)))
        .collect();
    let fault = (!missed.is_empty()).then(|| format!("{} mutants were not caught", missed.len()));
    let mut figures = Map::new();
    figures.insert("caught".to_owned(), outcome.caught.into());
    figures.insert("missed".to_owned(), missed.into());
    Ok(Found { figures, fault })
}

/// How a test and the services that it starts are built.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Dev,
    Release,
}

fn run_test(folder: &Path, target: &str, filter: &str, profile: Profile) -> Result<Found> {
    run_test_on(folder, target, filter, profile, None)
}

/// The tests that the filter lets through write their figures, their seed among them, to the file that they are told.
fn run_test_on(
    folder: &Path,
    target: &str,
    filter: &str,
    profile: Profile,
    store: Option<&str>,
) -> Result<Found> {
    let file = folder.join(format!("{target}.figures.json"));
    if file.exists() {
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    let mut test = shell::cargo(&["test", "--package", "integration-tests", "--test", target]);
    if profile == Profile::Release {
        test.arg("--release");
    }
    test.args(["--", filter, "--nocapture"]);
    test.envs(store.map(|store| ("KOSEKI_STORE", store)));
    test.env("KOSEKI_SOAK", "1").env("KOSEKI_SOAK_FIGURES", &file);
    let fault = shell::run(&mut test).err().map(|error| format!("{error:#}"));
    let figures = match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text).context("the test's figures are not a JSON object")?,
        Err(_) if fault.is_some() => Map::new(),
        Err(error) => return Err(error).context("the test wrote no figures to KOSEKI_SOAK_FIGURES"),
    };
    Ok(Found { figures, fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_stands_beside_the_commit() {
        let figures = json!({"seed": 7, "kills": 500}).as_object().unwrap().clone();
        let made = record("kills", "abc", true, "2026-11-01T00:00:00Z", 12, figures, true);
        assert_eq!(
            made,
            json!({
                "name": "kills", "seed": 7, "commit": "abc", "dirty": true, "started_at": "2026-11-01T00:00:00Z",
                "seconds": 12, "passed": true, "figures": {"kills": 500},
            })
        );
    }
}

//! Breaks the product on purpose, one wall at a time, and sees that the test that guards the wall fails.
//!
//! tests/mutants.toml says what is broken and which test must see it. A mutant that no longer fits the code is an error,
//! not a pass; so is a test that does not pass before anything is broken, and a filter that selects no test.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{clock::Stopwatch, mutant_tree::Tree, shell};

const LIST: &str = "tests/mutants.toml";

/// A broken product may hang: that is a failing test too.
const MAX_TEST: Duration = Duration::from_secs(300);

/// Which mutants to try.
#[derive(Clone, Copy)]
pub(crate) enum Share<'a> {
    All,
    Quick,
    Named(&'a [String]),
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) caught: Vec<String>,
    /// With the reason: survived, or could not be tried.
    pub(crate) missed: Vec<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default, rename = "mutant")]
    mutants: Vec<Mutant>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    wall: String,
    file: String,
    find: String,
    replace: String,
    #[serde(default)]
    and: Vec<Place>,
    #[serde(flatten)]
    guard: Guard,
    #[serde(default)]
    quick: bool,
    #[serde(default)]
    expect: Expect,
}

/// The test that must see it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Guard {
    package: String,
    /// `lib` or `bins` for the package's own tests, or the name of an integration test.
    test: String,
    /// Part of the test's name.
    filter: String,
    /// The database that it runs on.
    #[serde(default)]
    store: Store,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Store {
    #[default]
    Sqlite,
    Postgres,
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Another place that is broken with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    file: String,
    find: String,
    replace: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum Expect {
    #[default]
    #[serde(rename = "test fails")]
    TestFails,
    /// The wall is a type: leaving it out is not a program.
    #[serde(rename = "does not compile")]
    DoesNotCompile,
}

/// `cargo xtask mutants [NAME…]`.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let outcome = try_share(if names.is_empty() {
        Share::All
    } else {
        Share::Named(names)
    })?;
    if !outcome.missed.is_empty() {
        bail!("{} mutants were not caught (named above)", outcome.missed.len());
    }
    Ok(())
}

/// Tries the mutants and prints a line for each.
pub(crate) fn try_share(share: Share<'_>) -> Result<Outcome> {
    let text = fs::read_to_string(shell::root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let list: List = toml::from_str(&text).with_context(|| format!("{LIST} cannot be read"))?;
    let mutants = list.select(share)?;
    let mut outcome = Outcome::default();
    if mutants.is_empty() {
        println!("no mutants to try in {LIST}");
        return Ok(outcome);
    }

    let tree = Tree::update()?;
    let guards: BTreeSet<&Guard> = mutants.iter().map(|mutant| &mutant.guard).collect();
    let unsound: BTreeSet<&Guard> = guards
        .into_iter()
        .filter(|guard| !is_sound(&tree, guard))
        .collect();
    for mutant in mutants {
        let watch = Stopwatch::start();
        let verdict = if unsound.contains(&mutant.guard) {
            Err("its test does not pass before anything is broken".to_owned())
        } else {
            try_one(&tree, mutant).unwrap_or_else(|error| Err(format!("{error:#}")))
        };
        let seconds = watch.elapsed().as_secs();
        match verdict {
            Ok(()) => {
                println!("caught  {} ({}; {seconds} s)", mutant.name, mutant.wall);
                outcome.caught.push(mutant.name.clone());
            }
            Err(reason) => {
                println!("MISSED  {} ({}): {reason}", mutant.name, mutant.wall);
                outcome.missed.push((mutant.name.clone(), reason));
            }
        }
    }
    println!(
        "mutants: {} caught, {} missed",
        outcome.caught.len(),
        outcome.missed.len()
    );
    Ok(outcome)
}

impl List {
    fn select(&self, share: Share<'_>) -> Result<Vec<&Mutant>> {
        let mut names = BTreeSet::new();
        if let Some(twice) = self
            .mutants
            .iter()
            .find(|mutant| !names.insert(mutant.name.as_str()))
        {
            bail!("{LIST} has two mutants with the name {}", twice.name);
        }
        match share {
            Share::All => Ok(self.mutants.iter().collect()),
            Share::Quick => Ok(self.mutants.iter().filter(|mutant| mutant.quick).collect()),
            Share::Named(wanted) => {
                if let Some(unknown) = wanted.iter().find(|name| !names.contains(name.as_str())) {
                    bail!("{LIST} has no mutant with the name {unknown}");
                }
                Ok(self
                    .mutants
                    .iter()
                    .filter(|mutant| wanted.contains(&mutant.name))
                    .collect())
            }
        }
    }
}

/// Whether the test passes, and is one, while nothing is broken.
fn is_sound(tree: &Tree, guard: &Guard) -> bool {
    let (package, test, filter, store) = (&guard.package, &guard.test, &guard.filter, guard.store.name());
    println!("before: {package} {test} {filter} ({store})");
    match run_guard(tree, guard) {
        Ok(Ran {
            compiled: true,
            passed: Some(passed),
            ..
        }) if passed > 0 => true,
        Ok(ran) => {
            println!("{}", ran.tail());
            false
        }
        Err(error) => {
            println!("{error:#}");
            false
        }
    }
}

/// Breaks the product and looks whether it is seen; else why not.
fn try_one(tree: &Tree, mutant: &Mutant) -> Result<Result<(), String>> {
    let mut broken = vec![tree.break_file(&mutant.file, &mutant.find, &mutant.replace)?];
    for place in &mutant.and {
        broken.push(tree.break_file(&place.file, &place.find, &place.replace)?);
    }
    let ran = run_guard(tree, &mutant.guard)?;
    drop(broken);
    Ok(match (mutant.expect, ran.compiled, ran.passed) {
        (Expect::TestFails, true, None) | (Expect::DoesNotCompile, false, _) => Ok(()),
        (Expect::TestFails, true, Some(_)) => Err("it survived: the test passes".to_owned()),
        (Expect::DoesNotCompile, true, _) => Err("it compiles".to_owned()),
        (Expect::TestFails, false, _) => Err(format!("it does not compile:\n{}", ran.tail())),
    })
}

struct Ran {
    compiled: bool,
    /// How many tests passed, when all did.
    passed: Option<usize>,
    output: String,
}

impl Ran {
    fn tail(&self) -> String {
        let lines: Vec<&str> = self.output.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(40))
            .map(|line| format!("    {line}\n"))
            .collect()
    }
}

fn run_guard(tree: &Tree, guard: &Guard) -> Result<Ran> {
    let (compiled, output) = shell::finish(cargo_test(tree, guard).arg("--no-run"), None)?;
    if compiled != Some(true) {
        return Ok(Ran {
            compiled: false,
            passed: None,
            output,
        });
    }
    let (passed, output) = shell::finish(
        cargo_test(tree, guard).args(["--", &guard.filter]),
        Some(MAX_TEST),
    )?;
    let passed = (passed == Some(true)).then(|| passed_in(&output));
    Ok(Ran {
        compiled: true,
        passed,
        output,
    })
}

fn cargo_test(tree: &Tree, guard: &Guard) -> Command {
    let mut command = shell::cargo(&["test", "--quiet", "--package", &guard.package]);
    match guard.test.as_str() {
        "lib" => command.arg("--lib"),
        "bins" => command.arg("--bins"),
        test => command.args(["--test", test]),
    };
    command
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", tree.target())
        .env("KOSEKI_STORE", guard.store.name())
        .env("RUST_BACKTRACE", "0");
    command
}

/// The sum over `test result: ok. N passed; …`.
fn passed_in(output: &str) -> usize {
    output
        .lines()
        .filter_map(|line| {
            line.strip_prefix("test result: ok. ")?
                .split(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
        [[mutant]]
        name = "no-consent-check"
        wall = "I1: consent"
        file = "crates/portal-gateway/src/clear.rs"
        find = "consent.check()?;"
        replace = ""
        package = "integration-tests"
        test = "four_conditions"
        filter = "no_consent"
        quick = true

        [[mutant]]
        name = "released-cloned"
        wall = "I1: Released cannot be cloned"
        file = "crates/common/src/released.rs"
        find = "pub struct Released"
        replace = "pub struct ReleasedAgain"
        package = "common"
        test = "lib"
        filter = "released"
        store = "postgres"
        expect = "does not compile"

        [[mutant.and]]
        file = "crates/common/src/lib.rs"
        find = "Released"
        replace = "ReleasedAgain"
    "#;

    #[test]
    fn a_share_is_selected() {
        let list: List = toml::from_str(SAMPLE).unwrap();
        let names = |share| -> Vec<&str> {
            list.select(share)
                .unwrap()
                .iter()
                .map(|mutant| mutant.name.as_str())
                .collect()
        };
        assert_eq!(names(Share::All), ["no-consent-check", "released-cloned"]);
        assert_eq!(names(Share::Quick), ["no-consent-check"]);
        assert_eq!(
            names(Share::Named(&["released-cloned".to_owned()])),
            ["released-cloned"]
        );
        assert!(list.select(Share::Named(&["other".to_owned()])).is_err());
        let last = list.mutants.last().unwrap();
        assert_eq!(last.expect, Expect::DoesNotCompile);
        assert_eq!((last.guard.store, last.and.len()), (Store::Postgres, 1));
    }

    #[test]
    fn a_list_with_a_mistake_is_refused() {
        assert!(toml::from_str::<List>(&SAMPLE.replacen("quick", "qick", 1)).is_err());
        let twice: List = toml::from_str(&SAMPLE.replacen("released-cloned", "no-consent-check", 1)).unwrap();
        assert!(twice.select(Share::All).is_err());
    }

    #[test]
    fn the_committed_list_fits_the_code() {
        let root = shell::root();
        let list: List = toml::from_str(&fs::read_to_string(root.join(LIST)).unwrap()).unwrap();
        for mutant in list.select(Share::All).unwrap() {
            let others = mutant.and.iter().map(|place| (&place.file, &place.find));
            for (file, find) in std::iter::once((&mutant.file, &mutant.find)).chain(others) {
                let text = fs::read_to_string(root.join(file)).unwrap();
                assert_eq!(text.matches(find).count(), 1, "{}: {find}", mutant.name);
            }
        }
    }

    #[test]
    fn passed_tests_are_counted() {
        let output = "running 2 tests\n..\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\
                      test result: ok. 1 passed; 0 failed\ntest result: FAILED. 4 passed; 1 failed\n";
        assert_eq!(passed_in(output), 3);
    }
}

//! Which tests ran and how each ended, read from what `cargo test` and test binaries write.
//!
//! A line names the binary (`Running tests/x.rs (…/deps/x-0123456789abcdef)`), those behind it are its own. A test is remembered as `binary::path::of::test`: `common::identity::tests::x` for a package's own tests,
//! `four_conditions::x` for those of the file `tests/four_conditions.rs`.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed,
    Failed,
    Ignored,
}

/// Which tests ran, over all runs of `cargo test`.
#[derive(Debug, Default)]
pub(crate) struct Results {
    endings: BTreeMap<String, Ending>,
    /// Passed by the count of a binary, though its own line could not be read.
    unnamed: usize,
}

impl Results {
    pub(crate) fn ending(&self, test: &str) -> Option<Ending> {
        self.endings.get(test).copied()
    }

    pub(crate) fn passed(&self) -> usize {
        self.count(Ending::Passed) + self.unnamed
    }

    pub(crate) fn failed(&self) -> usize {
        self.count(Ending::Failed)
    }

    pub(crate) fn with_ending(&self, wanted: Ending) -> impl Iterator<Item = &str> {
        self.endings
            .iter()
            .filter(move |(_, ending)| **ending == wanted)
            .map(|(name, _)| name.as_str())
    }

    /// How many tests of a binary passed and failed under a label.
    pub(crate) fn of_binary(&self, label: &str, binary: &str) -> (usize, usize) {
        let prefix = format!("{label}{binary}::");
        let count = |wanted| {
            let tests = self.with_ending(wanted);
            tests.filter(|test| test.starts_with(&prefix)).count()
        };
        (count(Ending::Passed), count(Ending::Failed))
    }

    /// Adds the tests that an output tells of, with `label` before their names.
    pub(crate) fn read(&mut self, label: &str, output: &str) {
        let mut parser = Parser::new(label, self);
        for line in output.lines() {
            parser.line(line);
        }
    }

    fn count(&self, wanted: Ending) -> usize {
        self.with_ending(wanted).count()
    }

    /// A test that ran in another stage is no longer ignored; one that failed once has failed.
    fn remember(&mut self, test: String, ending: Ending) {
        let known = self.endings.entry(test).or_insert(ending);
        if *known != Ending::Failed && ending != Ending::Ignored {
            *known = ending;
        }
    }
}

struct Parser<'a> {
    label: &'a str,
    results: &'a mut Results,
    binary: String,
    passed: usize,
    failed: usize,
    /// Tests whose line was cut by something else that was printed.
    cut: Vec<String>,
}

impl<'a> Parser<'a> {
    fn new(label: &'a str, results: &'a mut Results) -> Self {
        Self {
            label,
            results,
            binary: String::new(),
            passed: 0,
            failed: 0,
            cut: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(binary) = binary_of(line) {
            self.binary = binary;
            self.start_binary();
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.finish_binary(counts);
        } else if let Some((test, ending)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        {
            let test = format!(
                "{}{}::{}",
                self.label,
                self.binary,
                test.strip_suffix(" - should panic").unwrap_or(test)
            );
            match ending_of(ending) {
                Some(ending) => self.remember(test, ending),
                None => self.cut.push(test),
            }
        }
    }

    fn start_binary(&mut self) {
        self.passed = 0;
        self.failed = 0;
        self.cut.clear();
    }

    fn remember(&mut self, test: String, ending: Ending) {
        match ending {
            Ending::Passed => self.passed += 1,
            Ending::Failed => self.failed += 1,
            Ending::Ignored => {}
        }
        self.results.remember(test, ending);
    }

    /// The binary's own count settles the tests whose line was cut.
    fn finish_binary(&mut self, counts: &str) {
        let failed = count_before(counts, " failed");
        for test in std::mem::take(&mut self.cut) {
            let ending = if failed > self.failed {
                Ending::Failed
            } else {
                Ending::Passed
            };
            self.remember(test, ending);
        }
        self.results.unnamed += count_before(counts, " passed").saturating_sub(self.passed);
        self.start_binary();
    }
}

/// `Running tests/x.rs (target/debug/deps/x-0123456789abcdef)` or `Doc-tests x`.
fn binary_of(line: &str) -> Option<String> {
    if let Some(package) = line.strip_prefix("   Doc-tests ") {
        return Some(format!("doc::{package}"));
    }
    // Only as cargo writes it: a test may print something like it.
    let (_, executable) = line
        .strip_prefix("     Running ")?
        .strip_suffix(')')?
        .rsplit_once(" (")?;
    let (_, file) = executable.rsplit_once("deps/")?;
    let (name, _hash) = file.rsplit_once('-')?;
    Some(name.to_owned())
}

fn ending_of(text: &str) -> Option<Ending> {
    // With times shown the word is followed by `<0.003s>`, an ignored test by its reason.
    let word = text.split([' ', ',']).next()?;
    match word {
        "ok" => Some(Ending::Passed),
        "FAILED" => Some(Ending::Failed),
        "ignored" => Some(Ending::Ignored),
        _ if text.ends_with("FAILED") => Some(Ending::Failed),
        _ => None,
    }
}

/// The number before a word in `ok. 3 passed; 0 failed; …`.
fn count_before(counts: &str, word: &str) -> usize {
    counts
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(word.trim_start()))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r"
   Compiling common v0.1.0 (/somewhere/crates/common)
    Finished `test` profile [unoptimized] target(s) in 4.21s
     Running unittests src/lib.rs (target/debug/deps/koseki_provider-0b8e2f5b8a7c9d10)

running 4 tests
test register::tests::a_check_digit_is_computed ... ok
test register::tests::a_wrong_one_is_refused ... FAILED
test store::tests::a_bad_state_panics - should panic ... ok
test store::tests::large ... ignored, takes an hour

failures:

---- register::tests::a_wrong_one_is_refused stdout ----
thread 'x' panicked at src/register.rs:3:5:
test output that is not a result

failures:
    register::tests::a_wrong_one_is_refused

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s

     Running tests/four_conditions.rs (target/debug/deps/four_conditions-9a01fe2384c3d7aa)

running 2 tests
test no_consent ... a service writes to the terminal
ok
test no_login ... ok <0.003s>

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s

   Doc-tests common

running 1 test
test crates/common/src/lib.rs - Clock (line 12) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.20s
";

    fn results_of(output: &str) -> Results {
        let mut results = Results::default();
        results.read("", output);
        results
    }

    #[test]
    fn every_test_is_named_by_its_binary() {
        let results = results_of(SAMPLE);
        for (name, ending) in [
            (
                "koseki_provider::register::tests::a_check_digit_is_computed",
                Ending::Passed,
            ),
            (
                "koseki_provider::register::tests::a_wrong_one_is_refused",
                Ending::Failed,
            ),
            (
                "koseki_provider::store::tests::a_bad_state_panics",
                Ending::Passed,
            ),
            ("koseki_provider::store::tests::large", Ending::Ignored),
            ("four_conditions::no_consent", Ending::Passed),
            ("four_conditions::no_login", Ending::Passed),
            (
                "doc::common::crates/common/src/lib.rs - Clock (line 12)",
                Ending::Passed,
            ),
        ] {
            assert_eq!(results.ending(name), Some(ending), "{name}");
        }
        assert_eq!((results.passed(), results.failed()), (5, 1));
    }

    #[test]
    fn a_line_that_is_lost_still_counts() {
        let results = results_of(
            "     Running tests/x.rs (target/debug/deps/x-9a01fe2384c3d7aa)\nnoise test a ... ok\ntest b ... ok\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s\n",
        );
        assert_eq!((results.passed(), results.failed()), (2, 0));
        assert_eq!(results.ending("x::a"), None);
    }

    #[test]
    fn a_later_run_settles_an_ignored_test_and_hides_no_failure() {
        let mut results = Results::default();
        for ending in ["ignored", "ok"] {
            results.read(
                "",
                &format!("     Running tests/x.rs (deps/x-0)\ntest a ... {ending}"),
            );
        }
        for ending in ["FAILED", "ok"] {
            results.read(
                "",
                &format!("     Running tests/x.rs (deps/x-0)\ntest b ... {ending}"),
            );
        }
        assert_eq!(results.ending("x::a"), Some(Ending::Passed));
        assert_eq!(results.ending("x::b"), Some(Ending::Failed));
    }
}

//! `cargo xtask test`: everything that this machine can check, and at the end what ran and what could not.

use std::ffi::OsStr;

use anyhow::{Result, bail};

use crate::{
    cargo_test::{self, Selection},
    clock::Stopwatch,
    conformance::{self, Evidence},
    images, mutants, proto, python, shell, supply_chain,
    test_results::{Ending, Results},
    tools::{self, Tool},
    workspace::Workspace,
};

/// Where the tests of both services together live.
const INTEGRATION: &str = "integration-tests";
/// Test targets of that package that need something of the machine: each is run by its own stage, as are those that need
/// PostgreSQL. Its manifest says `test = false` for them, so that the general stage leaves them out.
const COMPOSE: &str = "compose";
const PYTHON: &str = "python";
const OPENSSL: &str = "openssl";

/// The conformance suite of the stores: test targets that go through both services to their databases. It runs on SQLite
/// with all other tests, and on PostgreSQL by itself.
const STORE_SUITE: [&str; 28] = [
    "accounts",
    "approvals",
    "audit_logs",
    "bad_acts",
    "bad_lines",
    "bad_linkages",
    "consent",
    "consent_receipts",
    "errors",
    "four_conditions",
    "hostile_gateway",
    "interleavings",
    "kills",
    "login",
    "login_proof",
    "lost_answers",
    "next_policy",
    "nothing_personal",
    "old_data",
    "one_refusal",
    "own_records",
    "recorded_then_released",
    "register_side",
    "revocation",
    "sessions",
    "suppression_feed",
    "withdrawal_wins",
    "witnessing",
];
/// Stands before the names of the tests that ran on PostgreSQL.
const ON_POSTGRES: &str = "on PostgreSQL: ";
/// Test targets that need a PostgreSQL of their own, whatever the others run on.
const POSTGRES: [&str; 9] = [
    "database_at_start",
    "ingest_load",
    "instances",
    "log_faults_postgres",
    "lookup_growth",
    "pools",
    "provider_instances",
    "roles",
    "stuck_instance",
];

/// How a stage ended.
enum Outcome {
    Passed,
    Failed(String),
    /// It could not run on this machine, for this reason; nothing is wrong otherwise.
    Skipped(String),
}

struct Stage {
    name: &'static str,
    outcome: Outcome,
    seconds: u64,
    /// Its tests are counted one by one, and not the stage beside them.
    counts_tests: bool,
}

#[derive(Default)]
struct Report {
    stages: Vec<Stage>,
    results: Results,
}

/// Runs all stages.
pub(crate) fn run() -> Result<()> {
    let mut report = Report::default();
    report.stage("tools", |_| {
        if shell::in_ci() {
            tools::install_missing();
        }
        tools::show()?;
        Ok(Outcome::Passed)
    });
    report.stage("format", |_| {
        with_tool(Tool::Rustfmt, || {
            shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))
        })
    });
    report.stage("lints", |_| with_tool(Tool::Clippy, lint));
    report.stage("supply chain: one crypto provider", |_| {
        supply_chain::check_tree().map(|()| Outcome::Passed)
    });
    report.stage("supply chain: cargo-deny", |_| {
        with_tool(Tool::CargoDeny, supply_chain::check_deny)
    });
    report.stage("protos", |_| proto::run(false).map(|()| Outcome::Passed));
    report.stage("Python set-up", |_| set_up_python());
    let all_tests_ran = report.tests("tests", run_everywhere);
    let postgres_ran = report.tests("PostgreSQL", run_on_postgres);
    report.stage("mutants", |_| run_mutants());
    let python_ran = report.tests("foreign client (Python)", run_python);
    let openssl_ran = report.tests("certificates by another tool (OpenSSL)", run_openssl);
    let compose_ran = report.tests("containers", run_compose);
    report.stage("conformance", |results| {
        let mut ran = vec![
            (PYTHON, python_ran),
            (OPENSSL, openssl_ran),
            (COMPOSE, compose_ran),
        ];
        ran.extend(POSTGRES.map(|target| (target, postgres_ran)));
        let not_run_here: Vec<&str> = ran
            .iter()
            .filter(|(_, ran)| !ran)
            .map(|(target, _)| *target)
            .collect();
        if all_tests_ran {
            conformance::check(&Evidence::Run {
                results,
                not_run_here: &not_run_here,
            })?;
        } else {
            println!("not all tests ran: names are looked up in the sources only");
            conformance::check(&Evidence::Sources)?;
        }
        Ok(Outcome::Passed)
    });
    report.finish(shell::in_ci())
}

impl Report {
    /// Runs a stage that counts as one check; whether it passed.
    fn stage(&mut self, name: &'static str, check: impl FnOnce(&mut Results) -> Result<Outcome>) -> bool {
        println!("\n== {name}");
        let watch = Stopwatch::start();
        let outcome = check(&mut self.results).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let seconds = watch.elapsed().as_secs();
        match &outcome {
            Outcome::Passed => println!("== {name}: passed, {seconds} s"),
            Outcome::Failed(reason) => println!("== {name}: FAILED, {seconds} s: {reason}"),
            Outcome::Skipped(reason) => println!("== {name}: not run: {reason}"),
        }
        let passed = matches!(outcome, Outcome::Passed);
        self.stages.push(Stage {
            name,
            outcome,
            seconds,
            counts_tests: false,
        });
        passed
    }

    /// Runs a stage whose tests are counted one by one; whether its tests ran to the end. It counts itself only when
    /// it failed without a failed test, as when something does not compile.
    fn tests(&mut self, name: &'static str, check: impl FnOnce(&mut Results) -> Result<Outcome>) -> bool {
        let before = self.results.failed();
        self.stage(name, check);
        let failed_tests = self.results.failed() > before;
        let Some(stage) = self.stages.last_mut() else {
            return false;
        };
        stage.counts_tests = match stage.outcome {
            Outcome::Passed => true,
            Outcome::Failed(_) => failed_tests,
            Outcome::Skipped(_) => false,
        };
        stage.counts_tests
    }

    /// The last words: what ran, what failed, what could not run; the counts alone on the last line.
    fn finish(&self, in_ci: bool) -> Result<()> {
        println!("\n== summary");
        for stage in &self.stages {
            let seconds = stage.seconds;
            match &stage.outcome {
                Outcome::Passed => println!("passed   {} ({seconds} s)", stage.name),
                Outcome::Failed(reason) => println!("FAILED   {} ({seconds} s): {reason}", stage.name),
                Outcome::Skipped(reason) => println!("not run  {}: {reason}", stage.name),
            }
        }
        for test in self.results.with_ending(Ending::Failed) {
            println!("FAILED   {test}");
        }
        for test in self.results.with_ending(Ending::Ignored) {
            println!("not run  {test}: ignored");
        }
        if in_ci
            && self
                .stages
                .iter()
                .any(|stage| matches!(stage.outcome, Outcome::Skipped(_)))
        {
            println!("with CI=true a stage that could not run is a failure");
        }
        let counts = self.counts(in_ci);
        println!("\n{}", counts.line());
        if counts.failed > 0 {
            // The line above is the last one: the exit code says the rest.
            std::process::exit(1);
        }
        Ok(())
    }

    fn counts(&self, in_ci: bool) -> Counts {
        let ignored = self.results.with_ending(Ending::Ignored).count();
        let mut counts = Counts {
            passed: self.results.passed(),
            failed: self.results.failed(),
            skipped: ignored,
        };
        for stage in self.stages.iter().filter(|stage| !stage.counts_tests) {
            match stage.outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Failed(_) => counts.failed += 1,
                Outcome::Skipped(_) if in_ci => counts.failed += 1,
                Outcome::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }
}

struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn line(&self) -> String {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        match skipped {
            0 => format!("{passed} passed, {failed} failed"),
            skipped => format!("{passed} passed, {failed} failed, {skipped} skipped"),
        }
    }
}

/// Runs the check when its tool is there.
fn with_tool(tool: Tool, check: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    if !tools::is_there(tool) {
        return Ok(Outcome::Skipped(format!(
            "missing; `{}` installs it",
            tool.installed_by()
        )));
    }
    check().map(|()| Outcome::Passed)
}

fn lint() -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    // Targets with `test = false` are not among all targets.
    let workspace = Workspace::load()?;
    let targets = [COMPOSE, PYTHON, OPENSSL].into_iter().chain(POSTGRES);
    let mut command = shell::cargo(&["clippy", "--package", INTEGRATION]);
    for target in targets.filter(|target| workspace.has_target(INTEGRATION, "test", target)) {
        command.args(["--test", target]);
    }
    shell::run(command.args(["--", "-D", "warnings"]))
}

/// Runs what needs PostgreSQL, then the stores' conformance suite on it, and prints what came of that on both databases.
fn run_on_postgres(results: &mut Results) -> Result<Outcome> {
    if !tools::is_there(Tool::Postgres) {
        return Ok(Outcome::Skipped(format!(
            "missing; `{}` installs it",
            Tool::Postgres.installed_by()
        )));
    }
    let targets = |targets: &'static [&str]| {
        let named = targets.iter().flat_map(|target| ["--test", target]);
        ["--package", INTEGRATION]
            .into_iter()
            .chain(named)
            .collect::<Vec<_>>()
    };
    let own = run_tests(
        &Selection {
            targets: &targets(&POSTGRES),
            ..Selection::default()
        },
        results,
    );
    let suite = run_tests(
        &Selection {
            targets: &targets(&STORE_SUITE),
            variables: &[("KOSEKI_STORE", OsStr::new("postgres"))],
            label: ON_POSTGRES,
            ..Selection::default()
        },
        results,
    );
    for (database, label) in [("SQLite", ""), ("PostgreSQL", ON_POSTGRES)] {
        let counts = STORE_SUITE.iter().map(|target| results.of_binary(label, target));
        let (passed, failed) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        println!("store conformance suite on {database}: {passed} tests passed, {failed} failed");
    }
    own.and(suite)
}

/// The tests of all packages, and of their documentation.
fn run_everywhere(results: &mut Results) -> Result<Outcome> {
    let tests = run_tests(
        &Selection {
            targets: &["--workspace"],
            ..Selection::default()
        },
        results,
    );
    if !cargo_test::run_documentation(results)? {
        bail!("the documentation's tests failed");
    }
    tests
}

fn run_tests(selection: &Selection<'_>, results: &mut Results) -> Result<Outcome> {
    let before = results.failed();
    if cargo_test::run(selection, results)? {
        return Ok(Outcome::Passed);
    }
    match results.failed() - before {
        0 => bail!("something does not compile, or a test binary did not end as it should"),
        failed => bail!("{failed} tests failed"),
    }
}

fn run_mutants() -> Result<Outcome> {
    let outcome = mutants::try_share(mutants::Share::Quick)?;
    if outcome.missed.is_empty() {
        return Ok(Outcome::Passed);
    }
    bail!("{} mutants were not caught", outcome.missed.len())
}

fn set_up_python() -> Result<Outcome> {
    if !python::has_requirements() {
        return Ok(Outcome::Skipped(
            "examples/python/requirements.txt is not there".to_owned(),
        ));
    }
    if !python::is_ready() && shell::in_ci() {
        python::set_up()?;
    }
    Ok(if python::is_ready() {
        Outcome::Passed
    } else {
        Outcome::Skipped(python_missing())
    })
}

fn python_missing() -> String {
    format!("no Python for it; `{}` sets it up", python::SET_UP.join(" && "))
}

fn run_python(results: &mut Results) -> Result<Outcome> {
    if !Workspace::load()?.has_target(INTEGRATION, "test", PYTHON) {
        return Ok(Outcome::Skipped(format!(
            "{INTEGRATION} has no test target {PYTHON}"
        )));
    }
    if !python::is_ready() {
        return Ok(Outcome::Skipped(python_missing()));
    }
    run_tests(
        &Selection {
            targets: &["-p", INTEGRATION, "--test", PYTHON],
            harness: &["--include-ignored"],
            variables: &[("KOSEKI_PYTHON", python::interpreter().as_os_str())],
            ..Selection::default()
        },
        results,
    )
}

fn run_openssl(results: &mut Results) -> Result<Outcome> {
    if !tools::is_there(Tool::Openssl) {
        return Ok(Outcome::Skipped(format!(
            "missing; `{}` installs it",
            Tool::Openssl.installed_by()
        )));
    }
    run_tests(
        &Selection {
            targets: &["-p", INTEGRATION, "--test", OPENSSL],
            ..Selection::default()
        },
        results,
    )
}

fn run_compose(results: &mut Results) -> Result<Outcome> {
    let stand_in = images::needs_stand_in().then_some(Tool::Postgres);
    for tool in [Tool::Engine, Tool::Compose].into_iter().chain(stand_in) {
        if !tools::is_there(tool) {
            return Ok(Outcome::Skipped(format!(
                "missing; `{}` installs it",
                tool.installed_by()
            )));
        }
    }
    if !Workspace::load()?.has_target(INTEGRATION, "test", COMPOSE) {
        return Ok(Outcome::Skipped(format!(
            "{INTEGRATION} has no test target {COMPOSE}"
        )));
    }
    let missing = images::missing_binaries()?;
    if !missing.is_empty() {
        return Ok(Outcome::Skipped(missing.join(", ")));
    }
    images::build()?;
    run_tests(
        &Selection {
            targets: &["-p", INTEGRATION, "--test", COMPOSE],
            harness: &["--include-ignored"],
            variables: &[("KOSEKI_COMPOSE", OsStr::new("1"))],
            ..Selection::default()
        },
        results,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.stage("good", |_| Ok(Outcome::Passed));
        report.stage("absent", |_| Ok(Outcome::Skipped("no engine".to_owned())));
        report
    }

    #[test]
    fn a_stage_counts_as_one_check() {
        assert_eq!(report().counts(false).line(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(report().counts(true).line(), "1 passed, 1 failed");
        let mut failed = report();
        failed.stage("bad", |_| bail!("why"));
        assert_eq!(failed.counts(false).line(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn tests_are_counted_instead_of_their_stage() {
        let mut report = report();
        let output = "     Running tests/x.rs (deps/x-0)\ntest a ... ok\ntest b ... FAILED\n";
        let ran = report.tests("tests", |results| {
            results.read("", output);
            bail!("1 tests failed")
        });
        assert!(ran);
        assert_eq!(report.counts(false).line(), "2 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn tests_that_do_not_compile_are_a_failure() {
        let mut report = report();
        assert!(!report.tests("tests", |_| bail!("does not compile")));
        assert_eq!(report.counts(false).line(), "1 passed, 1 failed, 1 skipped");
    }
}

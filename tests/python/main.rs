//! The Python examples against the real services. `KOSEKI_PYTHON` names an interpreter with what
//! examples/python/requirements.txt lists.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod evidence;
mod send_copies;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::clock::SystemClock;
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair},
    story::{self, Cast, Offices, Teller},
};
use tokio::process::Command;

/// A deployment with both services running.
struct Bench {
    python: OsString,
    deployment: Deployment,
    pair: Pair,
    _dir: tempfile::TempDir,
}

/// What an example came to.
struct Ran {
    code: i32,
    /// Standard output, then standard error.
    said: String,
}

impl Bench {
    async fn start() -> Self {
        let python = env::var_os("KOSEKI_PYTHON").unwrap_or_else(|| {
            panic!("KOSEKI_PYTHON is not set; `cargo xtask test` sets it, and examples/python/README.md says how to make one")
        });
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            seed: 3,
            registers: 50,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(dir.path(), &plan).unwrap();
        let pair = start(&deployment).await;
        Self {
            python,
            deployment,
            pair,
            _dir: dir,
        }
    }

    /// Stops both services and does something before they are started again.
    async fn while_stopped(mut self, meanwhile: impl AsyncFnOnce(&OsStr, &Deployment)) -> Self {
        self.pair.stop().await.unwrap();
        meanwhile(&self.python, &self.deployment).await;
        self.pair = start(&self.deployment).await;
        self
    }
}

async fn start(deployment: &Deployment) -> Pair {
    let binaries = Binaries::locate().unwrap();
    Pair::start(&binaries, deployment).await.unwrap()
}

/// Runs an example to its end.
async fn run(python: &OsStr, example: &str, arguments: &[&OsStr]) -> Ran {
    let examples: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
    let output = Command::new(python)
        .arg(examples.join(example))
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    Ran {
        code: output.status.code().unwrap_or(-1),
        said,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_plays_three_scenario_persons() {
    let bench = Bench::start().await;
    let (deployment, reach) = (&bench.deployment, bench.pair.reach().unwrap());
    let access = Access::new(deployment, Arc::new(SystemClock::new()));
    let cast = Cast::new(deployment, &access, &reach.portal).unwrap();
    let offices = Offices::new(deployment, &access, &reach).unwrap();
    let mut teller = Teller::new(|_| {});
    story::load(deployment, &offices, &mut teller).await.unwrap();
    story::record(&cast.persons, &offices, &mut teller).await.unwrap();
    assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());

    let arguments = [
        OsStr::new("--gateway"),
        OsStr::new(&reach.portal),
        OsStr::new("--dir"),
        deployment.dir().as_os_str(),
    ];
    let played = run(&bench.python, "portal_client.py", &arguments).await;
    assert_eq!(played.code, 0);
    for line in [
        "ordinary: consent to certificate_request, with a good receipt",
        "ordinary: own record: PROVIDED through demo, in the countersigned log",
        "ordinary: as expected",
        "suppressed: FAILED_PRECONDITION NOT_PROVIDED",
        "suppressed: own record: NOT_PROVIDED through demo, in the countersigned log",
        "suppressed: as expected",
        "plane-2: 筆頭に記載した者の氏名 \u{20bb7}川花子",
        "plane-2: as expected",
    ] {
        assert!(played.said.contains(line), "{line:?} was not said");
    }
    bench.pair.stop().await.unwrap();
}

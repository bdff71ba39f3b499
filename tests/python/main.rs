//! The Python example against the real services. `KOSEKI_PYTHON` names an interpreter with what
//! examples/python/requirements.txt lists.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::{env, path::Path, sync::Arc};

use common::clock::SystemClock;
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair},
    story::{self, Cast, Offices, Teller},
};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_plays_three_scenario_persons() {
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
    let pair = Pair::start(&Binaries::locate().unwrap(), &deployment)
        .await
        .unwrap();
    let reach = pair.reach().unwrap();
    let access = Access::new(&deployment, Arc::new(SystemClock::new()));
    let cast = Cast::new(&deployment, &access, &reach.portal).unwrap();
    let offices = Offices::new(&deployment, &access, &reach).unwrap();
    let mut teller = Teller::new(|_| {});
    story::load(&deployment, &offices, &mut teller).await.unwrap();
    story::record(&cast.persons, &offices, &mut teller).await.unwrap();
    assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());

    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/portal_client.py");
    let played = Command::new(python)
        .arg(client)
        .args(["--gateway", &reach.portal, "--dir"])
        .arg(dir.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&played.stdout),
        String::from_utf8_lossy(&played.stderr),
    );
    println!("{said}{errors}");
    assert!(played.status.success(), "{}", played.status);
    for line in [
        "ordinary: as expected",
        "suppressed: FAILED_PRECONDITION NOT_PROVIDED",
        "suppressed: as expected",
        "plane-2: 筆頭に記載した者の氏名 \u{20bb7}川花子",
        "plane-2: as expected",
    ] {
        assert!(said.contains(line), "{line:?} was not said");
    }
    pair.stop().await.unwrap();
}

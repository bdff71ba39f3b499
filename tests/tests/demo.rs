//! The whole story of `cargo demo`, with the real services as processes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::sync::Arc;

use common::clock::SystemClock;
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair},
    story::{self, Cast, Offices, Teller},
};

/// Fewer than the demo has: the scenario persons are there in any case.
const REGISTERS: usize = 100;
const SEED: u64 = 20_261_123;

#[tokio::test(flavor = "multi_thread")]
async fn every_step_comes_out_as_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        seed: SEED,
        registers: REGISTERS,
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
    let mut teller = Teller::new(|line| println!("{line}"));
    story::play(&cast, &offices, &mut teller).await.unwrap();

    let failed: Vec<_> = teller.failed().collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(
        teller.steps().len() > 70,
        "the story has become short: {} steps",
        teller.steps().len()
    );
    pair.stop().await.unwrap();
}

//! The whole story of `cargo demo`, with the real services as processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

use std::{fs, sync::Arc};

use common::clock::SystemClock;
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair},
    registers::Outcome,
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
    nothing_personal_is_logged(&deployment);
}

/// What the story has moved to and fro is in no log line (I5).
fn nothing_personal_is_logged(deployment: &Deployment) {
    let mut personal = Vec::new();
    for person in deployment.scenarios().unwrap() {
        personal.push(person.card_key_sha256);
        personal.push(person.person_id);
        let provided = match person.expected {
            Outcome::Provided { registers, requester } => {
                personal.push(requester.name);
                personal.push(requester.birth_date.written);
                personal.extend(requester.name_kana);
                registers
            }
            _ => person.until_recorded,
        };
        for register in provided {
            personal.push(register.registered_domicile);
            personal.push(register.first_entered_person);
        }
    }
    for line in fs::read_to_string(deployment.linkages()).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        personal.push(line["linkage_code"].as_str().unwrap().to_owned());
    }
    assert!(personal.len() > 100);
    for log in ["provider.log", "gateway.log"] {
        let text = fs::read_to_string(deployment.logs().join(log)).unwrap();
        assert!(text.contains("\"stopped\""), "{log} is not complete");
        for value in &personal {
            assert!(!text.contains(value), "{value} is in {log}");
        }
    }
}

//! A provider of its own takes in generated copies that several municipalities stream at the same time, first on
//! PostgreSQL and then on SQLite, beside raw bulk loading of the same sealed rows into the same tables with the same
//! indexes. Both go on part by part in turns, so that whatever else the machine does slows both down.
//!
//! By itself this is a small share that checks what is stored and asserts no timing; `KOSEKI_SOAK=1` is the stated size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

mod check;
mod copies;
mod phase;
mod raw;
mod usage;

use std::{env, sync::Arc};

use common::{authorisation::Listener, clock::SystemClock};
use copies::Copies;
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, start_provider},
};
use integration_tests::stores::{self, Behind};
use koseki_proto::koseki::common::v1::LineOutcome;
use phase::{Phase, Senders};
use raw::Raw;
use serde_json::{Map, Value, json};
use usage::Usage;

/// Copies in the share that every run of the tests has, and at the stated size.
const FEW: usize = 4_000;
const MANY: usize = 1_000_000;
/// How often service and raw loading take turns.
const PARTS: usize = 4;
/// What the provider may keep in memory at most, whatever is sent, in MB.
const MOST_MEMORY_MB: u64 = 256;
/// Rates of the service at least, as multiples of the raw rate.
const FIRST_AT_LEAST: f64 = 0.5;
const RESEND_AT_LEAST: f64 = 1.0;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_taken_in_beside_raw_loading() {
    let seed = match env::var("KOSEKI_SEED") {
        Ok(seed) => seed.parse().expect("KOSEKI_SEED is a number"),
        Err(_) => rand::random::<u64>(),
    };
    let soak = env::var("KOSEKI_SOAK").is_ok_and(|value| value == "1");
    let count = match env::var("KOSEKI_COPIES") {
        Ok(count) => count.parse().expect("KOSEKI_COPIES is a number"),
        Err(_) if soak => MANY,
        Err(_) => FEW,
    };
    println!("seed {seed} (KOSEKI_SEED repeats it), {count} copies (KOSEKI_COPIES)");
    let directory = tempfile::tempdir().unwrap();
    let copies = Copies::write(directory.path(), seed, count, PARTS);

    let mut figures = Map::new();
    let mut slow = Vec::new();
    for (name, engine) in [("postgres", Engine::Postgres), ("sqlite", Engine::Sqlite)] {
        let found = take_in(engine, seed, &copies, soak).await;
        println!("{name}: {found:#}");
        for (what, least) in [
            ("first_to_raw", FIRST_AT_LEAST),
            ("resend_to_raw", RESEND_AT_LEAST),
        ] {
            if found[what].as_f64().unwrap() < least {
                slow.push(format!("{name}: {what} is below {least}"));
            }
        }
        figures.insert(name.to_owned(), found);
    }
    figures.insert("seed".to_owned(), seed.into());
    figures.insert("copies".to_owned(), count.into());
    figures.insert("bytes_of_lines".to_owned(), copies.bytes.into());
    figures.insert("senders_at_the_same_time".to_owned(), phase::SENDERS.into());
    if let Ok(file) = env::var("KOSEKI_SOAK_FIGURES") {
        std::fs::write(file, format!("{:#}\n", Value::from(figures))).unwrap();
    }
    assert!(!soak || slow.is_empty(), "{slow:?}");
}

/// One store: first load and raw load in turns, then all of it again. The figures.
async fn take_in(engine: Engine, seed: u64, copies: &Copies, soak: bool) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        seed,
        registers: 0,
        addresses: Addresses::loopback(),
    };
    let deployment = Deployment::create(directory.path(), &plan).unwrap();
    if engine == Engine::Postgres {
        stores::place_on_postgres(&deployment).await;
    }
    let provider = start_provider(&Binaries::locate().unwrap(), &deployment)
        .await
        .unwrap();
    let access = Access::new(&deployment, Arc::new(SystemClock::new()));
    let address = provider.address(Listener::Ingest.name()).unwrap().to_string();
    let senders = Senders::new(&access, &address);
    let usage = Usage::of(engine, provider.id().unwrap());
    let mut raw = Raw::prepare(engine, &deployment).await;

    let (mut first, mut resend) = (Phase::default(), Phase::default());
    for part in &copies.parts {
        first.run(&senders, part, LineOutcome::Stored, &usage).await;
        raw.load().await;
        let (first, raw) = (first.last_rate(), raw.phase.last_rate());
        println!("first {first:.0}/s, raw {raw:.0}/s");
    }
    assert_eq!(first.copies, copies.count);
    assert_eq!(raw.phase.copies, copies.count, "everything was stored once");
    if !soak {
        check::the_lines_are_stored(&deployment, copies).await;
        check::raw_rows_are_the_same(&deployment, &mut raw).await;
    }
    for part in &copies.parts {
        resend.run(&senders, part, LineOutcome::Unchanged, &usage).await;
        println!("resend {:.0}/s", resend.last_rate());
    }
    raw.load().await;
    assert_eq!(raw.phase.copies, copies.count, "sending again stored nothing");

    let peak_mb = usage.peak_of_provider_kb() / 1024;
    assert!(peak_mb <= MOST_MEMORY_MB, "the provider took {peak_mb} MB");
    provider.stop().await.unwrap();
    if engine == Engine::Postgres {
        // The server stays to the end of the process: make room.
        let mut behind = Behind::open(&deployment.provider_database()).await;
        for mut connection in [behind.connection(), raw.loaded()] {
            connection
                .execute("TRUNCATE member, register_copy", &[])
                .await
                .unwrap();
        }
    }
    json!({
        "peak_memory_of_provider_mb": peak_mb,
        "first_to_raw": round(first.rate() / raw.phase.rate()),
        "resend_to_raw": round(resend.rate() / raw.phase.rate()),
        "first": first.figures(),
        "raw": raw.phase.figures(),
        "resend": resend.figures(),
    })
}

fn round(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

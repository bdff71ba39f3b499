//! Look-ups as the register grows: batches of 64 uniformly drawn linkages are released from a small and from a large database
//! in turns, so that whatever else the machine does slows both down.
//!
//! What is compared, and asserted, is the database time of a batch's look-up: of all statements of its release transaction
//! from BEGIN to COMMIT, planning and execution as `pg_stat_statements` has them on PostgreSQL, and on SQLite, which has no
//! such thing, the calls by the clock. The one statement in it that reads linkages, registers and records is told beside it.
//! Everything is warm. By itself this is a small share that checks what is found and how it is searched for, and asserts no
//! timing; `KOSEKI_SOAK=1` is the stated size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

mod plan;
mod population;
mod timed;

use std::env;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use timed::Timed;

/// Persons in the small and the large database, in the share that every run has and at the stated size.
const FEW: [usize; 2] = [1_000, 10_000];
const MANY: [usize; 2] = [10_000, 1_000_000];
/// Look-ups in a batch.
const BATCH: usize = 64;
/// Batches of each database before anything is measured, in a round, and rounds.
const WARM_UP: usize = 2_000;
const BATCHES: usize = 50;
const ROUNDS: usize = 21;
/// The large database's time at most, as a multiple of the small one's, on PostgreSQL.
const AT_MOST: f64 = 1.3;

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_takes_no_longer_in_a_large_register() {
    let seed = match env::var("KOSEKI_SEED") {
        Ok(seed) => seed.parse().expect("KOSEKI_SEED is a number"),
        Err(_) => rand::random::<u64>(),
    };
    let soak = env::var("KOSEKI_SOAK").is_ok_and(|value| value == "1");
    let sizes = if soak { MANY } else { FEW };
    let (warm_up, batches, rounds) = if soak {
        (WARM_UP, BATCHES, ROUNDS)
    } else {
        (20, 5, 3)
    };
    println!("seed {seed} (KOSEKI_SEED repeats it), {sizes:?} persons");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);

    let mut figures = Map::new();
    for engine in ["postgres", "sqlite"] {
        let cluster = match engine {
            "postgres" => Some(timed::cluster(soak).await),
            _ => None,
        };
        let mut databases = Vec::new();
        for persons in sizes {
            databases.push(Timed::prepare(seed, persons, cluster.as_ref()).await);
        }
        for database in &mut databases {
            for _ in 0..warm_up {
                database.look_up(&mut rng, BATCH).await;
            }
        }
        let (mut reads, mut releases) = (Compared::default(), Compared::default());
        for _ in 0..rounds {
            for (at, database) in databases.iter_mut().enumerate() {
                database.begin_round().await;
                for _ in 0..batches {
                    database.look_up(&mut rng, BATCH).await;
                }
                let taken = database.in_round().await;
                reads.ms[at].push(taken.read_ms / batches as f64);
                releases.ms[at].push(taken.release_ms / batches as f64);
            }
        }
        let found = json!({"read": reads.to_json(), "release": releases.to_json()});
        println!("{engine}: {found:#}");
        for database in &mut databases {
            if let Some((found, fetched)) = database.pages().await {
                let batches = (warm_up + batches * rounds) as i64;
                println!(
                    "pages in a batch: {} in memory, {} fetched",
                    found / batches,
                    fetched / batches
                );
            }
        }
        figures.insert(engine.to_owned(), found);
        // Of a thousand persons a whole table is quickly read, and that may be the better plan.
        databases.pop().unwrap().check_plan().await;
    }
    figures.insert("seed".to_owned(), seed.into());
    figures.insert("persons".to_owned(), sizes.to_vec().into());
    figures.insert("batch".to_owned(), BATCH.into());
    figures.insert("batches".to_owned(), (batches * rounds).into());
    let ratio = figures["postgres"]["release"]["large_to_small"].as_f64().unwrap();
    if let Ok(file) = env::var("KOSEKI_SOAK_FIGURES") {
        std::fs::write(file, format!("{:#}\n", Value::from(figures))).unwrap();
    }
    assert!(
        !soak || ratio <= AT_MOST,
        "{ratio} times as long in the large database"
    );
}

/// Milliseconds for a batch in the small and in the large database, by round.
#[derive(Default)]
struct Compared {
    ms: [Vec<f64>; 2],
}

impl Compared {
    fn to_json(&self) -> Value {
        let [small, large] = &self.ms;
        let ratios = small.iter().zip(large).map(|(small, large)| large / small);
        json!({
            "ms_per_batch_small": round(median(small.clone())),
            "ms_per_batch_large": round(median(large.clone())),
            "large_to_small": round(median(ratios.collect())),
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

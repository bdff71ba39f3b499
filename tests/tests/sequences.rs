//! A gateway's sequence number is used once, whatever comes after what (DESIGN §5), in both ways in which a release is recorded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::HashSet;

use common::{
    clock::Clock as _,
    evidence::ordinary_act,
    store::StoreError,
    terms::{LinkageCode, RequestId},
};
use devkit::client::Ids;
use integration_tests::{Pair, identity};
use koseki_provider::store::{LookUp, ReleaseTx, Sequence};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How many numbers below the highest are told apart.
const WINDOW: i64 = 62;

/// Numbers that go ahead, back, far ahead and below the window, and some again: each is fresh at most once, and within the window
/// always once.
#[tokio::test]
async fn each_number_is_used_once() {
    let pair = Pair::start().await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut highest, mut used) = (0_i64, HashSet::new());
    let mut below = 0;
    for step in 0..600 {
        let number = (highest + rng.random_range(-80..=if step % 20 == 0 { 100 } else { 4 })).max(1);
        let fresh = use_number(&pair, number, step % 2 == 0).await;
        if fresh {
            assert!(used.insert(number), "{number} twice");
            assert!(number >= highest - WINDOW, "{number} below {highest}");
            highest = highest.max(number);
        } else {
            let is_below = number < highest - WINDOW;
            below += usize::from(is_below);
            assert!(
                is_below || used.contains(&number),
                "{number} refused at {highest}"
            );
        }
    }
    assert!(
        used.len() > 150 && below > 20,
        "{} used, {below} below",
        used.len()
    );
}

/// Whether it was fresh.
async fn use_number(pair: &Pair, number: i64, at_once: bool) -> bool {
    let store = &pair.registry_store;
    let now = pair.clock.now();
    let begun = if at_once { store.enter_at_once() } else { None };
    let is_at_once = begun.is_some();
    let mut tx: Box<dyn ReleaseTx + '_> = match begun {
        Some(tx) => tx,
        None => store.enter().await.unwrap(),
    };
    let nobody = LookUp {
        handle: LinkageCode::random().unwrap().handle(),
        closed_registers: false,
    };
    tx.read(&[nobody], now).await.unwrap();
    let sequence = Sequence {
        gateway: "gateway-1".to_owned(),
        number: number.unsigned_abs(),
    };
    let told = tx.use_sequences(&[sequence]).await.unwrap();
    if !told[0] {
        return false;
    }
    let id = RequestId::parse(&Ids::new(pair.clock.clone()).next(), now).unwrap();
    tx.use_request_ids(&[id]).await.unwrap();
    let entry = ordinary_act("TEST", &identity("operator/alice"), 0, None, "");
    match tx.commit(vec![entry], vec![[0; 32]], now).await {
        Ok(_) => true,
        // Something else may have been appended meanwhile; then it is told step by step.
        Err(StoreError::Moved) if is_at_once => Box::pin(use_number(pair, number, false)).await,
        Err(error) => panic!("{error:?}"),
    }
}

//! The data set held against the documents that describe it.

mod crowd;
mod format;
mod outcomes;

use std::{collections::BTreeSet, sync::OnceLock};

use super::{DataSet, Scenario, ScenarioCards};
use crate::card::CardRoot;

const SEED: u64 = 20_261_001;

/// The cards, made once: the same cards are what makes two sets comparable.
fn cards() -> &'static ScenarioCards {
    static CARDS: OnceLock<ScenarioCards> = OnceLock::new();
    CARDS.get_or_init(|| ScenarioCards::create(&CardRoot::new().unwrap()).unwrap())
}

/// A set large enough for everything rare to occur.
fn large() -> &'static DataSet {
    static LARGE: OnceLock<DataSet> = OnceLock::new();
    LARGE.get_or_init(|| DataSet::generate(SEED, 3_000, cards()).unwrap())
}

/// A document of the repository.
fn document(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/").to_owned() + name;
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name} cannot be read: {error}"))
}

/// The keys are kept for all casts of a process: still each card of a cast has its own.
#[test]
fn no_two_cards_of_a_cast_share_a_key() {
    let keys: BTreeSet<_> = Scenario::ALL
        .iter()
        .map(|scenario| cards().card(*scenario).unwrap().public_key_sha256)
        .collect();
    assert_eq!(keys.len(), Scenario::ALL.len());
}

//! The scenario persons' cards.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rcgen::KeyPair;

use super::{DataError, Scenario};
use crate::card::{CardError, CardKeyType, CardProfile, CardRoot, VirtualCard};

/// Where the cards' files are, from the data set's directory.
pub(super) const CARD_DIRECTORY: &str = "cards";

/// One card for each scenario person.
#[derive(Debug)]
pub struct ScenarioCards {
    cards: BTreeMap<Scenario, VirtualCard>,
}

impl ScenarioCards {
    /// Makes the cards, on as many threads as the machine has processors: an RSA key takes its time.
    ///
    /// # Errors
    /// When a card cannot be made.
    pub fn create(root: &CardRoot) -> Result<Self, DataError> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let share = Scenario::ALL.len().div_ceil(threads);
        let made = thread::scope(|scope| {
            let workers: Vec<_> = Scenario::ALL
                .chunks(share)
                .map(|scenarios| {
                    scope.spawn(move || {
                        scenarios
                            .iter()
                            .map(|scenario| Ok((*scenario, issue(root, *scenario)?)))
                            .collect()
                    })
                })
                .collect();
            let mut made: Vec<(Scenario, VirtualCard)> = Vec::new();
            for worker in workers {
                let cards: Result<Vec<_>, DataError> = worker.join().map_err(|_| DataError::Thread)?;
                made.extend(cards?);
            }
            Ok::<_, DataError>(made)
        })?;
        Ok(Self {
            cards: made.into_iter().collect(),
        })
    }

    /// The card of a scenario person.
    ///
    /// # Errors
    /// When there is none, which does not happen to what [`ScenarioCards::create`] made.
    pub fn card(&self, scenario: Scenario) -> Result<&VirtualCard, DataError> {
        self.cards
            .get(&scenario)
            .ok_or(DataError::NoCard(scenario.name()))
    }

    /// Serials that the revocation list has to name.
    pub fn revoked_serials(&self) -> Vec<Vec<u8>> {
        self.cards
            .get(&Scenario::RevokedCard)
            .map(|card| card.serial.clone())
            .into_iter()
            .collect()
    }

    /// Writes `cards/<name>.pem` and, mode 0600, `cards/<name>-key.pem` for each.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path) -> Result<(), DataError> {
        let directory = directory.join(CARD_DIRECTORY);
        for (scenario, card) in &self.cards {
            card.write_to(&directory, scenario.name())?;
        }
        Ok(())
    }
}

/// The keys, one for each scenario, kept for all casts of a process: a key takes a tenth of a second of a processor, which
/// was most of what starting both services for a test cost. No two cards of a cast share one.
static KEYS: [Mutex<Option<String>>; Scenario::ALL.len()] = [const { Mutex::new(None) }; Scenario::ALL.len()];

fn key_of_card(number: usize, key_type: CardKeyType) -> Result<KeyPair, CardError> {
    let Some(kept) = KEYS.get(number) else {
        return Ok(key_type.new_key()?);
    };
    // What is kept is whole, or is not there.
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pem) = &*kept {
        return Ok(KeyPair::from_pem(pem)?);
    }
    let key = key_type.new_key()?;
    *kept = Some(key.serialize_pem());
    Ok(key)
}

fn issue(root: &CardRoot, scenario: Scenario) -> Result<VirtualCard, DataError> {
    let number = Scenario::ALL
        .iter()
        .position(|other| *other == scenario)
        .unwrap_or_default();
    let profile = CardProfile::user_authentication(&format!("{number:016}"));
    let profile = if scenario == Scenario::ExpiredCard {
        profile.expired()
    } else {
        profile
    };
    let key = key_of_card(number, profile.key_type)?;
    Ok(root.issue_for(&profile, key)?)
}

//! Asking again and again, and what the latencies tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use common::clock::{Clock as _, SystemClock};
use devkit::client::CallError;
use integration_tests::timing::{auc, band};
use rand::{Rng as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::causes::{KIND, PROCEDURE, Stage};

/// When somebody comes again who was refused for overload.
const COME_AGAIN: Duration = Duration::from_secs(1);
/// An area from which on a difference counts as found.
const EFFECT: f64 = 0.6;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Samples of each cause.
    pub(crate) samples: usize,
    /// Requests at the same time at most.
    pub(crate) at_once: usize,
    /// Requests begin at a moment of their own within this: batches form and end at moments that have nothing to do with them.
    pub(crate) phase: Duration,
}

/// Latencies of each cause, and what came back.
pub(crate) struct Measured {
    took: Vec<(&'static str, Vec<Duration>)>,
    reasons: BTreeMap<String, usize>,
    /// Bytes that came back for each reason.
    wires: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

/// How well the latencies tell one cause from another.
pub(crate) struct Told {
    one: &'static str,
    other: &'static str,
    /// Probability that one takes longer than the other.
    area: f64,
    /// How far from 0.5 that may be where they do not differ.
    band: f64,
}

/// Asks for every cause so many times, all causes in turn, in an order of its own each time.
pub(crate) async fn run(stage: &Stage, size: Size, seed: u64) -> Measured {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let places = Arc::new(Semaphore::new(size.at_once));
    let clock = Arc::new(SystemClock::new());
    let mut asked = JoinSet::new();
    for round in 0..size.samples {
        let mut order: Vec<usize> = (0..stage.causes.len()).collect();
        order.shuffle(&mut rng);
        for cause in order {
            let place = places.clone().acquire_owned().await.unwrap();
            let sessions = &stage.causes[cause].sessions;
            let session = sessions[round % sessions.len()].clone();
            let clock = clock.clone();
            let (frontend, phase) = (stage.frontend.clone(), size.phase.mul_f64(rng.random()));
            asked.spawn(async move {
                sleep(phase).await;
                let begun = clock.monotonic();
                let came = frontend.copy_info(&session, KIND, PROCEDURE).await;
                let took = clock.monotonic() - begun;
                let CallError::Refused(refused) = came.unwrap_err() else {
                    panic!("no answer")
                };
                if refused.reason == "OVERLOADED" {
                    // Whoever is told to come again later does.
                    sleep(COME_AGAIN).await;
                }
                drop(place);
                (cause, took, refused)
            });
        }
    }
    let mut measured = Measured {
        took: stage
            .causes
            .iter()
            .map(|cause| (cause.name, Vec::new()))
            .collect(),
        reasons: BTreeMap::new(),
        wires: BTreeMap::new(),
    };
    while let Some(done) = asked.join_next().await {
        let (cause, took, refused) = done.unwrap();
        measured.took[cause].1.push(took);
        *measured.reasons.entry(refused.reason.clone()).or_default() += 1;
        measured
            .wires
            .entry(refused.reason)
            .or_default()
            .insert(refused.wire);
    }
    measured
}

impl Measured {
    /// Checks that all came back with one reason, but for what a busy machine did not decide in time: few, and UNAVAILABLE.
    pub(crate) fn all_are(&self, reason: &str) {
        assert!(self.share_of(reason) >= 0.95, "{self}");
        let others = self.reasons.keys().filter(|other| *other != reason);
        assert!(others.into_iter().all(|other| other == "UNAVAILABLE"), "{self}");
    }

    /// Which part of all came back with a reason.
    pub(crate) fn share_of(&self, reason: &str) -> f64 {
        let all: usize = self.reasons.values().sum();
        let these = self.reasons.get(reason).copied().unwrap_or_default();
        f64::from(u32::try_from(these).unwrap()) / f64::from(u32::try_from(all).unwrap())
    }

    fn pairs(&self) -> impl Iterator<Item = Told> {
        let pairs = self.took.iter().enumerate().flat_map(|(at, one)| {
            let others = self.took.iter().skip(at + 1);
            others.map(move |other| (one, other))
        });
        pairs.map(|(one, other)| Told::of(one, other))
    }

    /// How well one named cause is told from another.
    pub(crate) fn pair(&self, one: &str, other: &str) -> Told {
        let took = |name| self.took.iter().find(|(cause, _)| *cause == name).unwrap();
        Told::of(took(one), took(other))
    }

    /// The area of the pair that is told apart best, from 0.5 to 1.
    fn most(&self) -> f64 {
        self.pairs()
            .map(|told| told.area.max(1.0 - told.area))
            .fold(0.5, f64::max)
    }

    /// Checks that the same reason has the same bytes, and that no latency tells one cause from another.
    pub(crate) fn cannot_be_told_apart(&self, what: &str) {
        for (reason, wires) in &self.wires {
            assert_eq!(wires.len(), 1, "{what}: {reason} has several forms");
        }
        for told in self.pairs() {
            assert!(told.is_within_band(), "{what}: {told}; {self}");
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let samples = self.took.iter().map(|(_, took)| took.len()).min();
        json!({ "samples": samples, "reasons": self.reasons, "worst_auc": self.most() })
    }
}

impl Told {
    fn of(
        (one, first): &(&'static str, Vec<Duration>),
        (other, second): &(&'static str, Vec<Duration>),
    ) -> Self {
        Self {
            one,
            other,
            area: auc(first, second),
            band: band(first.len(), second.len()),
        }
    }

    /// Whether chance explains what there is of a difference, and there is little of it.
    pub(crate) fn is_within_band(&self) -> bool {
        (self.area - 0.5).abs() <= self.band
    }

    /// Whether one takes longer than the other, and by more than chance explains.
    pub(crate) fn is_effect(&self) -> bool {
        self.area >= EFFECT && self.area >= 0.5 + self.band
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "longer": self.one, "than": self.other, "auc": self.area })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            one,
            other,
            area,
            band,
        } = self;
        write!(
            f,
            "{one} against {other}: AUC {area:.3}, by chance 0.5 ± {band:.3}"
        )
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, worst AUC {:.3}; medians", self.reasons, self.most())?;
        for (name, took) in &self.took {
            let mut took = took.clone();
            took.sort_unstable();
            write!(f, " {name} {:?},", took[took.len() / 2])?;
        }
        Ok(())
    }
}

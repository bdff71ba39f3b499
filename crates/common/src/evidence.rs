//! What is recorded before it is released (I2; DESIGN §5): entries of the audit log, and the proof of their commit.

mod checkpoint;
mod entry;
mod keys;
mod receipt;
mod tree;

use std::time::Duration;

pub use checkpoint::{
    Checkpoint, MAX_NOTE_BYTES, NoteFault, countersign, is_countersigned, with_countersignature,
};
pub use entry::{
    GuardActEntry, LostAnswerEntry, NewEntry, ProvisionEntry, of_call, of_operator, ordinary_act, with_cards,
};
pub use keys::{
    EvidenceConfig, EvidenceKeys, LogKeys, NoteAlgorithm, NoteKey, origin, receipt_key_name, verifier_key,
    witness_name,
};
pub use koseki_proto::koseki::evidence::v1::Outcome;
pub use receipt::{ReceiptSigner, Salt, answer_sha256, new_salt, open_receipt};
pub use tree::{Frontier, HASH_BYTES};

use crate::clock::Clock;

/// A side's count of forbidding acts. A release carries the epoch under which it committed: an act of epoch *e* forbids
/// every release of an epoch at or above *e* that it is about (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// That a bundle is durable: only the commit of a transaction that appended it makes one. It cannot be cloned, defaulted
/// or deserialised, so there is no answer without an entry.
///
/// ```compile_fail
/// let committed = common::evidence::Committed { epoch: common::evidence::Epoch(0), bundle: 0 };
/// ```
#[derive(Debug)]
#[must_use = "an answer takes it"]
pub struct Committed {
    epoch: Epoch,
    bundle: u64,
}

impl Committed {
    pub(crate) fn new(epoch: Epoch, bundle: u64) -> Self {
        Self { epoch, bundle }
    }

    /// The bundle's number in the log.
    pub fn bundle(&self) -> u64 {
        self.bundle
    }

    /// The epoch under which the bundle was committed; for a forbidding act the one that it made.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// An answer whose entry is durable. Encoding an answer takes one.
///
/// ```compile_fail
/// fn forge<T: Clone>(answer: &common::evidence::Released<T>) -> common::evidence::Released<T> { answer.clone() }
/// ```
#[derive(Debug)]
pub struct Released<T> {
    answer: T,
    at: Duration,
}

/// A committed answer was not handed on in time and is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld;

impl<T> Released<T> {
    /// Joins an answer to the commit of its entry. `decided_at` is when the guards were judged, by the monotonic clock: a
    /// commit that takes long takes it from the time that is left.
    pub fn new(answer: T, _: Committed, decided_at: Duration) -> Self {
        Self {
            answer,
            at: decided_at,
        }
    }

    /// Hands the answer to the transport, unless more than `max_hand_off` has passed since it was decided, which is no
    /// later than its commit (I3).
    pub fn hand_off(self, clock: &dyn Clock, max_hand_off: Duration) -> Result<T, Withheld> {
        if clock.monotonic().saturating_sub(self.at) <= max_hand_off {
            Ok(self.answer)
        } else {
            Err(Withheld)
        }
    }
}

impl<T> Released<Vec<T>> {
    /// Joins released answers to one: it is as old as the oldest of them.
    pub fn gather(released: impl Iterator<Item = Released<T>>) -> Self {
        let mut gathered = Released {
            answer: Vec::new(),
            at: Duration::MAX,
        };
        for one in released {
            gathered.at = gathered.at.min(one.at);
            gathered.answer.push(one.answer);
        }
        gathered
    }

    /// The released answers of a batch, each on its own.
    pub fn each(self) -> impl Iterator<Item = Released<T>> {
        let at = self.at;
        self.answer.into_iter().map(move |answer| Released { answer, at })
    }
}

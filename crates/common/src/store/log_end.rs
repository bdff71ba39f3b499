//! The end of a log, and the bundle that goes there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use koseki_proto::koseki::evidence::v1::Bundle;
use prost::Message as _;

use super::{StoreError, query::Value};
use crate::{
    clock::Timestamp,
    evidence::{Epoch, Frontier, HASH_BYTES, NewEntry, Salt},
    sealing::{Place, Sealer},
};

/// Where the next bundle of a log goes.
#[derive(Clone)]
pub(super) struct LogEnd {
    pub(super) frontier: Frontier,
    pub(super) bundles: i64,
}

/// What is known of the end of the log that this process writes: what its last commit made of it. Whoever believes it appends on the
/// condition that it is so, and reads it where it is not known.
#[derive(Clone, Default)]
pub(super) struct KnownEnd(Arc<Mutex<Option<LogEnd>>>);

impl KnownEnd {
    fn end(&self) -> MutexGuard<'_, Option<LogEnd>> {
        // Each change leaves it whole: a panic elsewhere does, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> Option<LogEnd> {
        self.end().clone()
    }

    /// A commit has moved it there. Another one may have moved it on since.
    pub(super) fn moved(&self, to: LogEnd) {
        let mut end = self.end();
        if end.as_ref().is_none_or(|end| end.bundles < to.bundles) {
            *end = Some(to);
        }
    }

    /// It is not known any more.
    pub(super) fn forget(&self) {
        *self.end() = None;
    }
}

/// What is appended.
pub(super) struct Appended<'a> {
    /// At least one entry.
    pub(super) entries: Vec<NewEntry>,
    /// What is kept beside the bundle, sealed: the salts of a release's answers.
    pub(super) kept: Option<(&'a Sealer, &'a [Salt])>,
    /// When.
    pub(super) at: Timestamp,
}

/// A bundle that is to be appended at the end of a log.
pub(super) struct NewBundle {
    /// The columns of its row and of the head's, by name: `log`, `generation`, `before`, `size`, `frontier`, `number`, `epoch`, `body`,
    /// `hashes`, `sealed`.
    pub(super) columns: Vec<(&'static str, Value)>,
    pub(super) epoch: Epoch,
    pub(super) number: u64,
    /// The end after it.
    pub(super) end: LogEnd,
}

impl NewBundle {
    pub(super) fn new(
        log: &str,
        generation: i64,
        epoch: i64,
        end: LogEnd,
        appended: Appended<'_>,
    ) -> Result<Self, StoreError> {
        let Appended { entries, kept, at } = appended;
        if entries.is_empty() {
            return Err(StoreError::Unreadable("a bundle without entries"));
        }
        let number = end.bundles;
        let first_index = end.frontier.size();
        let mut frontier = end.frontier;
        let mut hashes = Vec::with_capacity(entries.len() * 2 * HASH_BYTES);
        let mut bundle = Bundle {
            log: log.to_owned(),
            first_index,
            epoch: epoch.unsigned_abs(),
            at: Some(at.to_proto()),
            entries: Vec::with_capacity(entries.len()),
        };
        for entry in entries {
            let (entry, leaf) = entry
                .into_stored(Epoch(bundle.epoch), at)
                .map_err(|_| StoreError::Unreadable("the system's random source"))?;
            frontier.append(&leaf, &mut hashes);
            bundle.entries.push(entry);
        }
        let sealed = kept
            .map(|(sealer, salts)| {
                let row = [log.as_bytes(), &number.to_be_bytes()].concat();
                sealer.seal(kept_place(&row), salts.as_flattened())
            })
            .transpose()?;
        let size = |size: u64| i64::try_from(size).map_err(|_| StoreError::Unreadable("the size of the log"));
        Ok(Self {
            columns: vec![
                ("log", log.into()),
                ("generation", generation.into()),
                ("before", size(first_index)?.into()),
                ("size", size(frontier.size())?.into()),
                ("frontier", frontier.to_bytes().into()),
                ("number", number.into()),
                ("epoch", epoch.into()),
                ("body", bundle.encode_to_vec().into()),
                ("hashes", hashes.into()),
                ("sealed", sealed.into()),
            ],
            epoch: Epoch(bundle.epoch),
            number: number.unsigned_abs(),
            end: LogEnd {
                frontier,
                bundles: number + 1,
            },
        })
    }
}

/// Where what is kept beside a bundle's entries stands; `row` is the log's name and the bundle's number, 8 bytes.
pub(super) fn kept_place(row: &[u8]) -> Place<'_> {
    Place {
        column: "bundle.sealed",
        row,
        revision: 0,
    }
}

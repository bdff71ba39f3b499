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

/// What is appended, under one epoch.
pub(super) struct NewBundle {
    bundle: Bundle,
    leaves: Vec<Vec<u8>>,
}

/// A place for it: the columns of its row and of the head's, by name (`log`, `generation`, `before`, `size`, `frontier`, `number`,
/// `epoch`, `body`, `hashes`, `sealed`), and the end after it.
pub(super) struct Placed {
    pub(super) columns: Vec<(&'static str, Value)>,
    pub(super) end: LogEnd,
}

impl NewBundle {
    /// At least one entry.
    pub(super) fn new(
        log: &str,
        epoch: Epoch,
        entries: Vec<NewEntry>,
        at: Timestamp,
    ) -> Result<Self, StoreError> {
        if entries.is_empty() {
            return Err(StoreError::Unreadable("a bundle without entries"));
        }
        let stored: Result<Vec<_>, _> = entries
            .into_iter()
            .map(|entry| entry.into_stored(epoch, at))
            .collect();
        let stored = stored.map_err(|_| StoreError::Unreadable("the system's random source"))?;
        let (entries, leaves) = stored.into_iter().unzip();
        Ok(Self {
            bundle: Bundle {
                log: log.to_owned(),
                first_index: 0,
                epoch: epoch.0,
                at: Some(at.to_proto()),
                entries,
            },
            leaves,
        })
    }

    /// Places it at the end of the log. `kept` are the salts of a release's answers: they are kept beside it, sealed.
    pub(super) fn place(
        mut self,
        end: LogEnd,
        generation: i64,
        kept: Option<(&Sealer, &[Salt])>,
    ) -> Result<Placed, StoreError> {
        let bundle = &mut self.bundle;
        let number = end.bundles;
        bundle.first_index = end.frontier.size();
        let mut frontier = end.frontier;
        let mut hashes = Vec::with_capacity(self.leaves.len() * 2 * HASH_BYTES);
        for leaf in &self.leaves {
            frontier.append(leaf, &mut hashes);
        }
        let sealed = kept
            .map(|(sealer, salts)| {
                let row = [bundle.log.as_bytes(), &number.to_be_bytes()].concat();
                sealer.seal(kept_place(&row), salts.as_flattened())
            })
            .transpose()?;
        let int = |int: u64| i64::try_from(int).map_err(|_| StoreError::Unreadable("the size of the log"));
        Ok(Placed {
            columns: vec![
                ("log", bundle.log.as_str().into()),
                ("generation", generation.into()),
                ("before", int(bundle.first_index)?.into()),
                ("size", int(frontier.size())?.into()),
                ("frontier", frontier.to_bytes().into()),
                ("number", number.into()),
                ("epoch", int(bundle.epoch)?.into()),
                ("body", bundle.encode_to_vec().into()),
                ("hashes", hashes.into()),
                ("sealed", sealed.into()),
            ],
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

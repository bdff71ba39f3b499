//! What requesters have closed here of late, by the epoch that each batch of it made. A release that was admitted under an earlier
//! epoch still stands under a later one when each epoch between is one of these, and none of them has closed what it stands on. Acts of
//! operators and of other instances are not among them: after one of those a release reads again.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use common::evidence::Epoch;

use super::GuardsRead;
use crate::provision::Asked;

/// More than are made while a release is on its way.
const EPOCHS: usize = 256;

/// What one epoch has closed.
pub(super) struct ClosedBy {
    pub(super) epoch: Epoch,
    /// By the hashes of their tokens.
    pub(super) sessions: HashSet<[u8; 32]>,
    pub(super) consents: HashSet<[u8; 16]>,
}

/// The newest of them, in the order of their epochs.
#[derive(Default)]
pub(super) struct RecentClosings(Mutex<VecDeque<ClosedBy>>);

impl RecentClosings {
    /// Takes note of one that is committed.
    pub(super) fn note(&self, closed: ClosedBy) {
        let mut all = self.all();
        // Two batches may come here in another order than they were committed in.
        let place = all.partition_point(|other| other.epoch < closed.epoch);
        all.insert(place, closed);
        if all.len() > EPOCHS {
            all.pop_front();
        }
    }

    /// The newest epoch under which these requests stand as they stood when they were read; none when something that they stand on was
    /// closed since.
    pub(super) fn epoch_for(&self, asked: &[Asked], read: &GuardsRead) -> Option<Epoch> {
        let all = self.all();
        let mut epoch = read.facts.epoch();
        let later = all.partition_point(|closed| closed.epoch <= epoch);
        for closed in all.range(later..) {
            if closed.epoch.0 != epoch.0 + 1 {
                // Somebody else has made the one between: whether it is known to the database already shows there.
                break;
            }
            let is_closed = asked.iter().zip(&read.guards).any(|(asked, guards)| {
                closed.sessions.contains(&asked.session)
                    || guards
                        .consents
                        .iter()
                        .any(|consent| closed.consents.contains(consent.id.as_bytes()))
            });
            if is_closed {
                return None;
            }
            epoch = closed.epoch;
        }
        Some(epoch)
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<ClosedBy>> {
        // Each change is one insertion or removal: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

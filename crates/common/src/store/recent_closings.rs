//! What requesters have closed through this process of late, by the epoch that each batch of it made. What was read under an earlier
//! epoch still stands under a later one when each epoch between is one of these, and none of them has closed what it stands on. Acts of
//! operators and of other instances are not among them: after one of those it is read again.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use crate::evidence::Epoch;

/// More than are made while a release is on its way.
const EPOCHS: usize = 256;

/// What is closed, or what something stands on: the hashes of sessions' tokens, the ids of consents.
pub type ClosingKeys = HashSet<Vec<u8>>;

/// The newest closings, in the order of their epochs.
#[derive(Clone, Default)]
pub(super) struct RecentClosings(Arc<Mutex<VecDeque<(Epoch, ClosingKeys)>>>);

impl RecentClosings {
    /// Takes note of what was closed under an epoch.
    pub(super) fn note(&self, epoch: Epoch, closed: ClosingKeys) {
        // Each change is one insertion or removal: a panic elsewhere leaves it whole.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Two may come here in another order than they were committed in.
        let place = all.partition_point(|(other, _)| *other < epoch);
        all.insert(place, (epoch, closed));
        if all.len() > EPOCHS {
            all.pop_front();
        }
    }

    /// The newest epoch under which what was read under this one still stands; none when something that it stands on was closed since.
    pub(super) fn epoch_after(&self, read: Epoch, stands_on: &ClosingKeys) -> Option<Epoch> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut epoch = read;
        let later = all.partition_point(|(closed, _)| *closed <= read);
        for (next, closed) in all.range(later..) {
            if next.0 != epoch.0 + 1 {
                // Somebody else has made the one between: the database knows it.
                break;
            }
            if !closed.is_disjoint(stands_on) {
                return None;
            }
            epoch = *next;
        }
        Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[u8]) -> ClosingKeys {
        keys.iter().map(|key| vec![*key; 32]).collect()
    }

    #[test]
    fn an_epoch_is_gone_over_only_when_it_is_known_and_closes_nothing_of_it() {
        let recent = RecentClosings::default();
        let after = |read, on: &[u8]| recent.epoch_after(Epoch(read), &keys(on)).map(|epoch| epoch.0);
        assert_eq!(after(7, &[1]), Some(7));
        recent.note(Epoch(9), keys(&[3]));
        assert_eq!(after(7, &[1]), Some(7), "what 8 has closed is not known");
        recent.note(Epoch(8), keys(&[1, 2]));
        // Somebody else has made 10.
        recent.note(Epoch(11), keys(&[4]));
        assert_eq!(after(7, &[5]), Some(9));
        assert_eq!(after(7, &[5, 2]), None);
        assert_eq!(after(7, &[3]), None);
        assert_eq!(
            after(8, &[1, 2]),
            Some(9),
            "what was read after it was closed has read that"
        );
        assert_eq!(after(9, &[4]), Some(9));
        assert_eq!(after(10, &[5]), Some(11));
        assert_eq!(after(11, &[4]), Some(11));
        for epoch in 12..12 + 300 {
            recent.note(Epoch(epoch), keys(&[6]));
        }
        assert_eq!(after(12, &[5]), Some(12), "too many have come since");
    }
}

//! The feed as an instance has it: the linkages' entries, and padding up to a power of two.

use std::{collections::VecDeque, sync::Arc};

use common::{
    clock::Timestamp,
    digest::RandomFailed,
    feed::{Entries, Entry, MAX_ENTRIES, MIN_ENTRIES, Series},
    keyring::FeedKey,
    terms::LinkageHandle,
};

/// Changes that are kept for streams that have not sent them yet; one further behind begins with a snapshot again.
const KEPT: usize = 64;

/// A change of the feed.
pub(super) struct Change {
    /// Number of the state that it changes.
    pub(super) after: u64,
    /// Number of the state that it leads to.
    pub(super) sequence: u64,
    /// Entries that come, in order.
    pub(super) added: Vec<Entry>,
    /// Entries that go, in order.
    pub(super) removed: Vec<Entry>,
}

/// A state of the feed. Clones share what is large.
#[derive(Clone)]
pub struct Feed {
    pub(super) series: Arc<Series>,
    pub(super) entries: Arc<Entries>,
    /// Number of the last change that is in it.
    pub(super) sequence: u64,
    /// When it was known to be the database's state.
    pub(super) as_of: Timestamp,
    /// How many of the entries are linkages'.
    own: usize,
    /// Numbers of the padding that is in it: from the first, up to but without the second. What was taken out never comes back:
    /// it would show that it leads to nobody.
    padding: (u64, u64),
    changes: VecDeque<Arc<Change>>,
}

/// Why there is no next state.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    /// The padding is used up: a new series is due, of twice the size.
    #[error("the series has become too small")]
    SeriesFull,
    /// There are more linkages than a feed can hold.
    #[error("more than 2,097,152 linkages are stopped altogether: no feed is served")]
    TooMany,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

impl Feed {
    /// The first state of a new series.
    pub(super) fn begin(
        key: &FeedKey,
        handles: impl Iterator<Item = LinkageHandle>,
        sequence: u64,
        as_of: Timestamp,
    ) -> Result<Self, FeedError> {
        let series = Series::begin(key)?;
        let mut entries: Vec<Entry> = handles.map(|handle| series.key().entry(&handle)).collect();
        let own = entries.len();
        let size = own.next_power_of_two().max(MIN_ENTRIES);
        if size > MAX_ENTRIES {
            return Err(FeedError::TooMany);
        }
        let padding = (0, u64::try_from(size - own).unwrap_or(0));
        entries.extend((padding.0..padding.1).map(|number| series.padding(number)));
        Ok(Self {
            series: Arc::new(series),
            entries: Arc::new(Entries::from_unsorted(entries)),
            sequence,
            as_of,
            own,
            padding,
            changes: VecDeque::new(),
        })
    }

    /// Takes changes in up to a number: linkages that are stopped or not. Some may be so already.
    pub(super) fn change(
        &self,
        linkages: &[(LinkageHandle, bool)],
        sequence: u64,
    ) -> Result<Self, FeedError> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (handle, stopped) in linkages {
            let entry = self.series.key().entry(handle);
            match (stopped, self.entries.contains(&entry)) {
                (true, false) => added.push(entry),
                (false, true) => removed.push(entry),
                (true, true) | (false, false) => {}
            }
        }
        let own = (self.own + added.len())
            .checked_sub(removed.len())
            .filter(|own| *own <= self.entries.len())
            .ok_or(FeedError::SeriesFull)?;
        // As many go as come: a change does not show which of the two it was.
        let (mut first, mut next) = self.padding;
        while added.len() < removed.len() {
            added.push(self.series.padding(next));
            next += 1;
        }
        while removed.len() < added.len() {
            removed.push(self.series.padding(first));
            first += 1;
        }
        added.sort_unstable();
        removed.sort_unstable();
        // It always fits; if it did not, a new series would put it right.
        let entries = self
            .entries
            .changed(&added, &removed)
            .ok_or(FeedError::SeriesFull)?;
        let change = Change {
            after: self.sequence,
            sequence,
            added,
            removed,
        };
        let mut changes = self.changes.clone();
        changes.push_back(Arc::new(change));
        if changes.len() > KEPT {
            changes.pop_front();
        }
        Ok(Self {
            series: self.series.clone(),
            entries: Arc::new(entries),
            sequence,
            as_of: self.as_of,
            own,
            padding: (first, next),
            changes,
        })
    }

    /// The changes after a state of the same series; `None` when they are not kept any more.
    pub(super) fn changes_after(&self, sequence: u64) -> Option<Vec<Arc<Change>>> {
        if sequence == self.sequence {
            return Some(Vec::new());
        }
        let first = self.changes.iter().position(|change| change.after == sequence)?;
        Some(self.changes.iter().skip(first).cloned().collect())
    }

    /// Whether this is a state of the same series as another.
    pub(super) fn is_of(&self, series: &Arc<Series>) -> bool {
        Arc::ptr_eq(&self.series, series)
    }
}

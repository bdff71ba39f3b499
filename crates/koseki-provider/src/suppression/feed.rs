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

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeSet, io::Write as _, os::unix::fs::OpenOptionsExt as _};

    use common::keyring::Keyring;

    use super::*;

    fn feed_key() -> FeedKey {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.toml");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).write(true).mode(0o600).open(&path).unwrap();
        for (number, purpose) in ["sealing", "lookup", "pseudonym", "feed"].iter().enumerate() {
            let key = format!("{number:02x}").repeat(32);
            writeln!(file, "[[{purpose}]]\nid = \"1\"\nkey = \"{key}\"").unwrap();
        }
        Keyring::load(&path).unwrap().feed.unwrap()
    }

    fn handle(number: usize) -> LinkageHandle {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        LinkageHandle::from_bytes(bytes)
    }

    pub(in super::super) fn begin(count: usize) -> Feed {
        let now = Timestamp::from_unix_ms(0);
        Feed::begin(&feed_key(), (0..count).map(handle), 7, now).unwrap()
    }

    fn holds(feed: &Feed, number: usize) -> bool {
        feed.entries.contains(&feed.series.key().entry(&handle(number)))
    }

    #[test]
    fn the_count_is_a_power_of_two_and_the_padding_makes_up_for_every_change() {
        for (count, size) in [(0, 1_024), (1_024, 1_024), (1_025, 2_048)] {
            assert_eq!(begin(count).entries.len(), size);
        }
        let mut feed = begin(3);
        let mut gone = BTreeSet::new();
        for number in 0..200 {
            // One comes, and one that was there goes, now and then both.
            let linkages = [
                (handle(number), number % 3 != 0),
                (handle(number / 2), number % 5 == 0),
            ];
            feed = feed.change(&linkages, feed.sequence + 1).unwrap();
            let change = feed.changes.back().unwrap();
            assert_eq!(change.added.len(), change.removed.len());
            assert_eq!(feed.entries.len(), 1_024);
            let own: BTreeSet<Entry> = (0..200)
                .map(|other| feed.series.key().entry(&handle(other)))
                .collect();
            for entry in &change.added {
                assert!(!gone.contains(entry), "padding that went out came back");
            }
            gone.extend(
                change
                    .removed
                    .iter()
                    .filter(|entry| !own.contains(*entry))
                    .copied(),
            );
        }
        assert_eq!(feed.own, (0..200).filter(|number| holds(&feed, *number)).count());
    }

    #[test]
    fn what_is_so_already_changes_nothing() {
        let feed = begin(2);
        let same = feed.change(&[(handle(0), true), (handle(9), false)], 8).unwrap();
        assert_eq!(same.entries.as_slice(), feed.entries.as_slice());
        assert_eq!(same.changes_after(7).unwrap().len(), 1);
        assert_eq!(same.changes_after(8).unwrap().len(), 0);
        assert!(same.changes_after(3).is_none(), "not kept");
    }

    #[test]
    fn a_series_that_is_full_is_over() {
        let feed = begin(1_024);
        assert!(matches!(
            feed.change(&[(handle(5_000), true)], 8),
            Err(FeedError::SeriesFull)
        ));
        let feed = feed.change(&[(handle(1), false)], 8).unwrap();
        assert!(feed.change(&[(handle(5_000), true)], 9).is_ok());
    }

    #[test]
    fn two_series_have_nothing_in_common() {
        let (one, other) = (begin(40), begin(40));
        let entries: BTreeSet<_> = one.entries.as_slice().iter().collect();
        assert!(
            other
                .entries
                .as_slice()
                .iter()
                .all(|entry| !entries.contains(entry))
        );
    }
}

//! A snapshot on its way in.

use std::sync::Arc;

use common::{
    feed::{CHUNK_ENTRIES, Entries, Entry, MAX_ENTRIES, MIN_ENTRIES, SeriesKey, unpack},
    terms::RuleBroken,
};
use koseki_proto::koseki::linkage::v1::{SuppressionEntries, SuppressionSnapshot};

use super::{Suppressions, replica::Seen};

/// What has come of a snapshot.
pub(super) struct Snapshot {
    key: SeriesKey,
    count: usize,
    sequence: u64,
    seen_at: Seen,
    entries: Vec<Entry>,
}

impl Snapshot {
    /// Begins one.
    pub(super) fn begin(
        begun: &SuppressionSnapshot,
        sequence: u64,
        seen_at: Seen,
    ) -> Result<Self, RuleBroken> {
        let count = usize::try_from(begun.count).unwrap_or(usize::MAX);
        if !count.is_power_of_two() || !(MIN_ENTRIES..=MAX_ENTRIES).contains(&count) {
            return Err(RuleBroken("a power of two within the bounds"));
        }
        Ok(Self {
            key: SeriesKey::parse(&begun.series_key)?,
            count,
            sequence,
            seen_at,
            entries: Vec::with_capacity(count),
        })
    }

    /// Takes entries in; whether all have come.
    pub(super) fn add(&mut self, part: &SuppressionEntries, sequence: u64) -> Result<bool, RuleBroken> {
        let room = CHUNK_ENTRIES.min(self.count.saturating_sub(self.entries.len()));
        let entries = unpack(&part.entries, room)?;
        if sequence != self.sequence || entries.is_empty() {
            return Err(RuleBroken("entries of the snapshot that has begun"));
        }
        self.entries.extend(entries);
        Ok(self.entries.len() == self.count)
    }

    /// All of it.
    pub(super) fn whole(self) -> Result<Suppressions, RuleBroken> {
        Ok(Suppressions {
            key: self.key,
            entries: Arc::new(Entries::from_sorted(self.entries)?),
            sequence: self.sequence,
            seen_at: self.seen_at,
        })
    }
}

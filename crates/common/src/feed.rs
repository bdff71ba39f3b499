//! The entries of the suppression feed (clause 4.3.4; docs/decisions/suppression-feed.md), as both sides hold them: in memory
//! only, and never shown.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::{
    digest::{self, RandomFailed},
    keyring::FeedKey,
    terms::{LinkageHandle, RuleBroken},
};

/// Length of an entry.
pub const ENTRY_BYTES: usize = 16;
/// Entries of a feed at most: 32 MiB. Above it the registry side serves no feed, and nothing is provided.
pub const MAX_ENTRIES: usize = 1 << 21;
/// Entries of a feed at least: few suppressions look like none.
pub const MIN_ENTRIES: usize = 1 << 10;
/// Entries of one message of a snapshot at most.
pub const CHUNK_ENTRIES: usize = 4_096;
/// Entries that one change brings, and takes away, at most.
pub const MAX_CHANGE_ENTRIES: usize = 2 * CHUNK_ENTRIES;

/// What stands for a linkage in a feed.
pub type Entry = [u8; ENTRY_BYTES];

/// The key of a series: of the entries of one run of a feed. It is sent to gateways, so that each can look for its own
/// linkages; two series have nothing in common.
#[derive(Clone)]
pub struct SeriesKey {
    secret: Zeroizing<[u8; 32]>,
    mac: hmac::Key,
}

impl fmt::Debug for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeriesKey(..)")
    }
}

impl SeriesKey {
    /// Takes the 32 bytes of a key.
    pub fn parse(bytes: &[u8]) -> Result<Self, RuleBroken> {
        let secret: [u8; 32] = bytes.try_into().map_err(|_| RuleBroken("32 bytes"))?;
        Ok(Self::new(Zeroizing::new(secret)))
    }

    fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, secret.as_slice());
        Self { secret, mac }
    }

    /// The secret bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The entry of a linkage.
    pub fn entry(&self, handle: &LinkageHandle) -> Entry {
        let tag = hmac::sign(&self.mac, handle.expose());
        let mut entry = [0; ENTRY_BYTES];
        for (to, from) in entry.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        entry
    }
}

/// A series, on the registry side: its key, and its padding.
pub struct Series {
    id: [u8; 16],
    feed: FeedKey,
    key: SeriesKey,
}

impl Series {
    /// A new series.
    pub fn begin(feed: &FeedKey) -> Result<Self, RandomFailed> {
        let id = digest::random()?;
        Ok(Self {
            id,
            key: SeriesKey::new(Zeroizing::new(feed.series(&id))),
            feed: feed.clone(),
        })
    }

    /// The key.
    pub fn key(&self) -> &SeriesKey {
        &self.key
    }

    /// The padding of a number.
    pub fn padding(&self, number: u64) -> Entry {
        self.feed.padding(&self.id, number)
    }
}

/// Entries in ascending order, each once: 16 bytes for each and nothing else.
pub struct Entries(Vec<Entry>);

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entries(..)")
    }
}

impl Entries {
    /// Sorts entries; each counts once.
    pub fn from_unsorted(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        entries.shrink_to_fit();
        Self(entries)
    }

    /// Takes entries that are in order.
    pub fn from_sorted(entries: Vec<Entry>) -> Result<Self, RuleBroken> {
        is_ascending(&entries)
            .then_some(Self(entries))
            .ok_or(RuleBroken("ascending, each once"))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an entry is among them.
    pub fn contains(&self, entry: &Entry) -> bool {
        self.0.binary_search(entry).is_ok()
    }

    /// All of them, in order.
    pub fn as_slice(&self) -> &[Entry] {
        &self.0
    }

    /// Them with others in place of some: `None` when one that comes is there already, or one that goes is not. Both are in
    /// order.
    pub fn changed(&self, added: &[Entry], removed: &[Entry]) -> Option<Self> {
        let mut changed = Vec::with_capacity((self.0.len() + added.len()).saturating_sub(removed.len()));
        let mut coming = added.iter().peekable();
        let mut going = removed.iter().peekable();
        for entry in &self.0 {
            while let Some(new) = coming.next_if(|new| *new < entry) {
                changed.push(*new);
            }
            if coming.peek() == Some(&entry) {
                return None;
            }
            if going.next_if_eq(&entry).is_none() {
                changed.push(*entry);
            }
        }
        changed.extend(coming);
        going.next().is_none().then_some(Self(changed))
    }
}

/// Whether entries are in order, each once.
pub fn is_ascending(entries: &[Entry]) -> bool {
    entries.is_sorted_by(|one, next| one < next)
}

/// Entries as a message has them.
pub fn pack(entries: &[Entry]) -> Vec<u8> {
    entries.as_flattened().to_vec()
}

/// Entries from a message: in order, and at most so many.
pub fn unpack(bytes: &[u8], most: usize) -> Result<Vec<Entry>, RuleBroken> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() || entries.len() > most || !is_ascending(entries) {
        return Err(RuleBroken("whole entries, ascending, not too many"));
    }
    Ok(entries.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(numbers: &[u8]) -> Vec<Entry> {
        numbers.iter().map(|number| [*number; ENTRY_BYTES]).collect()
    }

    #[test]
    fn a_change_that_does_not_fit_is_none() {
        let held = Entries::from_unsorted(entries(&[5, 1, 3, 3]));
        assert_eq!(held.as_slice(), entries(&[1, 3, 5]));
        let changed = |added: &[u8], removed: &[u8]| {
            let changed = held.changed(&entries(added), &entries(removed))?;
            Some(
                changed
                    .as_slice()
                    .iter()
                    .map(|entry| entry[0])
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(changed(&[0, 4, 9], &[1, 5]), Some(vec![0, 3, 4, 9]));
        assert_eq!(changed(&[], &[]), Some(vec![1, 3, 5]));
        assert_eq!(changed(&[3], &[]), None, "it is there");
        assert_eq!(changed(&[], &[4]), None, "it is not there");
        assert_eq!(changed(&[], &[9]), None, "it is not there");
        assert_eq!(changed(&[7], &[3]), Some(vec![1, 5, 7]));
    }

    #[test]
    fn what_is_packed_badly_is_refused() {
        let packed = pack(&entries(&[1, 2, 3]));
        assert_eq!(unpack(&packed, 3), Ok(entries(&[1, 2, 3])));
        assert!(unpack(&packed, 2).is_err(), "too many");
        assert!(unpack(packed.get(1..).unwrap(), 3).is_err(), "not whole");
        assert!(unpack(&pack(&entries(&[2, 1])), 3).is_err(), "out of order");
        assert!(unpack(&pack(&entries(&[1, 1])), 3).is_err(), "twice");
    }
}

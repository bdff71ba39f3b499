//! What this process has recorded of late of the registry side's answers. Receipts that are given again are for the most part of these
//! batches, and need not be looked for in the log then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use common::digest;

/// Batches of each log of the registry side that are remembered: with up to 500 a second those of the 15 seconds that receipts take to
/// come again. About 1 MB.
const BATCHES: usize = 8_192;

/// For each log of the registry side the newest batches.
#[derive(Default)]
pub struct RecordedAnswers(Mutex<HashMap<String, OfLog>>);

#[derive(Default)]
struct OfLog {
    /// By the bundle there and the digest of the requests: the bundle here.
    batches: BTreeMap<(u64, [u8; 32]), u64>,
    /// In bundles before this one may be answers that are recorded here and not known.
    unknown_before: u64,
}

impl OfLog {
    fn unknown(&mut self, provider_bundle: u64) {
        self.unknown_before = self.unknown_before.max(provider_bundle.saturating_add(1));
    }
}

/// What stands for a batch's requests: all of them, in their order.
pub fn requests_sha256<'a>(ids: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let ids: Vec<&[u8]> = ids.flat_map(|id| [id.as_bytes(), b"\n"]).collect();
    digest::sha256(&ids)
}

impl RecordedAnswers {
    /// All answers of a bundle there to one batch are recorded in one bundle here.
    pub fn note(&self, provider_log: &str, provider_bundle: u64, requests: [u8; 32], own_bundle: u64) {
        self.change(provider_log, |of_log| {
            of_log.batches.insert((provider_bundle, requests), own_bundle);
            if of_log.batches.len() > BATCHES
                && let Some(((forgotten, _), _)) = of_log.batches.pop_first()
            {
                of_log.unknown(forgotten);
            }
        });
    }

    /// Answers of a bundle there are not known to be recorded, or not in one bundle here: only the log tells.
    pub fn doubt(&self, provider_log: &str, provider_bundle: u64) {
        self.change(provider_log, |of_log| of_log.unknown(provider_bundle));
    }

    fn change(&self, provider_log: &str, change: impl FnOnce(&mut OfLog)) {
        // Each change leaves it as it should be: a panic elsewhere does no harm.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(provider_log) {
            Some(of_log) => change(of_log),
            None => change(all.entry(provider_log.to_owned()).or_default()),
        }
    }

    /// Whether these requests are known to be recorded here with the answers of that bundle.
    pub fn has(&self, provider_log: &str, provider_bundle: u64, requests: &[u8; 32]) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(provider_log)
            .is_some_and(|of_log| of_log.batches.contains_key(&(provider_bundle, *requests)))
    }

    /// A bundle here before which there is no answer of that bundle there or a later one; `None` when that is not known.
    pub fn own_bundle(&self, provider_log: &str, from: u64) -> Option<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_log = all
            .get(provider_log)
            .filter(|of_log| of_log.unknown_before <= from)?;
        let later = of_log.batches.range((from, [0; 32])..);
        later.map(|(_, own_bundle)| *own_bundle).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_known_by_its_bundle_and_all_of_its_requests() {
        let recorded = RecordedAnswers::default();
        let batch = |ids: &[&str]| requests_sha256(ids.iter().copied());
        recorded.note("provider-1", 7, batch(&["a", "b"]), 12);
        assert!(recorded.has("provider-1", 7, &batch(&["a", "b"])));
        for (log, bundle, ids) in [
            ("provider-2", 7, &["a", "b"][..]),
            ("provider-1", 8, &["a", "b"]),
            ("provider-1", 7, &["a"]),
            ("provider-1", 7, &["b", "a"]),
            ("provider-1", 7, &["ab"]),
            ("provider-1", 7, &["a", "b", "c"]),
        ] {
            assert!(!recorded.has(log, bundle, &batch(ids)), "{log} {bundle} {ids:?}");
        }
    }

    #[test]
    fn where_the_own_log_is_to_be_read_from_is_told_only_by_what_is_known_whole() {
        let recorded = RecordedAnswers::default();
        assert_eq!(recorded.own_bundle("provider-1", 0), None);
        // Answers come in another order than they are recorded in.
        recorded.note("provider-1", 7, [1; 32], 12);
        recorded.note("provider-1", 7, [2; 32], 14);
        recorded.note("provider-1", 9, [3; 32], 11);
        let own_bundle = |from| recorded.own_bundle("provider-1", from);
        assert_eq!(
            [own_bundle(0), own_bundle(7), own_bundle(9), own_bundle(10)],
            [Some(11), Some(11), Some(11), None]
        );
        // One whose commit nobody knows of, or that has parts, may stand before what is known.
        recorded.doubt("provider-1", 10);
        recorded.note("provider-1", 11, [4; 32], 20);
        assert_eq!([own_bundle(9), own_bundle(10)], [None; 2]);
        assert_eq!(own_bundle(11), Some(20));
        recorded.doubt("provider-1", 2);
        assert_eq!(own_bundle(10), None);

        for bundle in 0..BATCHES as u64 {
            recorded.note("provider-1", 100 + bundle, [5; 32], 100 + bundle);
        }
        assert!(!recorded.has("provider-1", 11, &[4; 32]));
        // What was forgotten may be in one of these.
        assert_eq!(own_bundle(11), None);
        assert_eq!(own_bundle(12), Some(100));
        // One that comes late and is forgotten at once.
        recorded.note("provider-1", 3, [6; 32], 30);
        assert_eq!(own_bundle(11), None);
    }
}

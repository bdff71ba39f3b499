//! What a feed of a million linkages takes, on each side: docs/decisions/suppression-feed.md has the figures.

use std::time::Duration;

use common::{
    clock::{Clock as _, SystemClock},
    feed::{ENTRY_BYTES, Entries, SeriesKey, pack},
    terms::LinkageHandle,
};
use integration_tests::soak;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Linkages in every run, and at the stated size.
const FEW: usize = 50_000;
const MANY: usize = 1_000_000;
const LOOKUPS: usize = 10_000;

fn took<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let clock = SystemClock::new();
    let done = work();
    (done, clock.monotonic())
}

#[tokio::test]
async fn a_feed_of_many_linkages_fits_its_bounds() {
    let seed = soak::seed();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = if soak::is_soak() { MANY } else { FEW };
    let handles: Vec<_> = (0..count)
        .map(|_| LinkageHandle::from_bytes(rng.random()))
        .collect();
    let key = SeriesKey::parse(&rng.random::<[u8; 32]>()).unwrap();
    let size = count.next_power_of_two();
    let ((entries, made), whole) = took(|| {
        let (own, made) = took(|| handles.iter().map(|handle| key.entry(handle)).collect::<Vec<_>>());
        let padding = (own.len()..size).map(|_| rng.random());
        (
            Entries::from_unsorted(own.iter().copied().chain(padding).collect()),
            made,
        )
    });
    assert_eq!(entries.len(), size);

    let (held, looked) = took(|| {
        handles
            .iter()
            .take(LOOKUPS)
            .filter(|handle| entries.contains(&key.entry(handle)))
            .count()
    });
    assert_eq!(held, LOOKUPS);
    let (_, changed) = took(|| {
        let removed = [key.entry(&handles[0])];
        let added = [key.entry(&LinkageHandle::from_bytes([7; 32]))];
        entries.changed(&added, &removed).unwrap()
    });
    let (packed, _) = took(|| {
        entries
            .as_slice()
            .chunks(4_096)
            .map(|chunk| pack(chunk).len())
            .sum::<usize>()
    });
    assert_eq!(packed, size * ENTRY_BYTES);
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
    let figures = json!({
        "seed": seed,
        "linkages": count,
        "entries": size,
        "held_bytes": size * ENTRY_BYTES,
        "making_entries_us": micros(made),
        "beginning_a_series_us": micros(whole),
        "look_up_ns": looked.as_nanos() / u128::try_from(LOOKUPS).unwrap(),
        "one_change_us": micros(changed),
    });
    println!("{figures:#}");
    soak::write_figures(&figures);
    // Far above what is measured, and far below what would be noticed.
    assert!(looked / u32::try_from(LOOKUPS).unwrap() < Duration::from_micros(200));
    assert!(changed < Duration::from_secs(2));
}

//! Reading a side's audit log from its database, as an auditor would from outside.

use std::path::Path;

use koseki_proto::koseki::evidence::v1::{Bundle, Entry, GuardAct, Outcome, Provision, entry::Event};
use prost::Message as _;

use crate::stores::Behind;

/// Every bundle of a database, in order, after the log's own numbers were checked against each other.
pub async fn bundles(database: &Path) -> Vec<Bundle> {
    let mut behind = Behind::open(database).await;
    let rows = behind
        .connection()
        .all(
            "SELECT number, first_index, epoch, body FROM bundle ORDER BY number",
            &[],
        )
        .await
        .unwrap();
    let mut size = 0;
    let mut bundles = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let bundle = Bundle::decode(row.bytes(3).unwrap()).unwrap();
        assert_eq!(row.int(0).unwrap(), i64::try_from(number).unwrap());
        assert_eq!(
            (row.int(1).unwrap().unsigned_abs(), bundle.first_index),
            (size, size)
        );
        assert_eq!(row.int(2).unwrap().unsigned_abs(), bundle.epoch);
        size += u64::try_from(bundle.entries.len()).unwrap();
        bundles.push(bundle);
    }
    bundles
}

/// A provision in a log, with the epoch of its bundle.
pub async fn provision(database: &Path, request_id: &str) -> Option<(u64, Provision)> {
    find(database, |entry| match entry.event {
        Some(Event::Provision(provision)) if provision.request_id == request_id => Some(provision),
        _ => None,
    })
    .await
}

/// The last forbidding or lifting act of this name in a log, with the epoch of its bundle.
pub async fn guard_act(database: &Path, act: &str) -> Option<(u64, GuardAct)> {
    find(database, |entry| match entry.event {
        Some(Event::GuardAct(found)) if found.act == act => Some(found),
        _ => None,
    })
    .await
}

/// How many requests were released.
pub async fn released(database: &Path) -> usize {
    let bundles = bundles(database).await;
    let entries = bundles.into_iter().flat_map(|bundle| bundle.entries);
    entries
        .filter(|entry| {
            matches!(&entry.event, Some(Event::Provision(provision)) if provision.outcome() == Outcome::Released)
        })
        .count()
}

async fn find<T>(database: &Path, wanted: impl Fn(Entry) -> Option<T>) -> Option<(u64, T)> {
    let bundles = bundles(database).await;
    bundles.into_iter().rev().find_map(|bundle| {
        bundle
            .entries
            .into_iter()
            .find_map(&wanted)
            .map(|found| (bundle.epoch, found))
    })
}

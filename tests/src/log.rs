//! Reading a side's audit log from its database, as an auditor would from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use koseki_proto::koseki::evidence::v1::{Bundle, Entry, GuardAct, Outcome, Provision, entry::Event};
use prost::Message as _;

use crate::stores::Behind;

/// Every log of a database by its name, after its own numbers were checked against each other and its head row, and that
/// its epochs never fall.
pub async fn logs(database: &Path) -> BTreeMap<String, Vec<Bundle>> {
    let mut behind = Behind::open(database).await;
    // One statement, so that what is written meanwhile does not come between.
    let rows = behind
        .connection()
        .all(
            "SELECT log_head.log, log_head.size, log_head.bundles, number, first_index, epoch, body \
             FROM log_head JOIN bundle ON bundle.log = log_head.log ORDER BY log_head.log, number",
            &[],
        )
        .await
        .unwrap();
    let mut logs: BTreeMap<String, Vec<Bundle>> = BTreeMap::new();
    let mut heads = BTreeMap::new();
    for row in rows {
        let bundle = Bundle::decode(row.bytes(6).unwrap()).unwrap();
        let name = row.text(0).unwrap().to_owned();
        let log = logs.entry(name.clone()).or_default();
        let (next, epoch) = log.last().map_or((0, 0), |last| (next_index(last), last.epoch));
        assert_eq!(bundle.log, name);
        assert_eq!(row.int(3).unwrap(), i64::try_from(log.len()).unwrap());
        assert_eq!(
            (row.int(4).unwrap().unsigned_abs(), bundle.first_index),
            (next, next)
        );
        assert_eq!(row.int(5).unwrap().unsigned_abs(), bundle.epoch);
        assert!(bundle.epoch >= epoch, "{name}: the epoch has fallen");
        heads.insert(name, (row.int(1).unwrap().unsigned_abs(), row.int(2).unwrap()));
        log.push(bundle);
    }
    for (name, log) in &logs {
        let head = (next_index(log.last().unwrap()), i64::try_from(log.len()).unwrap());
        assert_eq!(heads[name], head, "the head row of {name}");
    }
    logs
}

fn next_index(bundle: &Bundle) -> u64 {
    bundle.first_index + u64::try_from(bundle.entries.len()).unwrap()
}

/// Every bundle of a database, those of a log in order, after [`logs`] has checked them.
pub async fn bundles(database: &Path) -> Vec<Bundle> {
    logs(database).await.into_values().flatten().collect()
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

/// Ids of the requests that were released in a log.
pub async fn released_ids(database: &Path, log: &str) -> BTreeSet<String> {
    let bundles = logs(database).await.remove(log).unwrap_or_default();
    let entries = bundles.into_iter().flat_map(|bundle| bundle.entries);
    let released = entries.filter_map(|entry| match entry.event {
        Some(Event::Provision(provision)) if provision.outcome() == Outcome::Released => {
            Some(provision.request_id)
        }
        _ => None,
    });
    released.collect()
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

//! Reading a side's audit log from its database, as an auditor would from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use common::evidence::Frontier;
use koseki_proto::koseki::evidence::v1::{
    self as stored, GuardActDetail, OrdinaryActDetail, Outcome, ProvisionDetail, public, restricted,
};
use prost::Message as _;

use crate::stores::Behind;

/// A bundle, with both parts of its entries read.
#[derive(Clone)]
pub struct Bundle {
    /// Its log.
    pub log: String,
    /// Index of the first entry.
    pub first_index: u64,
    /// The epoch under which it was committed.
    pub epoch: u64,
    /// When.
    pub at: Option<prost_types::Timestamp>,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// An entry.
#[derive(Clone)]
pub struct Entry {
    /// What happened.
    pub event: Option<Event>,
    /// As it is stored.
    pub stored: stored::Entry,
}

/// What happened, with what only auditors see of it.
#[derive(Clone)]
pub enum Event {
    /// A request was answered or refused.
    Provision(Provision),
    /// An act that forbids releases, or lifts one.
    GuardAct(GuardAct),
    /// An act that forbids nothing.
    OrdinaryAct(OrdinaryAct),
    /// An answer was lost.
    LostAnswer(stored::LostAnswer, stored::LostAnswerDetail),
}

/// A request that was answered or refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Provision {
    /// Its public part.
    pub public: stored::Provision,
    /// Its restricted part.
    pub restricted: Option<ProvisionDetail>,
}

impl std::ops::Deref for Provision {
    type Target = stored::Provision;

    fn deref(&self) -> &stored::Provision {
        &self.public
    }
}

/// An act that forbids releases, or lifts one.
#[derive(Clone)]
pub struct GuardAct {
    /// Its name.
    pub act: String,
    /// The kind concerned.
    pub kind: i32,
    /// Its restricted part.
    pub detail: GuardActDetail,
}

impl std::ops::Deref for GuardAct {
    type Target = GuardActDetail;

    fn deref(&self) -> &GuardActDetail {
        &self.detail
    }
}

/// An act that forbids nothing.
#[derive(Clone)]
pub struct OrdinaryAct {
    /// Its name.
    pub act: String,
    /// Its restricted part.
    pub detail: OrdinaryActDetail,
}

impl std::ops::Deref for OrdinaryAct {
    type Target = OrdinaryActDetail;

    fn deref(&self) -> &OrdinaryActDetail {
        &self.detail
    }
}

/// Reads a bundle as it is stored, and checks that its entries say when and under which epoch they were committed.
pub fn read(body: &[u8]) -> Bundle {
    let bundle = stored::Bundle::decode(body).unwrap();
    let at = *bundle.at.as_ref().unwrap();
    let entry = |stored: stored::Entry| {
        let public = stored::Public::decode(stored.public.as_slice()).unwrap();
        let restricted = stored::Restricted::decode(stored.restricted.as_slice()).unwrap();
        assert_eq!(public.epoch, bundle.epoch);
        assert_eq!(i64::try_from(public.at_unix_s).unwrap(), at.seconds);
        assert_eq!(restricted.at, bundle.at);
        let event = match (public.event.unwrap(), restricted.detail.unwrap()) {
            (public::Event::Provision(public), restricted::Detail::Provision(detail)) => {
                Event::Provision(Provision {
                    public,
                    restricted: Some(detail),
                })
            }
            (public::Event::GuardAct(public), restricted::Detail::GuardAct(detail)) => {
                Event::GuardAct(GuardAct {
                    act: public.act,
                    kind: public.kind,
                    detail,
                })
            }
            (public::Event::OrdinaryAct(public), restricted::Detail::OrdinaryAct(detail)) => {
                Event::OrdinaryAct(OrdinaryAct {
                    act: public.act,
                    detail,
                })
            }
            (public::Event::LostAnswer(public), restricted::Detail::LostAnswer(detail)) => {
                Event::LostAnswer(public, detail)
            }
            _ => panic!("the two parts of an entry are about different things"),
        };
        Entry {
            event: Some(event),
            stored,
        }
    };
    Bundle {
        log: bundle.log,
        first_index: bundle.first_index,
        epoch: bundle.epoch,
        at: bundle.at,
        entries: bundle.entries.into_iter().map(entry).collect(),
    }
}

/// Every log of a database by its name, after its own numbers were checked against each other and its head row, and that
/// its epochs never fall.
pub async fn logs(database: &Path) -> BTreeMap<String, Vec<Bundle>> {
    let mut behind = Behind::open(database).await;
    // One statement, so that what is written meanwhile does not come between.
    let rows = behind
        .connection()
        .all(
            "SELECT log_head.log, log_head.size, log_head.bundles, number, first_index, epoch, body, hashes, \
                    log_head.frontier \
             FROM log_head JOIN bundle ON bundle.log = log_head.log ORDER BY log_head.log, number",
            &[],
        )
        .await
        .unwrap();
    let mut logs: BTreeMap<String, Vec<Bundle>> = BTreeMap::new();
    let mut frontiers = BTreeMap::new();
    let (mut heads, mut trees) = (BTreeMap::new(), BTreeMap::<String, Frontier>::new());
    for row in rows {
        let bundle = read(row.bytes(6).unwrap());
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
        let (tree, mut hashes) = (trees.entry(name.clone()).or_default(), Vec::new());
        for entry in &bundle.entries {
            tree.append(&leaf(&entry.stored), &mut hashes);
        }
        assert_eq!(
            row.bytes(7).unwrap(),
            hashes,
            "{name}: the hashes of bundle {}",
            log.len()
        );
        frontiers.insert(name.clone(), row.bytes(8).unwrap().to_vec());
        heads.insert(name, (row.int(1).unwrap().unsigned_abs(), row.int(2).unwrap()));
        log.push(bundle);
    }
    for (name, log) in &logs {
        let head = (next_index(log.last().unwrap()), i64::try_from(log.len()).unwrap());
        assert_eq!(heads[name], head, "the head row of {name}");
        assert_eq!(frontiers[name], trees[name].to_bytes(), "the frontier of {name}");
    }
    logs
}

/// What the tree has of an entry.
pub fn leaf(entry: &stored::Entry) -> Vec<u8> {
    let commitment = common::digest::sha256(&[&entry.salt, &entry.restricted]);
    [entry.public.as_slice(), &commitment].concat()
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
    released_of(&logs(database).await.remove(log).unwrap_or_default())
}

/// Ids of the requests that were released in these bundles, none of them twice.
pub fn released_of(bundles: &[Bundle]) -> BTreeSet<String> {
    let mut released = BTreeSet::new();
    for entry in bundles.iter().flat_map(|bundle| &bundle.entries) {
        if let Some(Event::Provision(provision)) = &entry.event
            && provision.outcome() == Outcome::Released
        {
            let id = provision.request_id.clone();
            assert!(released.insert(id.clone()), "{id} was released twice");
        }
    }
    released
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

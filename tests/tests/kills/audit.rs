//! A service's audit log, read from its database when the service has stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use integration_tests::{
    log::{self, Bundle, Entry, Event, Provision},
    stores::Behind,
};
use koseki_proto::koseki::evidence::v1::Outcome;

/// What stands in a log.
pub(crate) struct Log {
    /// Its bundles.
    pub(crate) bundles: BTreeMap<String, Vec<Bundle>>,
    /// Entries.
    pub(crate) size: u64,
    /// What was decided about each request, with the number of its bundle.
    pub(crate) provisions: BTreeMap<String, (u64, Provision)>,
    /// Ids of requests whose items were released.
    pub(crate) released: BTreeSet<String>,
    /// Ids of requests whose answers were lost on the way.
    pub(crate) lost: BTreeSet<String>,
    /// Ids of acts, and what acts have made or changed.
    pub(crate) named: BTreeSet<String>,
    /// The kinds that were suspended so far; nobody resumes in this test.
    suspended: BTreeMap<i32, u64>,
}

/// Reads a log and checks that it is one: numbered without a gap, its head row and its hashes as long as it is, its epochs
/// never falling, and nothing released after it was suspended.
pub(crate) async fn check(database: &Path, name: &str) -> Log {
    let mut behind = Behind::open(database).await;
    if let Behind::Sqlite(connection) = &mut behind {
        let integrity: String = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_one(connection)
            .await
            .unwrap();
        assert_eq!(integrity, "ok");
    }
    let bundles = log::logs(database).await;
    let this = &bundles[name];
    let mut log = Log {
        size: this.iter().map(|bundle| bundle.entries.len() as u64).sum(),
        provisions: BTreeMap::new(),
        released: log::released_of(this),
        lost: BTreeSet::new(),
        named: BTreeSet::new(),
        suspended: BTreeMap::new(),
        bundles: BTreeMap::new(),
    };
    for (number, bundle) in (0..).zip(this) {
        assert!(!bundle.entries.is_empty(), "bundle {number} is empty");
        for entry in &bundle.entries {
            log.take(entry, number, bundle.epoch);
        }
    }
    let gate = behind.connection().one("SELECT epoch FROM gate", &[]).await;
    let epoch = gate.unwrap().int(0).unwrap().unsigned_abs();
    assert!(epoch >= this.last().unwrap().epoch);
    log.bundles = bundles;
    log
}

impl Log {
    fn take(&mut self, entry: &Entry, bundle: u64, epoch: u64) {
        match entry.event.clone().unwrap() {
            Event::Provision(provision) => {
                let forbidden = self.suspended.get(&provision.kind);
                assert!(
                    provision.outcome() != Outcome::Released || forbidden.is_none_or(|since| epoch < *since),
                    "{} was released under epoch {epoch}, suspended since {forbidden:?}",
                    provision.request_id
                );
                let id = provision.request_id.clone();
                self.provisions.insert(id, (bundle, provision));
            }
            Event::GuardAct(act) => {
                if act.act == "SUSPEND_PROVISION" {
                    self.suspended.entry(act.kind).or_insert(epoch);
                }
                self.named.insert(act.detail.act_id);
                self.named.insert(act.detail.consent_id);
            }
            Event::OrdinaryAct(act) => {
                self.named.insert(act.detail.reference);
            }
            Event::LostAnswer(lost, _) => {
                self.lost.insert(lost.request_id);
            }
        }
    }
}

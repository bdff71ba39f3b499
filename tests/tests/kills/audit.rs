//! A service's audit log, read from its database when the service has stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use integration_tests::log::{self, Entry, Event};
use koseki_proto::koseki::evidence::v1::Outcome;
use sqlx::{Row as _, SqlitePool, sqlite::SqliteConnectOptions};

/// What stands in a log.
#[derive(Default)]
pub(crate) struct Log {
    /// Entries.
    pub(crate) size: u64,
    /// Ids of requests whose items were released.
    pub(crate) released: BTreeSet<String>,
    /// Ids of acts, and what acts have made or changed.
    pub(crate) named: BTreeSet<String>,
    /// The kinds that were suspended so far; nobody resumes in this test.
    suspended: BTreeMap<i32, u64>,
}

/// Reads a log and checks that it is one: numbered without a gap, its head row as long as it is, its epochs never falling,
/// and nothing released after it was suspended.
pub(crate) async fn check(database: &Path, name: &str) -> Log {
    let options = SqliteConnectOptions::new().filename(database);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let integrity: (String,) = sqlx::query_as("PRAGMA integrity_check")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(integrity.0, "ok");
    let rows =
        sqlx::query("SELECT number, first_index, epoch, body FROM bundle WHERE log = ?1 ORDER BY number")
            .bind(name)
            .fetch_all(&pool)
            .await
            .unwrap();
    let mut log = Log::default();
    let mut last_epoch = 0;
    for (at, row) in rows.iter().enumerate() {
        let bundle = log::read(row.get::<&[u8], _>("body"));
        assert_eq!(
            row.get::<i64, _>("number").unsigned_abs(),
            at as u64,
            "a bundle is missing"
        );
        assert_eq!(
            row.get::<i64, _>("first_index").unsigned_abs(),
            log.size,
            "bundle {at}"
        );
        assert_eq!(bundle.first_index, log.size, "bundle {at}");
        assert_eq!(bundle.log, name);
        assert_eq!(
            row.get::<i64, _>("epoch").unsigned_abs(),
            bundle.epoch,
            "bundle {at}"
        );
        assert!(bundle.epoch >= last_epoch, "bundle {at}: the epoch has fallen");
        assert!(!bundle.entries.is_empty(), "bundle {at} is empty");
        last_epoch = bundle.epoch;
        log.size += bundle.entries.len() as u64;
        for entry in bundle.entries {
            log.take(entry, bundle.epoch);
        }
    }
    let head: (i64, i64) = sqlx::query_as("SELECT size, bundles FROM log_head WHERE log = ?1")
        .bind(name)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(
        (head.0.unsigned_abs(), head.1.unsigned_abs()),
        (log.size, rows.len() as u64),
        "the head row"
    );
    let (epoch,): (i64,) = sqlx::query_as("SELECT epoch FROM gate")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(epoch.unsigned_abs() >= last_epoch);
    pool.close().await;
    log
}

impl Log {
    fn take(&mut self, entry: Entry, epoch: u64) {
        match entry.event.unwrap() {
            Event::Provision(provision) if provision.outcome() == Outcome::Released => {
                let forbidden = self.suspended.get(&provision.kind);
                assert!(
                    forbidden.is_none_or(|since| epoch < *since),
                    "{} was released under epoch {epoch}, suspended since {forbidden:?}",
                    provision.request_id
                );
                let id = provision.public.request_id;
                assert!(self.released.insert(id.clone()), "{id} was released twice");
            }
            Event::Provision(_) => {}
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
            Event::LostAnswer(..) => {}
        }
    }
}

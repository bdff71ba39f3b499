//! What becomes of connections to PostgreSQL whose transaction does not begin, and who has connections of their own
//! (DESIGN §4): a release or an act that forbids is done although others waited in vain, or are many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{future::Future, sync::Arc, time::Duration};

use common::{
    clock::{Clock as _, ShiftedClock},
    keyring::Keyring,
    store::{Access, Database as Stored, DatabaseConfig, SideStore as _, StoreError},
};
use devkit::{
    deployment::{Addresses, Deployment, Plan},
    postgres::{Cluster, Database, Side},
};
use integration_tests::{
    gate::{self, GATE},
    identity, stores,
};
use portal_gateway::store::{GatewayStore as _, RequesterError, SessionBounds, Store};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);
/// What nothing holds up.
const AT_ONCE: Duration = Duration::from_secs(1);
const RELEASES: usize = 2;
const GUARDS: usize = 4;
const LOADS: usize = 4;

/// A gateway's store, and somebody in front of its gate.
struct Bench {
    store: Arc<Store>,
    server: PgConnection,
    database: Database,
    _directory: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let plan = Plan {
            seed: 1,
            registers: 0,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        let database = Database::create(Cluster::shared().unwrap(), Side::Gateway)
            .await
            .unwrap();
        stores::migrate(&database, &directory.path().join("owner-url")).await;
        let url_file = directory.path().join("url");
        Database::write_url(&database.service_url(), &url_file).unwrap();
        let keys = Arc::new(Keyring::load(&deployment.gateway().join("keyring.toml")).unwrap());
        let store = Store::open(&DatabaseConfig::Postgres { url_file }, "gateway-1", keys).await;
        Self {
            store: Arc::new(store.unwrap()),
            server: PgConnection::connect(&database.superuser_url()).await.unwrap(),
            database,
            _directory: directory,
        }
    }

    fn stored(&self) -> &Stored {
        self.store.database()
    }

    /// Somebody begins so many writes at once and does nothing in them.
    fn begin(&self, access: Access, times: usize) -> Vec<tokio::task::JoinHandle<Result<(), StoreError>>> {
        let begin = |_| {
            let store = self.store.clone();
            tokio::spawn(async move { store.database().begin(access).await.map(drop) })
        };
        (0..times).map(begin).collect()
    }

    async fn locks(&mut self, granted: bool) -> usize {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database \
             WHERE locktype = 'advisory' AND datname = current_database() AND pid <> pg_backend_pid() \
               AND (classid::bigint << 32 | objid::bigint) = $1 AND granted = $2",
        )
        .bind(GATE)
        .bind(granted)
        .fetch_one(&mut self.server)
        .await
        .unwrap();
        usize::try_from(count).unwrap()
    }

    async fn until_locks(&mut self, granted: bool, number: usize) {
        let looks = async {
            let mut looks = interval(Duration::from_millis(5));
            while self.locks(granted).await != number {
                looks.tick().await;
            }
        };
        timeout(PATIENCE, looks).await.expect("the gate's locks");
    }

    /// Every connection of releases and guards begins, one after another.
    async fn all_begin_at_once(&self) {
        for (access, times) in [
            (Access::Release, RELEASES),
            (Access::Guard, GUARDS),
            (Access::RequestersGuard, RELEASES),
        ] {
            for _ in 0..times {
                let tx = at_once(self.stored().begin(access)).await;
                tx.unwrap_or_else(|error| panic!("{access:?}: {}", common::telemetry::chain(&error)));
            }
        }
    }
}

async fn at_once<T>(work: impl Future<Output = T>) -> T {
    timeout(AT_ONCE, work).await.expect("something holds it up")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_at_the_gate_in_vain_leaves_no_broken_connection() {
    let mut bench = Bench::new().await;
    gate::call(&mut bench.server, "pg_advisory_lock").await;
    let mut waiting = bench.begin(Access::Release, RELEASES);
    waiting.extend(bench.begin(Access::Guard, GUARDS));
    waiting.extend(bench.begin(Access::RequestersGuard, 2));
    for waited in waiting {
        let waited = timeout(PATIENCE, waited).await.unwrap().unwrap();
        assert!(matches!(waited, Err(StoreError::Failed(_))));
    }
    gate::call(&mut bench.server, "pg_advisory_unlock").await;
    bench.all_begin_at_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_given_up_at_the_gate_does_not_get_it() {
    for access in [Access::Release, Access::Guard, Access::Ordinary] {
        let mut bench = Bench::new().await;
        gate::call(&mut bench.server, "pg_advisory_lock").await;
        let waiting = bench.begin(access, 1);
        bench.until_locks(false, 1).await;
        for waits in waiting {
            waits.abort();
            assert!(waits.await.unwrap_err().is_cancelled());
        }
        gate::call(&mut bench.server, "pg_advisory_unlock").await;
        let tx = at_once(bench.stored().begin(Access::Guard)).await.unwrap();
        at_once(tx.commit_unrecorded()).await.unwrap();
        // Shorter than the server's own time-out would end it.
        at_once(bench.until_locks(true, 0)).await;
        bench.all_begin_at_once().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_and_guards_have_their_connections_when_the_server_is_full() {
    let mut bench = Bench::new().await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut bench.server)
        .await
        .unwrap();
    let sql = AssertSqlSafe(format!("ALTER DATABASE {name} CONNECTION LIMIT 0"));
    bench.server.execute(sql).await.unwrap();
    assert!(
        PgConnection::connect(&bench.database.service_url())
            .await
            .is_err()
    );

    gate::call(&mut bench.server, "pg_advisory_lock").await;
    let mut waiting = bench.begin(Access::Release, RELEASES);
    waiting.extend(bench.begin(Access::Guard, GUARDS));
    waiting.extend(bench.begin(Access::RequestersGuard, 2));
    bench.until_locks(false, RELEASES + GUARDS + 2).await;
    gate::call(&mut bench.server, "pg_advisory_unlock").await;
    for waited in waiting {
        waited.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_leave_connections_to_everything_else() {
    let bench = Bench::new().await;
    let mut copies = Vec::new();
    for _ in 0..LOADS {
        copies.push(bench.stored().begin(Access::Copies).await.unwrap());
    }
    // Many more of them wait.
    let waiting = bench.begin(Access::Copies, 60);
    at_once(bench.stored().reader()).await.unwrap();
    at_once(bench.stored().begin(Access::Ordinary)).await.unwrap();
    drop(copies);
    for waited in waiting {
        waited.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_ends_nothing_does_not_come_to_the_gate() {
    let mut bench = Bench::new().await;
    gate::call(&mut bench.server, "pg_advisory_lock").await;
    let (frontend, now) = (
        identity("portal-frontend/frontend"),
        ShiftedClock::default().now(),
    );
    let ended = at_once(bench.store.end_session([7; 32], &frontend, now)).await;
    assert!(!ended.unwrap());
    let bounds = SessionBounds {
        absolute: AT_ONCE,
        idle: AT_ONCE,
    };
    let consent = common::terms::ActId::random().unwrap();
    let withdrawn = bench
        .store
        .withdraw_consent([7; 32], consent, bounds, &frontend, now);
    assert!(matches!(at_once(withdrawn).await, Err(RequesterError::Session)));
}

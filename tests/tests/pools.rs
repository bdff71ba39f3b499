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
    refusal::Reason,
    store::{Access, Database as Stored, DatabaseConfig, SideStore as _, StoreError},
    terms::{ActId, Procedure, RequestId, RequestKind},
};
use devkit::{
    client::{Ids, Term},
    deployment::{Addresses, Deployment, Plan},
    postgres::{Cluster, Database, Side},
    registers::Scenario,
};
use integration_tests::{
    Pair,
    gate::{self, GATE},
    identity,
    instances::TwoDeployments,
    stores::{self, Behind},
};
use portal_gateway::{
    call::PortalCall,
    provision::Asked,
    store::{Closing, GatewayStore as _, RequesterClosing, RequesterError, SessionBounds, Store},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);
/// What nothing holds up.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Who is not let in by then waits for others.
const NOT_NOW: Duration = Duration::from_millis(300);
const RELEASES: usize = 3;
const GUARDS: usize = 4;
const REQUESTERS: usize = 3;
const LOADS: usize = 4;

/// A gateway's store, and somebody in front of its gate.
struct Bench {
    store: Arc<Store>,
    server: PgConnection,
    database: Database,
    keys: Arc<Keyring>,
    directory: TempDir,
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
        let config = DatabaseConfig::Postgres { url_file };
        let store = Store::open(&config, "gateway-1", keys.clone()).await;
        Self {
            store: Arc::new(store.unwrap()),
            server: PgConnection::connect(&database.superuser_url()).await.unwrap(),
            database,
            keys,
            directory,
        }
    }

    /// A second instance's store.
    async fn second(&self) -> Arc<Store> {
        let url_file = self.directory.path().join("url");
        let config = DatabaseConfig::Postgres { url_file };
        Arc::new(
            Store::open(&config, "gateway-2", self.keys.clone())
                .await
                .unwrap(),
        )
    }

    /// Until so many wait for another transaction to end.
    async fn until_waiting_for_rows(&mut self, number: i64) {
        let looks = async {
            let mut looks = interval(Duration::from_millis(5));
            loop {
                let waiting: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event = 'transactionid'",
                )
                .fetch_one(&mut self.server)
                .await
                .unwrap();
                if waiting == number {
                    return;
                }
                looks.tick().await;
            }
        };
        timeout(PATIENCE, looks).await.expect("nobody waits");
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
            (Access::RequestersGuard, REQUESTERS),
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
    waiting.extend(bench.begin(Access::RequestersGuard, REQUESTERS));
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
    waiting.extend(bench.begin(Access::RequestersGuard, REQUESTERS));
    // Releases of one process come to the gate one after the other.
    bench.until_locks(false, 1 + GUARDS + REQUESTERS).await;
    gate::call(&mut bench.server, "pg_advisory_unlock").await;
    for waited in waiting {
        waited.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_leave_connections_to_everything_else() {
    let bench = Bench::new().await;
    let mut copies = Vec::new();
    // As many as are let in at the same time.
    while let Ok(tx) = timeout(NOT_NOW, bench.stored().begin(Access::Copies)).await {
        copies.push(tx.unwrap());
        assert!(copies.len() <= LOADS);
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
    let clock = Arc::new(ShiftedClock::default());
    let now = clock.now();
    let ids = Ids::new(clock);
    let asked =
        [Closing::Session, Closing::Consent(ActId::random().unwrap())].map(|closing| RequesterClosing {
            closing,
            token_sha256: [7; 32],
            call: PortalCall {
                frontend: identity("portal-frontend/frontend"),
                request_id: RequestId::parse(&ids.next(), now).unwrap(),
            },
        });
    let bounds = SessionBounds {
        absolute: AT_ONCE,
        idle: AT_ONCE,
    };
    let closed = at_once(bench.store.close(&asked, bounds, now)).await.unwrap();
    assert!(
        closed
            .iter()
            .all(|one| matches!(one, Err(RequesterError::Session)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_with_the_same_ids_do_not_wait_for_each_other() {
    let mut bench = Bench::new().await;
    let clock = Arc::new(ShiftedClock::default());
    let (now, ids) = (clock.now(), Ids::new(clock));
    let mut ids = [(); 3].map(|()| RequestId::parse(&ids.next(), now).unwrap());
    ids.sort_by_key(|id| *id.as_bytes());
    // Both come to the one in the middle, each from its side. Another connection looks: inside a transaction activity stands
    // still.
    let mut other = PgConnection::connect(&bench.database.superuser_url())
        .await
        .unwrap();
    other.execute("BEGIN").await.unwrap();
    sqlx::query("INSERT INTO used_request_id (id) VALUES ($1)")
        .bind(ids[1].as_bytes().as_slice())
        .execute(&mut other)
        .await
        .unwrap();
    let use_up = |store: Arc<Store>, ids: [RequestId; 3]| {
        tokio::spawn(async move {
            let mut tx = store.database().begin(Access::Release).await?;
            let fresh = tx.use_request_ids(&ids).await?;
            tx.commit_unrecorded().await?;
            Ok::<_, StoreError>(fresh.len())
        })
    };
    let first = use_up(bench.store.clone(), ids);
    bench.until_waiting_for_rows(1).await;
    ids.reverse();
    let second = use_up(bench.second().await, ids);
    bench.until_waiting_for_rows(2).await;
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 3);
    assert_eq!(second.await.unwrap().unwrap(), 0);
}

/// 64 sessions of as many accounts.
const SESSIONS: &str = "INSERT INTO account (made_at) SELECT 0 FROM generate_series(1, 2000); \
    INSERT INTO session SELECT name, account, 'frontend', name, name, '\\x00', name, '\\x00', 0, 0, false, false \
        FROM (SELECT account, sha256(int4send(account)) AS name FROM generate_series(1, 64) AS account) AS sessions";
/// A consent of every account.
const CONSENTS: &str = "INSERT INTO consent SELECT substr(sha256(int4send(account)), 1, 16), account, 1, \
        sha256('text'), 'ja', 0, 9999999999999, true, 'GIVEN', NULL FROM generate_series(1, 2000) AS account";

/// The statement is planned while there are no consents, and holds for as long as the server has not looked at the table: however
/// many come until then, those of a batch's accounts are read and no others.
#[tokio::test(flavor = "multi_thread")]
async fn consents_are_found_by_their_account_by_a_plan_from_before_there_were_any() {
    let mut bench = Bench::new().await;
    bench.server.execute(sqlx::raw_sql(SESSIONS)).await.unwrap();
    let tokens: Vec<Vec<u8>> = sqlx::query_scalar("SELECT token FROM session")
        .fetch_all(&mut bench.server)
        .await
        .unwrap();
    let clock = Arc::new(ShiftedClock::default());
    let (now, ids) = (clock.now(), Ids::new(clock));
    let asked: Vec<Asked> = tokens
        .iter()
        .map(|token| Asked {
            request_id: RequestId::parse(&ids.next(), now).unwrap(),
            peer: identity("portal-frontend/frontend"),
            session: token.as_slice().try_into().unwrap(),
            kind: RequestKind::CertificateRequest,
            procedure: Procedure::parse("").unwrap(),
            arrived: Duration::ZERO,
        })
        .collect();
    let before = bench.store.read(&asked, &[]).await.unwrap();
    assert!(before.guards.iter().all(|guards| guards.consents.is_empty()));
    bench.server.execute(CONSENTS).await.unwrap();
    let after = bench.store.read(&asked, &[]).await.unwrap();
    assert!(after.guards.iter().all(|guards| guards.consents.len() == 1));
    let counted = async {
        let mut looks = interval(Duration::from_millis(100));
        loop {
            looks.tick().await;
            let read: i64 = sqlx::query_scalar(
                "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE relname = 'consent'",
            )
            .fetch_one(&mut bench.server)
            .await
            .unwrap();
            if read > 0 {
                return read;
            }
        }
    };
    let read = timeout(PATIENCE, counted).await.expect("the server has counted");
    assert_eq!(read, 64);
}

/// Lets transactions that append a bundle give way, as many as stand for `{}`; a sequence counts although they are undone.
const GIVE_WAY: &str = "CREATE SEQUENCE tries; \
    CREATE FUNCTION give_way() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
      IF nextval('public.tries') <= {} THEN RAISE EXCEPTION 'gives way' USING ERRCODE = 'deadlock_detected'; END IF; \
      RETURN NEW; END $$; \
    CREATE TRIGGER give_way BEFORE INSERT ON bundle FOR EACH ROW EXECUTE FUNCTION give_way()";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_gave_way_is_done_once_more() {
    const KIND: RequestKind = RequestKind::CertificateRequest;
    let deployments = TwoDeployments::create().await;
    let sides = [
        deployments.first.provider_database(),
        deployments.first.gateway_database(),
    ];
    let pair = Pair::start_at(&deployments, Arc::default()).await.load().await;
    let cast = pair.cast().await;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    let hour = Term::For(Duration::from_secs(3_600));
    cast.frontend.consent(&session, &text, hour).await.unwrap();
    for side in &sides {
        let Behind::Postgres(mut server) = Behind::open(side).await else {
            panic!("the deployment stands on PostgreSQL")
        };
        server
            .execute(sqlx::raw_sql(AssertSqlSafe(GIVE_WAY.replace("{}", "1"))))
            .await
            .unwrap();
        cast.frontend.copy_info(&session, KIND, "").await.unwrap();
        let tries = "SELECT last_value FROM tries";
        let done: i64 = sqlx::query_scalar(tries).fetch_one(&mut server).await.unwrap();
        assert_eq!(done, 2, "{}", side.display());

        // Once more, and not for ever.
        server
            .execute(sqlx::raw_sql(
                "DROP SEQUENCE tries; CREATE SEQUENCE tries MINVALUE -9",
            ))
            .await
            .unwrap();
        let refused = cast.frontend.copy_info(&session, KIND, "").await.unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::Unavailable.name()));
        let done: i64 = sqlx::query_scalar(tries).fetch_one(&mut server).await.unwrap();
        assert_eq!(done, -8, "{}", side.display());
        server.execute("DROP TRIGGER give_way ON bundle").await.unwrap();
    }
}

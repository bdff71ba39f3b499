//! What a service looks at before it stands on a PostgreSQL database, what it says when it will not, and that a commit
//! whose outcome is not known is no success (DESIGN §7).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use common::{
    clock::{Clock as _, ShiftedClock},
    keyring::Keyring,
    refusal::Reason,
    store::{Access, ActError, DatabaseConfig, SideStore as _, StoreError},
    suspension::Suspend,
    terms::{ActId, RequestKind},
};
use devkit::{
    client,
    deployment::{Addresses, Deployment, Plan},
    postgres::{Cluster, Database, Side},
    registers::Scenario,
    story::{Cast, Offices, ask_once},
};
use integration_tests::{Pair, identity, instances::TwoDeployments, log::guard_act, stores};
use koseki_provider::store::Store;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);
const LOG: &str = "provider-1";

/// A provider's database and keys.
struct Bench {
    database: Database,
    superuser: PgConnection,
    keys: PathBuf,
    directory: TempDir,
}

impl Bench {
    /// Without a schema.
    async fn bare(cluster: Arc<Cluster>) -> Self {
        let directory = TempDir::new().unwrap();
        let plan = Plan {
            seed: 1,
            registers: 0,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        let database = Database::create(cluster, Side::Provider).await.unwrap();
        Self {
            superuser: PgConnection::connect(&database.superuser_url()).await.unwrap(),
            keys: deployment.provider().join("keyring.toml"),
            database,
            directory,
        }
    }

    async fn new(cluster: Arc<Cluster>) -> Self {
        let this = Self::bare(cluster).await;
        stores::migrate(&this.database, &this.directory.path().join("owner-url")).await;
        this
    }

    async fn open_as(&self, url: &str) -> Result<Store, String> {
        let url_file = self.directory.path().join("url");
        Database::write_url(url, &url_file).unwrap();
        let keys = Arc::new(Keyring::load(&self.keys).unwrap());
        let opened = Store::open(&DatabaseConfig::Postgres { url_file }, LOG, keys).await;
        opened.map_err(|error| error.to_string())
    }

    /// As the service's role.
    async fn open(&self) -> Result<Store, String> {
        self.open_as(&self.database.service_url()).await
    }

    async fn says(&self, expected: &str) {
        self.says_to(&self.database.service_url(), expected).await;
    }

    async fn says_to(&self, url: &str, expected: &str) {
        let error = self.open_as(url).await.err().expect("it does not start");
        assert!(error.contains(expected), "{error}");
    }

    async fn superuser(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        self.superuser.execute(sqlx::raw_sql(sql)).await.unwrap();
    }

    /// Changes a setting of the server, for everybody who connects from now on.
    async fn set(&mut self, setting: &str, value: &str) {
        self.superuser(&format!("ALTER SYSTEM SET {setting} = '{value}'"))
            .await;
        self.superuser("SELECT pg_reload_conf()").await;
        let url = self.database.superuser_url();
        until(async || {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let sql = AssertSqlSafe(format!("SHOW {setting}"));
            let now: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
            now == value
        })
        .await;
    }
}

/// Looks again and again until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let looks = async {
        let mut looks = interval(Duration::from_millis(10));
        while !is_so().await {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, looks).await.unwrap();
}

/// A server of its own, whose settings a test may change.
fn own_server() -> Arc<Cluster> {
    Arc::new(Cluster::start().unwrap())
}

#[tokio::test]
async fn only_the_services_role_is_taken() {
    let bench = Bench::new(Cluster::shared().unwrap()).await;
    bench
        .says_to(&bench.database.superuser_url(), "must not connect as a superuser")
        .await;
    bench
        .says_to(
            &bench.database.owner_url(),
            "this role could change the audit log",
        )
        .await;
    assert!(bench.open_as(&bench.database.auditor_url()).await.is_err());
    bench.open().await.unwrap();
}

/// On a socket no time-out ends the wait for a process that does not take its rows.
#[tokio::test]
async fn a_socket_is_refused() {
    let bench = Bench::bare(Cluster::shared().unwrap()).await;
    for url in [
        "postgres:///database?host=/var/run/postgresql",
        "postgres://role@%2Fvar%2Frun%2Fpostgresql/database",
    ] {
        bench
            .says_to(url, "must have a host that is reached by TCP")
            .await;
    }
}

#[tokio::test]
async fn only_the_schema_that_it_knows_is_taken() {
    let mut bench = Bench::bare(Cluster::shared().unwrap()).await;
    bench
        .says("it has no schema; run `migrate` as the owner's role")
        .await;
    stores::migrate(&bench.database, &bench.directory.path().join("owner-url")).await;
    bench.open().await.unwrap();

    bench
        .superuser("ALTER TABLE _sqlx_migrations RENAME TO kept")
        .await;
    bench
        .superuser("CREATE TABLE _sqlx_migrations (LIKE kept INCLUDING ALL)")
        .await;
    bench
        .superuser("GRANT SELECT ON _sqlx_migrations TO koseki_provider_service")
        .await;
    for (content, expected) in [
        (
            "SELECT * FROM kept WHERE version < 1000",
            "lacks step 1001; run `migrate` as the owner's role",
        ),
        (
            "SELECT * FROM kept UNION ALL SELECT 9999, description, installed_on, success, checksum, execution_time \
             FROM kept WHERE version = 1",
            "has a step 9999 that this program does not know",
        ),
        (
            "SELECT version, description, installed_on, success, sha256(checksum), execution_time FROM kept",
            "has a step 1 that this program does not know",
        ),
        (
            "SELECT version, description, installed_on, false, checksum, execution_time FROM kept",
            "has a step 1 that this program does not know",
        ),
    ] {
        bench.superuser("TRUNCATE _sqlx_migrations").await;
        bench
            .superuser(&format!("INSERT INTO _sqlx_migrations {content}"))
            .await;
        bench.says(expected).await;
    }
}

#[tokio::test]
async fn a_server_that_would_lose_what_it_acknowledged_is_refused() {
    let mut bench = Bench::new(own_server()).await;
    for setting in ["fsync", "full_page_writes"] {
        bench.set(setting, "off").await;
        bench.says(&format!("{setting} must be on, it is off")).await;
        bench.set(setting, "on").await;
        bench.open().await.unwrap();
    }
}

#[tokio::test]
async fn a_standby_is_refused() {
    let cluster = own_server();
    let bench = Bench::new(cluster.clone()).await;
    bench.open().await.unwrap();
    cluster.stop();
    let signal = cluster.data().join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    cluster.start_again().unwrap();
    bench.says("it is a standby; give the primary").await;
}

/// The server's and the role's defaults may be anything: a service states its own.
#[tokio::test]
async fn a_session_has_the_services_own_settings() {
    let mut bench = Bench::new(Cluster::shared().unwrap()).await;
    let database: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut bench.superuser)
        .await
        .unwrap();
    for setting in [
        "synchronous_commit = off",
        "statement_timeout = 0",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'repeatable read'",
        "client_min_messages = error",
    ] {
        let sql = format!("ALTER ROLE koseki_provider_service IN DATABASE {database} SET {setting}");
        bench.superuser(&sql).await;
    }
    // They are in force for everybody else who is this role.
    let mut other = PgConnection::connect(&bench.database.service_url())
        .await
        .unwrap();
    let off: String = sqlx::query_scalar("SHOW synchronous_commit")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!(off, "off");

    let store = bench.open().await.unwrap();
    // Where there is no BEGIN that says it.
    for access in [Access::Release, Access::RequestersGuard, Access::Openings] {
        let sql = "SELECT current_setting('transaction_isolation')";
        let rows = store.database().once(access, sql, &[]).await.unwrap();
        assert_eq!(rows[0].text(0).unwrap(), "read committed", "{access:?}");
    }
    for access in [
        Access::Release,
        Access::Guard,
        Access::RequestersGuard,
        Access::Openings,
        Access::Ordinary,
        Access::Load,
        Access::GuardLoad,
        Access::Copies,
    ] {
        let mut tx = store.database().begin(access).await.unwrap();
        for (setting, expected) in [
            ("synchronous_commit", "on"),
            ("transaction_isolation", "read committed"),
            ("transaction_read_only", "off"),
            ("idle_in_transaction_session_timeout", "1s"),
            ("lock_timeout", "2500ms"),
            ("statement_timeout", "2800ms"),
            ("tcp_user_timeout", "1500"),
            ("client_min_messages", "warning"),
        ] {
            let params = [("setting", setting.into())];
            let row = tx
                .one("SELECT current_setting({setting})", &params)
                .await
                .unwrap();
            assert_eq!(row.text(0).unwrap(), expected, "{access:?}: {setting}");
        }
    }
}

/// A restored copy, or a standby that was promoted, may lack what forbids.
#[tokio::test(flavor = "multi_thread")]
async fn another_database_provides_when_two_persons_have_resumed() {
    let deployments = TwoDeployments::create().await;
    let clock = Arc::new(ShiftedClock::default());
    let pair = Pair::start_at(&deployments, clock.clone()).await.load().await;
    let cast = pair.cast().await;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    ask_once(&cast.frontend, &card, KIND, "").await.unwrap();
    pair.stop().await;

    let database = deployments.first.provider_database();
    let mut behind = stores::Behind::open(&database).await;
    let moved = "UPDATE database_identity SET system_identifier = '1'";
    assert_eq!(behind.connection().execute(moved, &[]).await.unwrap(), 1);
    let pair = Pair::start_at(&deployments, clock.clone()).await;
    assert!(guard_act(&database, "DATABASE_MOVED").await.is_some());
    let access = client::Access::new(&deployments.first, clock.clone());
    let cast = Cast::new(&deployments.first, &access, &pair.reach().portal).unwrap();
    cast.frontend.wait_until_decided().await.unwrap();
    let refused = ask_once(&cast.frontend, &card, KIND, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::ProvisionSuspended.name()));

    let Offices {
        registry: [alice, bob],
        ..
    } = pair.offices();
    let proposed = alice.propose_resume(None).await.unwrap();
    let alone = alice.approve(&proposed).await.unwrap_err();
    assert_eq!(alone.reason(), Some(Reason::AnotherPersonNeeded.name()));
    bob.approve(&proposed).await.unwrap();
    cast.frontend.wait_until_providing().await.unwrap();
    ask_once(&cast.frontend, &card, KIND, "").await.unwrap();
    pair.stop().await;

    // It is known from now on.
    let pair = Pair::start_at(&deployments, clock).await;
    let cast = pair.cast().await;
    ask_once(&cast.frontend, &card, KIND, "").await.unwrap();
}

/// A wait for a synchronous standby that is cancelled: PostgreSQL lets the commit succeed, and only warns that the standby
/// may not have it.
#[tokio::test]
async fn a_warning_at_a_commit_is_no_success() {
    let mut bench = Bench::new(own_server()).await;
    let store = bench.open().await.unwrap();
    let clock = ShiftedClock::default();
    let act_id = ActId::random().unwrap();
    let act = || Suspend {
        act_id,
        kind: None,
        reason: "test".to_owned(),
    };
    bench.set("synchronous_standby_names", "nobody").await;
    let (operator, now) = (identity("operator/alice"), clock.now());
    let cancel = async || {
        let mut superuser = PgConnection::connect(&bench.database.superuser_url())
            .await
            .unwrap();
        until(async || {
            let waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                           WHERE wait_event = 'SyncRep' AND datname = current_database()";
            sqlx::query_scalar::<_, bool>(waiting)
                .fetch_optional(&mut superuser)
                .await
                .unwrap()
                .is_some()
        })
        .await;
    };
    // The checkpointer tells the others of it, some time after a new session shows it.
    until(async || {
        let mut superuser = PgConnection::connect(&bench.database.superuser_url())
            .await
            .unwrap();
        let write = sqlx::query("SELECT pg_logical_emit_message(true, '', '')");
        tokio::select! {
            written = write.execute(&mut superuser) => { written.unwrap(); false }
            () = cancel() => true,
        }
    })
    .await;
    // The second time the act is there, and still no standby has it.
    for time in ["first", "second"] {
        let suspend = store.database().suspend(act(), &operator, now);
        let (suspended, ()) = tokio::join!(suspend, cancel());
        assert!(
            matches!(suspended, Err(ActError::Store(StoreError::CommitWarning))),
            "{time}: {suspended:?}"
        );
    }
    // A statement that commits by itself, too.
    let stored = store.database().store_checkpoint(1, "a note");
    let (stored, ()) = tokio::join!(stored, cancel());
    assert!(matches!(stored, Err(StoreError::CommitWarning)), "{stored:?}");
    // The caller repeats the act: then it is known.
    bench.set("synchronous_standby_names", "").await;
    let epoch = store.database().suspend(act(), &operator, now).await.unwrap();
    assert_eq!(epoch.0, 1, "it had been committed");
}

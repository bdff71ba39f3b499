//! A database, its store, and what look-ups in it take.

use std::{path::PathBuf, sync::Arc, time::Duration};

use common::{
    clock::{Clock as _, SystemClock},
    evidence::ordinary_act,
    keyring::Keyring,
    store::{Connection, Database as Migrated, DatabaseConfig},
    terms::RequestId,
};
use devkit::{
    client::Ids,
    deployment::{Addresses, Deployment, Plan},
    postgres::{Cluster, Database, Side},
};
use integration_tests::identity;
use koseki_provider::store::{LookUp, ProviderStore as _, SCHEMA, Sequence, Store};
use rand::Rng;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{
    plan,
    population::{Population, REGISTERS},
};

/// One database.
pub(crate) struct Timed {
    pub(crate) population: Population,
    place: Place,
    keys: Arc<Keyring>,
    store: Store,
    clock: SystemClock,
    ids: Ids,
    by_clock: Taken,
    releases: u64,
    before: Taken,
    before_scans: (i64, i64, i64),
    directory: TempDir,
}

/// Time in the database: of the one statement that looks up, and of all statements of the transaction that it stands in,
/// from BEGIN to COMMIT.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) read_ms: f64,
    pub(crate) release_ms: f64,
}

/// Where it is.
pub(crate) enum Place {
    Postgres(PgConnection),
    Sqlite(PathBuf),
}

/// A server of its own that counts what statements take. At the stated size it has the memory that a database of this
/// size is given: what is looked up is in its buffers.
pub(crate) async fn cluster(soak: bool) -> Arc<Cluster> {
    let cluster = Arc::new(Cluster::start().unwrap());
    let first = Database::create(cluster.clone(), Side::Provider).await.unwrap();
    let mut connection = PgConnection::connect(&first.superuser_url()).await.unwrap();
    let mut set = vec!["ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'"];
    if soak {
        set.push("ALTER SYSTEM SET shared_buffers = '3GB'");
    }
    set.push("CHECKPOINT");
    for sql in set {
        connection.execute(sql).await.unwrap();
    }
    connection.close().await.unwrap();
    cluster.stop();
    cluster.start_again().unwrap();
    let mut connection = PgConnection::connect(&first.superuser_url()).await.unwrap();
    for sql in [
        "ALTER SYSTEM SET pg_stat_statements.track_planning = on",
        "SELECT pg_reload_conf()",
    ] {
        connection.execute(sql).await.unwrap();
    }
    connection.close().await.unwrap();
    cluster
}

impl Timed {
    /// A database with so many persons, on this server or else on SQLite.
    pub(crate) async fn prepare(seed: u64, persons: usize, cluster: Option<&Arc<Cluster>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan {
            seed,
            registers: 0,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        let keys = Arc::new(Keyring::load(&deployment.provider().join("keyring.toml")).unwrap());
        let population = Population::new(seed, persons);
        let (store, place) = match cluster {
            Some(cluster) => {
                let database = Database::create(cluster.clone(), Side::Provider).await.unwrap();
                let [owner, service] = ["owner-url", "service-url"].map(|name| directory.path().join(name));
                Database::write_url(&database.owner_url(), &owner).unwrap();
                Database::write_url(&database.service_url(), &service).unwrap();
                Migrated::migrate(&owner, SCHEMA).await.unwrap();
                let mut behind = PgConnection::connect(&database.superuser_url()).await.unwrap();
                behind
                    .execute("CREATE EXTENSION pg_stat_statements")
                    .await
                    .unwrap();
                population.load(Connection::Postgres(&mut behind), &keys).await;
                // What the server does by itself a while after a load.
                behind.execute("VACUUM ANALYZE").await.unwrap();
                behind.execute("SELECT pg_stat_force_next_flush()").await.unwrap();
                let config = DatabaseConfig::Postgres { url_file: service };
                (
                    Store::open(&config, "lookups", keys.clone()).await.unwrap(),
                    Place::Postgres(behind),
                )
            }
            None => {
                let file = deployment.provider_database();
                let config = DatabaseConfig::Sqlite { file: file.clone() };
                let store = Store::open(&config, "lookups", keys.clone()).await.unwrap();
                let options = SqliteConnectOptions::new()
                    .filename(&file)
                    .foreign_keys(true)
                    .pragma("cache_size", "-131072");
                let mut behind = SqliteConnection::connect_with(&options).await.unwrap();
                population.load(Connection::Sqlite(&mut behind), &keys).await;
                behind.close().await.unwrap();
                (store, Place::Sqlite(file))
            }
        };
        println!("{persons} persons are there");
        let mut place = place;
        let before_scans = match &mut place {
            Place::Postgres(behind) => plan::scans(behind).await,
            Place::Sqlite(_) => (0, 0, 0),
        };
        Self {
            population,
            place,
            keys,
            store,
            clock: SystemClock::new(),
            ids: Ids::new(Arc::new(SystemClock::new())),
            by_clock: Taken::default(),
            releases: 0,
            before: Taken::default(),
            before_scans,
            directory,
        }
    }

    /// One release of a batch from its read to the commit, and that its read finds what was loaded.
    pub(crate) async fn look_up(&mut self, rng: &mut impl Rng, batch: usize) {
        let persons: Vec<usize> = (0..batch)
            .map(|_| rng.random_range(0..self.population.persons))
            .collect();
        let handles: Vec<_> = persons
            .iter()
            .map(|person| LookUp {
                handle: self.population.code(*person).handle(),
                closed_registers: true,
            })
            .collect();
        let now = self.clock.now();
        let ids: Vec<_> = (0..batch)
            .map(|_| RequestId::parse(&self.ids.next(), now).unwrap())
            .collect();
        let entries =
            vec![ordinary_act("LOOK_UP", &identity("portal-gateway/gateway-1"), 1, None, ""); batch];
        self.releases += 1;
        let sequence = Sequence {
            gateway: "gateway-1".to_owned(),
            number: self.releases,
        };
        let started = self.clock.monotonic();
        let mut release = match self.store.enter_at_once() {
            Some(release) => release,
            None => self.store.enter().await.unwrap(),
        };
        let began = self.clock.monotonic();
        let found = release.read(&handles, now).await.unwrap();
        self.by_clock.read_ms += ms_since(&self.clock, began);
        assert_eq!(release.use_sequences(&[sequence]).await.unwrap(), [true]);
        assert_eq!(release.use_request_ids(&ids).await.unwrap().len(), batch);
        let _ = release.commit(entries, vec![[0; 32]; batch], now).await.unwrap();
        self.by_clock.release_ms += ms_since(&self.clock, started);
        for (person, facts) in persons.iter().zip(found) {
            let linkage = facts.linkage.expect("a linkage");
            assert!(linkage.active && linkage.person == Population::person(&self.keys, *person));
            assert_eq!(facts.registers.len(), REGISTERS);
            for register in facts.registers {
                let number = usize::from(register.kind != common::terms::RegisterKind::Current);
                assert!(register.body.unwrap().as_slice() == self.population.body_of(*person, number));
            }
        }
    }

    /// Closes the store: where the database is, and how its tables had been read before the first look-up.
    pub(crate) fn close(self) -> (Place, (i64, i64, i64), TempDir) {
        (self.place, self.before_scans, self.directory)
    }

    pub(crate) async fn begin_round(&mut self) {
        self.before = self.taken().await;
    }

    /// Time in the database since the round began.
    pub(crate) async fn in_round(&mut self) -> Taken {
        let now = self.taken().await;
        Taken {
            read_ms: now.read_ms - self.before.read_ms,
            release_ms: now.release_ms - self.before.release_ms,
        }
    }

    /// Pages that the release's statement has found in the server's memory, and that it had to fetch, in all look-ups.
    pub(crate) async fn pages(&mut self) -> Option<(i64, i64)> {
        let Place::Postgres(behind) = &mut self.place else {
            return None;
        };
        let pages = sqlx::query_as(
            "SELECT sum(shared_blks_hit)::bigint, sum(shared_blks_read)::bigint FROM pg_stat_statements \
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND query LIKE 'SELECT asked.at, linkage.person%'",
        )
        .fetch_one(behind)
        .await
        .unwrap();
        Some(pages)
    }

    /// What look-ups have taken so far: as the server counts their statements, or by the clock around SQLite's calls.
    async fn taken(&mut self) -> Taken {
        let Place::Postgres(behind) = &mut self.place else {
            return self.by_clock;
        };
        let (read_ms, release_ms) = sqlx::query_as(
            "SELECT coalesce(sum(total_plan_time + total_exec_time) FILTER (WHERE query LIKE 'SELECT asked.at, linkage.person%'), 0)::float8, \
                    coalesce(sum(total_plan_time + total_exec_time), 0)::float8 \
             FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user)",
        )
        .fetch_one(behind)
        .await
        .unwrap();
        Taken { read_ms, release_ms }
    }
}

fn ms_since(clock: &SystemClock, moment: Duration) -> f64 {
    clock.monotonic().saturating_sub(moment).as_secs_f64() * 1000.0
}

//! A deployment as it would be run, with its data: both services and the floor as processes, and the databases.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use common::{
    clock::{Clock as _, SystemClock},
    keyring::Keyring,
    store::{Connection, Database as Store, SchemaStep},
};
use devkit::{
    card::CardKeyType,
    client::{Access, Reach},
    deployment::{Addresses, Deployment, Plan},
    postgres::{Cluster, Database, Side},
    process::{Binaries, Pair},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tempfile::TempDir;
use toml::{Table, Value};

use crate::{
    commit,
    floor::Floor,
    load::{CONNECTIONS, Caller, Target},
    machine,
    population::{Expected, Population},
    sessions::{Crowd, Holder, card_keys, issue_cards},
    sizes::Sizes,
};

/// Seconds after which a session ends, with and without a call: a run is longer than the policy's own.
const SESSION_SECONDS: i64 = 86_400;

/// On which databases both services stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// A PostgreSQL server of the bench's own, with a database for each side.
    Postgres,
    /// A file for each side.
    Sqlite,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Everything that runs.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) persons: usize,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) visitors: Vec<Arc<Holder>>,
    pub(crate) population: Population,
    pub(crate) access: Access,
    pub(crate) reach: Reach,
    pub(crate) product: Arc<Target>,
    pub(crate) floor: Arc<Target>,
    /// A bare commit, measured alone.
    pub(crate) commit_ms: f64,
    pair: Pair,
    floor_processes: Floor,
    cluster: Option<Arc<Cluster>>,
    places: [Place; 2],
    _dir: TempDir,
}

/// Where a side's database is.
enum Place {
    Postgres(Database),
    Sqlite(PathBuf),
}

/// A connection behind the services' backs.
enum Behind {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Behind {
    fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Postgres(connection) => Connection::Postgres(connection),
            Self::Sqlite(connection) => Connection::Sqlite(connection),
        }
    }
}

impl Behind {
    /// Runs statements, but for those about tables that are not here.
    async fn try_out(&mut self, sql: &[String]) -> Result<()> {
        for sql in sql {
            let statement = sqlx::raw_sql(AssertSqlSafe(sql.clone()));
            let ran = match self {
                Self::Postgres(connection) => connection.execute(statement).await.map(drop),
                Self::Sqlite(connection) => connection.execute(statement).await.map(drop),
            };
            let there = ran.or_else(|error| match error.to_string() {
                text if text.contains("does not exist") || text.contains("no such") => Ok(()),
                _ => Err(error),
            });
            there.with_context(|| sql.clone())?;
        }
        Ok(())
    }
}

impl Place {
    async fn connect(&self) -> Result<Behind> {
        Ok(match self {
            Self::Postgres(database) => {
                Behind::Postgres(PgConnection::connect(&database.superuser_url()).await?)
            }
            Self::Sqlite(file) => {
                let options = SqliteConnectOptions::new()
                    .filename(file)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(Duration::from_secs(5))
                    .pragma("cache_size", "-131072");
                Behind::Sqlite(SqliteConnection::connect_with(&options).await?)
            }
        })
    }
}

impl World {
    /// Makes and loads everything, starts everything, and logs everybody in.
    pub(crate) async fn start(
        engine: Engine,
        persons: usize,
        sizes: &Sizes,
        seed: u64,
        sql: &[String],
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("koseki-bench-").tempdir()?;
        let plan = Plan {
            seed,
            registers: 0,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(dir.path(), &plan)?;
        lengthen_sessions(&deployment)?;
        let clock = Arc::new(SystemClock::new());

        println!("making cards and the revocation list");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let root = deployment.card_root()?;
        let provided = persons - persons / 10;
        let mut taken = BTreeSet::new();
        let sessions = sizes.sessions.min(provided / 2);
        let holders = issue_cards(
            &root,
            &mut rng,
            provided,
            &mut taken,
            sessions,
            CardKeyType::EcdsaP256,
        )?;
        let visitors = issue_cards(
            &root,
            &mut rng,
            provided,
            &mut taken,
            sizes.visitors,
            CardKeyType::Rsa2048,
        )?;
        deployment.publish_revocations(&revoked(sizes.revoked))?;

        let cluster = match engine {
            Engine::Postgres => Some(start_cluster(sizes).await?),
            Engine::Sqlite => None,
        };
        let places = [
            place(&deployment, Side::Provider, cluster.as_ref()).await?,
            place(&deployment, Side::Gateway, cluster.as_ref()).await?,
        ];
        let [provider, gateway] = &places;
        let commit_ms = commit::alone(&mut provider.connect().await?.connection()).await?;

        println!("loading {persons} persons");
        let cards = card_keys(holders.iter().chain(&visitors));
        let population = Population::new(seed, persons, cards, clock.now())?;
        let keys = [
            Keyring::load(&deployment.provider().join("keyring.toml"))?,
            Keyring::load(&deployment.gateway().join("keyring.toml"))?,
        ];
        let [provider_keys, gateway_keys] = &keys;
        let (mut behind_provider, mut behind_gateway) = (provider.connect().await?, gateway.connect().await?);
        population
            .load_provider(behind_provider.connection(), provider_keys)
            .await?;
        population
            .load_gateway(behind_gateway.connection(), gateway_keys)
            .await?;
        for behind in [&mut behind_provider, &mut behind_gateway] {
            behind.try_out(sql).await?;
            settle(behind).await?;
        }
        drop((behind_provider, behind_gateway));

        println!("starting both services and the floor");
        let pair = Pair::start(&Binaries::locate()?, &deployment).await?;
        let reach = pair.reach()?;
        let access = Access::new(&deployment, clock.clone());
        let product = Target::new(&access, &reach.portal, CONNECTIONS, None)?;
        devkit::client::Frontend::new(&access, &reach.portal)?
            .wait_until_providing()
            .await?;

        println!("{} logins and consents", holders.len());
        let began = clock.monotonic();
        let crowd = Crowd::log_in(&product, &population, &holders, &clock).await?;
        println!(
            "logins and consents took {:.1} s",
            clock.monotonic().saturating_sub(began).as_secs_f64()
        );

        // The floor answers as the product does for somebody whose answer has the usual length.
        let (answer, always) = usual_answer(&product, &crowd).await?;
        let floor_processes = Floor::start(&deployment, &answer).await?;
        let floor = Target::new(&access, &floor_processes.address, CONNECTIONS, Some(always))?;
        Ok(Self {
            engine,
            persons,
            crowd,
            visitors,
            population,
            access,
            reach,
            product,
            floor,
            commit_ms,
            pair,
            floor_processes,
            cluster,
            places,
            _dir: dir,
        })
    }

    /// Stops everything, well.
    pub(crate) async fn stop(self) -> Result<()> {
        self.floor_processes.stop().await?;
        Ok(self.pair.stop().await?)
    }

    /// Process ids of gateway and provider.
    pub(crate) fn services(&self) -> Result<[u32; 2]> {
        let gone = "a service has ended";
        Ok([
            self.pair.gateway.id().context(gone)?,
            self.pair.provider.id().context(gone)?,
        ])
    }

    /// Process ids of the floor's forwarder and echo.
    pub(crate) fn floor_ids(&self) -> Result<[u32; 2]> {
        self.floor_processes.ids()
    }

    /// Process id of the database server, where there is one.
    pub(crate) fn database(&self) -> Option<u32> {
        self.cluster.as_ref().and_then(|cluster| cluster.pid())
    }

    /// Process ids of the database server, where there is one, and of all its processes.
    pub(crate) fn database_processes(&self) -> Vec<u32> {
        let server = self.database();
        let children = server.map(machine::children).unwrap_or_default();
        server.into_iter().chain(children).collect()
    }

    /// Connections of the database server's superuser, one to each side's database, where there is a server.
    pub(crate) async fn superusers(&self) -> Result<Vec<PgConnection>> {
        let mut connections = Vec::new();
        for place in &self.places {
            if let Behind::Postgres(connection) = place.connect().await? {
                connections.push(connection);
            }
        }
        Ok(connections)
    }

    /// Entries and bundles in the gateway's log so far.
    pub(crate) async fn logged(&self) -> Result<[i64; 2]> {
        let [_, gateway] = &self.places;
        let mut behind = gateway.connect().await?;
        let sql = "SELECT CAST(sum(size) AS BIGINT), CAST(sum(bundles) AS BIGINT) FROM log_head";
        let row = behind.connection().one(sql, &[]).await?;
        Ok([row.int(0)?, row.int(1)?])
    }
}

/// Both sides' policy lets sessions last.
fn lengthen_sessions(deployment: &Deployment) -> Result<()> {
    for side in [deployment.provider(), deployment.gateway()] {
        let path = side.join("policy/provision-policy.toml");
        let mut policy: Table = fs::read_to_string(&path)?.parse()?;
        let login = policy.get_mut("login").and_then(Value::as_table_mut);
        let login = login.context("the policy has no [login]")?;
        for key in ["session_seconds", "session_idle_seconds"] {
            login.insert(key.to_owned(), Value::Integer(SESSION_SECONDS));
        }
        fs::write(&path, policy.to_string())?;
    }
    Ok(())
}

/// Serial numbers that nobody has: cards' have other lengths.
fn revoked(count: usize) -> Vec<Vec<u8>> {
    let serial = |number: usize| {
        let mut serial = common::digest::sha256(&[b"revoked", &number.to_be_bytes()]).to_vec();
        serial.truncate(12);
        serial
    };
    (0..count).map(serial).collect()
}

/// A server with the memory that a database of this size is given.
async fn start_cluster(sizes: &Sizes) -> Result<Arc<Cluster>> {
    let cluster = Arc::new(Cluster::start()?);
    let database = Database::create(cluster.clone(), Side::Provider).await?;
    let mut connection = PgConnection::connect(&database.superuser_url()).await?;
    if sizes.count_statements {
        connection
            .execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
            .await?;
    }
    let sql = format!(
        "ALTER SYSTEM SET shared_buffers = '{}MB'",
        sizes.shared_buffers_mib
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.execute("CHECKPOINT").await?;
    connection.close().await?;
    cluster.stop();
    cluster.start_again()?;
    if sizes.count_statements {
        let mut connection = PgConnection::connect(&database.superuser_url()).await?;
        for sql in [
            "ALTER SYSTEM SET pg_stat_statements.track_planning = on",
            "SELECT pg_reload_conf()",
        ] {
            connection.execute(sql).await?;
        }
    }
    Ok(cluster)
}

/// Makes a side's database, with its schema, and tells the service where it is.
async fn place(deployment: &Deployment, side: Side, cluster: Option<&Arc<Cluster>>) -> Result<Place> {
    let (config, file, schema) = match side {
        Side::Provider => (
            deployment.provider_config(),
            deployment.provider_database(),
            koseki_provider::store::SCHEMA,
        ),
        Side::Gateway => (
            deployment.gateway_config(),
            deployment.gateway_database(),
            portal_gateway::store::SCHEMA,
        ),
    };
    match cluster {
        Some(cluster) => on_postgres(&config, &file, side, schema, cluster).await,
        None => {
            // Opened once, as a service does it, so that it has its schema.
            let keyring = match side {
                Side::Provider => deployment.provider(),
                Side::Gateway => deployment.gateway(),
            };
            let keys = Arc::new(Keyring::load(&keyring.join("keyring.toml"))?);
            let database = common::store::DatabaseConfig::Sqlite { file: file.clone() };
            drop(Store::open(&database, "bench", keys, schema).await?);
            Ok(Place::Sqlite(file))
        }
    }
}

async fn on_postgres(
    config: &Path,
    file: &Path,
    side: Side,
    schema: &'static [SchemaStep],
    cluster: &Arc<Cluster>,
) -> Result<Place> {
    let database = Database::create(cluster.clone(), side).await?;
    let [owner, service] = ["owner-url", "service-url"].map(|ending| file.with_extension(ending));
    Database::write_url(&database.owner_url(), &owner)?;
    Database::write_url(&database.service_url(), &service)?;
    Store::migrate(&owner, schema).await?;
    let mut table = Table::from_str(&fs::read_to_string(config)?)?;
    let section = Table::from_iter([
        ("kind".to_owned(), Value::from("postgres")),
        (
            "url_file".to_owned(),
            Value::from(service.to_string_lossy().into_owned()),
        ),
    ]);
    table.insert("database".to_owned(), Value::Table(section));
    fs::write(config, table.to_string())?;
    Ok(Place::Postgres(database))
}

/// What the database does by itself a while after a load.
async fn settle(behind: &mut Behind) -> Result<()> {
    match behind {
        Behind::Postgres(connection) => {
            connection.execute("VACUUM ANALYZE").await?;
            connection.execute("CHECKPOINT").await?;
        }
        Behind::Sqlite(connection) => {
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await?;
        }
    }
    Ok(())
}

/// The answer whose encoding is neither short nor long among some, and what it says.
async fn usual_answer(
    product: &Arc<Target>,
    crowd: &Arc<Crowd>,
) -> Result<(koseki_proto::portal::v1::RequestCopyInfoResponse, Expected)> {
    const SOME: usize = 101;
    let mut caller = Caller::new(product, crowd, 0)?;
    let mut answers = Vec::new();
    for at in 0..SOME.min(crowd.len()) {
        let person = crowd.person(at)?;
        let (_, answer) = caller.ask(&person.token).await?;
        answers.push((prost::Message::encoded_len(&answer), at, answer));
    }
    answers.sort_by_key(|(length, at, _)| (*length, *at));
    let middle = answers.len() / 2;
    let (_, at, answer) = answers.into_iter().nth(middle).context("no answers")?;
    Ok((answer, crowd.person(at)?.expected.clone()))
}

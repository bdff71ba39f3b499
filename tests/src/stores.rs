//! On which database the tests run: SQLite, or with KOSEKI_STORE=postgres a real PostgreSQL, a database for each side of
//! each test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::store::Database as Store;
use devkit::{
    deployment::Deployment,
    postgres::{Cluster, Database, Side},
};
use sqlx::{Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use toml::{Table, Value};

/// Whether the tests run on PostgreSQL.
pub fn on_postgres() -> bool {
    match env::var("KOSEKI_STORE").as_deref() {
        Err(_) | Ok("sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("KOSEKI_STORE is {other}; give sqlite or postgres"),
    }
}

/// Makes the deployment stand on the database that the tests run on.
pub async fn place(deployment: &Deployment) {
    if on_postgres() {
        place_on_postgres(deployment).await;
    }
}

/// Makes the deployment stand on the PostgreSQL of this process.
pub async fn place_on_postgres(deployment: &Deployment) {
    let shared = Cluster::shared().unwrap();
    place_on(deployment, &[shared.clone(), shared]).await;
}

/// Where the URL of the role that a side's service runs as is.
pub fn service_url(sqlite: &Path) -> PathBuf {
    sqlite.with_extension("service-url")
}

/// Makes the deployment stand on these PostgreSQL servers of the registry and the portal side.
pub async fn place_on(deployment: &Deployment, servers: &[Arc<Cluster>; 2]) {
    let provider = (
        Side::Provider,
        deployment.provider_config(),
        deployment.provider_database(),
    );
    let gateway = (
        Side::Gateway,
        deployment.gateway_config(),
        deployment.gateway_database(),
    );
    for ((side, config, sqlite), server) in [provider, gateway].into_iter().zip(servers) {
        let database = Database::create(server.clone(), side).await.unwrap();
        migrate(&database, &sqlite.with_extension("owner-url")).await;
        let service = service_url(&sqlite);
        Database::write_url(&database.service_url(), &service).unwrap();
        Database::write_url(&database.superuser_url(), &url_beside(&sqlite)).unwrap();
        let mut table: Table = fs::read_to_string(&config).unwrap().parse().unwrap();
        let section = Table::from_iter([
            ("kind".to_owned(), Value::from("postgres")),
            ("url_file".to_owned(), Value::from(service.to_str().unwrap())),
        ]);
        table.insert("database".to_owned(), Value::Table(section));
        fs::write(&config, table.to_string()).unwrap();
    }
}

/// Brings a database's schema up to date as its owner, whose URL is left in a file.
pub async fn migrate(database: &Database, owner_url_file: &Path) {
    Database::write_url(&database.owner_url(), owner_url_file).unwrap();
    let schema = match database.side() {
        Side::Provider => koseki_provider::store::SCHEMA,
        Side::Gateway => portal_gateway::store::SCHEMA,
    };
    Store::migrate(owner_url_file, schema).await.unwrap();
}

/// Where the URL of the PostgreSQL database is that stands in for this file.
fn url_beside(sqlite: &Path) -> PathBuf {
    sqlite.with_extension("superuser-url")
}

/// Where all that a side's database keeps can be looked at byte by byte, once it is all there.
///
/// On SQLite these are the files of its folder. On PostgreSQL they are those of the whole server, its log and its WAL among
/// them, and a dump of the database, which is written into that folder.
pub async fn all_bytes(sqlite: &Path) -> Vec<PathBuf> {
    let folder = sqlite.parent().unwrap().to_owned();
    let Ok(url) = fs::read_to_string(url_beside(sqlite)) else {
        return vec![folder];
    };
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // What is in memory only is written to the files.
    sqlx::query("CHECKPOINT").execute(&mut connection).await.unwrap();
    let cluster = Cluster::shared().unwrap();
    let dump = cluster.dump(&url).unwrap();
    assert!(dump.len() > 10_000, "a dump of {} bytes", dump.len());
    fs::write(sqlite.with_extension("dump"), dump).unwrap();
    vec![folder, cluster.data(), cluster.log()]
}

/// Runs statements on a side's database as its owner would, while its service is stopped.
pub async fn change(sqlite: &Path, sql: &'static str) {
    match fs::read_to_string(url_beside(sqlite)) {
        Ok(url) => {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
        Err(_) => {
            let options = SqliteConnectOptions::new().filename(sqlite);
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

/// A connection to a side's database, behind its service's back.
pub enum Behind {
    /// SQLite.
    Sqlite(SqliteConnection),
    /// PostgreSQL.
    Postgres(PgConnection),
}

impl Behind {
    /// The database of this file, or the one that stands in for it, to be looked at.
    pub async fn open(sqlite: &Path) -> Self {
        Self::connect(sqlite, true).await
    }

    /// The same, to be tampered with.
    pub async fn tamper(sqlite: &Path) -> Self {
        Self::connect(sqlite, false).await
    }

    async fn connect(sqlite: &Path, read_only: bool) -> Self {
        match fs::read_to_string(url_beside(sqlite)) {
            Ok(url) => Self::Postgres(PgConnection::connect(&url).await.unwrap()),
            Err(_) => {
                let options = SqliteConnectOptions::new().filename(sqlite).read_only(read_only);
                Self::Sqlite(SqliteConnection::connect_with(&options).await.unwrap())
            }
        }
    }

    /// The same, to change what stands there.
    pub async fn open_to_write(sqlite: &Path) -> Self {
        match fs::read_to_string(url_beside(sqlite)) {
            Ok(url) => Self::Postgres(PgConnection::connect(&url).await.unwrap()),
            Err(_) => {
                let options = SqliteConnectOptions::new().filename(sqlite);
                Self::Sqlite(SqliteConnection::connect_with(&options).await.unwrap())
            }
        }
    }

    /// The connection.
    pub fn connection(&mut self) -> common::store::Connection<'_> {
        match self {
            Self::Sqlite(connection) => common::store::Connection::Sqlite(connection),
            Self::Postgres(connection) => common::store::Connection::Postgres(connection),
        }
    }
}

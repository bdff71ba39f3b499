//! Raw bulk loading: the rows that the service has stored, byte for byte, in large transactions into the same tables with
//! the same indexes and the same durability. Only the loading is timed, not the reading.

use std::{path::PathBuf, sync::Arc};

use common::{
    clock::{Clock as _, SystemClock},
    keyring::Keyring,
    store::{Database as Store, DatabaseConfig},
};
use devkit::{
    deployment::Deployment,
    postgres::{Cluster, Database, Side},
};
use futures_util::TryStreamExt as _;
use integration_tests::stores::Behind;
use koseki_provider::store::SCHEMA;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, QueryBuilder, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{Engine, phase::Phase};

/// Copies in one transaction.
const CHUNK: i64 = 10_000;
/// Rows in one statement of SQLite.
const ROWS: usize = 200;

const COPY: &str = "id, key, municipality_code, kind, medium, in_motion, revision, digest, received_at, body";
const MEMBER: &str = "register_id, reference, removed, position";

type Copy = (
    i64,
    Vec<u8>,
    String,
    String,
    String,
    bool,
    i64,
    Vec<u8>,
    i64,
    Vec<u8>,
);
type Member = (i64, Vec<u8>, bool, i64);

/// Another database with the service's schema.
pub(crate) struct Raw {
    from: Behind,
    to: Behind,
    last: i64,
    pub(crate) phase: Phase,
}

impl Raw {
    pub(crate) async fn prepare(engine: Engine, deployment: &Deployment) -> Self {
        let file = deployment.dir().join("raw.sqlite");
        let to = match engine {
            Engine::Postgres => {
                let database = Database::create(Cluster::shared().unwrap(), Side::Provider)
                    .await
                    .unwrap();
                let owner = file.with_extension("owner-url");
                Database::write_url(&database.owner_url(), &owner).unwrap();
                Store::migrate(&owner, SCHEMA).await.unwrap();
                Behind::Postgres(PgConnection::connect(&database.owner_url()).await.unwrap())
            }
            Engine::Sqlite => {
                let keys = Arc::new(Keyring::load(&deployment.provider().join("keyring.toml")).unwrap());
                let config = DatabaseConfig::Sqlite { file: file.clone() };
                Store::open(&config, "raw", keys, SCHEMA).await.unwrap();
                Behind::Sqlite(connect(&file).await)
            }
        };
        Self {
            from: Behind::open(&deployment.provider_database()).await,
            to,
            last: 0,
            phase: Phase::default(),
        }
    }

    /// Loads what the service has stored since the last time.
    pub(crate) async fn load(&mut self) {
        let clock = SystemClock::new();
        let (mut copies, mut took) = (0, std::time::Duration::ZERO);
        while let Some((first, last, count)) = self.next_chunk().await {
            let began = match (&mut self.from, &mut self.to) {
                (Behind::Postgres(from), Behind::Postgres(to)) => {
                    let rows = copy_out(from, "register_copy", COPY, "id", first, last).await;
                    let members = copy_out(from, "member", MEMBER, "register_id", first, last).await;
                    let began = clock.monotonic();
                    let mut tx = to.begin().await.unwrap();
                    copy_in(&mut tx, "register_copy", COPY, rows).await;
                    copy_in(&mut tx, "member", MEMBER, members).await;
                    tx.commit().await.unwrap();
                    began
                }
                (Behind::Sqlite(from), Behind::Sqlite(to)) => {
                    let rows: Vec<Copy> = select(from, "register_copy", COPY, "id", first, last).await;
                    let members: Vec<Member> =
                        select(from, "member", MEMBER, "register_id", first, last).await;
                    let began = clock.monotonic();
                    let mut tx = to.begin_with("BEGIN IMMEDIATE").await.unwrap();
                    insert(&mut tx, rows, members).await;
                    tx.commit().await.unwrap();
                    began
                }
                _ => panic!("two kinds of database"),
            };
            took += clock.monotonic().saturating_sub(began);
            self.last = last;
            copies += count;
        }
        if copies > 0 {
            self.phase.add(copies, took);
        }
    }

    /// Ids of the next chunk, and how many copies it has.
    async fn next_chunk(&mut self) -> Option<(i64, i64, usize)> {
        let sql = "SELECT min(id), max(id), count(*) FROM \
                   (SELECT id FROM register_copy WHERE id > {last} ORDER BY id LIMIT {chunk}) AS chunk";
        let params = [("last", self.last.into()), ("chunk", CHUNK.into())];
        let row = self.from.connection().one(sql, &params).await.unwrap();
        let first = row.optional_int(0).unwrap()?;
        Some((first, row.int(1).unwrap(), row.place(2).unwrap()))
    }

    /// The connection, for those who look at what was loaded.
    pub(crate) fn loaded(&mut self) -> common::store::Connection<'_> {
        self.to.connection()
    }
}

async fn copy_out(
    from: &mut PgConnection,
    table: &str,
    columns: &str,
    id: &str,
    first: i64,
    last: i64,
) -> Vec<u8> {
    let sql = format!(
        "COPY (SELECT {columns} FROM {table} WHERE {id} BETWEEN {first} AND {last} ORDER BY {id}) \
         TO STDOUT (FORMAT binary)"
    );
    let mut rows = from.copy_out_raw(&sql).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(some) = rows.try_next().await.unwrap() {
        bytes.extend_from_slice(&some);
    }
    bytes
}

async fn copy_in(to: &mut PgConnection, table: &str, columns: &str, rows: Vec<u8>) {
    let sql = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
    let mut copy = to.copy_in_raw(&sql).await.unwrap();
    copy.send(rows).await.unwrap();
    copy.finish().await.unwrap();
}

async fn select<T>(
    from: &mut SqliteConnection,
    table: &str,
    columns: &str,
    id: &str,
    first: i64,
    last: i64,
) -> Vec<T>
where
    T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
{
    let sql = format!("SELECT {columns} FROM {table} WHERE {id} BETWEEN {first} AND {last} ORDER BY {id}");
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(from).await.unwrap()
}

/// As the service opens its file.
async fn connect(file: &PathBuf) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "16384")
        .pragma("temp_store", "MEMORY");
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn insert(to: &mut SqliteConnection, copies: Vec<Copy>, members: Vec<Member>) {
    let mut copies = copies.into_iter().peekable();
    while copies.peek().is_some() {
        let mut statement: QueryBuilder<Sqlite> =
            QueryBuilder::new(format!("INSERT INTO register_copy ({COPY}) "));
        statement.push_values(copies.by_ref().take(ROWS), |mut row, copy| {
            row.push_bind(copy.0).push_bind(copy.1).push_bind(copy.2);
            row.push_bind(copy.3).push_bind(copy.4).push_bind(copy.5);
            row.push_bind(copy.6)
                .push_bind(copy.7)
                .push_bind(copy.8)
                .push_bind(copy.9);
        });
        statement.build().execute(&mut *to).await.unwrap();
    }
    let mut members = members.into_iter().peekable();
    while members.peek().is_some() {
        let mut statement: QueryBuilder<Sqlite> =
            QueryBuilder::new(format!("INSERT INTO member ({MEMBER}) "));
        statement.push_values(members.by_ref().take(ROWS), |mut row, member| {
            row.push_bind(member.0)
                .push_bind(member.1)
                .push_bind(member.2)
                .push_bind(member.3);
        });
        statement.build().execute(&mut *to).await.unwrap();
    }
}

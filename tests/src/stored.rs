//! What a side has stored, compared before and after.

use std::{collections::BTreeMap, path::Path};

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use crate::stores::Behind;

/// The evidence of acts and what is derived from it, and the number of starts, which are not what was sent.
const EVIDENCE: [&str; 8] = [
    "bundle",
    "log_head",
    "log_checkpoint",
    "witnessed_log",
    "gate",
    "provision_record",
    "indexed_log",
    "lost_answer_place",
];

/// Every row of every table but for the evidence, as SQL literals, by table. The service may run meanwhile.
pub async fn stored(database: &Path) -> BTreeMap<String, Vec<String>> {
    match Behind::open(database).await {
        Behind::Sqlite(connection) => of_sqlite(connection).await,
        Behind::Postgres(connection) => of_postgres(connection).await,
    }
}

async fn of_postgres(mut connection: PgConnection) -> BTreeMap<String, Vec<String>> {
    let tables: Vec<(String,)> = sqlx::query_as(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut stored = BTreeMap::new();
    for (table,) in tables {
        if EVIDENCE.contains(&table.as_str()) {
            continue;
        }
        let sql = format!("SELECT \"{table}\"::text AS row FROM \"{table}\" ORDER BY row");
        let rows: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        stored.insert(table, rows.into_iter().map(|(row,)| row).collect());
    }
    stored
}

async fn of_sqlite(mut connection: SqliteConnection) -> BTreeMap<String, Vec<String>> {
    let tables: Vec<(String,)> = sqlx::query_as(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut stored = BTreeMap::new();
    for (table,) in tables {
        if EVIDENCE.contains(&table.as_str()) {
            continue;
        }
        let columns: Vec<(String,)> = sqlx::query_as("SELECT name FROM pragma_table_info(?1)")
            .bind(&table)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let columns: Vec<_> = columns
            .iter()
            .map(|(name,)| format!("quote(\"{name}\")"))
            .collect();
        let sql = format!(
            "SELECT {} AS row FROM \"{table}\" ORDER BY row",
            columns.join(" || ',' || ")
        );
        let rows: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        stored.insert(table, rows.into_iter().map(|(row,)| row).collect());
    }
    stored
}

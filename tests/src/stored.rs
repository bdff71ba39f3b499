//! What a side has stored, compared before and after.

use std::{collections::BTreeMap, path::Path};

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

/// The evidence of acts, and the number of starts, which are not what was sent.
const EVIDENCE: [&str; 3] = ["bundle", "log_head", "gate"];

/// Every row of every table but for the evidence, as SQL literals, by table. The service may run meanwhile.
pub async fn stored(database: &Path) -> BTreeMap<String, Vec<String>> {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
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

//! Each role of each side's PostgreSQL database can do only what its program needs (DESIGN §7, HABITS 17): a login as each
//! of them, and every statement really sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::collections::{BTreeMap, BTreeSet};

use devkit::postgres::{Cluster, Database, Side};
use integration_tests::stores;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// insufficient_privilege.
const REFUSED: &str = "42501";
/// What the server says of a view that nobody can change, whoever asks: not in the prerequisite state, wrong object type.
const UNCHANGEABLE: [&str; 2] = ["55000", "42809"];
/// What is tried on a table.
const PRIVILEGES: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"];
/// What the auditor reads.
const AUDITED: [&str; 5] = ["gate", "log_head", "bundle", "log_checkpoint", "witnessed_log"];
/// What neither the service nor the auditor may do, whatever the table.
const NEVER: [&str; 21] = [
    "CREATE TABLE mine (one BIGINT)",
    "CREATE TEMPORARY TABLE mine (one BIGINT)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS BIGINT LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION file_fdw",
    "CREATE INDEX ON bundle (epoch)",
    "CREATE RULE mine AS ON UPDATE TO bundle DO INSTEAD NOTHING",
    "DROP TABLE bundle",
    "ALTER TABLE bundle ADD COLUMN mine BIGINT",
    "ALTER TABLE bundle DISABLE TRIGGER ALL",
    "ALTER TABLE log_head DROP CONSTRAINT log_head_pkey",
    "DROP SCHEMA public CASCADE",
    "SET session_replication_role = 'replica'",
    "SET lo_compat_privileges = on",
    "ALTER SYSTEM SET fsync = off",
    "CREATE ROLE mine SUPERUSER",
    "CREATE DATABASE mine",
    "COPY bundle TO PROGRAM 'cat'",
    "COPY gate FROM PROGRAM 'echo'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_advisory_lock(7236837466)",
];

/// A side's database with its schema.
async fn database(side: Side) -> Database {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(Cluster::shared().unwrap(), side).await.unwrap();
    stores::migrate(&database, &folder.path().join("owner-url")).await;
    database
}

/// What the server says to a statement, which is undone: nothing, or the code of its error.
async fn says(connection: &mut PgConnection, sql: &str) -> Option<String> {
    // These cannot be undone, and cannot be in a transaction: nobody here is allowed them.
    let alone = ["CREATE DATABASE", "ALTER SYSTEM"]
        .iter()
        .any(|start| sql.starts_with(start));
    if !alone {
        connection.execute("BEGIN").await.unwrap();
    }
    let outcome = connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await;
    if !alone {
        connection.execute("ROLLBACK").await.unwrap();
    }
    let error = outcome.err()?;
    Some(error.as_database_error().unwrap().code().unwrap().into_owned())
}

async fn assert_refused(connection: &mut PgConnection, sql: &str) {
    assert_eq!(says(connection, sql).await.as_deref(), Some(REFUSED), "{sql}");
}

/// Each table and view with a column of it.
async fn tables(database: &Database) -> BTreeMap<String, String> {
    let mut connection = PgConnection::connect(&database.superuser_url()).await.unwrap();
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, min(column_name::text) FROM information_schema.columns \
         WHERE table_schema = 'public' AND is_identity = 'NO' GROUP BY table_name",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    rows.into_iter().collect()
}

/// What a role really can do with each table.
async fn can_do(url: &str, tables: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut can = BTreeMap::new();
    for (table, column) in tables {
        let mut allowed = BTreeSet::new();
        for privilege in PRIVILEGES {
            let sql = match privilege {
                "SELECT" => format!("SELECT {column} FROM {table} LIMIT 1"),
                // Empty: only the right is looked at.
                "INSERT" => format!("INSERT INTO {table} ({column}) SELECT NULL WHERE false"),
                "UPDATE" => format!("UPDATE {table} SET {column} = NULL WHERE false"),
                "DELETE" => format!("DELETE FROM {table} WHERE false"),
                _ => format!("TRUNCATE {table} CASCADE"),
            };
            match says(&mut connection, &sql).await.as_deref() {
                None => {
                    allowed.insert(privilege);
                }
                Some(code) => assert!(code == REFUSED || UNCHANGEABLE.contains(&code), "{sql}: {code}"),
            }
        }
        can.insert(table.clone(), allowed);
    }
    can
}

/// Tables from which the service removes rows; what is in no list below is written and never removed.
fn removed_from(side: Side) -> &'static [&'static str] {
    match side {
        Side::Provider => &[
            "suspension",
            "used_request_id",
            "member",
            "person_member",
            "several_current_registers",
        ],
        Side::Gateway => &[
            "suspension",
            "used_request_id",
            "challenge",
            "block",
            "card",
            "session",
            "consent",
            "provision_record",
        ],
    }
}

async fn the_service_changes_nothing_that_is_recorded(side: Side) {
    let database = database(side).await;
    let can = can_do(&database.service_url(), &tables(&database).await).await;
    for (table, can) in &can {
        let is = |listed: &[&str]| listed.contains(&table.as_str());
        assert!(can.contains("SELECT"), "{table}");
        assert!(!can.contains("TRUNCATE"), "{table}");
        assert_eq!(
            can.contains("DELETE"),
            is(removed_from(side)),
            "DELETE of {table}"
        );
        assert_eq!(
            can.contains("INSERT"),
            !is(&["gate", "gate_facts", "suppression_head", "_sqlx_migrations"]),
            "INSERT into {table}"
        );
        if is(&["bundle", "act", "_sqlx_migrations"]) {
            assert!(!can.contains("UPDATE"), "UPDATE of {table}");
        }
    }
    for table in ["bundle", "act", "closing", "log_head", "gate", "_sqlx_migrations"] {
        assert!(can.contains_key(table), "{table} is there");
    }
    let mut service = PgConnection::connect(&database.service_url()).await.unwrap();
    for sql in NEVER {
        assert_refused(&mut service, sql).await;
    }
    let name = role(side, "service");
    for sql in [
        format!("SET ROLE {}", role(side, "owner")),
        format!("SET SESSION AUTHORIZATION {}", role(side, "owner")),
        // Only a warning, and nothing granted.
        format!("GRANT DELETE ON bundle TO {name}; DELETE FROM bundle WHERE false"),
        format!("ALTER ROLE {name} SUPERUSER"),
        format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT ALL ON TABLES TO {name}",
            role(side, "owner")
        ),
        format!("ALTER TABLE bundle OWNER TO {name}"),
    ] {
        assert_refused(&mut service, &sql).await;
    }
}

#[tokio::test]
async fn the_service_changes_nothing_that_is_recorded_on_the_registry_side() {
    the_service_changes_nothing_that_is_recorded(Side::Provider).await;
}

#[tokio::test]
async fn the_service_changes_nothing_that_is_recorded_on_the_portal_side() {
    the_service_changes_nothing_that_is_recorded(Side::Gateway).await;
}

#[tokio::test]
async fn the_auditor_reads_the_log_and_nothing_else() {
    for side in [Side::Provider, Side::Gateway] {
        let database = database(side).await;
        for (table, can) in can_do(&database.auditor_url(), &tables(&database).await).await {
            let expected: &[&str] = if AUDITED.contains(&table.as_str()) {
                &["SELECT"]
            } else {
                &[]
            };
            assert_eq!(can.into_iter().collect::<Vec<_>>(), expected, "{table}");
        }
        let mut auditor = PgConnection::connect(&database.auditor_url()).await.unwrap();
        for sql in NEVER {
            assert_refused(&mut auditor, sql).await;
        }
        for sql in [
            "SELECT pg_advisory_xact_lock_shared(7236837466)".to_owned(),
            format!("SET ROLE {}", role(side, "service")),
        ] {
            assert_refused(&mut auditor, &sql).await;
        }
    }
}

#[tokio::test]
async fn the_owner_migrates_and_archives_and_is_no_superuser() {
    for side in [Side::Provider, Side::Gateway] {
        let database = database(side).await;
        // A schema that is up to date stays as it is.
        let folder = tempfile::tempdir().unwrap();
        stores::migrate(&database, &folder.path().join("owner-url")).await;
        let mut owner = PgConnection::connect(&database.owner_url()).await.unwrap();
        for sql in [
            "DELETE FROM bundle",
            "CREATE TABLE mine (one BIGINT)",
            "DROP TABLE bundle",
        ] {
            assert_eq!(says(&mut owner, sql).await, None, "{sql}");
        }
        for sql in [
            "CREATE ROLE mine",
            "CREATE DATABASE mine",
            "CREATE SCHEMA mine",
            "ALTER SYSTEM SET fsync = off",
            "SET session_replication_role = 'replica'",
            "COPY bundle TO PROGRAM 'cat'",
        ] {
            assert_refused(&mut owner, sql).await;
        }
    }
}

#[tokio::test]
async fn nobody_of_the_other_side_connects() {
    for side in [Side::Provider, Side::Gateway] {
        let database = database(side).await;
        // The other side's roles are there, with their passwords.
        let other = match side {
            Side::Provider => Side::Gateway,
            Side::Gateway => Side::Provider,
        };
        let theirs = self::database(other).await;
        PgConnection::connect(&theirs.service_url()).await.unwrap();
        for task in ["owner", "service", "auditor"] {
            let refused = PgConnection::connect(&database.foreign_url(task))
                .await
                .unwrap_err();
            let code = refused.as_database_error().unwrap().code().unwrap().into_owned();
            assert_eq!(code, REFUSED, "{task} of {other:?}");
        }
    }
}

fn role(side: Side, task: &str) -> String {
    match side {
        Side::Provider => format!("koseki_provider_{task}"),
        Side::Gateway => format!("portal_gateway_{task}"),
    }
}

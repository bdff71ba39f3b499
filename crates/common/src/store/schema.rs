//! The schema: numbered migrations, which are never changed once merged, and a text for each database.

use std::borrow::Cow;

use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

/// A numbered migration.
#[derive(Clone, Copy)]
pub struct SchemaStep {
    /// Its number: below 1000 what both sides have, above it what one side has.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    /// SQLite's text.
    pub sqlite: &'static str,
    /// PostgreSQL's text.
    pub postgres: &'static str,
}

const SIDE: SchemaStep = SchemaStep {
    version: 1,
    name: "side",
    sqlite: include_str!("../../migrations/sqlite/0001_side.sql"),
    postgres: include_str!("../../migrations/postgres/0001_side.sql"),
};

/// A side's migrations for one database, those of both sides among them.
pub(super) fn migrator(steps: &[SchemaStep], text: fn(&SchemaStep) -> &'static str) -> Migrator {
    let migrations = std::iter::once(&SIDE).chain(steps).map(|step| {
        let sql = text(step).into_sql_str();
        Migration::new(
            step.version,
            Cow::Borrowed(step.name),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

//! Retention (DESIGN §5): the owner's role drops bodies of old bundles, below a mark that two persons have made. What they hash
//! to stays, and so do the proofs of everything.

use std::{path::Path, time::Duration};

use koseki_proto::koseki::evidence::v1::Bundle;
use prost::Message as _;

use super::{
    ActError, Database, DatabaseConfig, OpenError, SchemaStep, StoreError, WriteTx, postgres,
    query::{Connection, Params},
    sqlite,
};
use crate::{clock::Timestamp, terms::RuleBroken};

/// Bodies that one statement drops.
const AT_ONCE: i64 = 1_000;

/// Bodies are not dropped.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error("the database failed; the same command goes on where it stopped")]
    Store(#[from] StoreError),
    /// No mark allows it.
    #[error(
        "the retention mark of {log} is {mark}: two persons make a higher one by `kosekictl audit archive`, and then the \
         same command works"
    )]
    AboveMark {
        /// The log.
        log: String,
        /// Its mark; 0 when it has none.
        mark: u64,
    },
}

impl WriteTx {
    /// Makes a mark: bodies of a log's bundles before this number may be dropped. A mark never goes back.
    pub(crate) async fn mark_for_archiving(&mut self, log: &str, before_bundle: u64) -> Result<(), ActError> {
        let before = i64::try_from(before_bundle).map_err(|_| ActError::NotApplicable)?;
        let params = [("log", log.into()), ("before", before.into())];
        let known = self
            .optional("SELECT bundles FROM log_head WHERE log = {log}", &params)
            .await?
            .ok_or(ActError::UnknownReference)?;
        if known.int(0)? < before {
            return Err(ActError::NotApplicable);
        }
        let marked = self
            .execute(
                "INSERT INTO retention_mark (log, before_bundle) VALUES ({log}, {before}) \
                 ON CONFLICT (log) DO UPDATE SET before_bundle = excluded.before_bundle \
                 WHERE retention_mark.before_bundle < excluded.before_bundle",
                &params,
            )
            .await?;
        match marked {
            0 => Err(ActError::NotApplicable),
            _ => Ok(()),
        }
    }
}

impl Database {
    /// Whether all of a log's bundles before this number are older than the policy keeps them.
    pub(crate) async fn check_archivable(
        &self,
        log: &str,
        before_bundle: u64,
        kept: Duration,
        now: Timestamp,
    ) -> Result<(), ActError> {
        const FIELD: &str = "act.archive_log.before_bundle";
        let last = before_bundle
            .checked_sub(1)
            .and_then(|last| i64::try_from(last).ok())
            .ok_or(ActError::Malformed(FIELD, RuleBroken("1 or more")))?;
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .optional(
                "SELECT body FROM bundle WHERE log = {log} AND number = {last} AND body IS NOT NULL",
                &[("log", log.into()), ("last", last.into())],
            )
            .await?
            .ok_or(ActError::UnknownReference)?;
        let bundle = Bundle::decode(row.bytes(0)?).map_err(|_| StoreError::Unreadable("a bundle"))?;
        let made_at = bundle.at.as_ref().and_then(Timestamp::from_proto);
        let made_at = made_at.ok_or(StoreError::Unreadable("a bundle"))?;
        if made_at > now.before(kept) {
            let rule = RuleBroken("no bundle that is younger than the policy's retention.audit_years");
            return Err(ActError::Malformed(FIELD, rule));
        }
        Ok(())
    }

    /// Drops the bodies of a log's bundles before this number, as the role that owns the tables (PostgreSQL), or of a file whose
    /// service does not run (SQLite); how many it were. Refused above the mark.
    pub async fn archive(
        config: &DatabaseConfig,
        owner_url_file: Option<&Path>,
        steps: &[SchemaStep],
        log: &str,
        before_bundle: u64,
    ) -> Result<u64, ArchiveError> {
        match (config, owner_url_file) {
            (DatabaseConfig::Sqlite { file }, _) => {
                let pools = sqlite::open(file, steps).await?;
                let mut connection = pools.writer.acquire().await.map_err(StoreError::from)?;
                drop_bodies(Connection::Sqlite(&mut connection), log, before_bundle).await
            }
            (DatabaseConfig::Postgres { url_file }, owner) => {
                let mut connection = postgres::connect(owner.unwrap_or(url_file)).await?;
                drop_bodies(Connection::Postgres(&mut connection), log, before_bundle).await
            }
        }
    }
}

async fn drop_bodies(
    mut connection: Connection<'_>,
    log: &str,
    before_bundle: u64,
) -> Result<u64, ArchiveError> {
    let before = i64::try_from(before_bundle).map_err(|_| StoreError::Unreadable("a place in the log"))?;
    let params: Params<'_> = &[
        ("log", log.into()),
        ("before", before.into()),
        ("most", AT_ONCE.into()),
    ];
    let mark = connection
        .optional(
            "SELECT before_bundle FROM retention_mark WHERE log = {log}",
            params,
        )
        .await?;
    let mark = match mark {
        Some(row) => row.int(0)?,
        None => 0,
    };
    if before > mark {
        return Err(ArchiveError::AboveMark {
            log: log.to_owned(),
            mark: mark.unsigned_abs(),
        });
    }
    let mut dropped = 0;
    loop {
        let some = connection
            .execute(
                "UPDATE bundle SET body = NULL, sealed = NULL WHERE log = {log} AND number IN \
                 (SELECT number FROM bundle WHERE log = {log} AND number < {before} AND body IS NOT NULL \
                  ORDER BY number LIMIT {most})",
                params,
            )
            .await?;
        dropped += some;
        if some == 0 {
            return Ok(dropped);
        }
    }
}

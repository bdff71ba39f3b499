//! PostgreSQL: several instances on one database. The gate is an advisory lock that lasts as long as its transaction:
//! releases share it, who records a guard has it alone.

use std::{net::IpAddr, path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    Executor as _, PgConnection, Postgres, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use super::{
    OpenError, commit_warning,
    connections::Connections,
    schema::{SchemaStep, migrator},
};
use crate::files;

/// One stuck holder would stop every instance: it is cut off after a second. Others wait for the gate longer than for two
/// of them, since a stuck process may get the gate once more: it had asked for it before. A guard that still does not get
/// it fails loudly as not recorded. Milliseconds, for every transaction.
const IDLE_IN_TRANSACTION_MS: u32 = 1_000;
const LOCK_MS: u32 = 2_500;
const STATEMENT_MS: u32 = 2_800;
/// How long the gate is waited for.
pub(super) const GATE_AT_MOST: Duration = Duration::from_millis(LOCK_MS as u64);
/// A server that cannot get rid of a result waits for its reader whatever the time-outs above say, and holds the gate
/// meanwhile: then the connection is broken.
const TCP_USER_MS: u32 = 1_500;

/// Connections that only operators' forbidding acts use: no load takes them away.
const GUARDS: u32 = 4;
/// Connections of what requesters open and close, one batch of each at a time: however many there are, an operator's act has one.
const REQUESTERS: u32 = 3;
/// Connections of releases: two batches at a time, and one on its way back to the pool.
const RELEASES: u32 = 3;
/// Connections of admission, which reads for few batches at a time, so that each has met every statement lately: two of requests,
/// one each of what requesters close and open, one of sessions that are looked at.
const ADMISSIONS: u32 = 5;
/// Connections of loads and copies: so many streams there may be, everything else that is ordinary goes on.
const LOADS: u32 = 4;
/// Connections of everything else.
const ORDINARY: u32 = 8;

/// How BEGIN takes the gate: in one message, and each statement in it has a snapshot of its own. Nothing but READ COMMITTED
/// lets the statements behind the gate see what was committed while it was waited for; so it is spelled out.
pub(super) const BEGIN_GUARD: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7236837466)";
/// A release, and everything else that appends to the log.
pub(super) const BEGIN_SHARED: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock_shared(7236837466)";
/// A load of persons and linkages that forbids nothing: one at a time, so that two do not add the same.
pub(super) const BEGIN_SHARED_LOAD: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SELECT pg_advisory_xact_lock(7236837467); SELECT pg_advisory_xact_lock_shared(7236837466)";
/// One that forbids something.
pub(super) const BEGIN_GUARD_LOAD: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SELECT pg_advisory_xact_lock(7236837467); SELECT pg_advisory_xact_lock(7236837466)";
/// Copies: what they write no guard waits for, so they take the gate only when they commit. Each statement is planned for the
/// tables as they are now: in a load they grow by the second, and a plan that was made when they were small reads them from
/// end to end until the server next looks at them.
pub(super) const BEGIN_UNGATED: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL plan_cache_mode = force_custom_plan";
/// Takes the gate for [`BEGIN_UNGATED`].
pub(super) const SHARE_GATE: &str = "SELECT pg_advisory_xact_lock_shared(7236837466)";

/// Statements of admission, of releases and of what requesters open and close find every row by a key, whatever the size of the batch
/// and of the tables. So they are planned once, and not anew for each small batch, which takes longer than the batch; and a plan that
/// is made while tables are empty has to be the one that holds when they are full. Without these it would read them from end to
/// end, or keep all rows of a table aside and compare each with each of the batch; and the large ones are joined to what is asked for
/// in the order in which they are written.
const BY_KEY: [(&str, &str); 7] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_material", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("join_collapse_limit", "1"),
];

/// The pools of a database.
pub(super) struct PostgresPools {
    pub(super) guards: Connections<Postgres>,
    pub(super) requesters: Connections<Postgres>,
    pub(super) releases: Connections<Postgres>,
    pub(super) admissions: Connections<Postgres>,
    pub(super) loads: Connections<Postgres>,
    pub(super) ordinary: Connections<Postgres>,
    /// Which database they lead to.
    pub(super) identity: Identity,
}

/// Reads a libpq URL from a file that only its owner may read: it has a password in it.
fn options(url_file: &Path) -> Result<(PgConnectOptions, String), OpenError> {
    let bad = |rule: &'static str| OpenError::Url {
        path: url_file.to_owned(),
        rule,
    };
    let url = files::read_secret(url_file).map_err(OpenError::Secret)?;
    let url = std::str::from_utf8(&url).map_err(|_| bad("must be UTF-8"))?;
    let options = PgConnectOptions::from_str(url.trim()).map_err(|_| {
        bad("must be a URL as libpq takes it: postgres://ROLE:PASSWORD@HOST/DATABASE?sslmode=verify-full")
    })?;
    let local = options.get_socket().is_some()
        || options.get_host().starts_with('/')
        || options.get_host() == "localhost"
        || options
            .get_host()
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    // Without a root of its own the URL would trust every public authority.
    let verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) && url.contains("sslrootcert=");
    if !local && !verified {
        return Err(bad(
            "must have sslmode=verify-full and sslrootcert where the database is on another machine",
        ));
    }
    let name = format!(
        "PostgreSQL database {} at {}",
        options.get_database().unwrap_or_default(),
        options.get_host()
    );
    Ok((options, name))
}

/// Brings the schema up to date, as the role that owns it.
pub(super) async fn migrate(url_file: &Path, steps: &[SchemaStep]) -> Result<(), OpenError> {
    let (options, database) = options(url_file)?;
    let failed = |source| OpenError::Database {
        database: database.clone(),
        source,
    };
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(failed)?;
    let migrated = migrator(steps, |step| step.postgres).run(&pool).await;
    pool.close().await;
    migrated.map_err(|source| OpenError::Schema { database, source })
}

/// One connection, as whoever the URL names.
pub(super) async fn connect(url_file: &Path) -> Result<PgConnection, OpenError> {
    let (options, database) = options(url_file)?;
    let connected = <PgConnection as sqlx::Connection>::connect_with(&options).await;
    connected.map_err(|source| OpenError::Database { database, source })
}

/// Which database a connection reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) system_identifier: String,
    pub(super) timeline: String,
}

/// Opens the database, when it is one that a service may stand on.
pub(super) async fn open(
    url_file: &Path,
    instance: &str,
    steps: &[SchemaStep],
) -> Result<PostgresPools, OpenError> {
    let (options, database) = options(url_file)?;
    let failed = |source| OpenError::Database {
        database: database.clone(),
        source,
    };
    let unfit = |rule: String| OpenError::Unfit {
        database: database.clone(),
        rule,
    };
    // Without TCP no time-out ends the wait for a process that does not take its rows.
    if options.get_socket().is_some() || options.get_host().starts_with('/') {
        return Err(OpenError::Url {
            path: url_file.to_owned(),
            rule: "must have a host that is reached by TCP; for a database on this machine give 127.0.0.1, not a socket's folder",
        });
    }
    // A service states its own durability: the server's defaults may be anything.
    let options = options.application_name(instance).options([
        ("synchronous_commit", "on".to_owned()),
        (
            "idle_in_transaction_session_timeout",
            IDLE_IN_TRANSACTION_MS.to_string(),
        ),
        ("lock_timeout", LOCK_MS.to_string()),
        ("statement_timeout", STATEMENT_MS.to_string()),
        ("tcp_user_timeout", TCP_USER_MS.to_string()),
        ("default_transaction_read_only", "off".to_owned()),
        // A statement that commits by itself has no BEGIN that spells it out.
        ("default_transaction_isolation", "read committed".to_owned()),
        // At least: the warning at a commit is one.
        ("client_min_messages", "warning".to_owned()),
        // A statement is a batch that is found by indexes. Where the server has no figures of a table yet it takes one for a
        // long report: compiling it, and starting processes for it, took as long as all the rest of a load.
        ("jit", "off".to_owned()),
        ("max_parallel_workers_per_gather", "0".to_owned()),
    ]);
    commit_warning::listen();
    let mut first = <PgConnection as sqlx::Connection>::connect_with(&options)
        .await
        .map_err(failed)?;
    let identity = identity(&mut first)
        .await
        .map_err(failed)?
        .map_err(|rule| unfit(rule.to_owned()))?;
    check_settings(&mut first).await.map_err(failed)?.map_err(unfit)?;
    check_schema(&mut first, steps)
        .await
        .map_err(failed)?
        .map_err(unfit)?;

    let pool = |most, least| {
        let expected = identity.clone();
        PgPoolOptions::new()
            .max_connections(most)
            .min_connections(least)
            .acquire_timeout(Duration::from_millis(LOCK_MS.into()))
            // A broken connection is noticed by BEGIN, which is tried again on another one: no message is spent on asking.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let expected = expected.clone();
                Box::pin(async move {
                    match self::identity(connection).await? {
                        Ok(reached) if reached == expected => Ok(()),
                        Ok(_) => Err(sqlx::Error::Configuration(
                            "the connection leads to another database than at the start".into(),
                        )),
                        Err(rule) => Err(sqlx::Error::Configuration(rule.into())),
                    }
                })
            })
    };
    // All are there from the start and are kept: a server that is full meanwhile would give no other.
    let reserved = async |number, options: &PgConnectOptions| {
        let pool = pool(number, number).idle_timeout(None).max_lifetime(None);
        let connected = pool.connect_with(options.clone()).await;
        connected.map(Connections::kept).map_err(failed)
    };
    let shared = async |most| {
        let connected = pool(most, 1).connect_with(options.clone()).await;
        connected.map(Connections::pooled).map_err(failed)
    };
    let by_key = options.clone().options(BY_KEY);
    Ok(PostgresPools {
        guards: reserved(GUARDS, &options).await?,
        requesters: reserved(REQUESTERS, &by_key).await?,
        releases: reserved(RELEASES, &by_key).await?,
        admissions: reserved(ADMISSIONS, &by_key).await?,
        loads: shared(LOADS).await?,
        ordinary: shared(ORDINARY).await?,
        identity,
    })
}

/// Tells one database from another: from a restored copy of it, and from a standby that was promoted.
async fn identity(connection: &mut PgConnection) -> Result<Result<Identity, &'static str>, sqlx::Error> {
    let recovering = connection.fetch_one("SELECT pg_is_in_recovery()").await?;
    if recovering.try_get::<bool, _>(0)? {
        return Ok(Err("it is a standby; give the primary"));
    }
    let row = connection
        .fetch_one(
            "SELECT system_identifier::text, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) \
             FROM pg_control_system()",
        )
        .await?;
    Ok(Ok(Identity {
        system_identifier: row.try_get(0)?,
        timeline: row.try_get(1)?,
    }))
}

/// Refuses a server that would lose what it has acknowledged, and a role that could change what is recorded.
async fn check_settings(connection: &mut PgConnection) -> Result<Result<(), String>, sqlx::Error> {
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let row = sqlx::query("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *connection)
            .await?;
        let value: String = row.try_get(0)?;
        if value != "on" {
            return Ok(Err(format!("{setting} must be on, it is {value}")));
        }
    }
    let row = connection
        .fetch_one(
            "SELECT current_setting('server_version_num')::bigint, \
                    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
        )
        .await?;
    if row.try_get::<i64, _>(0)? < 150_000 {
        return Ok(Err("PostgreSQL 15 or newer is needed".to_owned()));
    }
    if row.try_get::<bool, _>(1)? {
        return Ok(Err(
            "the service must not connect as a superuser; give the service's role".to_owned(),
        ));
    }
    Ok(Ok(()))
}

/// Refuses a schema that is not exactly the one that this program knows.
async fn check_schema(
    connection: &mut PgConnection,
    steps: &[SchemaStep],
) -> Result<Result<(), String>, sqlx::Error> {
    let there = connection
        .fetch_one("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .await?;
    if !there.try_get::<bool, _>(0)? {
        return Ok(Err(
            "it has no schema; run `migrate` as the owner's role".to_owned()
        ));
    }
    let rows = connection
        .fetch_all("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
        .await?;
    let migrator = migrator(steps, |step| step.postgres);
    let mut known = migrator.iter();
    for row in rows {
        let version: i64 = row.try_get(0)?;
        let same = known.next().is_some_and(|step| {
            step.version == version
                // Owned: a statement without parameters comes back as text, which cannot be borrowed as bytes.
                && row
                    .try_get::<Vec<u8>, _>(1)
                    .is_ok_and(|checksum| *checksum == *step.checksum)
                && row.try_get::<bool, _>(2).unwrap_or(false)
        });
        if !same {
            return Ok(Err(format!(
                "its schema has a step {version} that this program does not know; give the program that made it"
            )));
        }
    }
    if let Some(step) = known.next() {
        return Ok(Err(format!(
            "its schema lacks step {}; run `migrate` as the owner's role",
            step.version
        )));
    }
    let changes = connection
        .fetch_one("SELECT has_table_privilege('bundle', 'UPDATE, DELETE, TRUNCATE')")
        .await?;
    if changes.try_get::<bool, _>(0)? {
        return Ok(Err(
            "this role could change the audit log; give the service's role".to_owned(),
        ));
    }
    Ok(Ok(()))
}

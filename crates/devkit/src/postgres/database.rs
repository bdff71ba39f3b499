use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use super::{Cluster, PostgresError, set_up};

/// Whose database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The provider's.
    Provider,
    /// The gateway's.
    Gateway,
}

impl Side {
    /// What the names of its roles begin with, and the name of its database.
    pub(crate) fn roles(self) -> &'static str {
        match self {
            Self::Provider => "koseki_provider",
            Self::Gateway => "portal_gateway",
        }
    }

    pub(super) fn rights(self) -> &'static str {
        match self {
            Self::Provider => include_str!("../../../../deploy/postgres/provider-database.sql"),
            Self::Gateway => include_str!("../../../../deploy/postgres/gateway-database.sql"),
        }
    }
}

/// A database of one test, with the roles of deploy/postgres. It goes with its server.
pub struct Database {
    cluster: Arc<Cluster>,
    side: Side,
    name: String,
    password: String,
}

impl Database {
    /// A fresh database without a schema.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(cluster: Arc<Cluster>, side: Side) -> Result<Self, PostgresError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}", side.roles());
        // One password for all roles of the server: nobody else reaches it, and tests make databases at the same time.
        let password = cluster.role_password().to_owned();
        let mut connection = PgConnection::connect(&cluster.superuser_url("postgres")).await?;
        // Two at a time would collide on the roles.
        connection.execute("SELECT pg_advisory_lock(1)").await?;
        set_up::create_roles(&mut connection).await?;
        for task in ["owner", "service", "auditor"] {
            let sql = format!("ALTER ROLE {}_{task} PASSWORD '{password}'", side.roles());
            connection.execute(AssertSqlSafe(sql)).await?;
        }
        connection.execute("SELECT pg_advisory_unlock(1)").await?;
        set_up::create_database(&mut connection, &name).await?;
        connection.close().await?;
        let database = PgConnectOptions::from_str(&cluster.superuser_url(&name))?;
        set_up::grant(&database, side).await?;
        Ok(Self {
            cluster,
            side,
            name,
            password,
        })
    }

    fn url(&self, task: &str) -> String {
        self.url_of(self.side, task)
    }

    fn url_of(&self, side: Side, task: &str) -> String {
        let (role, port) = (side.roles(), self.cluster.port());
        format!(
            "postgres://{role}_{task}:{}@127.0.0.1:{port}/{}",
            self.password, self.name
        )
    }

    /// The URL of the role that owns the schema.
    pub fn owner_url(&self) -> String {
        self.url("owner")
    }

    /// The URL of the running service's role.
    pub fn service_url(&self) -> String {
        self.url("service")
    }

    /// The URL of the auditor's role.
    pub fn auditor_url(&self) -> String {
        self.url("auditor")
    }

    /// The superuser's URL: for what a test does behind everybody's back.
    pub fn superuser_url(&self) -> String {
        self.cluster.superuser_url(&self.name)
    }

    /// Whose it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The URL of one of the other side's roles, which has no business here: `owner`, `service` or `auditor`.
    pub fn foreign_url(&self, task: &str) -> String {
        let side = match self.side {
            Side::Provider => Side::Gateway,
            Side::Gateway => Side::Provider,
        };
        self.url_of(side, task)
    }

    /// The server that it is on.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Writes a URL to a file that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_url(url: &str, path: &Path) -> Result<(), PostgresError> {
        let write = || {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(url.as_bytes())
        };
        write().map_err(|source| PostgresError::Io {
            doing: "writing a database's URL",
            source,
        })
    }
}

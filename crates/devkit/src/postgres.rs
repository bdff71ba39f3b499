//! A real PostgreSQL server for tests: its own folder, its own port, durable, and gone with the process that started it; and
//! what a superuser does on any server before a service stands on it.

mod database;
mod server;
mod set_up;

pub use database::{Database, Side};
pub use server::Cluster;
pub use set_up::set_up;

/// A server or a database could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// There is no PostgreSQL on this machine.
    #[error("no PostgreSQL on PATH or under /usr/lib/postgresql; install Debian's package `postgresql`")]
    Missing,
    /// A program of it failed.
    #[error("{program}: {fault}")]
    Program {
        /// The program.
        program: String,
        /// How it ended, and its last words.
        fault: String,
    },
    /// A file or a process.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The server refuses.
    #[error("the server refuses")]
    Sql(#[from] sqlx::Error),
}

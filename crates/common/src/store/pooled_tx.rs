//! A transaction on a pooled connection, which is closed when BEGIN or COMMIT does not succeed, and a bound on every wait for
//! the database.
//!
//! sqlx counts a transaction when its BEGIN has succeeded, and rolls back what it has counted. A BEGIN that takes the gate and
//! fails there leaves the connection inside an aborted transaction; one that is given up while it waits leaves a connection
//! that has the gate later, for nobody. After a COMMIT that fails on a full disk SQLite has rolled back by itself, and sqlx
//! goes on counting. None of these may come back into the pool.

use std::{
    future::Future,
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Database, Pool, SqlSafeStr as _, pool::PoolConnection};
use sqlx_core::transaction::TransactionManager as _;
use tokio::time::timeout;

/// How long an answer of the database is waited for: longer than it may take by its own settings. A server that is stopped, or
/// behind a line that has gone dead, gives none.
const ANSWER_AT_MOST: Duration = Duration::from_secs(4);

/// Waits for an answer of the database. Who gives up may not know what came of it: the connection must not be used again.
pub(super) async fn answer<T>(
    coming: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(ANSWER_AT_MOST, coming)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

/// Gives a connection back to its pool, which asks it whether it is well. One that does not answer is closed: it must not keep
/// its place.
pub(super) fn give_back<DB: Database>(connection: &mut PoolConnection<DB>) {
    tokio::spawn(timeout(ANSWER_AT_MOST, connection.return_to_pool()));
}

/// Dropped before [`PooledTx::commit`] has succeeded, it changes nothing.
pub(super) struct PooledTx<DB: Database> {
    connection: PoolConnection<DB>,
    sound: bool,
}

impl<DB: Database> PooledTx<DB> {
    pub(super) async fn begin(pool: &Pool<DB>, begin: &'static str) -> Result<Self, sqlx::Error> {
        let mut tx = Self {
            connection: pool.acquire().await?,
            sound: false,
        };
        let begin = Some(begin.into_sql_str());
        answer(DB::TransactionManager::begin(&mut tx.connection, begin)).await?;
        tx.sound = true;
        Ok(tx)
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.sound = false;
        answer(DB::TransactionManager::commit(&mut self.connection)).await?;
        self.sound = true;
        Ok(())
    }
}

impl<DB: Database> Deref for PooledTx<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl<DB: Database> DerefMut for PooledTx<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

impl<DB: Database> Drop for PooledTx<DB> {
    fn drop(&mut self) {
        if self.sound {
            // Nothing to do after a commit, as sqlx has counted.
            DB::TransactionManager::start_rollback(&mut self.connection);
            give_back(&mut self.connection);
        } else {
            self.connection.close_on_drop();
        }
    }
}

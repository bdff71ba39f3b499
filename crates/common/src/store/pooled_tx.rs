//! A transaction on a pooled connection, which is closed when BEGIN does not succeed.
//!
//! sqlx counts a transaction when its BEGIN has succeeded, and rolls back what it has counted. A BEGIN that takes the gate and
//! fails there leaves the connection inside an aborted transaction; one that is given up while it waits leaves a connection
//! that has the gate later, for nobody. Neither may come back into the pool.

use std::ops::{Deref, DerefMut};

use sqlx::{Database, Pool, SqlSafeStr as _, pool::PoolConnection};
use sqlx_core::transaction::TransactionManager as _;

/// Dropped before [`PooledTx::commit`] has succeeded, it changes nothing.
pub(super) struct PooledTx<DB: Database> {
    connection: PoolConnection<DB>,
    begun: bool,
}

impl<DB: Database> PooledTx<DB> {
    pub(super) async fn begin(pool: &Pool<DB>, begin: &'static str) -> Result<Self, sqlx::Error> {
        let mut tx = Self {
            connection: pool.acquire().await?,
            begun: false,
        };
        DB::TransactionManager::begin(&mut tx.connection, Some(begin.into_sql_str())).await?;
        tx.begun = true;
        Ok(tx)
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        DB::TransactionManager::commit(&mut self.connection).await
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
        if self.begun {
            // Nothing to do after a commit, as sqlx has counted.
            DB::TransactionManager::start_rollback(&mut self.connection);
        } else {
            self.connection.close_on_drop();
        }
    }
}

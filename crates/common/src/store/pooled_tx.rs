//! A transaction on a connection that goes back when it has ended, or is closed when BEGIN or COMMIT does not succeed.
//!
//! sqlx counts a transaction when its BEGIN has succeeded, and rolls back what it has counted. A BEGIN that takes the gate and
//! fails there leaves the connection inside an aborted transaction; one that is given up while it waits leaves a connection
//! that has the gate later, for nobody. After a COMMIT that fails on a full disk SQLite has rolled back by itself, and sqlx
//! goes on counting. None of these may come back.

use std::ops::{Deref, DerefMut};

use sqlx::{Database, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;

use super::connections::{Connections, Held, State, answer};

/// Dropped before [`PooledTx::commit`] has succeeded, it changes nothing.
pub(super) struct PooledTx<DB: Database> {
    connection: Held<DB>,
}

impl<DB: Database> PooledTx<DB> {
    pub(super) async fn begin(
        connections: &Connections<DB>,
        begin: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = Self {
            connection: connections.acquire().await?,
        };
        tx.connection.is(State::Broken);
        let begin = Some(begin.into_sql_str());
        answer(DB::TransactionManager::begin(&mut tx.connection, begin)).await?;
        tx.connection.is(State::Unsettled);
        Ok(tx)
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.connection.is(State::Broken);
        answer(DB::TransactionManager::commit(&mut self.connection)).await?;
        self.connection.is(State::Settled);
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
        // After a commit there is nothing to take back, and what is broken is closed.
        if self.connection.state() == State::Unsettled {
            DB::TransactionManager::start_rollback(&mut self.connection);
        }
    }
}

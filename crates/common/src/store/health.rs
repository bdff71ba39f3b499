//! Whether this process can write its log (I2, I4): what readiness and two alarms look at. Appends feed it, and a look each
//! second, so that it is known without requests, too.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Access, Database, StoreError, worked};
use crate::{
    alarm::{Alarm, Alarms},
    clock::Clock,
    evidence::ordinary_act,
    identity::PeerIdentity,
};

/// How often it is looked whether the log can be written.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a look may take: a little longer than a write waits for the gate, which shows nothing about the database.
const LOOK_AT_MOST: Duration = Duration::from_secs(3);

/// Whether a log can be written, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LogState {
    /// It can.
    #[default]
    Writable,
    /// A write failed or hangs. It is over when an entry has been appended that says so.
    Failing,
    /// Another process has taken it, for good.
    Taken,
    /// It was closed, for good.
    Closed,
}

#[derive(Default)]
struct Known {
    state: LogState,
    /// Something was appended since the last look.
    appended: bool,
}

/// What is known of the log. Writes feed it.
#[derive(Default)]
pub(super) struct LogHealth(Mutex<Known>);

impl LogHealth {
    pub(super) fn state(&self) -> LogState {
        self.known().state
    }

    /// Takes note of how an append ended. What gave way to another transaction is done again.
    pub(super) fn appended<T>(&self, outcome: &Result<T, StoreError>) {
        match outcome {
            Ok(_) => self.known().appended = true,
            Err(error) if error.gave_way() => {}
            Err(error) => self.failed(error),
        }
    }

    /// Takes note of a failure that shows that the log cannot be written.
    pub(super) fn failed(&self, error: &StoreError) {
        let mut known = self.known();
        known.appended = false;
        known.state = match (error, known.state) {
            (StoreError::Fenced, _) | (_, LogState::Taken) => LogState::Taken,
            (StoreError::Closed, _) | (_, LogState::Closed) => LogState::Closed,
            _ => LogState::Failing,
        };
    }

    fn resumed(&self) {
        let mut known = self.known();
        if known.state == LogState::Failing {
            known.state = LogState::Writable;
        }
    }

    fn was_appended_to(&self) -> bool {
        std::mem::take(&mut self.known().appended)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change leaves it whole: a panic elsewhere does, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database {
    /// Whether this process can write its log, as far as is known: while it cannot, the service is not ready.
    pub fn is_writable(&self) -> bool {
        self.health().state() == LogState::Writable
    }

    /// Whether the log was closed: what can never be recorded is not begun.
    pub fn is_closed(&self) -> bool {
        self.health().state() == LogState::Closed
    }

    /// Looks again and again whether the log can be written, and lets the alarms about it stand, for as long as the service
    /// runs.
    pub(super) async fn watch_log(&self, own: &PeerIdentity, alarms: &Alarms, clock: &dyn Clock) {
        loop {
            let looked = tokio::time::timeout(LOOK_AT_MOST, self.look(own, clock)).await;
            let looked = looked.unwrap_or_else(|_| Err(StoreError::timed_out()));
            if let Err(error) = looked
                && !matches!(error, StoreError::Closed)
            {
                self.health().failed(&error);
                let _: Option<()> = worked(Err(error), "the log cannot be written");
            }
            let state = self.health().state();
            alarms.set(Alarm::LogUnwritable, self.log(), state == LogState::Failing);
            alarms.set(Alarm::LogTaken, self.log(), state == LogState::Taken);
            alarms.set(Alarm::LogClosed, self.log(), state == LogState::Closed);
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// One look. It goes the way of a release, on the connection that releases have to spare: load does not make it fail.
    async fn look(&self, own: &PeerIdentity, clock: &dyn Clock) -> Result<(), StoreError> {
        match self.health().state() {
            LogState::Taken | LogState::Closed => Ok(()),
            LogState::Writable if self.health().was_appended_to() => Ok(()),
            LogState::Writable => self.begin(Access::Release).await?.commit_again().await,
            LogState::Failing => {
                // The head was read FOR UPDATE: no commit is in doubt any more (DESIGN §5).
                let tx = self.begin(Access::Release).await?;
                let resumed = ordinary_act("RESUME_LOG", own, 0, None, self.log());
                let _ = tx.commit(vec![resumed], clock.now()).await?;
                self.health().resumed();
                tracing::info!("the log can be written again");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_until_the_log_was_resumed_and_a_log_that_was_taken_or_closed_is_so_for_good() {
        let health = LogHealth::default();
        health.appended(&Ok(()));
        assert!(health.was_appended_to() && !health.was_appended_to());
        health.appended(&Err::<(), _>(StoreError::timed_out()));
        health.appended(&Ok(()));
        assert_eq!(health.state(), LogState::Failing);
        health.resumed();
        assert_eq!(health.state(), LogState::Writable);
        for (error, state) in [
            (StoreError::Fenced, LogState::Taken),
            (StoreError::Closed, LogState::Closed),
        ] {
            let health = LogHealth::default();
            health.failed(&error);
            health.failed(&StoreError::timed_out());
            health.resumed();
            assert_eq!(health.state(), state);
        }
    }
}

//! The connections of one purpose, and a bound on every wait for the database.
//!
//! sqlx asks a connection that comes back into its pool whether it is well, which is a message of its own and its answer for each
//! use. Where connections are kept for the life of the process they come back here instead, and are asked only when they have been
//! idle for a while: one that broke meanwhile shows it before anything is done with it.

use std::{
    future::Future,
    io,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Connection as _, Database, Pool, pool::PoolConnection};
use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::clock::{Clock as _, SystemClock};

/// How long an answer of the database is waited for: longer than it may take by its own settings. A server that is stopped, or
/// behind a line that has gone dead, gives none.
const ANSWER_AT_MOST: Duration = Duration::from_secs(4);
/// A kept connection that was idle for longer is asked whether it is well before it is used.
const WELL_FOR: Duration = Duration::from_secs(1);

/// Waits for an answer of the database. Who gives up may not know what came of it: the connection must not be used again.
pub(super) async fn answer<T>(
    coming: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(ANSWER_AT_MOST, coming)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

/// The connections of one purpose.
pub(super) struct Connections<DB: Database> {
    pool: Pool<DB>,
    kept: Option<Arc<Kept<DB>>>,
}

type Slot<DB> = Arc<tokio::sync::Mutex<PoolConnection<DB>>>;

/// Those that are not in use, each with when it came back. Whoever has a place finds one of them, or room for another one in the
/// pool.
struct Kept<DB: Database> {
    idle: Mutex<Vec<(Slot<DB>, Duration)>>,
    places: Arc<Semaphore>,
    wait: Duration,
    clock: SystemClock,
}

impl<DB: Database> Connections<DB> {
    /// Connections that the pool makes and ends as it sees fit.
    pub(super) fn pooled(pool: Pool<DB>) -> Self {
        Self { pool, kept: None }
    }

    /// Connections that are kept. The pool must not end any for its age or for being idle.
    pub(super) fn kept(pool: Pool<DB>) -> Self {
        let options = pool.options();
        let most = usize::try_from(options.get_max_connections()).unwrap_or(Semaphore::MAX_PERMITS);
        let kept = Kept {
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(most)),
            wait: options.get_acquire_timeout(),
            clock: SystemClock::new(),
        };
        Self {
            pool,
            kept: Some(Arc::new(kept)),
        }
    }

    /// How many there are.
    pub(super) fn size(&self) -> u32 {
        self.pool.size()
    }

    /// One of them. Its place is waited for as long as the pool's options say.
    pub(super) async fn acquire(&self) -> Result<Held<DB>, sqlx::Error> {
        match &self.kept {
            None => Ok(Held::new(self.pool.acquire().await?, None).await),
            Some(kept) => answer(self.acquire_kept(kept)).await,
        }
    }

    async fn acquire_kept(&self, kept: &Arc<Kept<DB>>) -> Result<Held<DB>, sqlx::Error> {
        let place = timeout(kept.wait, kept.places.clone().acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(sqlx::Error::PoolTimedOut)?;
        while let Some((slot, since)) = kept.take() {
            let mut connection = slot.lock_owned().await;
            let idle = kept.clock.monotonic().saturating_sub(since);
            if idle < WELL_FOR || answer(connection.ping()).await.is_ok() {
                return Ok(Held {
                    connection,
                    place: Some((kept.clone(), place)),
                    state: State::Unsettled,
                });
            }
            connection.close_on_drop();
        }
        Ok(Held::new(self.pool.acquire().await?, Some((kept.clone(), place))).await)
    }
}

impl<DB: Database> Kept<DB> {
    fn idle(&self) -> MutexGuard<'_, Vec<(Slot<DB>, Duration)>> {
        // Each change is one insertion or removal: a panic elsewhere leaves it whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that came back last: it has met every statement lately.
    fn take(&self) -> Option<(Slot<DB>, Duration)> {
        self.idle().pop()
    }

    fn put(&self, slot: Slot<DB>) {
        self.idle().push((slot, self.clock.monotonic()));
    }
}

/// In what state a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Everything that was asked has been answered, and no transaction is open.
    Settled,
    /// It may still have something to do or to say, such as a rollback: it is asked whether it is well before anybody else has it.
    Unsettled,
    /// It must not be used again.
    Broken,
}

/// A connection in use; dropped, it goes back.
pub(super) struct Held<DB: Database> {
    connection: OwnedMutexGuard<PoolConnection<DB>>,
    place: Option<(Arc<Kept<DB>>, OwnedSemaphorePermit)>,
    state: State,
}

impl<DB: Database> Held<DB> {
    async fn new(
        connection: PoolConnection<DB>,
        place: Option<(Arc<Kept<DB>>, OwnedSemaphorePermit)>,
    ) -> Self {
        Self {
            connection: Slot::<DB>::new(connection.into()).lock_owned().await,
            place,
            state: State::Unsettled,
        }
    }

    /// In what state it is.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Says in what state it is.
    pub(super) fn is(&mut self, state: State) {
        self.state = state;
    }
}

impl<DB: Database> Deref for Held<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Held<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // Whatever is done with it now, it is done when that is said.
        if self.state == State::Settled {
            self.state = State::Unsettled;
        }
        &mut self.connection
    }
}

impl<DB: Database> Drop for Held<DB> {
    fn drop(&mut self) {
        let slot = OwnedMutexGuard::mutex(&self.connection).clone();
        match (self.state, self.place.take()) {
            (State::Broken, _) => self.connection.close_on_drop(),
            (State::Settled, Some((kept, _place))) => kept.put(slot),
            (State::Unsettled, Some((kept, place))) => {
                tokio::spawn(async move {
                    let mut connection = slot.clone().lock_owned().await;
                    match answer(connection.ping()).await {
                        Ok(()) => kept.put(slot),
                        Err(_) => connection.close_on_drop(),
                    }
                    drop((connection, place));
                });
            }
            // The pool asks it. One that does not answer is closed: it must not keep its place.
            (State::Settled | State::Unsettled, None) => {
                tokio::spawn(timeout(ANSWER_AT_MOST, self.connection.return_to_pool()));
            }
        }
    }
}

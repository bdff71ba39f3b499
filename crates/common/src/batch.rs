//! Batching: work is done on whatever has queued up while earlier batches were in flight (DESIGN §4). An idle system
//! makes batches of one and adds no wait.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub use self::meter::{BatchMeter, BatchMetricNames, BatchMetrics};
use crate::clock::Clock;

mod meter;
#[cfg(test)]
mod tests;

/// Bounds of a batcher.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchLimits {
    /// Items that may wait; one more is refused at once. 1 to 65,536.
    pub queue: usize,
    /// Items of one caller that may be waiting or in work; one more is refused at once, so that nobody takes all places. 1 to
    /// `queue`.
    pub per_caller: usize,
    /// Items in one batch at most. 1 to 256.
    pub batch: usize,
    /// An item that would wait longer than this, at the pace of late, is refused at once, in milliseconds, when its caller has a
    /// batch's worth of places already: who would not wait for it either had better know now. 1 to 10,000.
    pub max_wait_ms: u32,
}

impl BatchLimits {
    /// Checks the bounds; the error is the rule.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=65_536).contains(&self.queue) {
            return Err("queue must be 1 to 65,536");
        }
        if !(1..=self.queue).contains(&self.per_caller) {
            return Err("per_caller must be 1 to queue");
        }
        if !(1..=256).contains(&self.batch) {
            return Err("batch must be 1 to 256");
        }
        if !(1..=10_000).contains(&self.max_wait_ms) {
            return Err("max_wait_ms must be 1 to 10,000");
        }
        Ok(())
    }
}

/// How batches follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Batches that may be in work at a time. With one they grow as large as the load makes them. More are for batches that spend
    /// their time in several places, one after the other: while one is in the second, the next one need not wait for the first.
    pub in_flight: usize,
    /// One begins no sooner than this after the one before it, so that what comes meanwhile goes together. Who comes when nothing
    /// has come for as long does not wait.
    pub apart: Duration,
}

/// An item got no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The queue is full, or the caller's share of it, or it would take too long: nothing was done.
    #[error("the queue is full")]
    Full,
    /// The batch broke: what became of the item is not known.
    #[error("the batch gave no outcome")]
    Lost,
}

/// How long a batch has taken of late, in microseconds. A large one takes little longer than a small one: so what waits is counted
/// in batches.
#[derive(Default)]
struct Pace(AtomicU64);

impl Pace {
    /// Of how many batches it is an average, about.
    const BATCHES: u64 = 8;

    /// A batch has taken so long.
    fn took(&self, us: u64) {
        // Two batches that end together may miss each other: it is an average.
        let before = self.0.load(Ordering::Relaxed);
        let after = match before {
            0 => us,
            _ => (before * (Self::BATCHES - 1) + us) / Self::BATCHES,
        };
        self.0.store(after, Ordering::Relaxed);
    }

    /// How long the last one of so many batches will wait, when so many are worked on at a time.
    fn wait(&self, batches: usize, in_flight: usize) -> Duration {
        let rounds = u64::try_from(batches.div_ceil(in_flight)).unwrap_or(u64::MAX);
        Duration::from_micros(self.0.load(Ordering::Relaxed).saturating_mul(rounds))
    }
}

struct Job<I, O> {
    item: I,
    caller: oneshot::Sender<O>,
    came: Duration,
}

/// Hands items to a batch function, a bounded number of batches in flight at a time.
pub struct Batcher<I, O> {
    queue: mpsc::Sender<Job<I, O>>,
    limits: BatchLimits,
    flow: Flow,
    pace: Arc<Pace>,
    // Callers have certificates of the deployment's own authority: there are few.
    callers: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    clock: Arc<dyn Clock>,
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            limits: self.limits,
            flow: self.flow,
            pace: self.pace.clone(),
            callers: self.callers.clone(),
            clock: self.clock.clone(),
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts a batcher. `run` gives one outcome per item, in order. It runs in a task of its own, never in a caller's
    /// future: a caller that goes away breaks nothing. It stops when the last handle is dropped.
    pub fn start<F, Fut>(limits: BatchLimits, flow: Flow, meter: BatchMeter, run: F) -> Self
    where
        F: Fn(Vec<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<O>> + Send + 'static,
    {
        let (queue, mut waiting) = mpsc::channel::<Job<I, O>>(limits.queue);
        let run = Arc::new(run);
        let clock = meter.clock.clone();
        let places = Arc::new(Semaphore::new(flow.in_flight));
        let pace = Arc::new(Pace::default());
        let of_late = pace.clone();
        tokio::spawn(async move {
            let mut jobs = Vec::with_capacity(limits.batch);
            let mut begun: Option<Duration> = None;
            // The place first: what comes while there is none goes together.
            while let Ok(place) = places.clone().acquire_owned().await {
                let passed = begun.map(|begun| meter.clock.monotonic().saturating_sub(begun));
                if let Some(early) = passed.and_then(|passed| flow.apart.checked_sub(passed)) {
                    tokio::time::sleep(early).await;
                }
                if waiting.recv_many(&mut jobs, limits.batch).await == 0 {
                    return;
                }
                // Nobody waits for these any more: no work is done for them.
                jobs.retain(|job| !job.caller.is_closed());
                let Some(oldest) = jobs.first() else {
                    continue;
                };
                begun = Some(meter.clock.monotonic());
                meter.wait.observe(meter.since(oldest.came));
                meter.items.observe(u64::try_from(jobs.len()).unwrap_or(u64::MAX));
                let batch = jobs.drain(..).map(|job| (job.item, job.caller)).unzip();
                let (run, meter, pace) = (run.clone(), meter.clone(), of_late.clone());
                tokio::spawn(async move {
                    pace.took(Self::one(batch, &*run, &meter).await);
                    drop(place);
                });
            }
        });
        Self {
            queue,
            limits,
            flow,
            pace,
            callers: Arc::default(),
            clock,
        }
    }

    /// One batch, from its items to its callers. How many microseconds it took.
    async fn one<F, Fut>(
        (items, callers): (Vec<I>, Vec<oneshot::Sender<O>>),
        run: &F,
        meter: &BatchMeter,
    ) -> u64
    where
        F: Fn(Vec<I>) -> Fut,
        Fut: Future<Output = Vec<O>> + Send + 'static,
    {
        let begun = meter.clock.monotonic();
        // A panic in a batch loses that batch and not its place; its callers see `Lost`.
        match tokio::spawn(run(items)).await {
            Ok(outcomes) if outcomes.len() == callers.len() => {
                for (caller, outcome) in callers.into_iter().zip(outcomes) {
                    // A caller that no longer waits has given up its outcome.
                    let _ = caller.send(outcome);
                }
            }
            Ok(_) => tracing::error!("a batch gave another number of outcomes than it had items"),
            Err(_) => tracing::error!("a batch panicked"),
        }
        let took = meter.since(begun);
        meter.service.observe(took);
        took
    }

    /// A place of the caller's share, for as long as it is held; and how many it has with this one.
    fn place(&self, caller: &str) -> Option<(OwnedSemaphorePermit, usize)> {
        // Each change is one insertion: a panic elsewhere leaves the map whole.
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let places = match callers.get(caller) {
            Some(places) => places.clone(),
            None => {
                let places = Arc::new(Semaphore::new(self.limits.per_caller));
                callers.insert(caller.to_owned(), places.clone());
                places
            }
        };
        let place = places.clone().try_acquire_owned().ok()?;
        Some((place, self.limits.per_caller - places.available_permits()))
    }

    /// Puts an item of this caller into the queue and waits for its outcome.
    pub async fn submit(&self, caller: &str, item: I) -> Result<O, BatchError> {
        let (_place, taken) = self.place(caller).ok_or(BatchError::Full)?;
        // Whoever has a batch's worth of places does not get more than goes in time; others are not refused for it.
        let batches = (self.limits.queue - self.queue.capacity()) / self.limits.batch;
        let apart = self
            .flow
            .apart
            .saturating_mul(u32::try_from(batches).unwrap_or(u32::MAX));
        let wait = self.pace.wait(batches, self.flow.in_flight).max(apart);
        if taken > self.limits.batch && wait > Duration::from_millis(self.limits.max_wait_ms.into()) {
            return Err(BatchError::Full);
        }
        let (caller, outcome) = oneshot::channel();
        let job = Job {
            item,
            caller,
            came: self.clock.monotonic(),
        };
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BatchError::Full,
            mpsc::error::TrySendError::Closed(_) => BatchError::Lost,
        })?;
        outcome.await.map_err(|_| BatchError::Lost)
    }
}

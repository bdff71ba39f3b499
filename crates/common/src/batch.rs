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

use crate::{
    clock::Clock,
    metrics::{Histogram, Label, Metrics, Observed},
};

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

/// The queues of a service, as their metrics tell them apart.
pub struct BatchMetrics<L> {
    items: Histogram<L>,
    wait: Histogram<L>,
    service: Histogram<L>,
}

/// Names of the three metrics.
pub struct BatchMetricNames {
    /// Items of a batch.
    pub items: &'static str,
    /// How long the oldest item of a batch has waited.
    pub wait_us: &'static str,
    /// How long a batch took.
    pub service_us: &'static str,
}

const ITEMS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];
const MICROSECONDS: &[u64] = &[
    500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, 2_048_000,
];

impl<L: Label> BatchMetrics<L> {
    /// Adds them to the service's metrics.
    pub fn new(metrics: &Metrics, names: &BatchMetricNames) -> Self {
        Self {
            items: metrics.histogram(names.items, "Items of a batch, by queue.", ITEMS),
            wait: metrics.histogram(
                names.wait_us,
                "Microseconds that the oldest item of a batch has waited, by queue.",
                MICROSECONDS,
            ),
            service: metrics.histogram(
                names.service_us,
                "Microseconds that a batch took, by queue.",
                MICROSECONDS,
            ),
        }
    }

    /// What one queue is measured with.
    pub fn of(&self, queue: L, clock: Arc<dyn Clock>) -> BatchMeter {
        BatchMeter {
            items: self.items.of(queue),
            wait: self.wait.of(queue),
            service: self.service.of(queue),
            clock,
        }
    }
}

/// What a queue is measured with.
#[derive(Clone)]
pub struct BatchMeter {
    items: Observed,
    wait: Observed,
    service: Observed,
    clock: Arc<dyn Clock>,
}

impl BatchMeter {
    fn since(&self, earlier: Duration) -> u64 {
        let passed = self.clock.monotonic().saturating_sub(earlier);
        u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
    }
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

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::clock::SystemClock;

    const ONE: Flow = Flow {
        in_flight: 1,
        apart: Duration::ZERO,
    };
    const TWO: Flow = Flow { in_flight: 2, ..ONE };

    #[derive(Clone, Copy)]
    struct Queue;

    impl Label for Queue {
        const NAME: &'static str = "queue";
        const ALL: &'static [Self] = &[Self];

        fn value(self) -> &'static str {
            "test"
        }
    }

    fn meter(metrics: &Metrics) -> BatchMeter {
        let names = BatchMetricNames {
            items: "test_batch_items",
            wait_us: "test_batch_wait_us",
            service_us: "test_batch_service_us",
        };
        BatchMetrics::new(metrics, &names).of(Queue, Arc::new(SystemClock::new()))
    }

    /// One whose batches wait at a gate, one at a time, and give back what they got.
    fn held(limits: BatchLimits) -> (Arc<Notify>, Batcher<u32, u32>) {
        let gate = Arc::new(Notify::new());
        let held = gate.clone();
        let batcher = Batcher::start(limits, ONE, meter(&Metrics::default()), move |items: Vec<u32>| {
            let held = held.clone();
            async move {
                held.notified().await;
                items
            }
        });
        (gate, batcher)
    }

    #[tokio::test]
    async fn what_queues_up_goes_together_and_a_full_queue_refuses() {
        let metrics = Metrics::default();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let (gate, started) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let batcher = {
            let (sizes, gate, started) = (sizes.clone(), gate.clone(), started.clone());
            let limits = BatchLimits {
                queue: 4,
                per_caller: 8,
                batch: 3,
                max_wait_ms: 10_000,
            };
            Batcher::start(limits, ONE, meter(&metrics), move |items: Vec<u32>| {
                let (sizes, gate, started) = (sizes.clone(), gate.clone(), started.clone());
                async move {
                    sizes.lock().unwrap().push(items.len());
                    started.notify_one();
                    gate.notified().await;
                    items.into_iter().map(|item| item * 2).collect()
                }
            })
        };
        let submit = |item| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit("", item).await })
        };
        let first = submit(1);
        started.notified().await;
        let rest: Vec<_> = (2..=5).map(submit).collect();
        while batcher.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.submit("another", 6).await, Err(BatchError::Full));
        for _ in 0..2 {
            gate.notify_one();
            started.notified().await;
        }
        gate.notify_one();
        assert_eq!(first.await.unwrap(), Ok(2));
        for (task, expected) in rest.into_iter().zip([4, 6, 8, 10]) {
            assert_eq!(task.await.unwrap(), Ok(expected));
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 3, 1]);
        let text = metrics.render();
        for line in [
            "test_batch_items_sum{queue=\"test\"} 5",
            "test_batch_items_count{queue=\"test\"} 3",
            "test_batch_wait_us_count{queue=\"test\"} 3",
        ] {
            assert!(text.lines().any(|has| has == line), "{line}\n{text}");
        }
    }

    #[tokio::test]
    async fn as_many_batches_as_may_be_are_in_flight_and_the_rest_waits_for_a_place() {
        let gate = Arc::new(Notify::new());
        let running = Arc::new(Semaphore::new(0));
        let limits = BatchLimits {
            queue: 8,
            per_caller: 8,
            batch: 8,
            max_wait_ms: 10_000,
        };
        let (held, runs) = (gate.clone(), running.clone());
        let batcher = Batcher::start(limits, TWO, meter(&Metrics::default()), move |items: Vec<u32>| {
            let (held, runs) = (held.clone(), runs.clone());
            async move {
                runs.add_permits(1);
                held.notified().await;
                vec![items.len(); items.len()]
            }
        });
        let submit = |item| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit("", item).await })
        };
        let mut first = Vec::new();
        for item in 0..2 {
            first.push(submit(item));
            running.acquire().await.unwrap().forget();
        }
        let rest = [submit(2), submit(3)];
        while batcher.queue.capacity() > 6 {
            tokio::task::yield_now().await;
        }
        assert_eq!(running.available_permits(), 0, "a third batch has no place");
        gate.notify_one();
        running.acquire().await.unwrap().forget();
        for _ in 0..2 {
            gate.notify_one();
        }
        for task in first {
            assert_eq!(task.await.unwrap(), Ok(1));
        }
        for task in rest {
            assert_eq!(task.await.unwrap(), Ok(2), "both have waited, and go together");
        }
    }

    #[tokio::test]
    async fn batches_begin_apart() {
        let flow = Flow {
            apart: Duration::from_millis(20),
            ..ONE
        };
        let limits = BatchLimits {
            queue: 64,
            per_caller: 64,
            batch: 64,
            max_wait_ms: 10_000,
        };
        let clock = Arc::new(SystemClock::new());
        let within = clock.clone();
        let batcher = Batcher::start(
            limits,
            flow,
            meter(&Metrics::default()),
            move |items: Vec<u32>| {
                let begun = within.monotonic();
                async move { items.into_iter().map(|item| (item, begun)).collect() }
            },
        );
        let mut asked_before = None;
        for round in 0..4 {
            let asked = clock.monotonic();
            let items = (0..8).map(|item| batcher.submit("", item));
            for (item, came) in (0..8).zip(futures_util::future::join_all(items).await) {
                let (same, begun) = came.unwrap();
                assert_eq!(same, item);
                // The batch before it began after its items were asked for.
                if let Some(before) = asked_before {
                    assert!(begun - before >= flow.apart, "round {round}");
                }
            }
            asked_before = Some(asked);
        }
    }

    #[tokio::test]
    async fn what_would_wait_too_long_is_refused_at_once() {
        let limits = BatchLimits {
            queue: 64,
            per_caller: 64,
            batch: 2,
            max_wait_ms: 100,
        };
        let (gate, batcher) = held(limits);
        let submit = |item| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit("", item).await })
        };
        let waiting = async |items: usize| {
            while batcher.queue.capacity() != limits.queue - items {
                tokio::task::yield_now().await;
            }
        };
        batcher.pace.took(120_000);
        let first = submit(0);
        tokio::task::yield_now().await;
        waiting(0).await;
        let two = [submit(1), submit(2)];
        waiting(2).await;
        assert_eq!(batcher.submit("", 3).await, Err(BatchError::Full));
        // Another caller has no part in that.
        let another = batcher.clone();
        let another = tokio::spawn(async move { another.submit("another", 5).await });
        waiting(3).await;
        let tasks = [first].into_iter().chain(two).chain([another]);
        for (task, item) in tasks.zip([0, 1, 2, 5]) {
            while !task.is_finished() {
                gate.notify_one();
                tokio::task::yield_now().await;
            }
            assert_eq!(task.await.unwrap(), Ok(item));
        }
    }

    #[test]
    fn a_pace_follows_the_last_batches() {
        let pace = Pace::default();
        assert_eq!(pace.wait(1_000, 1), Duration::ZERO, "nothing is known yet");
        pace.took(20_000);
        assert_eq!(pace.wait(0, 2), Duration::ZERO);
        assert_eq!(pace.wait(3, 2), Duration::from_millis(40));
        for _ in 0..64 {
            pace.took(200_000);
        }
        let slow = pace.wait(1, 2);
        assert!(
            (Duration::from_millis(190)..=Duration::from_millis(200)).contains(&slow),
            "{slow:?}"
        );
    }

    #[tokio::test]
    async fn a_batch_that_breaks_loses_itself_only() {
        let limits = BatchLimits {
            queue: 4,
            per_caller: 4,
            batch: 1,
            max_wait_ms: 10_000,
        };
        let batcher = Batcher::start(
            limits,
            ONE,
            meter(&Metrics::default()),
            |items: Vec<u32>| async move {
                match items.as_slice() {
                    [0] => panic!("on purpose"),
                    [1] => vec![],
                    _ => items,
                }
            },
        );
        assert_eq!(batcher.submit("", 0).await, Err(BatchError::Lost));
        assert_eq!(batcher.submit("", 1).await, Err(BatchError::Lost));
        assert_eq!(batcher.submit("", 2).await, Ok(2));
    }

    #[tokio::test]
    async fn a_caller_has_its_share_of_the_queue_and_no_more() {
        let limits = BatchLimits {
            queue: 4,
            per_caller: 2,
            batch: 1,
            max_wait_ms: 10_000,
        };
        let (gate, batcher) = held(limits);
        let submit = |caller: &'static str, item| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit(caller, item).await })
        };
        let greedy = [submit("greedy", 1), submit("greedy", 2)];
        while batcher.place("greedy").is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.submit("greedy", 3).await, Err(BatchError::Full));
        let modest = submit("modest", 4);
        for _ in 0..3 {
            gate.notify_one();
            tokio::task::yield_now().await;
        }
        let ends = async {
            while !greedy.iter().all(tokio::task::JoinHandle::is_finished) || !modest.is_finished() {
                gate.notify_one();
                tokio::task::yield_now().await;
            }
        };
        ends.await;
        assert_eq!(modest.await.unwrap(), Ok(4));
        gate.notify_one();
        assert_eq!(batcher.submit("greedy", 5).await, Ok(5));
    }
}

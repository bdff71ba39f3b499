use tokio::sync::Notify;

use super::*;
use crate::{
    clock::SystemClock,
    metrics::{Label, Metrics},
};

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

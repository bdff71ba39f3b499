//! Batching: work is done on whatever has queued up while the previous batch was in flight (DESIGN §4). An idle system
//! makes batches of one and adds no wait.

use std::{future::Future, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Bounds of a batcher.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchLimits {
    /// Items that may wait; one more is refused at once. 1 to 65,536.
    pub queue: usize,
    /// Items in one batch at most. 1 to 256.
    pub batch: usize,
}

impl BatchLimits {
    /// Checks the bounds; the error is the rule.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=65_536).contains(&self.queue) {
            return Err("queue must be 1 to 65,536");
        }
        if !(1..=256).contains(&self.batch) {
            return Err("batch must be 1 to 256");
        }
        Ok(())
    }
}

/// An item got no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The queue is full: nothing was done.
    #[error("the queue is full")]
    Full,
    /// The batch broke: what became of the item is not known.
    #[error("the batch gave no outcome")]
    Lost,
}

type Job<I, O> = (I, oneshot::Sender<O>);

/// Hands items to a batch function, one batch in flight at a time.
pub struct Batcher<I, O> {
    queue: mpsc::Sender<Job<I, O>>,
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts a batcher. `run` gives one outcome per item, in order. It runs in a task of its own, never in a caller's
    /// future: a caller that goes away breaks nothing. It stops when the last handle is dropped.
    pub fn start<F, Fut>(limits: BatchLimits, run: F) -> Self
    where
        F: Fn(Vec<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<O>> + Send + 'static,
    {
        let (queue, mut waiting) = mpsc::channel::<Job<I, O>>(limits.queue);
        let run = Arc::new(run);
        tokio::spawn(async move {
            let mut jobs = Vec::with_capacity(limits.batch);
            while waiting.recv_many(&mut jobs, limits.batch).await > 0 {
                // Nobody waits for these any more: no work is done for them.
                jobs.retain(|(_, caller)| !caller.is_closed());
                if jobs.is_empty() {
                    continue;
                }
                let (items, callers): (Vec<I>, Vec<oneshot::Sender<O>>) = jobs.drain(..).unzip();
                let run = run.clone();
                // A panic in a batch loses that batch and not the batcher; its callers see `Lost`.
                match tokio::spawn(async move { run(items).await }).await {
                    Ok(outcomes) if outcomes.len() == callers.len() => {
                        for (caller, outcome) in callers.into_iter().zip(outcomes) {
                            // A caller that no longer waits has given up its outcome.
                            let _ = caller.send(outcome);
                        }
                    }
                    Ok(_) => tracing::error!("a batch gave another number of outcomes than it had items"),
                    Err(_) => tracing::error!("a batch panicked"),
                }
            }
        });
        Self { queue }
    }

    /// Puts an item into the queue and waits for its outcome.
    pub async fn submit(&self, item: I) -> Result<O, BatchError> {
        let (caller, outcome) = oneshot::channel();
        self.queue.try_send((item, caller)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BatchError::Full,
            mpsc::error::TrySendError::Closed(_) => BatchError::Lost,
        })?;
        outcome.await.map_err(|_| BatchError::Lost)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_queues_up_goes_together_and_a_full_queue_refuses() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let (gate, started) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let batcher = {
            let (sizes, gate, started) = (sizes.clone(), gate.clone(), started.clone());
            Batcher::start(BatchLimits { queue: 4, batch: 3 }, move |items: Vec<u32>| {
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
            tokio::spawn(async move { batcher.submit(item).await })
        };
        let first = submit(1);
        started.notified().await;
        let rest: Vec<_> = (2..=5).map(submit).collect();
        while batcher.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.submit(6).await, Err(BatchError::Full));
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
    }

    #[tokio::test]
    async fn a_batch_that_breaks_loses_itself_only() {
        let batcher = Batcher::start(BatchLimits { queue: 4, batch: 1 }, |items: Vec<u32>| async move {
            match items.as_slice() {
                [0] => panic!("on purpose"),
                [1] => vec![],
                _ => items,
            }
        });
        assert_eq!(batcher.submit(0).await, Err(BatchError::Lost));
        assert_eq!(batcher.submit(1).await, Err(BatchError::Lost));
        assert_eq!(batcher.submit(2).await, Ok(2));
    }
}

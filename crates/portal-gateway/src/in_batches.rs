//! What requesters do themselves, in batches: what has queued up is one transaction.

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

use common::{
    batch::{BatchError, BatchLimits, BatchMeter, Batcher, Flow},
    identity::PeerIdentity,
    refusal::Reason,
    store::{StoreError, one_by_one_if_it_fails},
};

/// One transaction for a few of them takes hardly more than one for one, and releases wait for each: so they are not done as often as
/// they come. Nobody notices so little.
const FLOW: Flow = Flow {
    in_flight: 1,
    apart: Duration::from_millis(15),
};

/// A queue of acts `I`, each with an outcome `O`.
pub(crate) struct InBatches<I, O>(Batcher<I, Result<O, Reason>>);

impl<I: Send + Sync + 'static, O: Send + 'static> InBatches<I, O> {
    /// Starts the queue. The transaction is told which of a batch's acts it is for, and gives one outcome each, in order.
    pub(crate) fn start<F, Fut>(limits: BatchLimits, meter: BatchMeter, transaction: F) -> Self
    where
        F: Fn(Arc<Vec<I>>, Range<usize>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, StoreError>> + Send + 'static,
    {
        let transaction = Arc::new(transaction);
        Self(Batcher::start(limits, FLOW, meter, move |asked: Vec<I>| {
            let (asked, transaction) = (Arc::new(asked), transaction.clone());
            async move { one_by_one_if_it_fails(asked.len(), |part| transaction(asked.clone(), part)).await }
        }))
    }

    /// Has an act done that a requester asks for through this frontend.
    pub(crate) async fn submit(&self, frontend: &PeerIdentity, act: I) -> Result<O, Reason> {
        let done = self.0.submit(frontend.name(), act).await;
        done.map_err(|error| match error {
            BatchError::Full => Reason::Overloaded,
            BatchError::Lost => Reason::Unavailable,
        })?
    }
}

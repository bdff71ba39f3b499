//! The feed's streams: one a gateway instance.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    clock::Clock,
    feed::{CHUNK_ENTRIES, pack},
    policy::Policies,
    refusal::{Reason, Refusal},
};
use koseki_proto::koseki::linkage::v1::{
    SuppressionChange, SuppressionEntries, SuppressionHeartbeat, SuppressionSnapshot,
    WatchSuppressionsResponse, watch_suppressions_response::Part,
};
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{feed::Feed, follow::Newest};

/// Gateways that watch at the same time: more than any deployment has.
const MAX_STREAMS: usize = 64;
/// Messages that wait for a gateway to take them.
const AHEAD: usize = 4;
/// A gateway that takes none for so long is left.
const PATIENCE: Duration = Duration::from_secs(10);
/// A stream ends after this long: whoever may not call any more does not go on watching.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// A stream of the feed.
pub type SuppressionsStream = ReceiverStream<Result<WatchSuppressionsResponse, Status>>;

type Sender = mpsc::Sender<Result<WatchSuppressionsResponse, Status>>;

/// Opens streams of the feed. Clones share them.
#[derive(Clone)]
pub struct Suppressions {
    newest: Newest,
    policies: Arc<Policies>,
    clock: Arc<dyn Clock>,
    streams: Arc<Mutex<BTreeMap<String, AbortHandle>>>,
}

/// A stream that goes no further: the gateway begins anew.
struct Over;

impl Suppressions {
    /// Of the feed that is followed.
    pub fn new(newest: Newest, policies: Arc<Policies>, clock: Arc<dyn Clock>) -> Self {
        Self {
            newest,
            policies,
            clock,
            streams: Arc::default(),
        }
    }

    /// Opens a stream for a gateway instance. One that it has had ends: whoever comes anew has lost it. A feed that could not be
    /// brought up to date for longer than the policy lets it be old is not served (I4).
    pub fn open(&self, gateway: &str) -> Result<SuppressionsStream, Refusal> {
        if !self.is_fresh() {
            return Err(Reason::Unavailable.into());
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, stream| !stream.is_finished());
        if streams.len() >= MAX_STREAMS && !streams.contains_key(gateway) {
            return Err(Reason::Overloaded.into());
        }
        let (sender, stream) = mpsc::channel(AHEAD);
        let this = self.clone();
        let task = tokio::spawn(async move {
            // Whatever ends it, the gateway comes again and begins with a snapshot.
            let _ = tokio::time::timeout(LIFETIME, this.serve(&sender)).await;
        });
        if let Some(before) = streams.insert(gateway.to_owned(), task.abort_handle()) {
            before.abort();
        }
        Ok(ReceiverStream::new(stream))
    }

    fn is_fresh(&self) -> bool {
        let bound = self.policies.current().exchange.suppression_max_age();
        let newest = self.newest.borrow();
        newest
            .as_ref()
            .is_some_and(|feed| self.clock.now().since(feed.as_of) <= bound)
    }

    /// Serves one stream: a snapshot, and what comes after it.
    async fn serve(&self, sender: &Sender) -> Result<(), Over> {
        let mut newest = self.newest.clone();
        let mut sent = current(&mut newest)?;
        snapshot(sender, &sent).await?;
        let mut last = self.clock.monotonic();
        loop {
            tokio::select! {
                () = sender.closed() => return Err(Over),
                // Whoever followed has ended: so does the service.
                changed = newest.changed() => changed.map_err(|_| Over)?,
            }
            let feed = current(&mut newest)?;
            if !feed.is_of(&sent.series) {
                snapshot(sender, &feed).await?;
                last = self.clock.monotonic();
                sent = feed;
                continue;
            }
            for change in feed.changes_after(sent.sequence).ok_or(Over)? {
                let part = Part::Change(SuppressionChange {
                    after_sequence: change.after,
                    added: pack(&change.added),
                    removed: pack(&change.removed),
                });
                send(sender, &feed, change.sequence, part).await?;
                last = self.clock.monotonic();
            }
            let silent = self.clock.monotonic().saturating_sub(last);
            if silent >= self.policies.current().exchange.suppression_heartbeat() {
                let part = Part::Heartbeat(SuppressionHeartbeat {});
                send(sender, &feed, feed.sequence, part).await?;
                last = self.clock.monotonic();
            }
            sent = feed;
        }
    }
}

fn current(newest: &mut Newest) -> Result<Arc<Feed>, Over> {
    newest.borrow_and_update().clone().ok_or(Over)
}

async fn snapshot(sender: &Sender, feed: &Feed) -> Result<(), Over> {
    let part = Part::Snapshot(SuppressionSnapshot {
        series_key: feed.series.key().expose().to_vec(),
        count: u32::try_from(feed.entries.len()).map_err(|_| Over)?,
    });
    send(sender, feed, feed.sequence, part).await?;
    for chunk in feed.entries.as_slice().chunks(CHUNK_ENTRIES) {
        let part = Part::Entries(SuppressionEntries { entries: pack(chunk) });
        send(sender, feed, feed.sequence, part).await?;
    }
    Ok(())
}

async fn send(sender: &Sender, feed: &Feed, sequence: u64, part: Part) -> Result<(), Over> {
    let message = WatchSuppressionsResponse {
        sequence,
        as_of: Some(feed.as_of.to_proto()),
        part: Some(part),
    };
    let sent = tokio::time::timeout(PATIENCE, sender.send(Ok(message))).await;
    sent.map_err(|_| Over)?.map_err(|_| Over)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use common::{alarm::Alarms, clock::ShiftedClock};
    use tokio::sync::watch;

    use super::{super::feed::tests::begin, *};

    #[tokio::test]
    async fn a_feed_that_is_too_old_is_not_served() {
        let clock = Arc::new(ShiftedClock::default());
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policy/provision-policy.toml");
        let suits = Box::new(|_: &common::policy::Policy| Ok(()));
        let policies = Policies::load(&file, None, suits, clock.clone(), Alarms::default()).unwrap();
        let (looked, newest) = watch::channel(None);
        let suppressions = Suppressions::new(newest, Arc::new(policies), clock.clone());
        let open = || {
            suppressions
                .open("gateway")
                .map(drop)
                .map_err(|refusal| refusal.reason())
        };
        assert_eq!(open(), Err(Reason::Unavailable), "nothing was found yet");
        let look = || {
            let mut feed = begin(3);
            feed.as_of = clock.now();
            looked.send_replace(Some(Arc::new(feed)));
        };
        look();
        assert_eq!(open(), Ok(()));
        clock.advance(Duration::from_secs(9));
        assert_eq!(open(), Ok(()));
        clock.advance(Duration::from_secs(2));
        assert_eq!(
            open(),
            Err(Reason::Unavailable),
            "the database could not be looked at"
        );
        look();
        assert_eq!(open(), Ok(()));
    }
}

//! Keeping the replica up to date: one stream, and after a break another one, which begins with a snapshot.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    feed::{MAX_CHANGE_ENTRIES, unpack},
    policy::Policies,
    terms::RuleBroken,
};
use koseki_proto::koseki::linkage::v1::{
    SuppressionChange, WatchSuppressionsRequest, WatchSuppressionsResponse, linkage_client::LinkageClient,
    watch_suppressions_response::Part,
};
use tonic::{Status, transport::Channel};

use super::{Replica, Suppressions, snapshot::Snapshot};

/// Length of a message at most, in bytes.
const MAX_MESSAGE_BYTES: usize = 512 * 1024;
/// The pause before a stream is opened anew: it doubles from break to break, and a whole snapshot ends that.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a stream is left.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The registry side ended it, or the line did.
    #[error("it ended: {0:?}")]
    Ended(tonic::Code),
    /// Nothing came for as long as the feed may be old.
    #[error("nothing came any more")]
    Silent,
    /// A message does not fit.
    #[error("a message does not fit: {0}")]
    Misfit(RuleBroken),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Ended(status.code())
    }
}

impl From<RuleBroken> for Broken {
    fn from(rule: RuleBroken) -> Self {
        Self::Misfit(rule)
    }
}

/// Follows the feed. It has a connection of its own: a snapshot does not stand in the way of look-ups.
pub struct Follower {
    client: LinkageClient<Channel>,
    replica: Arc<Replica>,
    policies: Arc<Policies>,
    clock: Arc<dyn Clock>,
}

impl Follower {
    /// Follows over this channel.
    pub fn new(
        channel: Channel,
        replica: Arc<Replica>,
        policies: Arc<Policies>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client: LinkageClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
            replica,
            policies,
            clock,
        }
    }

    /// Goes on for as long as the service runs.
    pub async fn keep_up(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(broken) = self.follow(&mut pause).await;
            tracing::warn!(%broken, "the suppression feed broke off");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one stream until it breaks off.
    async fn follow(&mut self, pause: &mut Duration) -> Result<std::convert::Infallible, Broken> {
        let silent = |_| Broken::Silent;
        let opening = self.client.watch_suppressions(WatchSuppressionsRequest {});
        let opened = tokio::time::timeout(self.policies.current().exchange.suppression_max_age(), opening);
        let mut stream = opened.await.map_err(silent)??.into_inner();
        let mut snapshot = None;
        loop {
            let patience = self.policies.current().exchange.suppression_max_age();
            let message = tokio::time::timeout(patience, stream.message())
                .await
                .map_err(silent)??;
            let message = message.ok_or(Broken::Ended(tonic::Code::Ok))?;
            if self.take(message, &mut snapshot)? {
                *pause = FIRST_PAUSE;
            }
        }
    }

    /// Takes a message in; whether a snapshot is whole with it.
    fn take(
        &self,
        message: WatchSuppressionsResponse,
        snapshot: &mut Option<Snapshot>,
    ) -> Result<bool, RuleBroken> {
        let (sequence, seen_at) = (message.sequence, self.seen_at(&message)?);
        match (message.part.ok_or(RuleBroken("a part"))?, snapshot.take()) {
            (Part::Snapshot(begun), None) => *snapshot = Some(Snapshot::begin(&begun, sequence, seen_at)?),
            (Part::Entries(entries), Some(mut begun)) => {
                if begun.add(&entries, sequence)? {
                    self.replica.put(begun.whole()?);
                    return Ok(true);
                }
                *snapshot = Some(begun);
            }
            (Part::Change(change), None) => self.replica.put(self.changed(&change, sequence, seen_at)?),
            (Part::Heartbeat(_), None) => {
                let newest = self.held(sequence)?;
                self.replica.put(Suppressions { seen_at, ..newest });
            }
            _ => {
                return Err(RuleBroken(
                    "a snapshot, then all of its entries, then what comes after it",
                ));
            }
        }
        Ok(false)
    }

    /// Since when what a message says is known here. One that was long on its way does not make the feed fresh: beyond what
    /// clocks may differ by, its own time counts.
    fn seen_at(&self, message: &WatchSuppressionsResponse) -> Result<Duration, RuleBroken> {
        let as_of = message.as_of.as_ref().and_then(Timestamp::from_proto);
        let old = self.clock.now().since(as_of.ok_or(RuleBroken("a moment"))?);
        let late = old.saturating_sub(self.policies.current().exchange.max_clock_skew());
        Ok(self.clock.monotonic().saturating_sub(late))
    }

    /// The state of a number, which is what is held unless something was lost.
    fn held(&self, sequence: u64) -> Result<Suppressions, RuleBroken> {
        self.replica
            .newest()
            .filter(|newest| newest.sequence == sequence)
            .ok_or(RuleBroken("the number of the state before it"))
    }

    fn changed(
        &self,
        change: &SuppressionChange,
        sequence: u64,
        seen_at: Duration,
    ) -> Result<Suppressions, RuleBroken> {
        let held = self.held(change.after_sequence)?;
        let added = unpack(&change.added, MAX_CHANGE_ENTRIES)?;
        let removed = unpack(&change.removed, MAX_CHANGE_ENTRIES)?;
        if sequence <= held.sequence || added.len() != removed.len() {
            return Err(RuleBroken("a later state of the same size"));
        }
        let entries = held
            .entries
            .changed(&added, &removed)
            .ok_or(RuleBroken("entries that are not there yet, and entries that are"))?;
        Ok(Suppressions {
            entries: Arc::new(entries),
            sequence,
            seen_at,
            ..held
        })
    }
}

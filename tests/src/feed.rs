//! The suppression feed as a test sees it: a watcher of its own, and a feed that a played registry side can serve.

use std::{sync::Arc, time::Duration};

use common::{
    clock::Clock,
    feed::{Entries, MIN_ENTRIES, SeriesKey, pack, unpack},
    terms::LinkageHandle,
};
use devkit::{
    deployment::TRUST_DOMAIN,
    pki::{Ca, Subject},
};
use koseki_proto::koseki::linkage::v1::{
    SuppressionEntries, SuppressionHeartbeat, SuppressionSnapshot, WatchSuppressionsRequest,
    WatchSuppressionsResponse, linkage_client::LinkageClient, watch_suppressions_response::Part,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{Pair, raw};

/// A stream of the feed, as a service gives it.
pub type Feed = ReceiverStream<Result<WatchSuppressionsResponse, Status>>;

/// A feed that holds nobody, and says so every second.
pub fn of_nobody(clock: Arc<dyn Clock>) -> Feed {
    let (sender, feed) = mpsc::channel(4);
    tokio::spawn(async move {
        let numbers = 0..u128::try_from(MIN_ENTRIES).unwrap();
        let entries: Vec<_> = numbers.map(u128::to_be_bytes).collect();
        let first = [
            Part::Snapshot(SuppressionSnapshot {
                series_key: vec![7; 32],
                count: u32::try_from(MIN_ENTRIES).unwrap(),
            }),
            Part::Entries(SuppressionEntries {
                entries: pack(&entries),
            }),
        ];
        let beats = std::iter::repeat_with(|| Part::Heartbeat(SuppressionHeartbeat {}));
        for (at, part) in first.into_iter().chain(beats).enumerate() {
            if at > 1 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let message = WatchSuppressionsResponse {
                sequence: 0,
                as_of: Some(clock.now().to_proto()),
                part: Some(part),
            };
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(feed)
}

/// A gateway that only watches, and keeps what it is told.
pub struct Watcher {
    stream: Streaming<WatchSuppressionsResponse>,
    key: Option<SeriesKey>,
    entries: Entries,
    /// Number of the state that it holds.
    pub sequence: u64,
    /// Snapshots that it has had.
    pub snapshots: usize,
}

impl Watcher {
    /// Watches as the gateway instance of this name, until the first snapshot is whole.
    pub async fn start(pair: &Pair, name: &str) -> Self {
        let stream = open(pair, name).await.unwrap();
        let mut watcher = Self {
            stream,
            key: None,
            entries: Entries::from_unsorted(Vec::new()),
            sequence: 0,
            snapshots: 0,
        };
        while watcher.snapshots == 0 {
            assert!(
                watcher.take().await,
                "the stream ended before its snapshot was whole"
            );
        }
        watcher
    }

    /// Takes one message; false when the stream has ended.
    pub async fn take(&mut self) -> bool {
        let next = tokio::time::timeout(raw::PATIENCE, self.stream.message());
        let Some(message) = next.await.expect("a message or an end").unwrap_or(None) else {
            return false;
        };
        match message.part.unwrap() {
            Part::Snapshot(snapshot) => {
                let count = usize::try_from(snapshot.count).unwrap();
                let mut entries = Vec::new();
                while entries.len() < count {
                    let message = self.stream.message().await.unwrap().unwrap();
                    let Part::Entries(part) = message.part.unwrap() else {
                        panic!("something else in a snapshot")
                    };
                    entries.extend(unpack(&part.entries, count).unwrap());
                }
                assert_eq!(entries.len(), count);
                self.entries = Entries::from_sorted(entries).unwrap();
                self.key = Some(SeriesKey::parse(&snapshot.series_key).unwrap());
                self.snapshots += 1;
            }
            Part::Change(change) => {
                assert_eq!(change.after_sequence, self.sequence, "nothing is lost");
                assert_eq!(change.added.len(), change.removed.len(), "as many come as go");
                let added = unpack(&change.added, usize::MAX).unwrap();
                let removed = unpack(&change.removed, usize::MAX).unwrap();
                self.entries = self.entries.changed(&added, &removed).unwrap();
            }
            Part::Heartbeat(_) => assert_eq!(message.sequence, self.sequence),
            Part::Entries(_) => panic!("entries without a snapshot"),
        }
        self.sequence = message.sequence;
        true
    }

    /// Takes messages until the state of a number is there.
    pub async fn until(&mut self, sequence: u64) {
        while self.sequence < sequence {
            assert!(self.take().await, "the stream ended");
        }
    }

    /// Whether a linkage is in it.
    pub fn holds(&self, handle: &LinkageHandle) -> bool {
        self.entries.contains(&self.key.as_ref().unwrap().entry(handle))
    }

    /// How many entries are in it.
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// The entries.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }
}

/// Opens a stream as the gateway instance of this name.
pub async fn open(pair: &Pair, name: &str) -> Result<Streaming<WatchSuppressionsResponse>, Status> {
    let ca = Ca::read_from(&pair.deployment.dir().join("authority"), "ca").unwrap();
    let issued = ca
        .issue(&Subject::identity(
            TRUST_DOMAIN,
            &format!("portal-gateway/{name}"),
        ))
        .unwrap();
    let address = pair
        .provider
        .address(common::authorisation::Listener::Linkage.name())
        .unwrap();
    let caller = raw::Caller::new(raw::tls(&ca, Some(&issued)), address);
    let mut client = LinkageClient::new(caller.channel());
    // Before its first look at its database the registry side has no feed.
    for _ in 0..100 {
        match client.watch_suppressions(WatchSuppressionsRequest {}).await {
            Ok(stream) => return Ok(stream.into_inner()),
            Err(status) if raw::reason(&status).as_deref() == Some("UNAVAILABLE") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(status) => return Err(status),
        }
    }
    panic!("the registry side serves no feed")
}

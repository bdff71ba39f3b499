//! Keeping the replica up to date: one stream, and after a break another one, from the next provider instance, which begins with
//! a snapshot.

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

use super::{Replica, Suppressions, replica::Seen, snapshot::Snapshot};

/// Length of a message at most, in bytes.
const MAX_MESSAGE_BYTES: usize = 512 * 1024;
/// The pause before a stream is opened anew: it doubles from break to break, and a whole snapshot ends that.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a stream is left.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    /// The registry side ended it before its time, or the line did.
    #[error("it ended: {0:?}")]
    Ended(tonic::Code),
    /// Nothing came for too long.
    #[error("nothing came any more")]
    Silent,
    /// A message does not fit.
    #[error("a message does not fit: {0}")]
    Misfit(RuleBroken),
    /// What came was not put together.
    #[error("what came could not be put together")]
    Unmerged,
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

/// Follows the feed. It has connections of its own: a snapshot does not stand in the way of look-ups.
pub struct Follower {
    /// The lines to the provider instances, each with the instance's name. One is followed at a time: all say the same.
    lines: Vec<(String, LinkageClient<Channel>)>,
    replica: Arc<Replica>,
    policies: Arc<Policies>,
    clock: Arc<dyn Clock>,
}

impl Follower {
    /// Follows over these channels, each to the provider instance of the name.
    pub fn new(
        channels: impl IntoIterator<Item = (String, Channel)>,
        replica: Arc<Replica>,
        policies: Arc<Policies>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let line = |channel| LinkageClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let lines = channels
            .into_iter()
            .map(|(instance, channel)| (instance, line(channel)));
        Self {
            lines: lines.collect(),
            replica,
            policies,
            clock,
        }
    }

    /// Goes on for as long as the service runs.
    pub async fn keep_up(self) {
        let mut pause = FIRST_PAUSE;
        let mut lines = self.lines.iter().cycle();
        let mut line = lines.next();
        while let Some((instance, client)) = line {
            match self.follow(client.clone(), &mut pause).await {
                Ok(()) => {
                    tracing::info!(
                        instance,
                        "a stream of the suppression feed is over; the next one is opened"
                    );
                }
                Err(broken) => {
                    tracing::warn!(instance, %broken, "the suppression feed broke off");
                    line = lines.next();
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one stream until the registry side ends it or it breaks off.
    async fn follow(&self, mut client: LinkageClient<Channel>, pause: &mut Duration) -> Result<(), Broken> {
        let silent = |_| Broken::Silent;
        let opening = client.watch_suppressions(WatchSuppressionsRequest {});
        let opened = tokio::time::timeout(self.patience(), opening);
        let mut stream = opened.await.map_err(silent)??.into_inner();
        let (mut snapshot, mut is_whole) = (None, false);
        loop {
            let message = tokio::time::timeout(self.patience(), stream.message())
                .await
                .map_err(silent)??;
            let Some(message) = message else {
                return over(is_whole && snapshot.is_none());
            };
            if self.take(message, &mut snapshot).await? {
                is_whole = true;
                *pause = FIRST_PAUSE;
            }
        }
    }

    /// How long a stream may say nothing: it beats ten times while the feed may be old. Half of that is left to get a snapshot
    /// from another instance before nothing is provided any more.
    fn patience(&self) -> Duration {
        self.policies.current().exchange.suppression_max_age() / 2
    }

    /// Takes a message in; whether a snapshot is whole with it.
    async fn take(
        &self,
        message: WatchSuppressionsResponse,
        snapshot: &mut Option<Snapshot>,
    ) -> Result<bool, Broken> {
        let (sequence, seen_at) = (message.sequence, self.seen_at(&message)?);
        match (message.part.ok_or(RuleBroken("a part"))?, snapshot.take()) {
            (Part::Snapshot(begun), None) => *snapshot = Some(Snapshot::begin(&begun, sequence, seen_at)?),
            (Part::Entries(entries), Some(mut begun)) => {
                if begun.add(&entries, sequence)? {
                    self.replica.put(put_together(move || begun.whole()).await?);
                    return Ok(true);
                }
                *snapshot = Some(begun);
            }
            (Part::Change(change), None) => {
                let held = self.held(change.after_sequence)?;
                let changed = put_together(move || changed(held, &change, sequence, seen_at)).await?;
                self.replica.put(changed);
            }
            (Part::Heartbeat(_), None) => {
                let newest = self.held(sequence)?;
                self.replica.put(Suppressions { seen_at, ..newest });
            }
            _ => {
                let rule = RuleBroken("a snapshot, then all of its entries, then what comes after it");
                return Err(rule.into());
            }
        }
        Ok(false)
    }

    /// Since when what a message says is known here. One that was long on its way does not make the feed fresh: beyond what
    /// clocks may differ by, its own time counts, even from before this process began.
    fn seen_at(&self, message: &WatchSuppressionsResponse) -> Result<Seen, RuleBroken> {
        let as_of = message.as_of.as_ref().and_then(Timestamp::from_proto);
        let old = self.clock.now().since(as_of.ok_or(RuleBroken("a moment"))?);
        let late = old.saturating_sub(self.policies.current().exchange.max_clock_skew());
        let at = self.clock.monotonic();
        Ok(Seen { at, late })
    }

    /// The state of a number, which is what is held unless something was lost.
    fn held(&self, sequence: u64) -> Result<Suppressions, RuleBroken> {
        self.replica
            .newest()
            .filter(|newest| newest.sequence == sequence)
            .ok_or(RuleBroken("the number of the state before it"))
    }
}

/// How a stream ends that the registry side ends: it does so on purpose after a time, but hardly before it has said what there is.
fn over(has_said_all: bool) -> Result<(), Broken> {
    has_said_all.then_some(()).ok_or(Broken::Ended(tonic::Code::Ok))
}

/// Goes through all entries: not on the threads that serve. The stream waits meanwhile, so what comes stays in order.
async fn put_together<W>(work: W) -> Result<Suppressions, Broken>
where
    W: FnOnce() -> Result<Suppressions, RuleBroken> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Broken::Unmerged)??)
}

fn changed(
    held: Suppressions,
    change: &SuppressionChange,
    sequence: u64,
    seen_at: Seen,
) -> Result<Suppressions, RuleBroken> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use common::{
        alarm::Alarms,
        clock::ShiftedClock,
        feed::{Entry, MIN_ENTRIES, pack},
    };
    use koseki_proto::koseki::linkage::v1::{SuppressionEntries, SuppressionHeartbeat, SuppressionSnapshot};
    use tonic::transport::Endpoint;

    use super::*;

    struct Stage {
        follower: Follower,
        clock: Arc<ShiftedClock>,
        snapshot: Option<Snapshot>,
    }

    impl Stage {
        fn new() -> Self {
            let clock = Arc::new(ShiftedClock::default());
            let file =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policy/provision-policy.toml");
            let suits = Box::new(|_: &common::policy::Policy| Ok(()));
            let policies = Policies::load(&file, None, suits, clock.clone(), Alarms::default()).unwrap();
            let policies = Arc::new(policies);
            let replica = Arc::new(Replica::new(policies.clone(), clock.clone()));
            let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
            Self {
                follower: Follower::new(
                    [("provider-1".to_owned(), channel)],
                    replica,
                    policies,
                    clock.clone(),
                ),
                clock,
                snapshot: None,
            }
        }

        async fn take(&mut self, sequence: u64, part: Part) -> Result<bool, Broken> {
            self.take_late(sequence, part, Duration::ZERO).await
        }

        /// Takes a message that was so long on its way.
        async fn take_late(&mut self, sequence: u64, part: Part, late: Duration) -> Result<bool, Broken> {
            let message = WatchSuppressionsResponse {
                sequence,
                as_of: Some(self.clock.now().before(late).to_proto()),
                part: Some(part),
            };
            self.follower.take(message, &mut self.snapshot).await
        }

        fn begun(count: u32) -> Part {
            Part::Snapshot(SuppressionSnapshot {
                series_key: vec![7; 32],
                count,
            })
        }

        /// The parts of a whole snapshot.
        fn whole() -> Vec<Part> {
            vec![Self::begun(1_024), entries(0..MIN_ENTRIES)]
        }

        fn sequence(&self) -> Option<u64> {
            self.follower.replica.current().map(|held| held.sequence)
        }
    }

    fn numbered(numbers: impl Iterator<Item = usize>) -> Vec<u8> {
        let entries: Vec<Entry> = numbers
            .map(|number| u128::try_from(number).unwrap().to_be_bytes())
            .collect();
        pack(&entries)
    }

    fn entries(numbers: impl Iterator<Item = usize>) -> Part {
        Part::Entries(SuppressionEntries {
            entries: numbered(numbers),
        })
    }

    fn change(after: u64, added: &[usize], removed: &[usize]) -> Part {
        Part::Change(SuppressionChange {
            after_sequence: after,
            added: numbered(added.iter().copied()),
            removed: numbered(removed.iter().copied()),
        })
    }

    fn beat() -> Part {
        Part::Heartbeat(SuppressionHeartbeat {})
    }

    #[tokio::test]
    async fn a_state_is_held_once_it_is_whole_and_for_as_long_as_the_policy_says() {
        let mut stage = Stage::new();
        stage.take(5, Stage::begun(1_024)).await.unwrap();
        assert_eq!(stage.take(5, entries(0..1_000)).await, Ok(false));
        assert_eq!(stage.sequence(), None, "it is not whole");
        assert_eq!(stage.take(5, entries(1_000..1_024)).await, Ok(true));
        assert_eq!(stage.sequence(), Some(5));
        stage.take(8, change(5, &[5_000], &[3])).await.unwrap();
        assert_eq!(stage.sequence(), Some(8));
        stage.clock.advance(Duration::from_secs(11));
        assert_eq!(stage.sequence(), None, "it is too old");
        assert!(stage.follower.replica.is_overdue());
        stage.take(8, beat()).await.unwrap();
        assert_eq!(stage.sequence(), Some(8));

        // What was long on its way does not make it fresh, beyond what clocks may differ by.
        stage.take_late(8, beat(), Duration::from_secs(16)).await.unwrap();
        assert_eq!(stage.sequence(), None);
    }

    #[tokio::test]
    async fn what_is_older_than_this_process_is_too_old() {
        let mut stage = Stage::new();
        let hour = Duration::from_secs(3_600);
        for part in Stage::whole() {
            stage.take_late(5, part, hour).await.unwrap();
        }
        assert_eq!(stage.sequence(), None, "an hour old");
        assert!(stage.follower.replica.is_overdue());
        let (sequence, age) = stage.follower.replica.told().unwrap();
        assert_eq!(sequence, 5);
        assert!(age > Duration::from_secs(3_590), "{age:?}");
        stage.take_late(5, beat(), hour).await.unwrap();
        assert_eq!(stage.sequence(), None, "it is said again, and as old");
        // The stream goes on, and what is fresh counts.
        stage.take(5, beat()).await.unwrap();
        assert_eq!(stage.sequence(), Some(5));
    }

    #[test]
    fn only_a_stream_that_has_said_all_ends_in_the_usual_way() {
        assert_eq!(over(true), Ok(()));
        assert_eq!(over(false), Err(Broken::Ended(tonic::Code::Ok)));
    }

    #[tokio::test]
    async fn what_does_not_fit_ends_the_stream() {
        let refused = async |what: &str, first: Vec<Part>, sequence, part: Part| {
            let mut stage = Stage::new();
            for part in first {
                stage.take(5, part).await.unwrap();
            }
            let taken = stage.take(sequence, part).await;
            assert!(matches!(taken, Err(Broken::Misfit(_))), "{what}");
        };
        let nothing = Vec::new;
        let whole = Stage::whole;
        let begun = || vec![Stage::begun(1_024)];
        let cases: [(&str, Vec<Part>, u64, Part); 16] = [
            (
                "a count that is no power of two",
                nothing(),
                5,
                Stage::begun(1_025),
            ),
            ("too few", nothing(), 5, Stage::begun(512)),
            ("too many", nothing(), 5, Stage::begun(1 << 22)),
            ("entries without a snapshot", nothing(), 5, entries(0..4)),
            ("a beat before a snapshot", nothing(), 5, beat()),
            ("entries of another state", begun(), 6, entries(0..4)),
            ("more entries than were said", begun(), 5, entries(0..1_025)),
            ("none", begun(), 5, entries(0..0)),
            ("a beat within a snapshot", begun(), 5, beat()),
            ("a beat of another state", whole(), 6, beat()),
            ("a change of another state", whole(), 9, change(6, &[5_000], &[3])),
            ("a change that goes back", whole(), 5, change(5, &[5_000], &[3])),
            ("more that comes than goes", whole(), 6, change(5, &[5_000], &[])),
            ("what is there already", whole(), 6, change(5, &[4], &[3])),
            ("what is not there", whole(), 6, change(5, &[5_000], &[6_000])),
            ("out of order", whole(), 6, change(5, &[5_001, 5_000], &[3, 4])),
        ];
        for (what, first, sequence, part) in cases {
            refused(what, first, sequence, part).await;
        }
    }
}

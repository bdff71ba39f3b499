//! The exchange of checkpoints with the registry side: each side gets its log countersigned by the other (DESIGN §5).

use std::{sync::Arc, time::Duration};

use common::{
    evidence::{Checkpoint, EvidenceKeys},
    telemetry,
    witness::{INTERVAL, Verdict, WitnessError, Witnessing},
};
use koseki_proto::koseki::linkage::v1::{
    ExchangeCheckpointsRequest, InconsistentCheckpoint, SubmittedCheckpoint,
    exchange_checkpoints_response::Outcome, linkage_client::LinkageClient,
};
use tokio::sync::Mutex;
use tonic::{Code, Request, Status, transport::Channel};

use crate::store::GatewayStore;

/// Message limit of an exchange, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Deadline of an exchange.
const DEADLINE: Duration = Duration::from_secs(1);
/// How much later than here it may end there.
const GRACE: Duration = Duration::from_millis(200);
/// The pause after one that was late.
const LATE_PAUSE: Duration = Duration::from_secs(2);

/// Exchanges checkpoints with one provider instance.
pub struct CheckpointExchange {
    /// The line.
    pub client: LinkageClient<Channel>,
    /// Name of the provider instance, and of its log.
    pub provider: String,
    /// How far the registry side has countersigned this side's log, by its last word. Held while one of its instances is shown the
    /// log: it is one witness, and a checkpoint that was overtaken on its way would look like a log that has lost its end.
    pub countersigned: Arc<Mutex<Option<u64>>>,
    /// Countersigns, and watches over the own log.
    pub witnessing: Arc<Witnessing>,
    /// Public keys.
    pub keys: Arc<EvidenceKeys>,
    /// The store.
    pub store: Arc<dyn GatewayStore>,
}

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("the registry side did not exchange checkpoints")]
    Peer(#[from] Box<Status>),
    #[error("the registry side did not exchange checkpoints in time")]
    Late,
    #[error(transparent)]
    Witness(#[from] WitnessError),
}

impl CheckpointExchange {
    /// The line over this channel.
    pub fn client(channel: Channel) -> LinkageClient<Channel> {
        LinkageClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Goes on for as long as the service runs.
    pub async fn keep_up(self) {
        let provider = &self.provider;
        loop {
            let mut pause = INTERVAL;
            if let Err(error) = self.round().await {
                // One that does not answer has kept the others from being shown the log meanwhile.
                if matches!(error, ExchangeError::Late) {
                    pause = LATE_PAUSE;
                }
                let error = telemetry::chain(&error);
                tracing::warn!(provider, error, "checkpoints were not exchanged");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One exchange, and a second one when the first has brought something to countersign: the registry side has its
    /// countersignature before this side counts as countersigned, so that it is ready no later.
    async fn round(&self) -> Result<(), ExchangeError> {
        let database = self.store.side().database();
        let first = self.exchange().await?;
        let (theirs, when_asked) = (&first.theirs, Some(first.their_size));
        let witnessed = self
            .witnessing
            .witness(database, &self.provider, theirs, when_asked);
        let verdict = match witnessed.await {
            Ok(verdict) => verdict,
            Err(error) => {
                // What is wrong with their log takes nothing from their word about this one.
                self.take(&first).await?;
                return Err(error.into());
            }
        };
        let is_news = self.size_of(&first.theirs.checkpoint) != first.theirs.old_size;
        if matches!(verdict, Verdict::Countersigned(_)) && is_news {
            let second = self.exchange().await?;
            self.take(&second).await?;
        }
        self.take(&first).await
    }

    async fn exchange(&self) -> Result<Exchanged, ExchangeError> {
        let database = self.store.side().database();
        let mut countersigned = self.countersigned.lock().await;
        let old_size = match *countersigned {
            Some(size) => size,
            None => self.witnessing.witnessed_size(database).await?,
        };
        let ours = self.witnessing.submission(database, old_size).await?;
        let checkpoint = ours.checkpoint.clone();
        let (their_size, witnessed) = self.witnessing.countersigned(database, &self.provider).await?;
        let mut request = Request::new(ExchangeCheckpointsRequest {
            submitted: Some(ours),
            witnessed,
        });
        request.set_timeout(DEADLINE);
        let mut client = self.client.clone();
        // The request's own time does not count while there is no connection.
        let answer = tokio::time::timeout(DEADLINE + GRACE, client.exchange_checkpoints(request)).await;
        let answer = match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no connection in time")))
        {
            Ok(answer) => answer.into_inner(),
            // The client's end of the time, or the server's.
            Err(status) if matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) => {
                // It may be looked at there for as long as it was on its way: no other instance is shown the log before that is over.
                tokio::time::sleep(GRACE).await;
                return Err(ExchangeError::Late);
            }
            Err(status) => return Err(Box::new(status).into()),
        };
        let exchanged = Exchanged {
            checkpoint,
            outcome: answer.outcome,
            theirs: answer.submitted.unwrap_or_default(),
            their_size,
        };
        *countersigned = Some(self.countersigned_size(&exchanged));
        Ok(exchanged)
    }

    /// How far the registry side has countersigned this side's log, by what it says.
    fn countersigned_size(&self, exchanged: &Exchanged) -> u64 {
        match &exchanged.outcome {
            Some(Outcome::Countersignature(_)) => self.size_of(&exchanged.checkpoint),
            Some(
                Outcome::Witnessed(note) | Outcome::Inconsistent(InconsistentCheckpoint { witnessed: note }),
            ) => self.size_of(note),
            None => 0,
        }
    }

    fn size_of(&self, note: &str) -> u64 {
        Checkpoint::open(note, &self.keys.known).map_or(0, |checkpoint| checkpoint.size)
    }

    /// Takes what the registry side says of this side's log.
    async fn take(&self, exchanged: &Exchanged) -> Result<(), ExchangeError> {
        let database = self.store.side().database();
        match &exchanged.outcome {
            Some(Outcome::Countersignature(line)) => {
                let checkpoint = &exchanged.checkpoint;
                self.witnessing
                    .take_countersignature(database, checkpoint, line)
                    .await?;
            }
            Some(
                Outcome::Witnessed(note) | Outcome::Inconsistent(InconsistentCheckpoint { witnessed: note }),
            ) if !note.is_empty() => {
                self.witnessing.take_witnessed(database, note).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What an exchange has brought.
struct Exchanged {
    /// The checkpoint that was shown.
    checkpoint: String,
    /// What became of it.
    outcome: Option<Outcome>,
    /// The registry side's.
    theirs: SubmittedCheckpoint,
    /// How much of the registry side's log was countersigned when it was asked for.
    their_size: u64,
}

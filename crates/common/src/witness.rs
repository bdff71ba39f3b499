//! Witnessing (I9; DESIGN §5): each side countersigns the other's logs, and provides nothing while its own log is not
//! countersigned, or is not what the other side has countersigned.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use koseki_proto::koseki::linkage::v1::SubmittedCheckpoint;
use tlog_tiles::tlog::{Hash, check_tree};

use crate::{
    alarm::{Alarm, Alarms},
    clock::Clock,
    evidence::{
        Checkpoint, EvidenceKeys, Frontier, HASH_BYTES, MAX_NOTE_BYTES, NoteFault, countersign,
        is_countersigned, ordinary_act, with_countersignature,
    },
    identity::{PeerIdentity, Role},
    policy::Policies,
    refusal::{Reason, Refusal},
    store::{Database, StoreError, Witnessed, worked},
    terms::RuleBroken,
    turns::Turns,
};

/// How often the newest checkpoint is signed, and exchanged with the other side: twice within the second that an entry may wait.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// Sizes of the own log that were shown last and are remembered.
const REMEMBERED: usize = 64;
/// Hashes of a consistency proof at most: two for each level of a tree of 2^63 entries.
const MAX_PROOF: usize = 126;

/// Why nothing could be witnessed.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A note cannot be made or is not what it has to be.
    #[error(transparent)]
    Note(#[from] NoteFault),
    /// What came does not have the form that it has to have.
    #[error("{0}: {1}")]
    Malformed(&'static str, RuleBroken),
    /// A checkpoint of the same log is being looked at.
    #[error("a checkpoint of the same log is being looked at")]
    Busy,
}

impl From<WitnessError> for Refusal {
    fn from(error: WitnessError) -> Self {
        match error {
            WitnessError::Store(error) => Reason::from(error).into(),
            WitnessError::Note(_) => Refusal::malformed(
                "checkpoint",
                RuleBroken("a checkpoint that a known key has signed"),
            ),
            WitnessError::Malformed(field, rule) => Refusal::malformed(field, rule),
            WitnessError::Busy => Reason::Overloaded.into(),
        }
    }
}

/// What becomes of a checkpoint of the other side.
pub enum Verdict {
    /// It is countersigned: the line to be added to its note.
    Countersigned(String),
    /// It is shown from another size on than was countersigned before: that note.
    Elsewhere(String),
    /// It does not go on from what was countersigned before: that note; empty when the log was closed at this side.
    Inconsistent(String),
}

/// Witnesses the other side's logs, and watches over the own log's being witnessed.
pub struct Witnessing {
    keys: Arc<EvidenceKeys>,
    own: PeerIdentity,
    peer: Role,
    policies: Arc<Policies>,
    alarms: Alarms,
    clock: Arc<dyn Clock>,
    started: Duration,
    /// The newest checkpoint that was signed: its size and the note. One look at the own log at a time, so that what was read
    /// before is not taken for a log that has become smaller.
    signed: tokio::sync::Mutex<Option<(u64, String)>>,
    state: Mutex<State>,
    /// The logs of the other side whose checkpoint is being looked at.
    turns: Turns,
}

#[derive(Default)]
struct State {
    /// Sizes that the own log was seen to have: its root then, and when it was seen to have that size last.
    seen: BTreeMap<u64, ([u8; HASH_BYTES], Duration)>,
    /// Until when everything that was in the own log is known to be countersigned.
    witnessed_until: Option<Duration>,
    /// The newest size that is stored as countersigned.
    stored: u64,
    /// The other side has countersigned what this log is not, or it is not what it was a moment ago.
    differs: bool,
}

impl Witnessing {
    /// Of an instance that starts now; `peer` is the role of the other side.
    pub fn new(
        keys: Arc<EvidenceKeys>,
        own: PeerIdentity,
        peer: Role,
        policies: Arc<Policies>,
        alarms: Alarms,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            keys,
            own,
            peer,
            policies,
            alarms,
            started: clock.monotonic(),
            clock,
            signed: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            turns: Turns::default(),
        }
    }

    /// Whether the own log is countersigned as the policy asks: while it is not, nothing is provided (I4).
    pub fn holds(&self) -> bool {
        let state = self.state();
        !state.differs && state.witnessed_until.is_some_and(|until| !self.is_over(until))
    }

    /// Whether an operator has to look at it. A service that has just started waits for the other side without alarm.
    pub fn is_overdue(&self) -> bool {
        let state = self.state();
        state.differs || self.is_over(state.witnessed_until.unwrap_or(self.started))
    }

    fn is_over(&self, since: Duration) -> bool {
        let age = self.clock.monotonic().saturating_sub(since);
        age > self.policies.current().exchange.max_unwitnessed_age()
    }

    /// Signs the newest checkpoint again and again, and lets the alarms of the own log stand, for as long as the service runs.
    pub async fn keep_up(&self, database: &Database) {
        loop {
            let signed = self.newest(database).await;
            if let Err(WitnessError::Store(error)) = signed {
                let _: Option<()> = worked(Err(error), "the newest checkpoint could not be signed");
            }
            let differs = self.state().differs;
            self.alarms.set(Alarm::LogDiffers, self.keys.origin(), differs);
            self.alarms.set(
                Alarm::LogUnwitnessed,
                self.keys.origin(),
                self.is_overdue() && !differs,
            );
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The own log's newest checkpoint, signed and stored.
    async fn newest(&self, database: &Database) -> Result<(u64, String), WitnessError> {
        let mut newest = self.signed.lock().await;
        let read_at = self.clock.monotonic();
        let tree = database.tree().await?;
        self.see(&tree, read_at);
        if let Some(signed) = &*newest
            && signed.0 == tree.size()
        {
            return Ok(signed.clone());
        }
        let checkpoint = Checkpoint {
            origin: self.keys.origin().to_owned(),
            size: tree.size(),
            root: tree.root(),
        };
        let signed = (tree.size(), checkpoint.sign(&self.keys.checkpoint)?);
        database.store_checkpoint(signed.0, &signed.1).await?;
        *newest = Some(signed.clone());
        Ok(signed)
    }

    fn see(&self, tree: &Frontier, read_at: Duration) {
        let mut state = self.state();
        // Somebody has changed it behind the service's back: a log only grows.
        state.differs |= state.seen.last_key_value().is_some_and(|(size, (root, _))| {
            tree.size() < *size || (tree.size() == *size && tree.root() != *root)
        });
        state.seen.insert(tree.size(), (tree.root(), read_at));
        while state.seen.len() > REMEMBERED {
            state.seen.pop_first();
        }
    }

    /// What the other side is shown of the own log: its newest checkpoint, from the size on that the other side is known to have
    /// countersigned.
    pub async fn submission(
        &self,
        database: &Database,
        old_size: u64,
    ) -> Result<SubmittedCheckpoint, WitnessError> {
        let (size, checkpoint) = self.newest(database).await?;
        let old_size = if old_size > size { 0 } else { old_size };
        let proof = match old_size {
            0 => Vec::new(),
            old_size => database.prove_consistency(old_size, size).await?,
        };
        Ok(SubmittedCheckpoint {
            checkpoint,
            old_size,
            consistency_proof: proof.iter().map(|hash| hash.0.to_vec()).collect(),
        })
    }

    /// The newest size of the own log that the other side is known to have countersigned.
    pub async fn witnessed_size(&self, database: &Database) -> Result<u64, WitnessError> {
        Ok(database.stored_checkpoint(database.log()).await?.witnessed_size)
    }

    /// Origin of the log of the other side's instance.
    pub fn peer_origin(&self, instance: &str) -> String {
        self.keys.origin_of(self.peer, instance)
    }

    /// A log of the other side was closed at this side: whatever was wrong with it has been dealt with.
    pub(crate) fn peer_was_closed(&self, origin: &str) {
        self.alarms.clear(Alarm::PeerLogInconsistent, origin);
    }

    /// How far this side has countersigned a log of the other side, and the checkpoint; that is empty when there is none, or the log
    /// is closed.
    pub async fn countersigned(
        &self,
        database: &Database,
        instance: &str,
    ) -> Result<(u64, String), WitnessError> {
        let witnessed = database.witnessed(&self.peer_origin(instance)).await?;
        Ok(match witnessed {
            Some(Witnessed {
                closed: false,
                size,
                note,
                ..
            }) => (size, note),
            Some(witnessed) => (witnessed.size, String::new()),
            None => (0, String::new()),
        })
    }

    /// Takes a countersignature of the own log's checkpoint that was shown.
    pub async fn take_countersignature(
        &self,
        database: &Database,
        checkpoint: &str,
        line: &str,
    ) -> Result<(), WitnessError> {
        let witness = self.keys.witness_of(self.peer);
        let note = with_countersignature(checkpoint, line, &witness, &self.keys.known)?;
        self.take_witnessed(database, &note).await?;
        Ok(())
    }

    /// Takes what the other side has countersigned of the own log. When the own log is not that, or is behind it, nothing is
    /// provided any more: it is a restored copy, or one of two. The size that it has countersigned.
    pub async fn take_witnessed(&self, database: &Database, note: &str) -> Result<u64, WitnessError> {
        let checkpoint = Checkpoint::open(note, &self.keys.known)?;
        let witness = self.keys.witness_of(self.peer);
        if checkpoint.origin != self.keys.origin() || !is_countersigned(note, &witness, &self.keys.known) {
            return Err(NoteFault::NotCountersigned.into());
        }
        if !self.was_ours(database, &checkpoint).await? {
            self.state().differs = true;
            self.alarms.raise(Alarm::LogDiffers, self.keys.origin());
            return Ok(checkpoint.size);
        }
        if checkpoint.size > self.state().stored {
            database.store_witnessed(checkpoint.size, note).await?;
        }
        let mut state = self.state();
        state.stored = state.stored.max(checkpoint.size);
        if let Some((_, read_at)) = state.seen.get(&checkpoint.size).copied() {
            state.witnessed_until = state.witnessed_until.max(Some(read_at));
        }
        Ok(checkpoint.size)
    }

    /// Whether the own log, as it is stored now, was this. One whose hashes are gone is not.
    async fn was_ours(&self, database: &Database, checkpoint: &Checkpoint) -> Result<bool, WitnessError> {
        if checkpoint.size > database.tree().await?.size() {
            return Ok(false);
        }
        match database.root_at(checkpoint.size).await {
            Ok(root) => Ok(root == checkpoint.root),
            Err(StoreError::Unreadable(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Countersigns a checkpoint of the other side's instance, if it goes on from what was countersigned before. Who asked for it
    /// says how much was countersigned then: others of this side ask, too, and may have got and countersigned a newer one
    /// meanwhile.
    pub async fn witness(
        &self,
        database: &Database,
        instance: &str,
        submitted: &SubmittedCheckpoint,
        when_asked: Option<u64>,
    ) -> Result<Verdict, WitnessError> {
        let proof = proof(submitted)?;
        let checkpoint = Checkpoint::open(&submitted.checkpoint, &self.keys.known)?;
        let origin = self.peer_origin(instance);
        if checkpoint.origin != origin {
            return Err(WitnessError::Malformed(
                "checkpoint",
                RuleBroken("that of the peer's own log"),
            ));
        }
        // Another one would come out of order, or only cost.
        let _turn = self.turns.take(&origin).ok_or(WitnessError::Busy)?;
        let before = database.witnessed(&origin).await?;
        let verdict = match &before {
            // Not even what stands is confirmed again: an instance behind it that has nothing new to show has to stop, too.
            Some(before) if before.closed => Some(Verdict::Inconsistent(String::new())),
            Some(before) if before.size != submitted.old_size => {
                Some(Verdict::Elsewhere(before.note.clone()))
            }
            Some(before) if !goes_on(before, &checkpoint, &proof) => {
                Some(Verdict::Inconsistent(before.note.clone()))
            }
            None if submitted.old_size != 0 => Some(Verdict::Elsewhere(String::new())),
            _ => None,
        };
        // A log that has become smaller than what was countersigned is not shown as going on from anything.
        let behind = before.as_ref().is_some_and(|before| {
            checkpoint.size < when_asked.map_or(before.size, |size| size.min(before.size))
                || (checkpoint.size == before.size && checkpoint.root != before.root)
        });
        // A closed log that is shown as it was closed is in order.
        let as_closed = before
            .as_ref()
            .is_some_and(|before| before.closed && checkpoint.size == before.size);
        let inconsistent = behind || (matches!(verdict, Some(Verdict::Inconsistent(_))) && !as_closed);
        if inconsistent && !self.alarms.stands(Alarm::PeerLogInconsistent, &origin) {
            // Two checkpoints that do not fit, each signed by the log's own key: they are kept where nobody of that side can
            // take them away.
            let before = before.as_ref().map(|before| before.note.as_str());
            tracing::error!(
                countersigned = before.unwrap_or_default(),
                shown = submitted.checkpoint,
                "the other side's log does not go on from what was countersigned, or goes on although it is closed"
            );
        }
        self.alarms.set(Alarm::PeerLogInconsistent, &origin, inconsistent);
        if let Some(verdict) = verdict {
            return Ok(verdict);
        }
        let now = self.clock.now();
        let line = countersign(&submitted.checkpoint, &self.keys.witness, now)?;
        let witness = self.keys.witness_of(self.own.role());
        let note = with_countersignature(&submitted.checkpoint, &line, &witness, &self.keys.known)?;
        if before
            .as_ref()
            .is_some_and(|before| before.size == checkpoint.size)
        {
            // It is what is stored: nothing to go on to.
            return Ok(Verdict::Countersigned(line));
        }
        let after = Witnessed {
            size: checkpoint.size,
            root: checkpoint.root,
            note,
            closed: false,
        };
        let opened = match before {
            Some(_) => None,
            None => Some(ordinary_act("OPEN_PEER_LOG", &self.own, 0, None, &origin)),
        };
        if database
            .advance_witnessed(&origin, before.as_ref(), &after, opened, now)
            .await?
        {
            return Ok(Verdict::Countersigned(line));
        }
        let elsewhere = database.witnessed(&origin).await?;
        Ok(Verdict::Elsewhere(
            elsewhere.map(|witnessed| witnessed.note).unwrap_or_default(),
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole: a panic elsewhere does, too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn proof(submitted: &SubmittedCheckpoint) -> Result<Vec<Hash>, WitnessError> {
    let rule = || WitnessError::Malformed("consistency_proof", RuleBroken("at most 126 hashes of 32 bytes"));
    if submitted.consistency_proof.len() > MAX_PROOF || submitted.checkpoint.len() > MAX_NOTE_BYTES {
        return Err(rule());
    }
    let hash = |hash: &Vec<u8>| hash.as_slice().try_into().map(Hash).map_err(|_| rule());
    submitted.consistency_proof.iter().map(hash).collect()
}

/// Whether the tree of the checkpoint has what was countersigned before as its beginning.
fn goes_on(before: &Witnessed, checkpoint: &Checkpoint, proof: &Vec<Hash>) -> bool {
    match before.size {
        0 => true,
        size if size == checkpoint.size => before.root == checkpoint.root,
        size if size > checkpoint.size => false,
        size => check_tree(
            proof,
            checkpoint.size,
            Hash(checkpoint.root),
            size,
            Hash(before.root),
        )
        .is_ok(),
    }
}

//! Checkpoints (C2SP tlog-checkpoint) and countersignatures (tlog-cosignature, `cosignature/v1`): signed notes about a log's
//! size and root.

use signed_note::{Note, Signature};
use tlog_tiles::{checkpoint::Checkpoint as Text, tlog::Hash};

use super::{HASH_BYTES, LogKeys, NoteKey};
use crate::clock::Timestamp;

/// Length of a note at most, in bytes.
pub const MAX_NOTE_BYTES: usize = 8 * 1024;

/// A size of a log, and its root then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// Root of its tree.
    pub root: [u8; HASH_BYTES],
}

/// A note is not a checkpoint that a known key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    /// It is not a checkpoint.
    #[error("not a checkpoint")]
    Malformed,
    /// No known key of the log has signed it.
    #[error("no known key of the log has signed the checkpoint")]
    NotSigned,
    /// No known key of the witness has countersigned it.
    #[error("no known key of the witness has countersigned the checkpoint")]
    NotCountersigned,
}

impl Checkpoint {
    /// The text that is signed.
    fn text(&self) -> Result<Vec<u8>, NoteFault> {
        Text::new(&self.origin, self.size, Hash(self.root), "")
            .map(|text| text.to_bytes())
            .map_err(|_| NoteFault::Malformed)
    }

    /// The checkpoint, signed by its log's key.
    pub fn sign(&self, key: &NoteKey) -> Result<String, NoteFault> {
        let text = self.text()?;
        let signature = key.sign(&text);
        note(
            &text,
            &[Signature::new(key.name().to_owned(), key.id(), signature)
                .map_err(|_| NoteFault::Malformed)?],
        )
    }

    /// Reads a note and verifies that a key of its log has signed it.
    pub fn open(signed: &str, keys: &LogKeys) -> Result<Self, NoteFault> {
        let (this, note) = Self::read(signed)?;
        let by_log = |signature: &Signature| {
            signature.name() == this.origin
                && keys.has_signed(
                    signature.name(),
                    signature.id(),
                    note.text(),
                    signature.signature(),
                )
        };
        signatures(signed)?
            .iter()
            .any(by_log)
            .then_some(this)
            .ok_or(NoteFault::NotSigned)
    }

    fn read(signed: &str) -> Result<(Self, Note), NoteFault> {
        if signed.len() > MAX_NOTE_BYTES {
            return Err(NoteFault::Malformed);
        }
        let note = Note::from_bytes(signed.as_bytes()).map_err(|_| NoteFault::Malformed)?;
        let text = Text::from_bytes(note.text()).map_err(|_| NoteFault::Malformed)?;
        let this = Self {
            origin: text.origin().to_owned(),
            size: text.size(),
            root: text.hash().0,
        };
        // Extension lines would be signed without being looked at, and no log has more entries than can be stored.
        (this.text()? == note.text() && i64::try_from(this.size).is_ok())
            .then_some((this, note))
            .ok_or(NoteFault::Malformed)
    }
}

/// The countersignature of a signed checkpoint, as a line to be added to its note.
pub fn countersign(signed: &str, key: &NoteKey, now: Timestamp) -> Result<String, NoteFault> {
    let (_, note) = Checkpoint::read(signed)?;
    let time = now.unix_ms().div_euclid(1_000).unsigned_abs();
    let mut signature = time.to_be_bytes().to_vec();
    signature.extend_from_slice(&key.sign(&countersigned(time, note.text())));
    let line =
        Signature::new(key.name().to_owned(), key.id(), signature).map_err(|_| NoteFault::Malformed)?;
    String::from_utf8(line.to_bytes()).map_err(|_| NoteFault::Malformed)
}

/// The note with a countersignature added, when a key of the witness of this name has made it for this checkpoint.
pub fn with_countersignature(
    signed: &str,
    line: &str,
    witness: &str,
    keys: &LogKeys,
) -> Result<String, NoteFault> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let added = Signature::from_bytes(line.as_bytes()).map_err(|_| NoteFault::Malformed)?;
    let (_, note) = Checkpoint::read(signed)?;
    if !is_countersignature(&added, note.text(), witness, keys) {
        return Err(NoteFault::NotCountersigned);
    }
    let mut all = signatures(signed)?;
    all.push(added);
    let note = self::note(note.text(), &all)?;
    // Whoever fills a note with signatures gets none that nobody could read.
    (note.len() <= MAX_NOTE_BYTES)
        .then_some(note)
        .ok_or(NoteFault::Malformed)
}

/// Whether a key of the witness of this name has countersigned the note.
pub fn is_countersigned(signed: &str, witness: &str, keys: &LogKeys) -> bool {
    let Ok((_, note)) = Checkpoint::read(signed) else {
        return false;
    };
    signatures(signed).is_ok_and(|all| {
        all.iter()
            .any(|signature| is_countersignature(signature, note.text(), witness, keys))
    })
}

fn is_countersignature(signature: &Signature, text: &[u8], witness: &str, keys: &LogKeys) -> bool {
    let Some((time, bytes)) = signature.signature().split_first_chunk::<8>() else {
        return false;
    };
    let message = countersigned(u64::from_be_bytes(*time), text);
    signature.name() == witness && keys.has_signed(witness, signature.id(), &message, bytes)
}

fn countersigned(unix_s: u64, text: &[u8]) -> Vec<u8> {
    let mut message = format!("cosignature/v1\ntime {unix_s}\n").into_bytes();
    message.extend_from_slice(text);
    message
}

/// The signatures of a note, which the library shows only once they are verified, by algorithms of its own.
fn signatures(signed: &str) -> Result<Vec<Signature>, NoteFault> {
    let (_, lines) = signed.rsplit_once("\n\n").ok_or(NoteFault::Malformed)?;
    lines
        .lines()
        .map(|line| Signature::from_bytes(line.as_bytes()).map_err(|_| NoteFault::Malformed))
        .collect()
}

fn note(text: &[u8], signatures: &[Signature]) -> Result<String, NoteFault> {
    let note = Note::new(text, signatures).map_err(|_| NoteFault::Malformed)?;
    String::from_utf8(note.to_bytes()).map_err(|_| NoteFault::Malformed)
}

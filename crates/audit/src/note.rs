//! Checkpoints and countersignatures (C2SP tlog-checkpoint, tlog-cosignature), read and verified.

use data_encoding::BASE64;
use signed_note::{Note, Signature};

use crate::{
    keys::{COSIGNATURE, ED25519_NOTE, Keys},
    tree::Hash,
};

/// Length of a note at most, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// A checkpoint as it was signed; its signatures are not believed before they are verified.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    /// The note.
    pub(crate) note: String,
    /// The log.
    pub(crate) origin: String,
    /// How many entries it has.
    pub(crate) size: u64,
    /// Root of its tree.
    pub(crate) root: Hash,
    text: Vec<u8>,
    signatures: Vec<Signature>,
}

/// A countersignature that was verified.
#[derive(Clone, Copy)]
pub(crate) struct Countersigned {
    /// Id of the key.
    pub(crate) key_id: u32,
    /// When, by the witness's clock, in seconds since 1970.
    pub(crate) unix_s: u64,
}

impl Checkpoint {
    /// Reads a note; `None` when it is not a checkpoint.
    pub(crate) fn read(note: &str) -> Option<Self> {
        if note.len() > MAX_BYTES {
            return None;
        }
        Note::from_bytes(note.as_bytes()).ok()?;
        let (text, lines) = note.rsplit_once("\n\n")?;
        let mut words = text.split('\n');
        let (origin, size, root) = (words.next()?, words.next()?, words.next()?);
        // Further lines would be signed without being looked at.
        if words.next().is_some() || origin.is_empty() {
            return None;
        }
        let number: u64 = size.parse().ok()?;
        if number.to_string() != size {
            return None;
        }
        let root = BASE64.decode(root.as_bytes()).ok()?.try_into().ok()?;
        let signatures = lines
            .lines()
            .map(|line| Signature::from_bytes(line.as_bytes()).ok())
            .collect::<Option<_>>()?;
        Some(Self {
            note: note.to_owned(),
            origin: origin.to_owned(),
            size: number,
            root,
            text: format!("{text}\n").into_bytes(),
            signatures,
        })
    }

    /// The key of the log that has signed it.
    pub(crate) fn signed(&self, keys: &Keys) -> Option<u32> {
        let by_log = |signature: &&Signature| {
            let key = (signature.name(), signature.id(), ED25519_NOTE);
            signature.name() == self.origin && keys.has_signed(key, &self.text, signature.signature())
        };
        self.signatures.iter().find(by_log).map(Signature::id)
    }

    /// The newest countersignature of the witness of this name.
    pub(crate) fn countersigned(&self, witness: &str, keys: &Keys) -> Option<Countersigned> {
        let verified = |signature: &Signature| {
            let (time, bytes) = signature.signature().split_first_chunk::<8>()?;
            let unix_s = u64::from_be_bytes(*time);
            let mut message = format!("cosignature/v1\ntime {unix_s}\n").into_bytes();
            message.extend_from_slice(&self.text);
            let key = (witness, signature.id(), COSIGNATURE);
            let good = signature.name() == witness && keys.has_signed(key, &message, bytes);
            good.then_some(Countersigned {
                key_id: signature.id(),
                unix_s,
            })
        };
        let all = self.signatures.iter().filter_map(verified);
        all.max_by_key(|countersigned| countersigned.unix_s)
    }
}

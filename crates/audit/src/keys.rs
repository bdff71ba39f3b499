//! `log-keys.txt`: the public keys of both sides, and all that is believed.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE64;

use crate::tree;

/// Signs checkpoints and receipts.
pub(crate) const ED25519_NOTE: u8 = 1;
/// Signs countersignatures.
pub(crate) const COSIGNATURE: u8 = 4;
/// Length of a list at most, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error("cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// It is not a list of keys.
    #[error("line {0}: must be a verifier key <name>+<key id>+<base64>")]
    Line(usize),
    /// It has no key, or is longer than any list.
    #[error("must have a verifier key, and 1 MiB at most")]
    Size,
}

/// Public keys, by name and id.
pub struct Keys(BTreeMap<(String, u32), Key>);

struct Key {
    algorithm: u8,
    public: [u8; 32],
}

impl Keys {
    /// Reads a list.
    ///
    /// # Errors
    /// When it is not one.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        let mut text = String::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(KeysError::Size);
        }
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, id, key) = parse(line).ok_or(KeysError::Line(number))?;
            keys.insert((name, id), key);
        }
        match keys.is_empty() {
            true => Err(KeysError::Size),
            false => Ok(Self(keys)),
        }
    }

    /// Names and ids of all keys.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.keys().map(|(name, id)| (name.as_str(), *id))
    }

    /// The origins of logs that checkpoints can be verified of: names of three parts.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &str> {
        let log = |(name, key): (&'_ str, &Key)| {
            (key.algorithm == ED25519_NOTE && name.split('/').count() == 3).then_some(())
        };
        let mut last = "";
        let keys = self.0.iter().map(|((name, _), key)| (name.as_str(), key));
        keys.filter_map(move |(name, key)| {
            log((name, key))?;
            let new = std::mem::replace(&mut last, name) != name;
            new.then_some(name)
        })
    }

    /// Whether the key of this name, id and use has signed the message.
    pub(crate) fn has_signed(
        &self,
        (name, id, algorithm): (&str, u32, u8),
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let key = self.0.get(&(name.to_owned(), id));
        key.is_some_and(|key| {
            let public = UnparsedPublicKey::new(&ED25519, &key.public);
            key.algorithm == algorithm && public.verify(message, signature).is_ok()
        })
    }
}

fn parse(line: &str) -> Option<(String, u32, Key)> {
    let (name, rest) = line.split_once('+')?;
    let (id, encoded) = rest.split_once('+')?;
    let given = (id.len() == 8).then(|| u32::from_str_radix(id, 16).ok())??;
    let encoded = BASE64.decode(encoded.as_bytes()).ok()?;
    let (algorithm, public) = encoded.split_first()?;
    let public = public.try_into().ok()?;
    // The id binds name and use.
    let digest = tree::sha256(&[name.as_bytes(), b"\n", &encoded]);
    let id = u32::from_be_bytes(*digest.first_chunk()?);
    let known = [ED25519_NOTE, COSIGNATURE].contains(algorithm);
    (known && id == given && !name.is_empty()).then(|| {
        let key = Key {
            algorithm: *algorithm,
            public,
        };
        (name.to_owned(), id, key)
    })
}

//! The keys of the logs: private ones that sign checkpoints and countersignatures, and the one public list of both sides'
//! (C2SP signed-note, tlog-cosignature).

use std::{collections::BTreeMap, path::Path};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use signed_note::{is_key_name_valid, key_id};

use crate::{
    dsse,
    files::{self, FileError},
    identity::{Role, TrustDomain},
};

/// What a service signs and verifies evidence with: the section `[evidence]` of its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceConfig {
    /// Private key of this instance's checkpoints (Ed25519, PEM).
    pub checkpoint_key: std::path::PathBuf,
    /// Private key of this side's countersignatures (Ed25519, PEM), the same on all of its instances.
    pub witness_key: std::path::PathBuf,
    /// Public keys of both sides' logs, witnesses and receipts: one C2SP verifier key a line.
    pub log_keys: std::path::PathBuf,
}

/// What a key signs, as the first byte of an encoded key has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteAlgorithm {
    /// A note's text (signed-note), or a receipt.
    Ed25519 = 1,
    /// A countersignature with its time (tlog-cosignature).
    CosignatureV1 = 4,
}

/// Name of a log, as it stands in the first line of its checkpoints.
pub fn origin(trust_domain: &TrustDomain, role: Role, instance: &str) -> String {
    format!("{}/{}/{instance}", trust_domain.as_str(), role.as_str())
}

/// Name of a side as a witness.
pub fn witness_name(trust_domain: &TrustDomain, role: Role) -> String {
    format!("{}/{}", trust_domain.as_str(), role.as_str())
}

/// Name of the key that signs the receipts of a provider's log.
pub fn receipt_key_name(origin: &str) -> String {
    format!("{origin}/receipt")
}

/// The public key as lists of keys have it: `<name>+<key id>+<base64>`.
pub fn verifier_key(name: &str, algorithm: NoteAlgorithm, public: &[u8]) -> String {
    let encoded = encoded(algorithm, public);
    format!(
        "{name}+{:08x}+{}",
        key_id(name, &encoded),
        BASE64.encode(&encoded)
    )
}

fn encoded(algorithm: NoteAlgorithm, public: &[u8]) -> Vec<u8> {
    let mut encoded = vec![algorithm as u8];
    encoded.extend_from_slice(public);
    encoded
}

/// All that a service signs and verifies evidence with.
pub struct EvidenceKeys {
    origin: String,
    trust_domain: TrustDomain,
    /// Signs this instance's checkpoints.
    pub checkpoint: NoteKey,
    /// Signs this side's countersignatures.
    pub witness: NoteKey,
    /// Both sides' public keys.
    pub known: LogKeys,
}

impl EvidenceKeys {
    /// Reads the files, and checks that the other side can verify what is signed with the private keys.
    pub fn load(
        config: &EvidenceConfig,
        trust_domain: &TrustDomain,
        role: Role,
        instance: &str,
    ) -> Result<Self, FileError> {
        let origin = origin(trust_domain, role, instance);
        let witness = witness_name(trust_domain, role);
        let known = LogKeys::load(&config.log_keys)?;
        let (ed25519, cosignature) = (NoteAlgorithm::Ed25519, NoteAlgorithm::CosignatureV1);
        let checkpoint = NoteKey::load(&config.checkpoint_key, origin.clone(), ed25519)?;
        let witness = NoteKey::load(&config.witness_key, witness, cosignature)?;
        for key in [&checkpoint, &witness] {
            if !known.has(key) {
                let missing = format!(
                    "lacks the key {}+{:08x}, with which this side signs",
                    key.name, key.id
                );
                return Err(FileError::content(&config.log_keys, missing));
            }
        }
        Ok(Self {
            origin,
            trust_domain: trust_domain.clone(),
            checkpoint,
            witness,
            known,
        })
    }

    /// Name of this instance's log, as its checkpoints have it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Name of the log of another instance, as its checkpoints have it.
    pub fn origin_of(&self, role: Role, instance: &str) -> String {
        origin(&self.trust_domain, role, instance)
    }

    /// Name of a side as a witness.
    pub fn witness_of(&self, role: Role) -> String {
        witness_name(&self.trust_domain, role)
    }
}

/// A private key of a name.
pub struct NoteKey {
    name: String,
    id: u32,
    key: Ed25519KeyPair,
}

impl NoteKey {
    /// Reads an Ed25519 private key (PEM, PKCS#8), which only its owner may read.
    pub fn load(path: &Path, name: String, algorithm: NoteAlgorithm) -> Result<Self, FileError> {
        let key = dsse::load_private(path)?;
        let id = key_id(&name, &encoded(algorithm, key.public_key().as_ref()));
        Ok(Self { name, id, key })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The signature of a message, 64 bytes.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).as_ref().to_vec()
    }
}

/// The public keys of both sides' logs, witnesses and receipts. Overlap is two keys of one name.
pub struct LogKeys(BTreeMap<(String, u32), Vec<u8>>);

/// Keys in a list at most.
const MAX_KEYS: usize = 1_024;

impl LogKeys {
    /// Reads a list: one verifier key a line; empty lines and lines that begin with `#` say nothing.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = files::read_text(path)?;
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let rule = || {
                FileError::content(
                    path,
                    format!("line {number}: must be a verifier key <name>+<id>+<key>"),
                )
            };
            let (name, id, public) = parse(line).ok_or_else(rule)?;
            keys.insert((name, id), public);
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(FileError::content(path, "must have 1 to 1,024 verifier keys"));
        }
        Ok(Self(keys))
    }

    fn has(&self, key: &NoteKey) -> bool {
        let public = self.0.get(&(key.name.clone(), key.id));
        public.is_some_and(|public| public == key.key.public_key().as_ref())
    }

    /// Whether the key of this name and id has signed the message.
    pub fn has_signed(&self, name: &str, id: u32, message: &[u8], signature: &[u8]) -> bool {
        self.0.get(&(name.to_owned(), id)).is_some_and(|public| {
            UnparsedPublicKey::new(&ED25519, public)
                .verify(message, signature)
                .is_ok()
        })
    }
}

/// The key's id binds name and algorithm: what was signed as the one does not verify as the other.
fn parse(line: &str) -> Option<(String, u32, Vec<u8>)> {
    let (name, rest) = line.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let id = (id.len() == 8).then(|| u32::from_str_radix(id, 16).ok())??;
    let key = BASE64.decode(key.as_bytes()).ok()?;
    let (algorithm, public) = key.split_first()?;
    let known = [NoteAlgorithm::Ed25519 as u8, NoteAlgorithm::CosignatureV1 as u8].contains(algorithm);
    let good = known && public.len() == 32 && is_key_name_valid(name) && key_id(name, &key) == id;
    good.then(|| (name.to_owned(), id, public.to_vec()))
}

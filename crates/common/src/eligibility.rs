//! The gateway's signed word for a batch (DESIGN §5): a DSSE envelope with one Ed25519 signature.

use std::{collections::BTreeMap, path::Path};

use koseki_proto::koseki::linkage::v1::{Eligibility, Envelope};
use prost::Message as _;

use crate::{
    digest,
    dsse::{PublicKey, SigningKey},
    files::{self, FileError},
};

/// Payload type of the envelope.
const PAYLOAD_TYPE: &str = "application/vnd.koseki.eligibility.v1+protobuf";
/// Length of a payload at most, in bytes.
const MAX_PAYLOAD_BYTES: usize = 512 * 1024;

/// Signs eligibilities. The signature binds the payload's exact bytes and its type.
pub struct Signer(SigningKey);

impl Signer {
    /// Reads an Ed25519 private key (PEM, PKCS#8), which only its owner may read.
    pub fn load(path: &Path, key_id: &str) -> Result<Self, FileError> {
        SigningKey::load(path, key_id).map(Self)
    }

    /// Signs an eligibility; the digest is that of the payload, for the log.
    pub fn sign(&self, eligibility: &Eligibility) -> (Envelope, [u8; 32]) {
        let payload = eligibility.encode_to_vec();
        let signature = self.0.sign(PAYLOAD_TYPE, &payload);
        let sha256 = digest::sha256(&[&payload]);
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload,
            key_id: self.0.id().to_owned(),
            signature,
        };
        (envelope, sha256)
    }
}

/// An eligibility whose signature was verified.
pub struct Verified {
    /// What was signed.
    pub eligibility: Eligibility,
    /// SHA-256 of the payload.
    pub sha256: [u8; 32],
}

/// Verifies eligibilities: gateway instance → key id → public key.
pub struct Verifier(BTreeMap<(String, String), PublicKey>);

impl Verifier {
    /// Reads the public keys (PEM, SPKI) of a directory; a file is named `<gateway instance>.<key id>.pem`.
    pub fn load(directory: &Path) -> Result<Self, FileError> {
        let mut keys = BTreeMap::new();
        for path in files::list(directory, "pem")? {
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            let (instance, key_id) = stem
                .split_once('.')
                .ok_or_else(|| FileError::content(&path, "must be named <gateway instance>.<key id>.pem"))?;
            keys.insert((instance.to_owned(), key_id.to_owned()), PublicKey::load(&path)?);
        }
        if keys.is_empty() {
            return Err(FileError::content(
                directory,
                "must hold at least one public key as *.pem",
            ));
        }
        Ok(Self(keys))
    }

    /// Verifies an envelope of the gateway instance whose certificate the connection has; `None` when it is not its word.
    pub fn verify(&self, envelope: &Envelope, instance: &str) -> Option<Verified> {
        if envelope.payload_type != PAYLOAD_TYPE || envelope.payload.len() > MAX_PAYLOAD_BYTES {
            return None;
        }
        let key = self.0.get(&(instance.to_owned(), envelope.key_id.clone()))?;
        if !key.has_signed(PAYLOAD_TYPE, &envelope.payload, &envelope.signature) {
            return None;
        }
        let eligibility = Eligibility::decode(envelope.payload.as_slice()).ok()?;
        (eligibility.gateway_instance == instance).then(|| Verified {
            eligibility,
            sha256: digest::sha256(&[&envelope.payload]),
        })
    }
}

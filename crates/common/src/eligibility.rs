//! The gateway's signed word for a batch (DESIGN §5): a DSSE envelope with one Ed25519 signature.

use std::{collections::BTreeMap, path::Path};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use koseki_proto::koseki::linkage::v1::{Eligibility, Envelope};
use prost::Message as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use x509_parser::{oid_registry::OID_SIG_ED25519, prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use crate::{
    digest,
    files::{self, FileError},
};

/// Payload type of the envelope.
const PAYLOAD_TYPE: &str = "application/vnd.koseki.eligibility.v1+protobuf";
/// Length of a payload at most, in bytes.
const MAX_PAYLOAD_BYTES: usize = 512 * 1024;

/// Signs eligibilities. The signature binds the payload's exact bytes and its type.
pub struct Signer {
    key_id: String,
    key: Ed25519KeyPair,
}

impl Signer {
    /// Reads an Ed25519 private key (PEM, PKCS#8), which only its owner may read.
    pub fn load(path: &Path, key_id: &str) -> Result<Self, FileError> {
        let rule = || FileError::content(path, "must be an Ed25519 private key (PEM, PKCS#8)");
        let pem = files::read_secret(path)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| rule())?;
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| rule())?;
        Ok(Self {
            key_id: key_id.to_owned(),
            key,
        })
    }

    /// Signs an eligibility; the digest is that of the payload, for the log.
    pub fn sign(&self, eligibility: &Eligibility) -> (Envelope, [u8; 32]) {
        let payload = eligibility.encode_to_vec();
        let signature = self
            .key
            .sign(&pre_authentication_encoding(&payload))
            .as_ref()
            .to_vec();
        let sha256 = digest::sha256(&[&payload]);
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload,
            key_id: self.key_id.clone(),
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
pub struct Verifier(BTreeMap<(String, String), Vec<u8>>);

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
            let rule =
                || FileError::content(&path, "must be an Ed25519 public key (PEM, SubjectPublicKeyInfo)");
            let der = SubjectPublicKeyInfoDer::from_pem_slice(&files::read(&path)?).map_err(|_| rule())?;
            let (_, spki) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| rule())?;
            if spki.algorithm.algorithm != OID_SIG_ED25519 {
                return Err(rule());
            }
            keys.insert(
                (instance.to_owned(), key_id.to_owned()),
                spki.subject_public_key.data.to_vec(),
            );
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
        UnparsedPublicKey::new(&ED25519, key)
            .verify(
                &pre_authentication_encoding(&envelope.payload),
                &envelope.signature,
            )
            .ok()?;
        let eligibility = Eligibility::decode(envelope.payload.as_slice()).ok()?;
        (eligibility.gateway_instance == instance).then(|| Verified {
            eligibility,
            sha256: digest::sha256(&[&envelope.payload]),
        })
    }
}

/// `PAE(type, body)` of DSSE: lengths before contents, so that nothing can be read in two ways.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

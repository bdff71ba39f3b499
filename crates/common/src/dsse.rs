//! Signatures as DSSE has them: Ed25519 over the payload's exact bytes and its type, so that what was signed for one purpose
//! means nothing for another.

use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use x509_parser::{oid_registry::OID_SIG_ED25519, prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use crate::files::{self, FileError};

/// A private key, with the id under which the other side has its public key.
pub struct SigningKey {
    id: String,
    key: Ed25519KeyPair,
}

impl SigningKey {
    /// Reads an Ed25519 private key (PEM, PKCS#8), which only its owner may read.
    pub fn load(path: &Path, id: &str) -> Result<Self, FileError> {
        Ok(Self {
            id: id.to_owned(),
            key: load_private(path)?,
        })
    }

    /// The key's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs a payload of a type.
    pub fn sign(&self, payload_type: &str, payload: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&pre_authentication_encoding(payload_type, payload));
        signature.as_ref().to_vec()
    }
}

/// A public key.
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Reads an Ed25519 public key (PEM, SubjectPublicKeyInfo).
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let rule = || FileError::content(path, "must be an Ed25519 public key (PEM, SubjectPublicKeyInfo)");
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&files::read(path)?).map_err(|_| rule())?;
        let (_, spki) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| rule())?;
        if spki.algorithm.algorithm != OID_SIG_ED25519 {
            return Err(rule());
        }
        Ok(Self(spki.subject_public_key.data.to_vec()))
    }

    /// Whether the key has signed this payload as one of this type.
    pub fn has_signed(&self, payload_type: &str, payload: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&pre_authentication_encoding(payload_type, payload), signature)
            .is_ok()
    }
}

/// `PAE(type, body)` of DSSE: lengths before contents, so that nothing can be read in two ways.
pub(crate) fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Reads an Ed25519 private key (PEM, PKCS#8), which only its owner may read.
pub(crate) fn load_private(path: &Path) -> Result<Ed25519KeyPair, FileError> {
    let rule = || FileError::content(path, "must be an Ed25519 private key (PEM, PKCS#8)");
    let pem = files::read_secret(path)?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| rule())?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| rule())
}

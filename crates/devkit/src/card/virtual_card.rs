//! A card: certificate, private key, and the one thing that it does.

use std::fmt;
use std::fs;
use std::path::Path;

use aws_lc_rs::digest;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use x509_parser::pem::parse_x509_pem;

use super::CardError;
use crate::files;

/// A virtual card with its user-authentication certificate.
pub struct VirtualCard {
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS #8 in PEM. A real card never lets it out.
    pub key_pem: String,
    /// Serial number, big-endian without leading zero, as revocation lists take it.
    pub serial: Vec<u8>,
    /// SHA-256 of the public key (DER SubjectPublicKeyInfo), which linkages are bound to.
    pub public_key_sha256: [u8; 32],
    key: KeyPair,
}

impl VirtualCard {
    pub(super) fn new(
        certificate_der: Vec<u8>,
        certificate_pem: String,
        serial: Vec<u8>,
        key: KeyPair,
    ) -> Self {
        Self {
            certificate_der,
            certificate_pem,
            key_pem: key.serialize_pem(),
            serial,
            public_key_sha256: sha256(&key.subject_public_key_info()),
            key,
        }
    }

    /// A card from what [`VirtualCard::write_to`] wrote.
    ///
    /// # Errors
    /// When one of the two is not what it should be, or they are not a pair.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CardError> {
        let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(|_| CardError::NotACertificate)?;
        let certificate = pem.parse_x509().map_err(|_| CardError::NotACertificate)?;
        let key = KeyPair::from_pem(key_pem)?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(CardError::NotAPair);
        }
        let serial = certificate.raw_serial().to_vec();
        Ok(Self::new(
            pem.contents.clone(),
            certificate_pem.to_owned(),
            serial,
            key,
        ))
    }

    /// Reads what [`VirtualCard::write_to`] wrote under this name.
    ///
    /// # Errors
    /// As [`VirtualCard::from_pem`], and when a file cannot be read.
    pub fn read_from(directory: &Path, name: &str) -> Result<Self, CardError> {
        let certificate_pem = fs::read_to_string(directory.join(certificate_file(name)))?;
        let key_pem = fs::read_to_string(directory.join(key_file(name)))?;
        Self::from_pem(&certificate_pem, &key_pem)
    }

    /// Writes `<name>.pem` and, mode 0600, `<name>-key.pem`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path, name: &str) -> Result<(), CardError> {
        files::write_public(
            &directory.join(certificate_file(name)),
            self.certificate_pem.as_bytes(),
        )?;
        files::write_secret(&directory.join(key_file(name)), self.key_pem.as_bytes())?;
        Ok(())
    }

    /// Signs the whole text: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2), or ECDSA in DER where the card has such a key,
    /// with SHA-256 (P-256) or SHA-384 (P-384).
    ///
    /// # Errors
    /// When the key refuses.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, CardError> {
        Ok(self.key.sign(text)?)
    }
}

impl fmt::Debug for VirtualCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualCard")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// File of the certificate of the card with this name.
pub(crate) fn certificate_file(name: &str) -> String {
    format!("{name}.pem")
}

/// File of the private key of the card with this name.
pub(crate) fn key_file(name: &str) -> String {
    format!("{name}-key.pem")
}

fn sha256(content: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::{CardProfile, CardRoot};

    #[test]
    fn a_card_that_was_written_is_read_again() {
        let root = CardRoot::new().unwrap();
        let card = root.issue(&CardProfile::user_authentication("1")).unwrap();
        let other = root.issue(&CardProfile::user_authentication("2")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        card.write_to(dir.path(), "card").unwrap();
        let again = VirtualCard::read_from(dir.path(), "card").unwrap();
        assert_eq!(again.certificate_der, card.certificate_der);
        assert_eq!(again.serial, card.serial);
        assert_eq!(again.public_key_sha256, card.public_key_sha256);
        // PKCS #1 v1.5 has no randomness: the same key gives the same signature.
        assert_eq!(again.sign(b"text").unwrap(), card.sign(b"text").unwrap());
        assert_eq!(card.sign(b"text").unwrap().len(), 256);
        let mixed = VirtualCard::from_pem(&card.certificate_pem, &other.key_pem);
        assert!(matches!(mixed, Err(CardError::NotAPair)));
        assert!(!format!("{card:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn the_key_hash_is_that_of_the_certificates_public_key() {
        let root = CardRoot::new().unwrap();
        let card = root.issue(&CardProfile::user_authentication("1")).unwrap();
        let (_, pem) = parse_x509_pem(card.certificate_pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(sha256(certificate.public_key().raw), card.public_key_sha256);
    }
}

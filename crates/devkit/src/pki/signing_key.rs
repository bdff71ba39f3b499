//! Keys that sign evidence: eligibilities, receipts, checkpoints.

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::KeyPair;

use super::PkiError;
use crate::files;

/// An Ed25519 key pair (RFC 8410).
#[derive(Clone)]
pub struct SigningKeyPem {
    /// The private key, PKCS #8 version 1 in PEM: OpenSSL 3.0 does not read version 2, which also holds the public key.
    pub private_pem: String,
    /// The public key, SubjectPublicKeyInfo in PEM.
    pub public_pem: String,
}

/// A new Ed25519 key pair.
///
/// # Errors
/// When the key cannot be made.
pub fn ed25519_key() -> Result<SigningKeyPem, PkiError> {
    let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| PkiError::Key)?;
    let key = KeyPair::try_from(document.as_ref())?;
    Ok(SigningKeyPem {
        private_pem: key.serialize_pem(),
        public_pem: key.public_key_pem(),
    })
}

impl SigningKeyPem {
    /// Writes, mode 0600, `<name>-key.pem`, and `<name>-public.pem`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path, name: &str) -> Result<(), PkiError> {
        files::write_secret(
            &directory.join(format!("{name}-key.pem")),
            self.private_pem.as_bytes(),
        )?;
        files::write_public(
            &directory.join(format!("{name}-public.pem")),
            self.public_pem.as_bytes(),
        )?;
        Ok(())
    }
}

impl fmt::Debug for SigningKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyPem")
            .field("public_pem", &self.public_pem)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool;

    #[test]
    fn openssl_reads_the_pair_and_derives_the_same_public_key() {
        let key = ed25519_key().unwrap();
        let derived = tool::run("openssl", &["pkey", "-pubout"], key.private_pem.as_bytes());
        assert!(derived.success, "{}", derived.text);
        let lines = |pem: &str| pem.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&derived.text), lines(&key.public_pem));
        assert!(!format!("{key:?}").contains("PRIVATE KEY"));
    }
}

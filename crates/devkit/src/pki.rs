//! A development certificate authority for the services and their callers, made in memory.
//!
//! Every key is ECDSA P-256 and made anew: no private key is ever in the repository.

mod ca;
mod signing_key;
mod subject;

pub(crate) use ca::random_serial;
pub use ca::{Ca, Issued};
pub use signing_key::{SigningKeyPem, ed25519_key};
pub use subject::Subject;

/// Why the development PKI could not do something.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A key could not be made, or a certificate or list not be encoded or signed.
    #[error("certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A key could not be made.
    #[error("key could not be made")]
    Key,
    /// A file could not be written.
    #[error("file could not be written")]
    File(#[from] std::io::Error),
}

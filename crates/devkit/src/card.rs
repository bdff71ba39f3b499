//! Virtual My Number Cards: the user-authentication certificate of JPKI, in a test hierarchy of its own.
//!
//! The hierarchy says `O=JPKI-TEST`, which no production policy accepts. A certificate has what the real ones have, also
//! what general web PKI verifiers stumble over: critical certificate policies, and a CRL distribution point that is a
//! directory name.

mod der;
mod extensions;
mod profile;
mod revocation_list;
mod root;
mod virtual_card;

pub use profile::{CardKeyType, CardProfile, SIGNING_POLICY_OID, USER_AUTHENTICATION_POLICY_OID};
pub use rcgen::{CustomExtension, KeyUsagePurpose};
pub use revocation_list::{ListExtension, ListProfile};
pub use root::CardRoot;
pub use virtual_card::VirtualCard;
pub(crate) use virtual_card::{certificate_file, key_file};

/// Why a virtual card could not be made, used or read.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// A key could not be made, or a certificate or list not be encoded or signed.
    #[error("certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// What was read is not one certificate in PEM.
    #[error("not one certificate in PEM")]
    NotACertificate,
    /// Certificate and private key do not belong together.
    #[error("certificate and private key are not a pair")]
    NotAPair,
    /// A file could not be read or written.
    #[error("file could not be read or written")]
    File(#[from] std::io::Error),
}

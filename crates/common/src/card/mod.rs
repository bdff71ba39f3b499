//! The user-authentication certificate of the My Number Card (利用者証明用電子証明書; clause 4.3.2), its issuer's roots and
//! their revocation lists. JPKI is one tier: a root signs the cards' certificates and the list.

mod certificate;
mod der;
mod keys;
mod revocation;
mod roots;
mod signed;

use x509_parser::time::ASN1Time;

pub use certificate::MAX_CERTIFICATE_BYTES;
pub use keys::KeyKind;
pub use revocation::{
    ListNumber, ListNumbers, MAX_LIST_BYTES, MAX_REVOKED, RevocationList, RevocationLists, SERIAL_BYTES,
};
pub use roots::CardRoots;

use crate::{clock::Timestamp, refusal::Reason};

/// Why a card's certificate does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardFault {
    /// It is not an accepted user-authentication certificate; the text says which check failed.
    #[error("not accepted: {0}")]
    NotAccepted(&'static str),
    /// It has expired.
    #[error("expired")]
    Expired,
    /// It is revoked.
    #[error("revoked")]
    Revoked,
    /// Whether it is revoked cannot be told: there is no fresh list of its issuer (I4).
    #[error("no fresh revocation list")]
    RevocationUnknown,
}

impl From<CardFault> for Reason {
    fn from(fault: CardFault) -> Self {
        match fault {
            CardFault::NotAccepted(_) => Self::CardNotAccepted,
            CardFault::Expired => Self::CardExpired,
            CardFault::Revoked => Self::CardRevoked,
            CardFault::RevocationUnknown => Self::Unavailable,
        }
    }
}

/// A verified certificate.
#[derive(Clone)]
pub struct Card {
    /// SHA-256 of its public key (DER SubjectPublicKeyInfo), by which linkages are bound to it.
    pub public_key_sha256: [u8; 32],
    /// What kind of key it has, and so which signature counts.
    pub key_kind: KeyKind,
    /// Until when it is valid: it and its root.
    pub not_after: Timestamp,
    /// SHA-256 of the issuer's public key.
    pub issuer: [u8; 32],
    /// Its serial number: a number of [`SERIAL_BYTES`] bytes, as revocation lists are kept.
    pub serial: Vec<u8>,
    key: keys::PublicKey,
}

impl Card {
    /// Whether the signature over the text is the card's: the one that its kind of key makes.
    pub fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.key.has_signed(text, signature)
    }
}

fn timestamp(moment: ASN1Time) -> Timestamp {
    Timestamp::from_unix_ms(moment.timestamp().saturating_mul(1_000))
}

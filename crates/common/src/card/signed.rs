//! What certificates and revocation lists have in common (RFC 5280 §4.1, §5.1): a signed part, an algorithm, a signature.

use super::{
    der::{BIT_STRING, Reader, SEQUENCE},
    keys::{KeyKind, PublicKey},
};

/// Something signed, taken apart but not verified.
pub(super) struct Signed<'a> {
    /// The signed part, with its header.
    part: &'a [u8],
    /// Content of the signed part.
    pub(super) content: &'a [u8],
    /// `AlgorithmIdentifier` of the signature, with its header.
    pub(super) algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes it apart; nothing may stand around or between the three parts.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut parts = Reader::new(Reader::new(der).only(SEQUENCE)?);
        let signed = parts.optional(SEQUENCE)?;
        let algorithm = parts.optional(SEQUENCE)?;
        // The first byte counts unused bits: a signature has none.
        let [0, signature @ ..] = parts.only(BIT_STRING)? else {
            return None;
        };
        Some(Self {
            part: signed.whole,
            content: signed.content,
            algorithm: algorithm.whole,
            signature,
        })
    }

    /// The kind of key that makes this signature, if it is in the closed set.
    pub(super) fn kind(&self) -> Option<KeyKind> {
        KeyKind::of_signature(self.algorithm)
    }

    /// Whether this key has signed it, with the signature that the algorithm says.
    pub(super) fn is_by(&self, key: &PublicKey) -> bool {
        self.kind() == Some(key.kind) && key.has_signed(self.part, self.signature)
    }
}

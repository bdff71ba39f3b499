use std::fmt;

use crate::{digest, terms::RuleBroken};

/// The code that names one requester between the two systems and nowhere else (システム連携用符号; clause 2.5): 32
/// random bytes, derived from nothing. It is never printed, logged or shown to a frontend.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkageCode([u8; Self::BYTES]);

impl LinkageCode {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// Takes the 32 bytes of a code.
    pub fn parse(bytes: &[u8]) -> Result<Self, RuleBroken> {
        bytes.try_into().map(Self).map_err(|_| RuleBroken("32 bytes"))
    }

    /// Takes a code as files write it: base64url without padding.
    pub fn parse_text(text: &str) -> Result<Self, RuleBroken> {
        let rule = RuleBroken("32 bytes as 43 characters of base64url without padding");
        let bytes = data_encoding::BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| rule)?;
        Self::parse(&bytes).map_err(|_| rule)
    }

    /// A code that belongs to nobody, for cover items.
    pub fn random() -> Result<Self, digest::RandomFailed> {
        digest::random().map(Self)
    }

    /// The secret bytes.
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// What stands for the code where it must not stand itself.
    pub fn handle(&self) -> LinkageHandle {
        LinkageHandle(digest::sha256(&[b"koseki-linkage-handle-v1", &self.0]))
    }
}

impl fmt::Debug for LinkageCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkageCode(..)")
    }
}

/// `SHA-256("koseki-linkage-handle-v1" ‖ code)`: names a linkage without giving its code away. Still secret: whoever has
/// it can tell two requests of one person.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkageHandle([u8; 32]);

impl LinkageHandle {
    /// From the bytes, as the registry side has them sealed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LinkageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkageHandle(..)")
    }
}

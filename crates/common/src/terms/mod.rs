//! The terms that both sides share, parsed once at the edge into types that cannot be wrong (DESIGN §9).

mod linkage_code;
mod linkage_state;
mod municipality_code;
mod register_kind;
mod request;
mod request_id;

pub use linkage_code::{LinkageCode, LinkageHandle};
pub use linkage_state::LinkageState;
pub use municipality_code::{MunicipalityCode, MunicipalityCodeError};
pub use register_kind::RegisterKind;
pub use request::{Procedure, RequestKind};
pub use request_id::{ActId, RequestId};

/// A value breaks its rule. Tells the rule and never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleBroken(pub &'static str);

/// Takes a SHA-256 as files write it: 64 lower-case hexadecimal digits.
pub fn parse_sha256_text(text: &str) -> Result<[u8; 32], RuleBroken> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(RuleBroken("64 lower-case hexadecimal digits"))
}

use koseki_proto::koseki::common::v1 as proto;

use crate::terms::RuleBroken;

/// What the requester asks the registry for (請求等の別; clause 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RequestKind {
    /// A certificate is requested (交付の請求).
    CertificateRequest,
    /// A notification is filed (届出等).
    Notification,
    /// An identification code is requested (識別符号等の発行等の請求).
    ProvisionCodeRequest,
}

impl RequestKind {
    /// Every kind, in the order of the standard.
    pub const ALL: [Self; 3] = [
        Self::CertificateRequest,
        Self::Notification,
        Self::ProvisionCodeRequest,
    ];

    /// Takes the kind of a message; none and unknown ones are refused.
    pub fn parse(value: i32) -> Result<Self, RuleBroken> {
        match proto::RequestKind::try_from(value) {
            Ok(proto::RequestKind::CertificateRequest) => Ok(Self::CertificateRequest),
            Ok(proto::RequestKind::Notification) => Ok(Self::Notification),
            Ok(proto::RequestKind::ProvisionCodeRequest) => Ok(Self::ProvisionCodeRequest),
            Ok(proto::RequestKind::Unspecified) | Err(_) => Err(RuleBroken("one of the three request kinds")),
        }
    }

    /// Takes the kind of a message where UNSPECIFIED stands for all kinds.
    pub fn parse_or_all(value: i32) -> Result<Option<Self>, RuleBroken> {
        if value == proto::RequestKind::Unspecified as i32 {
            Ok(None)
        } else {
            Self::parse(value).map(Some)
        }
    }

    /// The kind as a message carries it.
    pub fn to_proto(self) -> proto::RequestKind {
        match self {
            Self::CertificateRequest => proto::RequestKind::CertificateRequest,
            Self::Notification => proto::RequestKind::Notification,
            Self::ProvisionCodeRequest => proto::RequestKind::ProvisionCodeRequest,
        }
    }
}

/// A procedure within a kind, as the provision policy names it; empty for the kind's plain procedure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Procedure(String);

impl Procedure {
    /// Takes a name: at most 64 of `a`–`z`, `0`–`9` and `_`. Whether the policy has it is the policy's to say.
    pub fn parse(text: &str) -> Result<Self, RuleBroken> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if text.len() <= 64 && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RuleBroken("at most 64 of a–z, 0–9 and _"))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

use koseki_proto::koseki::common::v1 as proto;
use serde::{Deserialize, Serialize};

/// Kind of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterKind {
    /// The register in force (現在戸籍).
    Current,
    /// A removed register (除籍).
    Removed,
    /// A register closed by a change of the form (改製原戸籍).
    PreRevision,
}

impl RegisterKind {
    /// The kind as a message carries it.
    pub fn to_proto(self) -> proto::RegisterKind {
        match self {
            Self::Current => proto::RegisterKind::Current,
            Self::Removed => proto::RegisterKind::Removed,
            Self::PreRevision => proto::RegisterKind::PreRevision,
        }
    }

    /// The kind that a message carries; `None` for one that this program does not know.
    pub fn from_proto(kind: proto::RegisterKind) -> Option<Self> {
        match kind {
            proto::RegisterKind::Unspecified => None,
            proto::RegisterKind::Current => Some(Self::Current),
            proto::RegisterKind::Removed => Some(Self::Removed),
            proto::RegisterKind::PreRevision => Some(Self::PreRevision),
        }
    }
}

use serde::Deserialize;

use super::RuleBroken;

/// State of a linkage. Only `Active` on both sides passes (clause 4.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LinkageState {
    /// Not confirmed yet.
    Pending,
    /// In force.
    Active,
    /// Stopped for a time.
    Suspended,
    /// Ended for good.
    Revoked,
}

impl LinkageState {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Active => "ACTIVE",
            Self::Suspended => "SUSPENDED",
            Self::Revoked => "REVOKED",
        }
    }

    /// From what is stored.
    pub fn parse(text: &str) -> Result<Self, RuleBroken> {
        [Self::Pending, Self::Active, Self::Suspended, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(RuleBroken("PENDING, ACTIVE, SUSPENDED or REVOKED"))
    }
}

use std::{fmt, time::Duration};

use uuid::Uuid;

use crate::{clock::Timestamp, digest, terms::RuleBroken};

/// Id of one portal call, made by the frontend: a UUIDv7 in its 36-character form. Used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Uuid);

impl RequestId {
    /// How far the id's own time may be from the server's clock. Used ids are kept for longer than twice this.
    pub const WINDOW: Duration = Duration::from_secs(600);

    /// Takes an id whose time is within [`Self::WINDOW`] of `now`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, RuleBroken> {
        Self::parse_within(text, now, Self::WINDOW)
    }

    /// Takes an id that another service took before, `slack` ago at most and by another clock.
    pub fn parse_forwarded(text: &str, now: Timestamp, slack: Duration) -> Result<Self, RuleBroken> {
        Self::parse_within(text, now, Self::WINDOW + slack)
    }

    fn parse_within(text: &str, now: Timestamp, window: Duration) -> Result<Self, RuleBroken> {
        let id = parse_uuid(text)?;
        let made = match id.get_timestamp() {
            Some(made) if id.get_version_num() == 7 => made.to_unix(),
            _ => return Err(RuleBroken("a UUID of version 7")),
        };
        let made_ms = i64::try_from(made.0).unwrap_or(i64::MAX).saturating_mul(1_000);
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        if made_ms.abs_diff(now.unix_ms()) > window_ms.unsigned_abs() {
            return Err(RuleBroken(
                "a UUID whose time is within 10 minutes of the server's",
            ));
        }
        Ok(Self(id))
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// What the ids of this millisecond and of later ones are not below, and those of earlier ones are (RFC 9562 section 5.7).
    pub fn lowest_of(at: Timestamp) -> [u8; 16] {
        let ms = at.unix_ms().max(0).unsigned_abs();
        (u128::from(ms) << 80).to_be_bytes()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Id of an act or a consent. An operator's program makes that of an administrative act: the same act sent again changes
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActId(Uuid);

impl ActId {
    /// A new id (UUIDv4), for what this side names itself, such as a consent.
    pub fn random() -> Result<Self, digest::RandomFailed> {
        Ok(Self(
            uuid::Builder::from_random_bytes(digest::random()?).into_uuid(),
        ))
    }

    /// Takes the 16 bytes of an id, as they were stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Takes any UUID in its 36-character form.
    pub fn parse(text: &str) -> Result<Self, RuleBroken> {
        parse_uuid(text).map(Self)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for ActId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

fn parse_uuid(text: &str) -> Result<Uuid, RuleBroken> {
    let rule = RuleBroken("a UUID in its 36-character form");
    // `Uuid` also reads forms without hyphens and in braces: one spelling of an id is enough.
    if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(rule);
    }
    Uuid::try_parse(text).map_err(|_| rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_version_7_in_one_spelling_passes() {
        let now = Timestamp::from_unix_ms(1_800_000_000_000);
        let id = |ms: u64| {
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, ms / 1000, 0))
                .hyphenated()
                .to_string()
        };
        let fresh = id(1_800_000_000_000);
        assert!(RequestId::parse(&fresh, now).is_ok());
        assert!(RequestId::parse(&fresh.to_uppercase(), now).is_err());
        assert!(RequestId::parse(&fresh.replace('-', ""), now).is_err());
        assert!(RequestId::parse(&id(1_800_000_000_000 - 601_000), now).is_err());
        assert!(RequestId::parse(&id(1_800_000_000_000 + 601_000), now).is_err());
        assert!(RequestId::parse("6fa459ea-ee8a-4ca4-894e-db77e160355e", now).is_err());
    }
}

//! The text that a card signs at a login (DESIGN §6): one `name: value` a line. The portal side builds it, the registry
//! side reads it; both by this one module.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    identity::{PeerIdentity, Role, TrustDomain},
    terms::RuleBroken,
};

/// Length of a text at most, in bytes: all names and the origin at their longest make 862.
pub const MAX_LOGIN_TEXT_BYTES: usize = 1_024;
/// How long a text can be signed at most.
pub const MAX_CHALLENGE: Duration = Duration::from_secs(120);

const LABEL: &str = "koseki-login-v1";

/// Where the page is that the requester sees: 1 to 256 printable ASCII characters without space, so that nothing in it
/// could start another line of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Takes what a frontend says.
    pub fn parse(text: &str) -> Result<Self, RuleBroken> {
        if (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RuleBroken("1 to 256 printable ASCII characters without space"))
        }
    }
}

/// What a login is for.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginText {
    /// The deployment.
    pub trust_domain: TrustDomain,
    /// Name of the frontend that the requester came to.
    pub frontend: String,
    /// The page that they saw.
    pub web_origin: WebOrigin,
    /// Random bytes that make the text the only one of its kind.
    pub nonce: [u8; 32],
    /// What the registry side had published when the text was made.
    pub beacon: [u8; 32],
    /// When it was made, by the portal side's clock; to the second in the text.
    pub issued_at: Timestamp,
    /// Until when it could be signed; to the second in the text.
    pub expires_at: Timestamp,
}

impl LoginText {
    /// As it is signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let base64 = |bytes| data_encoding::BASE64URL_NOPAD.encode(bytes);
        format!(
            "{LABEL}\ntrust-domain: {}\nfrontend: {}\nweb-origin: {}\nnonce: {}\nbeacon: {}\nissued-at: {}\nexpires-at: \
             {}\n",
            self.trust_domain.as_str(),
            self.frontend,
            self.web_origin.0,
            base64(&self.nonce),
            base64(&self.beacon),
            self.issued_at.to_rfc3339(),
            self.expires_at.to_rfc3339(),
        )
        .into_bytes()
    }

    /// Reads a text; `None` when it is not exactly what [`Self::to_bytes`] would build.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_LOGIN_TEXT_BYTES {
            return None;
        }
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        if lines.next()? != LABEL {
            return None;
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(": ");
        let read = Self {
            trust_domain: TrustDomain::parse(value("trust-domain")?).ok()?,
            frontend: value("frontend")?.to_owned(),
            web_origin: WebOrigin::parse(value("web-origin")?).ok()?,
            nonce: base64(value("nonce")?)?,
            beacon: base64(value("beacon")?)?,
            issued_at: Timestamp::from_rfc3339(value("issued-at")?)?,
            expires_at: Timestamp::from_rfc3339(value("expires-at")?)?,
        };
        PeerIdentity::service(&read.trust_domain, Role::PortalFrontend, &read.frontend).ok()?;
        // Another spelling of a time, a line more, an end without a line break: whatever was read over is found here.
        (read.to_bytes() == bytes).then_some(read)
    }
}

fn base64(text: &str) -> Option<[u8; 32]> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> LoginText {
        LoginText {
            trust_domain: TrustDomain::parse("koseki.example").unwrap(),
            frontend: "demo".to_owned(),
            web_origin: WebOrigin::parse("https://portal.example").unwrap(),
            nonce: [1; 32],
            beacon: [2; 32],
            issued_at: Timestamp::from_rfc3339("2026-03-01T00:00:00Z").unwrap(),
            expires_at: Timestamp::from_rfc3339("2026-03-01T00:02:00Z").unwrap(),
        }
    }

    #[test]
    fn what_was_built_is_read_again_and_the_longest_one_fits() {
        assert!(LoginText::parse(&text().to_bytes()) == Some(text()));
        let longest = LoginText {
            trust_domain: TrustDomain::parse(&"d".repeat(255)).unwrap(),
            frontend: "f".repeat(128),
            web_origin: WebOrigin::parse(&"o".repeat(256)).unwrap(),
            ..text()
        };
        assert_eq!(longest.to_bytes().len(), 862);
        assert!(LoginText::parse(&longest.to_bytes()) == Some(longest));
    }

    #[test]
    fn what_differs_in_a_byte_is_not_read_or_is_another_text() {
        let bytes = text().to_bytes();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(LoginText::parse(&other) != Some(text()), "byte {at}");
            assert!(LoginText::parse(&bytes[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn other_spellings_and_more_lines_are_not_read() {
        let plain = String::from_utf8(text().to_bytes()).unwrap();
        for (from, to) in [
            ("\n", "\r\n"),
            ("nonce: ", "nonce:  "),
            ("00:00Z", "00:00.0Z"),
            ("00:00:00Z", "09:00:00+09:00"),
            ("frontend: demo", "frontend: a/b"),
            ("frontend: demo\n", "frontend: demo\nfrontend: demo\n"),
            ("02:00Z\n", "02:00Z\nnote: x\n"),
            ("02:00Z\n", "02:00Z\n\n"),
            ("koseki-login-v1", "koseki-login-v2"),
            ("https://portal.example", "https://portal.example "),
        ] {
            let other = plain.replace(from, to);
            assert_ne!(other, plain);
            assert!(LoginText::parse(other.as_bytes()).is_none(), "{from:?} as {to:?}");
        }
    }
}

//! What a certificate is issued for.

use std::net::IpAddr;

use time::{Duration, OffsetDateTime};

use crate::wall_clock;

/// How long a certificate is valid when nothing else is said: long enough for a sandbox, too short to be forgotten.
const DEFAULT_VALIDITY: Duration = Duration::days(90);
/// Machines in a test bed do not agree on the time: a certificate is valid a little before it was made.
const BACKDATED_BY: Duration = Duration::hours(24);

/// The names and the validity of one certificate. Nothing is checked: tests need certificates that must be refused,
/// such as with no URI, with two, or expired.
#[derive(Clone, Debug)]
pub struct Subject {
    /// URI names; an identity is exactly one of them.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// Start of the validity, whole seconds.
    pub not_before: OffsetDateTime,
    /// End of the validity, whole seconds, itself included.
    pub not_after: OffsetDateTime,
}

impl Subject {
    /// One identity, `spiffe://<trust domain>/<role and name>`, valid from a day ago for 90 days from now.
    ///
    /// `role_and_name` is as `operator/alice` or `municipality/131016/officer-1`.
    pub fn identity(trust_domain: &str, role_and_name: &str) -> Self {
        let mut subject = Self::nameless();
        subject
            .uris
            .push(format!("spiffe://{trust_domain}/{role_and_name}"));
        subject
    }

    /// No name at all, with the same validity.
    pub fn nameless() -> Self {
        let now = wall_clock::now();
        Self {
            uris: Vec::new(),
            dns: Vec::new(),
            ips: Vec::new(),
            not_before: now.saturating_sub(BACKDATED_BY),
            not_after: now.saturating_add(DEFAULT_VALIDITY),
        }
    }

    /// With this URI in addition.
    #[must_use]
    pub fn and_uri(mut self, uri: &str) -> Self {
        self.uris.push(uri.to_owned());
        self
    }

    /// With this DNS name in addition.
    #[must_use]
    pub fn and_dns(mut self, name: &str) -> Self {
        self.dns.push(name.to_owned());
        self
    }

    /// With this address in addition.
    #[must_use]
    pub fn and_ip(mut self, address: IpAddr) -> Self {
        self.ips.push(address);
        self
    }

    /// With this validity instead.
    #[must_use]
    pub fn valid(mut self, not_before: OffsetDateTime, not_after: OffsetDateTime) -> Self {
        self.not_before = not_before;
        self.not_after = not_after;
        self
    }
}

//! The gateway's configuration. deploy/config/gateway.toml has every key with its meaning.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use common::{
    batch::BatchLimits,
    cards::CardConfig,
    config::{self, ConfigError, ListenerLimits, LogConfig},
    evidence::EvidenceConfig,
    identity::TrustDomain,
    store::DatabaseConfig,
    tls::TlsFiles,
};
use serde::{Deserialize, Serialize};

use crate::login_limits::LoginLimitsConfig;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this instance and of its audit log.
    pub instance: String,
    /// Trust domain of all identities.
    pub trust_domain: String,
    /// The provision policy.
    pub policy_file: PathBuf,
    /// The next provision policy; the file may be missing, and come later.
    pub next_policy_file: PathBuf,
    /// Secret keys.
    pub keyring_file: PathBuf,
    /// The database.
    pub database: DatabaseConfig,
    /// Milliseconds that a stop waits for calls in flight.
    pub drain_deadline_ms: u64,
    /// Listeners.
    pub listen: Listen,
    /// Milliseconds between two looks at the state of a provider instance.
    pub provider_status_interval_ms: u64,
    /// The provider instances of the registry side.
    #[serde(rename = "provider")]
    pub providers: Vec<ProviderConfig>,
    /// How eligibilities are signed.
    pub eligibility: EligibilityConfig,
    /// What consent receipts say and how they are signed.
    pub consent_receipt: ConsentReceiptConfig,
    /// What logins are checked with.
    pub card: CardConfig,
    /// What evidence is signed and verified with.
    pub evidence: EvidenceConfig,
    /// Bounds of a frontend's logins.
    pub login: LoginLimitsConfig,
    /// Certificate, key and CA.
    pub tls: TlsFiles,
    /// Bounds of the listeners.
    pub limits: ListenerLimits,
    /// Bounds of the queue of requests.
    pub provision: BatchLimits,
    /// Logs.
    pub log: LogConfig,
}

/// Where the listeners listen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// For portal frontends.
    pub portal: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// Plain HTTP.
    pub ops: SocketAddr,
}

/// A provider instance that look-ups go to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// `host:port` of its linkage listener.
    pub address: String,
    /// Its name.
    pub instance: String,
}

/// How eligibilities are signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EligibilityConfig {
    /// Ed25519 private key.
    pub private_key: PathBuf,
    /// The key's id in the provider's list.
    pub key_id: String,
}

/// What consent receipts say and how they are signed. All instances on one database have the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentReceiptConfig {
    /// Ed25519 private key.
    pub private_key: PathBuf,
    /// The key's id among the published public keys.
    pub key_id: String,
    /// How a requester withdraws a consent.
    pub withdrawal_method: String,
    /// Where the records of consents are kept.
    pub storage_location: String,
    /// Who is responsible for the portal.
    pub controller: PartyConfig,
    /// Who is responsible for the registry side.
    pub recipient: PartyConfig,
}

/// A party, as receipts name it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartyConfig {
    /// Its name.
    pub name: String,
    /// Its postal address.
    pub address: String,
    /// How to reach it.
    pub contact: String,
}

/// Provider instances at most: each has lines of its own, and is looked at by itself.
const MAX_PROVIDERS: usize = 8;

impl Config {
    /// See [`Self::provider_status_interval_ms`].
    pub fn provider_status_interval(&self) -> Duration {
        Duration::from_millis(self.provider_status_interval_ms)
    }

    /// The trust domain of all identities.
    pub fn trust_domain(&self) -> Result<TrustDomain, ConfigError> {
        config::trust_domain("trust_domain", &self.trust_domain)
    }

    /// Checks the values that can be checked by themselves.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.instance.is_empty() || self.instance.len() > 64 {
            return Err(ConfigError::value("instance", "must have 1 to 64 bytes"));
        }
        // A state is believed for five of them, and a beacon of it used for a minute at most (`BeaconKeys::IN_USE`).
        if !(100..=12_000).contains(&self.provider_status_interval_ms) {
            return Err(ConfigError::value(
                "provider_status_interval_ms",
                "must be 100 to 12,000",
            ));
        }
        self.check_providers()?;
        self.card.check()?;
        self.login
            .check()
            .map_err(|(key, rule)| ConfigError::value(key, rule))?;
        self.consent_receipt.check()?;
        self.limits.check()?;
        self.provision
            .check()
            .map_err(|rule| ConfigError::value("provision", rule))
    }

    fn check_providers(&self) -> Result<(), ConfigError> {
        let fault = |rule: String| Err(ConfigError::value("provider", rule));
        if !(1..=MAX_PROVIDERS).contains(&self.providers.len()) {
            let rule = "must be 1 to 8 instances: write a [[provider]] for each of the registry side's";
            return fault(rule.to_owned());
        }
        let mut names = BTreeSet::new();
        for provider in &self.providers {
            let name = provider.instance.as_str();
            if name.is_empty() || name.len() > 64 {
                return fault("each instance must have a name of 1 to 64 bytes".to_owned());
            }
            if !names.insert(name) {
                return fault(format!(
                    "{name} is there twice: write one [[provider]] for each instance, with the name that its certificate has"
                ));
            }
        }
        Ok(())
    }
}

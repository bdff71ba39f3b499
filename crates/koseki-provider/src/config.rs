//! The provider's configuration. deploy/config/provider.toml has every key with its meaning.

use std::{net::SocketAddr, path::PathBuf};

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
    /// Public keys of the gateways' eligibilities.
    pub eligibility_keys_dir: PathBuf,
    /// Private key of the receipts.
    pub receipt_key: PathBuf,
    /// What login proofs are checked with.
    pub card: CardConfig,
    /// What evidence is signed and verified with.
    pub evidence: EvidenceConfig,
    /// Milliseconds that a stop waits for calls in flight.
    pub drain_deadline_ms: u64,
    /// Listeners.
    pub listen: Listen,
    /// Certificate, key and CA.
    pub tls: TlsFiles,
    /// Bounds of the listeners.
    pub limits: ListenerLimits,
    /// Bounds of the queue of look-ups.
    pub provision: BatchLimits,
    /// Logs.
    pub log: LogConfig,
}

/// Where the listeners listen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// For portal gateways.
    pub linkage: SocketAddr,
    /// For municipalities.
    pub ingest: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// Plain HTTP.
    pub ops: SocketAddr,
}

impl Config {
    /// The trust domain of all identities.
    pub fn trust_domain(&self) -> Result<TrustDomain, ConfigError> {
        config::trust_domain("trust_domain", &self.trust_domain)
    }

    /// Checks the values that can be checked by themselves.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.instance.is_empty() || self.instance.len() > 64 {
            return Err(ConfigError::value("instance", "must have 1 to 64 bytes"));
        }
        self.card.check()?;
        self.limits.check()?;
        self.provision
            .check()
            .map_err(|rule| ConfigError::value("provision", rule))?;
        // A commit's bundle holds the entries of all calls of a batch, up to 256 each.
        if self.provision.batch > 16 {
            return Err(ConfigError::value("provision.batch", "must be 1 to 16"));
        }
        Ok(())
    }
}

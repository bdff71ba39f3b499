//! The connection profile: who the operator is, and where the servers are. deploy/config/kosekictl.toml has every key with
//! its meaning.

use common::{
    config::{self, ConfigError},
    identity::TrustDomain,
    tls::TlsFiles,
};
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Trust domain of all identities.
    pub trust_domain: String,
    /// The operator's certificate and key, and the CA of the servers.
    pub tls: TlsFiles,
    /// The registry side's admin listener; left out by those who do not operate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_admin: Option<Listener>,
    /// The portal side's admin listener; left out by those who do not operate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal_admin: Option<Listener>,
    /// The registry side's ingest listener; left out by those who send no copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Listener>,
}

/// Where a listener is, and who must answer there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `host:port`.
    pub address: String,
    /// The instance that the server's certificate must name.
    pub instance: String,
}

impl Profile {
    /// The trust domain of all identities.
    ///
    /// # Errors
    /// When it is not a name.
    pub fn trust_domain(&self) -> Result<TrustDomain, ConfigError> {
        config::trust_domain("trust_domain", &self.trust_domain)
    }
}

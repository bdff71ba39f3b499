//! Connections: who calls, and whom they expect to find.

use std::sync::Arc;

use common::{
    clock::Clock,
    identity::{Role, TrustDomain},
    tls::{Connector, TlsError, TlsMaterial},
};
use tonic::transport::Channel;

use crate::deployment::{Deployment, TRUST_DOMAIN};

/// A caller cannot connect at all: its files are at fault.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Certificate, key or CA.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The trust domain.
    #[error("the trust domain is not a name")]
    TrustDomain(#[from] common::identity::IdentityError),
}

/// Where callers reach both services: `host:port` of each listener.
#[derive(Clone, Debug)]
pub struct Reach {
    /// For municipalities.
    pub ingest: String,
    /// For operators of the registry side.
    pub registry_admin: String,
    /// For portal frontends.
    pub portal: String,
    /// For operators of the portal side.
    pub portal_admin: String,
}

/// Connects the callers of a deployment to its services.
#[derive(Clone)]
pub struct Access {
    deployment: Deployment,
    clock: Arc<dyn Clock>,
}

impl Access {
    /// For the callers of this deployment.
    pub fn new(deployment: &Deployment, clock: Arc<dyn Clock>) -> Self {
        Self {
            deployment: deployment.clone(),
            clock,
        }
    }

    /// The clock that callers go by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// A channel of a caller to a listener of the provider (`host:port`). It connects when it is first used, and again
    /// after a break.
    ///
    /// # Errors
    /// When the caller's files cannot be used.
    pub fn to_provider(&self, role: Role, name: &str, address: &str) -> Result<Channel, AccessError> {
        let instance = self.deployment.provider_instance();
        self.connect(role, name, address, Role::KosekiProvider, &instance)
    }

    /// A channel of a caller to a listener of the gateway.
    ///
    /// # Errors
    /// When the caller's files cannot be used.
    pub fn to_gateway(&self, role: Role, name: &str, address: &str) -> Result<Channel, AccessError> {
        let instance = self.deployment.gateway_instance();
        self.connect(role, name, address, Role::PortalGateway, &instance)
    }

    fn connect(
        &self,
        role: Role,
        name: &str,
        address: &str,
        server: Role,
        instance: &str,
    ) -> Result<Channel, AccessError> {
        let material = TlsMaterial::load(&self.deployment.client(role, name))?;
        let domain = TrustDomain::parse(TRUST_DOMAIN)?;
        let clock = self.clock.clone();
        Ok(Connector::new(&material, &domain, address, server, instance, clock)?.channel())
    }
}

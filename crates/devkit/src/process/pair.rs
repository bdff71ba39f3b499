//! Both services of a deployment.

use common::authorisation::Listener;

use super::{Binaries, ProcessError, Program, Service};
use crate::{client::Reach, deployment::Deployment};

/// Both services, running.
#[derive(Debug)]
pub struct Pair {
    /// The registry side.
    pub provider: Service,
    /// The portal side.
    pub gateway: Service,
}

impl Pair {
    /// Starts the provider, says to the gateway where it listens, and starts the gateway.
    ///
    /// # Errors
    /// When one of them does not become ready.
    pub async fn start(binaries: &Binaries, deployment: &Deployment) -> Result<Self, ProcessError> {
        let provider = start_provider(binaries, deployment).await?;
        deployment.point_gateway_at(&provider.address(Listener::Linkage.name())?.to_string())?;
        let gateway = start_gateway(binaries, deployment).await?;
        Ok(Self { provider, gateway })
    }

    /// Where callers reach them.
    ///
    /// # Errors
    /// When a listener is missing.
    pub fn reach(&self) -> Result<Reach, ProcessError> {
        Ok(Reach {
            ingest: self.provider.address(Listener::Ingest.name())?.to_string(),
            registry_admin: self.provider.address(Listener::KosekiAdmin.name())?.to_string(),
            portal: self.gateway.address(Listener::Portal.name())?.to_string(),
            portal_admin: self.gateway.address(Listener::PortalAdmin.name())?.to_string(),
        })
    }

    /// Stops both with SIGTERM, the gateway first.
    ///
    /// # Errors
    /// When one does not end well in time.
    pub async fn stop(self) -> Result<(), ProcessError> {
        self.gateway.stop().await?;
        self.provider.stop().await
    }
}

/// Starts the provider of a deployment.
///
/// # Errors
/// When it does not become ready.
pub async fn start_provider(binaries: &Binaries, deployment: &Deployment) -> Result<Service, ProcessError> {
    let (config, log) = (deployment.provider_config(), deployment.provider_log());
    Service::start(binaries, Program::Provider, &config, &log).await
}

/// Starts the gateway of a deployment.
///
/// # Errors
/// When it does not become ready.
pub async fn start_gateway(binaries: &Binaries, deployment: &Deployment) -> Result<Service, ProcessError> {
    let (config, log) = (deployment.gateway_config(), deployment.gateway_log());
    Service::start(binaries, Program::Gateway, &config, &log).await
}

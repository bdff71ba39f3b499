//! What the integration tests share: both services in one process, over real sockets, mutual TLS and SQLite, with a
//! clock that tests can move.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

pub mod raw;
mod stored;

pub use stored::stored;

use std::sync::Arc;

use common::{authorisation::Listener, clock::ShiftedClock, process::Service as _, server::Server};
use devkit::{
    client::{Access, Reach},
    deployment::{Addresses, Deployment, Plan},
    story::{self, Cast, Offices, Teller},
};
use koseki_provider::Provider;
use portal_gateway::Gateway;
use tempfile::TempDir;

/// Seed of the tests' data set; a failure is repeated with it.
pub const SEED: u64 = 20_240_301;
/// Registers in the tests' data set: the scenario persons' and some others.
pub const REGISTERS: usize = 60;

/// Both services in this process, on a deployment of their own.
pub struct Pair {
    /// The files.
    pub deployment: Deployment,
    /// The clock of both services and of their callers.
    pub clock: Arc<ShiftedClock>,
    /// The registry side.
    pub provider: Server,
    /// The portal side.
    pub gateway: Server,
    _directory: TempDir,
}

impl Pair {
    /// Starts both on an empty store.
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let plan = Plan {
            seed: SEED,
            registers: REGISTERS,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        let clock = Arc::new(ShiftedClock::default());
        let provider = start_provider(&deployment, clock.clone()).await;
        deployment
            .point_gateway_at(&address(&provider, Listener::Linkage))
            .unwrap();
        let gateway = start_gateway(&deployment, clock.clone()).await;
        Self {
            deployment,
            clock,
            provider,
            gateway,
            _directory: directory,
        }
    }

    /// Starts both and loads the data set through the listeners that municipalities and operators use.
    pub async fn start_loaded() -> Self {
        let pair = Self::start().await;
        let mut teller = Teller::new(|_| {});
        story::load(&pair.deployment, &pair.offices(), &mut teller)
            .await
            .unwrap();
        let failed: Vec<_> = teller.failed().collect();
        assert!(failed.is_empty(), "{failed:?}");
        pair
    }

    /// Connects callers.
    pub fn access(&self) -> Access {
        Access::new(&self.deployment, self.clock.clone())
    }

    /// Where callers reach both services.
    pub fn reach(&self) -> Reach {
        Reach {
            ingest: address(&self.provider, Listener::Ingest),
            registry_admin: address(&self.provider, Listener::KosekiAdmin),
            portal: address(&self.gateway, Listener::Portal),
            portal_admin: address(&self.gateway, Listener::PortalAdmin),
        }
    }

    /// The frontend and the scenario persons, once the gateway provides.
    pub async fn cast(&self) -> Cast {
        let cast = Cast::new(&self.deployment, &self.access(), &self.reach().portal).unwrap();
        cast.frontend.wait_until_providing().await.unwrap();
        cast
    }

    /// Municipalities and operators.
    pub fn offices(&self) -> Offices {
        Offices::new(&self.deployment, &self.access(), &self.reach()).unwrap()
    }
}

/// Starts the provider of a deployment in this process.
pub async fn start_provider(deployment: &Deployment, clock: Arc<ShiftedClock>) -> Server {
    Provider::start(
        common::config::load(&deployment.provider_config()).unwrap(),
        clock,
    )
    .await
    .unwrap()
}

/// Starts the gateway of a deployment in this process.
pub async fn start_gateway(deployment: &Deployment, clock: Arc<ShiftedClock>) -> Server {
    Gateway::start(common::config::load(&deployment.gateway_config()).unwrap(), clock)
        .await
        .unwrap()
}

/// Where a listener listens, as `host:port`.
pub fn address(server: &Server, listener: Listener) -> String {
    server.address(listener.name()).unwrap().to_string()
}

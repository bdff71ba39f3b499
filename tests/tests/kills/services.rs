//! Both services at addresses that stay what they are, so that callers find them again, and their PostgreSQL servers.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use devkit::{
    deployment::{Addresses, Deployment},
    postgres::Cluster,
    process::{self, Binaries, Pair, Service},
};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::ledger::Side;

/// Below the range from which systems give ports to clients: nobody takes them while a service is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Free ports on loopback.
pub(crate) fn fixed_addresses(rng: &mut ChaCha8Rng) -> Addresses {
    // All are kept until all are chosen, so that they differ.
    let mut chosen = Vec::new();
    while chosen.len() < 7 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rng.random_range(PORTS)));
        chosen.extend(TcpListener::bind(address));
    }
    let mut chosen = chosen.iter().map(|socket| socket.local_addr().unwrap());
    let mut next = || chosen.next().unwrap();
    let linkage = next();
    Addresses {
        linkage,
        ingest: next(),
        provider_admin: next(),
        provider_ops: next(),
        portal: next(),
        gateway_admin: next(),
        gateway_ops: next(),
        provider: linkage.to_string(),
        postgres: None,
    }
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// A service.
    Service(Side),
    /// The PostgreSQL server that it stands on.
    Server(Side),
}

impl Victim {
    /// The side that is down then.
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Service(side) | Self::Server(side) => side,
        }
    }
}

/// Both services, and the PostgreSQL servers that they stand on, if they do.
pub(crate) struct Services {
    binaries: Binaries,
    deployment: Deployment,
    running: [Option<Service>; 2],
    servers: Option<[Arc<Cluster>; 2]>,
}

impl Services {
    pub(crate) fn new(
        binaries: Binaries,
        deployment: Deployment,
        pair: Pair,
        servers: Option<[Arc<Cluster>; 2]>,
    ) -> Self {
        Self {
            binaries,
            deployment,
            running: [Some(pair.provider), Some(pair.gateway)],
            servers,
        }
    }

    /// One of the processes that there are.
    pub(crate) fn victim(&self, rng: &mut ChaCha8Rng) -> Victim {
        let side = match rng.random() {
            true => Side::Provider,
            false => Side::Gateway,
        };
        match self.servers {
            Some(_) if rng.random_range(0..3) == 0 => Victim::Server(side),
            _ => Victim::Service(side),
        }
    }

    /// SIGKILL, and a new start on the same data, until the service is ready.
    pub(crate) async fn kill_and_start(&mut self, victim: Victim) {
        match victim {
            Victim::Service(side) => self.kill_and_start_service(side).await,
            Victim::Server(side) => self.kill_and_start_server(side).await,
        }
    }

    /// The service goes on running, and has to find its server again.
    async fn kill_and_start_server(&mut self, side: Side) {
        let server = self.servers.as_ref().unwrap()[side as usize].clone();
        let again = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again().unwrap();
        });
        again.await.unwrap();
        let service = self.running[side as usize].as_mut().unwrap();
        service.wait_until_ready().await.unwrap();
    }

    async fn kill_and_start_service(&mut self, side: Side) {
        let running = &mut self.running[side as usize];
        running.take().unwrap().kill().await.unwrap();
        let started = match side {
            Side::Provider => process::start_provider(&self.binaries, &self.deployment).await,
            Side::Gateway => process::start_gateway(&self.binaries, &self.deployment).await,
        };
        *running = Some(started.unwrap());
    }

    /// SIGTERM to both.
    pub(crate) async fn stop(self) {
        let [provider, gateway] = self.running;
        gateway.unwrap().stop().await.unwrap();
        provider.unwrap().stop().await.unwrap();
    }
}

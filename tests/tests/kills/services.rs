//! Both services at addresses that stay what they are, so that callers find them again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use devkit::{
    deployment::{Addresses, Deployment},
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

/// Both services.
pub(crate) struct Services {
    binaries: Binaries,
    deployment: Deployment,
    running: [Option<Service>; 2],
}

impl Services {
    pub(crate) fn new(binaries: Binaries, deployment: Deployment, pair: Pair) -> Self {
        Self {
            binaries,
            deployment,
            running: [Some(pair.provider), Some(pair.gateway)],
        }
    }

    /// SIGKILL, and a new start on the same database.
    pub(crate) async fn kill_and_start(&mut self, side: Side) {
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

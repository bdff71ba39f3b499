//! Two instances of both services on one PostgreSQL, as one deploys them.

use std::{sync::Arc, time::Duration};

use common::clock::ShiftedClock;
use devkit::deployment::{Addresses, Deployment, Plan};
use tempfile::TempDir;

use crate::{Pair, REGISTERS, SEED, Setting, hooks::Places, stores};

/// How long a stop waits for calls in flight.
const DRAIN: Duration = Duration::from_secs(5);

/// The files of two instances of both services, on one PostgreSQL: a database for each side.
pub struct TwoDeployments {
    /// The first instances.
    pub first: Deployment,
    /// The second ones.
    pub second: Deployment,
    /// Where the files are; they go with it.
    pub directory: Arc<TempDir>,
}

impl TwoDeployments {
    /// Makes them, with empty databases.
    pub async fn create() -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let plan = Plan {
            seed: SEED,
            registers: REGISTERS,
            addresses: Addresses::loopback(),
        };
        let first = Deployment::create(directory.path(), &plan).unwrap();
        stores::place_on_postgres(&first).await;
        let second = first.add_instance(2, &Addresses::loopback()).unwrap();
        Self {
            first,
            second,
            directory,
        }
    }

    /// Lets an answer be as old as `max_answer_age` when it is released: otherwise the time after which a requester is told
    /// that nothing was decided would withhold it before, or the time within which it must be handed on once it is decided.
    pub fn let_answers_be_old(&self) {
        for side in [self.first.provider(), self.first.gateway()] {
            let path = side.join("policy/provision-policy.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            let longer = text
                .replace("refusal_after_ms = 1000", "refusal_after_ms = 2000")
                .replace("forward_deadline_ms = 900", "forward_deadline_ms = 1900")
                .replace("max_hand_off_ms = 500", "max_hand_off_ms = 1900");
            assert_eq!(longer.len(), text.len() + 2, "all are there");
            std::fs::write(path, longer).unwrap();
        }
    }

    /// Starts all four services in this process. The data set is loaded through the first provider and the first gateway.
    /// The places are those of the second instances, of the registry and the portal side.
    pub async fn start(self, registry: &Places, portal: &Places) -> [Pair; 2] {
        let clock = Arc::new(ShiftedClock::default());
        let plain = Setting::default();
        let first = Pair::start_in(self.directory.clone(), self.first, clock.clone(), &plain)
            .await
            .load()
            .await;
        let hooked = Setting {
            registry: registry.clone(),
            portal: portal.clone(),
            ..Setting::default()
        };
        let second = Pair::start_in(self.directory, self.second, clock, &hooked).await;
        [first, second]
    }
}

impl Pair {
    /// Starts the first instances on what is stored, to be stopped and started again.
    pub async fn start_at(deployments: &TwoDeployments, clock: Arc<ShiftedClock>) -> Self {
        let (directory, first) = (deployments.directory.clone(), deployments.first.clone());
        Self::start_in(directory, first, clock, &Setting::default()).await
    }

    /// Stops both, the gateway first.
    pub async fn stop(self) {
        self.gateway.drain(DRAIN).await;
        self.provider.drain(DRAIN).await;
    }
}

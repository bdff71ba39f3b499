//! What the integration tests share: both services in one process, over real sockets, mutual TLS and a
//! real database, with a clock that tests can move.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

pub mod asking;
pub mod broken;
pub mod countersigned;
pub mod feed;
pub mod forger;
pub mod gate;
pub mod history;
pub mod hooks;
pub mod instances;
pub mod log;
pub mod played_registry;
pub mod proxy;
pub mod raw;
pub mod registry_evidence;
pub mod soak;
pub mod stopped;
mod stored;
pub mod stores;
pub mod timing;

pub use stored::stored;

use std::{path::Path, sync::Arc};

use common::{
    authorisation::Listener,
    clock::ShiftedClock,
    identity::{PeerIdentity, TrustDomain},
    process::Service as _,
    server::Server,
};
use devkit::{
    client::{Access, Reach},
    deployment::{Addresses, Deployment, Plan, TRUST_DOMAIN},
    postgres::Cluster,
    registers::ScenarioPerson,
    story::{self, Cast, Offices, Teller},
};
use hooks::{HookedGateway, HookedProvider, Places};
use koseki_provider::{Provider, store::ProviderStore};
use portal_gateway::{Gateway, hold_back::HoldBack, store::GatewayStore};
use proxy::Proxy;
use serde_json::Value;
use tempfile::TempDir;

/// Seed of the tests' data set; a failure is repeated with it.
pub const SEED: u64 = 20_240_301;
/// Registers in the tests' data set: the scenario persons' and some others.
pub const REGISTERS: usize = 60;

/// How a pair is started.
pub struct Setting<'a> {
    /// Places in the release transactions of the registry side.
    pub registry: Places,
    /// Places in those of the portal side.
    pub portal: Places,
    /// What stands before the provider's linkage listener.
    pub proxy: Option<&'a Proxy>,
    /// The PostgreSQL servers of the registry and the portal side; without them both stand on what the tests run on.
    pub servers: Option<[Arc<Cluster>; 2]>,
    /// When the gateway lets a register refusal leave.
    pub hold_back: HoldBack,
    /// What is changed in the files before the start.
    pub change: fn(&Deployment),
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self {
            registry: Places::default(),
            portal: Places::default(),
            proxy: None,
            servers: None,
            hold_back: HoldBack::UntilDue,
            change: |_| {},
        }
    }
}

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
    /// The registry side's store, for acts that must not wait as their call does.
    pub registry_store: Arc<dyn ProviderStore>,
    /// The portal side's store.
    pub portal_store: Arc<dyn GatewayStore>,
    _directory: Arc<TempDir>,
}

impl Pair {
    /// Starts both on an empty store.
    pub async fn start() -> Self {
        Self::start_hooked(&Places::default(), &Places::default()).await
    }

    /// Starts both on an empty store, with places in the release transactions of the registry and the portal side.
    pub async fn start_hooked(registry: &Places, portal: &Places) -> Self {
        Self::start_prepared([registry, portal], |_| {}).await
    }

    /// Starts both on an empty store, with the files as `prepare` leaves them.
    pub async fn start_prepared([registry, portal]: [&Places; 2], prepare: impl FnOnce(&Deployment)) -> Self {
        let setting = Setting {
            registry: registry.clone(),
            portal: portal.clone(),
            ..Setting::default()
        };
        Self::start_with(&setting, prepare).await
    }

    /// Starts both on an empty store, the gateway behind a proxy before the provider's linkage listener.
    pub async fn start_behind(proxy: &Proxy) -> Self {
        Self::start_set(&Setting {
            proxy: Some(proxy),
            ..Setting::default()
        })
        .await
    }

    /// Starts both on an empty store, as the test has set it.
    pub async fn start_set(setting: &Setting<'_>) -> Self {
        Self::start_with(setting, setting.change).await
    }

    /// Starts both on an empty store, as the test has set it, with the files as `prepare` leaves them.
    pub async fn start_with(setting: &Setting<'_>, prepare: impl FnOnce(&Deployment)) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let plan = Plan {
            seed: SEED,
            registers: REGISTERS,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        match &setting.servers {
            Some(servers) => stores::place_on(&deployment, servers).await,
            None => stores::place(&deployment).await,
        }
        prepare(&deployment);
        Self::start_in(directory, deployment, Arc::new(ShiftedClock::default()), setting).await
    }

    /// Starts both on what is stored, with places in the release transactions of the registry and the portal side.
    async fn start_in(
        directory: Arc<TempDir>,
        deployment: Deployment,
        clock: Arc<ShiftedClock>,
        setting: &Setting<'_>,
    ) -> Self {
        let config = common::config::load(&deployment.provider_config()).unwrap();
        let places = setting.registry.clone();
        let mut registry_store = None;
        let on = |store: Arc<dyn ProviderStore>| {
            registry_store = Some(store.clone());
            Arc::new(HookedProvider { store, places }) as Arc<dyn ProviderStore>
        };
        let provider = Provider::start_on(config, clock.clone(), on).await.unwrap();
        let linkage = address(&provider, Listener::Linkage);
        let there = match setting.proxy {
            Some(proxy) => {
                proxy.point_at(&linkage);
                proxy.address()
            }
            None => linkage,
        };
        deployment.point_gateway_at(&there).unwrap();
        let config = common::config::load(&deployment.gateway_config()).unwrap();
        let places = setting.portal.clone();
        let mut portal_store = None;
        let on = |store: Arc<dyn GatewayStore>| {
            portal_store = Some(store.clone());
            Arc::new(HookedGateway { store, places }) as Arc<dyn GatewayStore>
        };
        let gateway = Gateway::start_on(config, clock.clone(), setting.hold_back, on)
            .await
            .unwrap();
        Self {
            deployment,
            clock,
            provider,
            gateway,
            registry_store: registry_store.unwrap(),
            portal_store: portal_store.unwrap(),
            _directory: directory,
        }
    }

    /// Stops both and starts them again on what is stored, after something was done between.
    pub async fn again(self, places: [&Places; 2], between: impl FnOnce(&Deployment)) -> Self {
        let (directory, deployment) = (self._directory.clone(), self.deployment.clone());
        let clock = self.clock.clone();
        self.stop().await;
        between(&deployment);
        let [registry, portal] = places.map(Clone::clone);
        let setting = Setting {
            registry,
            portal,
            ..Setting::default()
        };
        Self::start_in(directory, deployment, clock, &setting).await
    }

    /// Stops both and starts them again on what is stored, by the machine's time, after something was done between.
    pub async fn again_now(self, between: impl AsyncFnOnce(&Deployment)) -> Self {
        let (directory, deployment) = (self._directory.clone(), self.deployment.clone());
        self.stop().await;
        between(&deployment).await;
        let clock = Arc::new(ShiftedClock::default());
        Self::start_in(directory, deployment, clock, &Setting::default()).await
    }

    /// Starts both and loads the data set through the listeners that municipalities and operators use.
    pub async fn start_loaded() -> Self {
        Self::start().await.load().await
    }

    /// Loads the data set through the listeners that municipalities and operators use.
    pub async fn load(self) -> Self {
        let pair = self;
        let mut teller = Teller::new(|_| {});
        story::load(&pair.deployment, &pair.offices(), &mut teller)
            .await
            .unwrap();
        let failed: Vec<_> = teller.failed().collect();
        assert!(failed.is_empty(), "{failed:?}");
        pair
    }

    /// Municipality and number of a removed register in which a person is entered.
    pub fn closed_register(&self, person: &ScenarioPerson) -> (String, String) {
        let lines = |path| {
            let text = std::fs::read_to_string(path).unwrap();
            let lines: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            lines
        };
        let persons = lines(self.deployment.persons());
        let of_person =
            |line: &&Value| line["type"] == "person" && line["person_id"] == person.person_id.as_str();
        let entries = persons.iter().find(of_person).unwrap()["members"]
            .as_array()
            .unwrap()
            .clone();
        for (code, file) in self.deployment.copies().unwrap() {
            for copy in lines(file) {
                let is_of = |member: &Value| {
                    entries.iter().any(|entry| {
                        entry["municipality_code"] == code.as_str()
                            && entry["reference"] == member["reference"]
                    })
                };
                if copy["kind"] == "removed" && copy["members"].as_array().unwrap().iter().any(is_of) {
                    return (code, copy["local_number"].as_str().unwrap().to_owned());
                }
            }
        }
        panic!("the person is in no removed register")
    }

    /// The policy that both sides started with.
    pub fn policy(&self) -> common::policy::Policy {
        let file = self.deployment.provider().join("policy/provision-policy.toml");
        common::policy::Policy::load(&file).unwrap()
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

/// Sets a number in a section of a configuration file.
pub fn set_number(config: &Path, section: &str, key: &str, value: i64) {
    let mut table: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    let old = table[section].as_table_mut().unwrap().get_mut(key).unwrap();
    *old = toml::Value::Integer(value);
    std::fs::write(config, table.to_string()).unwrap();
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

/// An identity of the deployment, such as `operator/alice`.
pub fn identity(name: &str) -> PeerIdentity {
    let domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
    PeerIdentity::parse(&format!("spiffe://{TRUST_DOMAIN}/{name}"), &domain).unwrap()
}

/// Waits until something is so.
///
/// # Panics
/// When it is not so within 40 s: nothing takes longer on a machine that works.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !is_so().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let patience = std::time::Duration::from_secs(40);
    assert!(
        tokio::time::timeout(patience, looks).await.is_ok(),
        "not in time: {what}"
    );
}

//! One gateway that dials two provider instances on one PostgreSQL (DESIGN §3): while one of them is stopped or dead the other
//! provides, what was on its way to it is refused and never sent again, and it is used again when it is back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::{
    alarm::Alarm, authorisation::Listener, clock::SystemClock, refusal::Reason, terms::RequestKind,
};
use devkit::{
    client::{Access, PortalOperator, RegistryOperator, Session, Term},
    deployment::OPERATORS,
    process::{Binaries, Pair, Service, start_gateway, start_provider},
    registers::Scenario,
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{
    asking::Asking,
    countersigned::Countersigned,
    instances::TwoDeployments,
    log::{Event, logs, released_ids},
    proxy::Proxy,
    stopped::Stopped,
    stores::Behind,
    until,
};

const KIND: RequestKind = RequestKind::CertificateRequest;
const INSTANCES: [&str; 2] = ["provider-1", "provider-2"];

/// Two provider instances, and a gateway that dials both: the first over a line that leads to wherever it is started again.
struct Bench {
    deployments: TwoDeployments,
    binaries: Binaries,
    line: Proxy,
    gateway: Service,
    cast: Cast,
    portal: PortalOperator,
    /// Operates the second provider instance.
    registry: RegistryOperator,
}

fn linkage(provider: &Service) -> String {
    provider.address(Listener::Linkage.name()).unwrap().to_string()
}

impl Bench {
    /// All of them, with the data set loaded.
    async fn start() -> (Self, Service, Service) {
        let deployments = TwoDeployments::create().await;
        let (first, second) = (&deployments.first, &deployments.second);
        let binaries = Binaries::locate().unwrap();
        let providers = [
            start_provider(&binaries, first).await.unwrap(),
            start_provider(&binaries, second).await.unwrap(),
        ];
        let line = Proxy::start().await;
        line.point_at(&linkage(&providers[0]));
        let there = [line.address(), linkage(&providers[1])];
        let instances = INSTANCES.map(str::to_owned).into_iter().zip(there);
        first
            .point_gateway_at_all(&instances.collect::<Vec<_>>())
            .unwrap();
        let gateway = start_gateway(&binaries, first).await.unwrap();

        let clock = Arc::new(SystemClock::new());
        let access = Access::new(first, clock.clone());
        let [provider, other] = providers;
        let pair = Pair { provider, gateway };
        let reach = pair.reach().unwrap();
        let offices = Offices::new(first, &access, &reach).unwrap();
        let mut teller = Teller::new(|_| {});
        story::load(first, &offices, &mut teller).await.unwrap();
        assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());
        let cast = Cast::new(first, &access, &reach.portal).unwrap();
        cast.frontend.wait_until_providing().await.unwrap();
        let there = other.address(Listener::KosekiAdmin.name()).unwrap().to_string();
        let registry = RegistryOperator::new(&Access::new(second, clock), OPERATORS[0], &there).unwrap();
        let [portal, _] = offices.portal;
        let Pair { provider, gateway } = pair;
        let this = Self {
            binaries,
            line,
            gateway,
            cast,
            portal,
            registry,
            deployments,
        };
        (this, provider, other)
    }

    fn registry_database(&self) -> PathBuf {
        self.deployments.first.provider_database()
    }

    fn portal_database(&self) -> PathBuf {
        self.deployments.first.gateway_database()
    }

    /// Waits until an instance has released something that it has not by now.
    async fn until_it_releases(&self, instance: &str) {
        let database = self.registry_database();
        let before = released_ids(&database, instance).await.len();
        until(&format!("{instance} releases"), async || {
            released_ids(&database, instance).await.len() > before
        })
        .await;
    }

    /// How much of each log the other side has countersigned.
    async fn countersigned(&self, by: &Path) -> BTreeMap<String, i64> {
        let mut behind = Behind::open(by).await;
        let rows = behind
            .connection()
            .all("SELECT origin, size FROM witnessed_log", &[])
            .await
            .unwrap();
        let row = |row: &common::store::Row| {
            let origin = row.text(0).unwrap();
            let (_, name) = origin.rsplit_once('/').unwrap();
            (name.to_owned(), row.int(1).unwrap())
        };
        rows.iter().map(row).collect()
    }

    /// Waits until the other side countersigns what these logs have now.
    async fn until_countersigned(&self, database: PathBuf, by: PathBuf, names: &[&str]) {
        let entries = |bundles: &Vec<integration_tests::log::Bundle>| {
            let entries: usize = bundles.iter().map(|bundle| bundle.entries.len()).sum();
            i64::try_from(entries).unwrap()
        };
        let logs = logs(&database).await;
        until(&format!("{names:?} are countersigned"), async || {
            let countersigned = self.countersigned(&by).await;
            names
                .iter()
                .all(|name| countersigned.get(*name).copied() >= Some(entries(&logs[*name])))
        })
        .await;
    }

    /// Each instance as the gateway sees it: whether it provides, and whether it is left alone.
    async fn seen(&self) -> [(bool, bool); 2] {
        let told = self.portal.status().await.unwrap();
        assert!(told.side.unwrap().ready, "the gateway stays ready");
        let seen = |at: usize| {
            assert_eq!(told.providers[at].instance, INSTANCES[at]);
            (told.providers[at].providing, told.providers[at].left_alone)
        };
        [seen(0), seen(1)]
    }

    async fn until_both_provide(&self) {
        let both = [(true, false); 2];
        until("both provide", async || self.seen().await == both).await;
    }

    /// The instances that the gateway says are away.
    async fn away(&self) -> Vec<String> {
        let alarms = self.portal.status().await.unwrap().side.unwrap().alarms;
        let away = alarms
            .into_iter()
            .filter(|alarm| alarm.name == Alarm::ProviderInstanceAway.name());
        away.map(|alarm| alarm.about).collect()
    }

    async fn feed(&self) -> u64 {
        let told = self.portal.status().await.unwrap();
        told.suppression_feed.unwrap().sequence
    }

    async fn session(&self) -> Session {
        let frontend = &self.cast.frontend;
        let (_, card) = self.cast.person(Scenario::Lineage).unwrap();
        let session = frontend.login(&card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        let hour = Term::For(Duration::from_secs(3_600));
        frontend.consent(&session, &text, hour).await.unwrap();
        session
    }
}

/// Ids of the requests that each provider log has an entry for, none of them twice.
async fn recorded(database: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let of_log = |(log, bundles): (String, Vec<integration_tests::log::Bundle>)| {
        let mut ids = BTreeSet::new();
        for entry in bundles.iter().flat_map(|bundle| &bundle.entries) {
            if let Some(Event::Provision(provision)) = &entry.event {
                let id = provision.request_id.clone();
                assert!(all.insert(id.clone()), "{id} came twice");
                ids.insert(id);
            }
        }
        (log, ids)
    };
    logs(database).await.into_iter().map(of_log).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_that_is_away_does_not_stop_provision() {
    let (bench, first, second) = Bench::start().await;
    let (registry, portal) = (bench.registry_database(), bench.portal_database());
    let frontend = &bench.cast.frontend;
    let session = bench.session().await;
    bench.until_both_provide().await;

    // Alone, requests go by turns.
    for _ in INSTANCES {
        frontend.copy_info(&session, KIND, "").await.unwrap();
    }
    let taken = recorded(&registry).await;
    assert!(INSTANCES.iter().all(|name| taken[*name].len() == 1), "{taken:?}");
    let names = INSTANCES.as_slice();
    bench
        .until_countersigned(registry.clone(), portal.clone(), names)
        .await;

    // An instance that is stuck: what was on its way to it is refused, and goes nowhere else.
    let stopped = Stopped::new(&second);
    let mut refused = Vec::new();
    for _ in INSTANCES {
        let id = frontend.ids().next();
        if let Err(error) = frontend.copy_info_as(&id, &session, KIND, "").await {
            assert_eq!(error.reason(), Some(Reason::Unavailable.name()), "{error}");
            refused.push(id);
        }
    }
    assert_eq!(refused.len(), 1, "one of the two was at the stopped instance");
    assert!(bench.seen().await[1].1, "it is left alone");
    let asking = Asking::start(&bench.cast).await;
    asking.until_answered("an instance was stopped").await;
    bench.until_it_releases("provider-1").await;
    // It keeps the other from being shown the gateway's log for a moment only, and then less often.
    until("an exchange with it is late", async || {
        let log = std::fs::read_to_string(bench.gateway.log()).unwrap();
        let late = |line: &str| line.contains("exchange checkpoints in time") && line.contains("provider-2");
        log.lines().any(late)
    })
    .await;
    drop(stopped);
    bench.until_it_releases("provider-2").await;
    bench.until_both_provide().await;

    // An instance that dies, from which the gateway had the suppression feed.
    let broke_off = |bench: &Bench, provider: &str| {
        let log = std::fs::read_to_string(bench.gateway.log()).unwrap();
        let broken = |line: &&str| line.contains("the suppression feed broke off") && line.contains(provider);
        log.lines().filter(broken).count()
    };
    // Each break goes on to the other one; the first one is the first.
    let (breaks, others) = (broke_off(&bench, "provider-1"), broke_off(&bench, "provider-2"));
    let (before, own) = (
        bench.feed().await,
        bench.countersigned(&registry).await["gateway-1"],
    );
    first.kill().await.unwrap();
    asking.until_answered("an instance died").await;
    bench.until_it_releases("provider-2").await;
    let (person, _) = bench.cast.person(Scenario::Suppressed).unwrap();
    let act_id = bench.registry.ids().next();
    bench
        .registry
        .record_non_provision(&act_id, Some(&person.person_id), None)
        .await
        .unwrap();
    until("the suppression arrives", async || bench.feed().await > before).await;
    if breaks == others {
        assert!(
            broke_off(&bench, "provider-1") > breaks,
            "the feed came from the one that died"
        );
    }
    // The side is one witness: the other instance goes on countersigning the gateway's log.
    until("the gateway's log is countersigned on", async || {
        bench.countersigned(&registry).await["gateway-1"] > own
    })
    .await;

    until("it is told that an instance is away", async || {
        bench.away().await == ["provider-1"]
    })
    .await;

    // It comes back, and is used again.
    let first = start_provider(&bench.binaries, &bench.deployments.first)
        .await
        .unwrap();
    bench.line.point_at(&linkage(&first));
    bench.until_it_releases("provider-1").await;
    bench.until_both_provide().await;

    let answered = asking.end().await;
    let taken = recorded(&registry).await;
    let released = released_ids(&portal, "gateway-1").await;
    assert!(answered.is_subset(&released));
    assert!(
        !taken["provider-1"].contains(&refused[0]),
        "it was sent to the other instance"
    );
    bench
        .until_countersigned(registry.clone(), portal.clone(), names)
        .await;
    bench
        .until_countersigned(portal.clone(), registry.clone(), &["gateway-1"])
        .await;
    let mut held = Countersigned::default();
    held.note(&portal).await;
    assert_eq!(held.assert_are_of("koseki-provider", &logs(&registry).await), 2);
    bench.gateway.stop().await.unwrap();
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

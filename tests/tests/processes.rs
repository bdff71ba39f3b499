//! Both services as processes: health, the health check, the drain, one owner of a database, and what a restart keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, OnceLock},
    time::Duration,
};

use common::{
    authorisation::Listener,
    clock::SystemClock,
    identity::Role,
    refusal::Reason,
    terms::RequestKind::{CertificateRequest, Notification, ProvisionCodeRequest},
};
use data_encoding::HEXLOWER;
use devkit::{
    client::{Access, CallError, Term},
    deployment::{Addresses, Deployment, FRONTEND, OPERATORS, Plan},
    process::{Binaries, Pair, Program, Service, start_provider},
    registers::{OperatorRecord, Scenario},
    story::{self, Cast, Offices, Teller, ask_once},
};
use integration_tests::{REGISTERS, SEED, raw::PATIENCE, stored};
use koseki_proto::koseki::{
    admin::v1::koseki_admin_client::KosekiAdminClient,
    common::v1::{FileLine, LineOutcome, LoadMessage, LoadStart, load_message::Part},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    process::Command,
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use toml::{Table, Value};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Looked for, and built, once.
static BINARIES: OnceLock<Binaries> = OnceLock::new();

/// A deployment, and the programs.
struct Bench {
    deployment: Deployment,
    binaries: Binaries,
    access: Access,
    _directory: TempDir,
}

impl Bench {
    fn new(registers: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let plan = Plan {
            seed: SEED,
            registers,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        Self {
            access: Access::new(&deployment, Arc::new(SystemClock::new())),
            binaries: BINARIES.get_or_init(|| Binaries::locate().unwrap()).clone(),
            deployment,
            _directory: directory,
        }
    }

    fn config(&self, program: Program) -> PathBuf {
        match program {
            Program::Provider => self.deployment.provider_config(),
            Program::Gateway => self.deployment.gateway_config(),
        }
    }

    /// Sets a key of a table in a service's configuration, or one of the whole file.
    fn set(&self, program: Program, table: Option<&str>, key: &str, value: impl Into<Value>) {
        let path = self.config(program);
        let mut file: Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let at = match table {
            Some(table) => file[table].as_table_mut().unwrap(),
            None => &mut file,
        };
        at.insert(key.to_owned(), value.into()).expect("the key is there");
        fs::write(&path, file.to_string()).unwrap();
    }

    /// Exit code and standard error of a program that ends by itself.
    async fn run(&self, program: Program, arguments: &[&str]) -> (Option<i32>, String) {
        let ended = Command::new(self.binaries.path(program))
            .args(["--config", self.config(program).to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = timeout(PATIENCE, ended)
            .await
            .expect("it ends by itself")
            .unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    }

    async fn provider(&self) -> Service {
        start_provider(&self.binaries, &self.deployment).await.unwrap()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.deployment.logs().join(name)
    }
}

/// The status line of an answer of the operations port.
async fn get(ops: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(ops).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_gateway_is_healthy_only_while_it_reaches_the_provider() {
    let bench = Bench::new(0);
    // A port that nobody listens on and nobody else is given, until the provider takes it.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.set_reuseaddr(true).unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let linkage = reserved.local_addr().unwrap().to_string();
    bench.set(Program::Provider, Some("listen"), "linkage", linkage.clone());
    bench.deployment.point_gateway_at(&linkage).unwrap();
    bench.set(Program::Gateway, None, "provider_status_interval_ms", 100);

    let (code, _) = bench.run(Program::Gateway, &["healthcheck"]).await;
    assert_eq!(code, Some(1), "nothing runs");

    let log = bench.log("gateway.log");
    let config = bench.deployment.gateway_config();
    let mut gateway = Service::spawn(&bench.binaries, Program::Gateway, &config, &log).unwrap();
    let portal = gateway
        .wait_until_listening(Listener::Portal.name())
        .await
        .unwrap();
    let ops = gateway.address("ops").unwrap();
    // What runs already has read its configuration; the health check is to find it.
    bench.set(Program::Gateway, Some("listen"), "ops", ops.to_string());

    let channel = bench
        .access
        .to_gateway(Role::PortalFrontend, FRONTEND, &portal.to_string())
        .unwrap();
    let request = HealthCheckRequest::default();
    let mut watch = HealthClient::new(channel)
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    let mut next = async || {
        timeout(PATIENCE, watch.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .status()
    };

    assert_eq!(next().await, ServingStatus::NotServing);
    assert_eq!(get(ops, "/ready").await, "HTTP/1.0 503 Service Unavailable");
    assert_eq!(get(ops, "/live").await, "HTTP/1.0 200 OK");
    let (code, error) = bench.run(Program::Gateway, &["healthcheck"]).await;
    assert_eq!((code, error.as_str()), (Some(1), "portal-gateway: not ready\n"));

    let provider = bench.provider().await;
    assert_eq!(next().await, ServingStatus::Serving);
    assert_eq!(get(ops, "/ready").await, "HTTP/1.0 200 OK");
    let (code, error) = bench.run(Program::Gateway, &["healthcheck"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));

    provider.kill().await.unwrap();
    assert_eq!(next().await, ServingStatus::NotServing);
    assert_eq!(get(ops, "/ready").await, "HTTP/1.0 503 Service Unavailable");
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_drain_cuts_off_an_open_stream_at_its_deadline() {
    let bench = Bench::new(0);
    bench.set(Program::Provider, None, "drain_deadline_ms", 700);
    let provider = bench.provider().await;
    let admin = provider.address(Listener::KosekiAdmin.name()).unwrap();
    let mut silent = TcpStream::connect(admin).await.unwrap();

    let [operator, _] = OPERATORS;
    let channel = bench
        .access
        .to_provider(Role::Operator, operator, &admin.to_string())
        .unwrap();
    let (lines, stream) = mpsc::channel(4);
    let line = br#"{"type":"person","person_id":"p-1","members":[]}"#.to_vec();
    let load_id = devkit::client::Ids::new(bench.access.clock()).next();
    let start = LoadStart {
        load_id,
        dry_run: false,
    };
    for part in [Part::Start(start), Part::Line(FileLine { line_number: 1, line })] {
        lines.send(LoadMessage { part: Some(part) }).await.unwrap();
    }
    let mut results = KosekiAdminClient::new(channel)
        .load_persons(ReceiverStream::new(stream))
        .await
        .unwrap()
        .into_inner();
    let result = results.message().await.unwrap().unwrap();
    assert_eq!(result.outcome(), LineOutcome::Stored);

    // Less than its default deadline of 10 s, and far less than the 60 s after which an idle stream ends.
    let log = provider.log().to_owned();
    timeout(Duration::from_secs(8), provider.stop())
        .await
        .expect("in time")
        .expect("exit code 0");
    let told = fs::read_to_string(log).unwrap();
    assert!(told.contains("the drain's deadline has passed"), "{told}");
    assert!(told.contains("\"stopped\""), "{told}");
    assert!(!matches!(results.message().await, Ok(Some(_))));
    assert!(!matches!(silent.read(&mut [0; 1]).await, Ok(1..)));
    drop(lines);
}

#[tokio::test]
async fn a_drain_lets_a_call_in_flight_end_and_waits_for_no_silent_peer() {
    let bench = Bench::new(0);
    bench.set(Program::Provider, None, "drain_deadline_ms", 60_000);
    let provider = bench.provider().await;
    let admin = provider.address(Listener::KosekiAdmin.name()).unwrap();
    let _silent = TcpStream::connect(admin).await.unwrap();
    let [name, _] = OPERATORS;
    let operator = devkit::client::RegistryOperator::new(&bench.access, name, &admin.to_string()).unwrap();
    let load = br#"{"type":"person","person_id":"p-1","members":[]}"#;
    assert!(operator.load(&load[..]).await.is_whole());

    // It is recorded at once, and answered when no earlier answer can be released any more.
    let act_id = operator.ids().next();
    let act = {
        let (operator, act_id) = (operator.clone(), act_id.clone());
        tokio::spawn(async move { operator.record_non_provision(&act_id, Some("p-1"), None).await })
    };
    let recorded = async {
        let mut looks = interval(Duration::from_millis(20));
        while stored(&bench.deployment.provider_database()).await["non_provision"].is_empty() {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, recorded).await.unwrap();
    assert!(!act.is_finished(), "it is in flight");
    timeout(PATIENCE, provider.stop())
        .await
        .expect("long before the deadline")
        .expect("exit code 0");
    act.await.unwrap().expect("it was answered");
}

#[tokio::test]
async fn a_second_process_on_a_database_is_refused() {
    let bench = Bench::new(0);
    let pair = Pair::start(&bench.binaries, &bench.deployment).await.unwrap();
    for (program, database) in [
        (Program::Provider, bench.deployment.provider_database()),
        (Program::Gateway, bench.deployment.gateway_database()),
    ] {
        let (code, error) = bench.run(program, &[]).await;
        let says = format!("{}: another process owns this database", database.display());
        assert!(code == Some(1) && error.contains(&says), "{code:?} {error}");
    }
    let cast = Cast::new(&bench.deployment, &bench.access, &pair.reach().unwrap().portal).unwrap();
    cast.frontend.wait_until_providing().await.unwrap();
    pair.stop().await.unwrap();
}

/// Those who call, at wherever the services listen now.
fn callers(bench: &Bench, pair: &Pair) -> (Cast, Offices) {
    let reach = pair.reach().unwrap();
    (
        Cast::new(&bench.deployment, &bench.access, &reach.portal).unwrap(),
        Offices::new(&bench.deployment, &bench.access, &reach).unwrap(),
    )
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> String {
    let error = outcome.expect_err("a refusal");
    error.reason().unwrap_or_else(|| panic!("{error}")).to_owned()
}

/// What operators record about the scenario persons who need it: a person, and a card.
async fn record(cast: &Cast, offices: &Offices, scenario: Scenario) {
    let ([registry, _], [portal, _]) = (&offices.registry, &offices.portal);
    match cast.person(scenario).unwrap().0.record.as_ref().unwrap() {
        OperatorRecord::NonProvision { person_id, .. } => {
            let id = registry.ids().next();
            registry
                .record_non_provision(&id, person_id.as_deref(), None)
                .await
                .unwrap()
        }
        OperatorRecord::Block { card_key_sha256 } => {
            let card = HEXLOWER.decode(card_key_sha256.as_bytes()).unwrap();
            portal.block(&portal.ids().next(), &card).await.unwrap()
        }
    };
}

#[tokio::test]
async fn a_restart_of_both_services_forgets_nothing() {
    let bench = Bench::new(REGISTERS);
    let pair = Pair::start(&bench.binaries, &bench.deployment).await.unwrap();
    let (cast, offices) = callers(&bench, &pair);
    let mut teller = Teller::new(|_| {});
    story::load(&bench.deployment, &offices, &mut teller)
        .await
        .unwrap();
    assert_eq!(teller.failed().count(), 0);
    let frontend = &cast.frontend;
    frontend.wait_until_providing().await.unwrap();

    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = frontend.login(&card).await.unwrap();
    let ended = frontend.login(&card).await.unwrap();
    frontend.logout(&ended).await.unwrap();
    let hour = Term::For(Duration::from_secs(3_600));
    let text = frontend.consent_text(CertificateRequest).await.unwrap();
    frontend.consent(&session, &text, hour).await.unwrap();
    let text = frontend.consent_text(Notification).await.unwrap();
    let withdrawn = frontend.consent(&session, &text, hour).await.unwrap();
    let used = frontend.ids().next();
    let before = frontend
        .copy_info_as(&used, &session, CertificateRequest, "")
        .await
        .unwrap();
    frontend
        .copy_info(&session, Notification, "general")
        .await
        .unwrap();
    frontend.withdraw(&session, &withdrawn).await.unwrap();
    record(&cast, &offices, Scenario::Suppressed).await;
    record(&cast, &offices, Scenario::Blocked).await;
    // A proposal to resume survives, too: the second operator may ask after the restart.
    let ([registry, _], [portal, _]) = (&offices.registry, &offices.portal);
    registry
        .suspend(&registry.ids().next(), Some(ProvisionCodeRequest))
        .await
        .unwrap();
    portal
        .suspend(&portal.ids().next(), Some(ProvisionCodeRequest))
        .await
        .unwrap();
    let proposed = registry.propose_resume(Some(ProvisionCodeRequest)).await.unwrap();

    let stores = [
        bench.deployment.provider_database(),
        bench.deployment.gateway_database(),
    ];
    pair.stop().await.unwrap();
    let kept = [stored(&stores[0]).await, stored(&stores[1]).await];
    let pair = Pair::start(&bench.binaries, &bench.deployment).await.unwrap();
    assert_eq!(
        [stored(&stores[0]).await, stored(&stores[1]).await],
        kept,
        "a start changes nothing"
    );
    let (cast, offices) = callers(&bench, &pair);
    let frontend = &cast.frontend;

    // Used request ids, the session, the consent, linkages and registers.
    let again = frontend
        .copy_info_as(&used, &session, CertificateRequest, "")
        .await;
    assert_eq!(reason(again), Reason::RequestIdUsed.name());
    let after = frontend
        .copy_info(&session, CertificateRequest, "")
        .await
        .unwrap();
    assert_eq!(after, before);
    // What was ended stays ended.
    let out = frontend.copy_info(&ended, CertificateRequest, "").await;
    assert_eq!(reason(out), Reason::SessionInvalid.name());
    let no_consent = frontend.copy_info(&session, Notification, "general").await;
    assert_eq!(reason(no_consent), Reason::ConsentRequired.name());
    // What forbids still forbids.
    for scenario in [Scenario::Suppressed, Scenario::Blocked] {
        let (_, card) = cast.person(scenario).unwrap();
        let refused = ask_once(frontend, &card, CertificateRequest, "").await;
        assert_eq!(reason(refused), Reason::NotProvided.name(), "{}", scenario.name());
    }
    let suspended = || frontend.copy_info(&session, ProvisionCodeRequest, "");
    assert_eq!(reason(suspended().await), Reason::ProvisionSuspended.name());
    let ([_, registry], [portal, portal_two]) = (&offices.registry, &offices.portal);
    registry.approve(&proposed).await.unwrap();
    // The portal side's own suspension is another one.
    assert_eq!(reason(suspended().await), Reason::ProvisionSuspended.name());
    let proposed = portal.propose_resume(Some(ProvisionCodeRequest)).await.unwrap();
    portal_two.approve(&proposed).await.unwrap();
    frontend.wait_until_providing().await.unwrap();
    assert_eq!(reason(suspended().await), Reason::ConsentRequired.name());
    pair.stop().await.unwrap();
    assert_logs_end_well(&bench.log("provider.log"));
    assert_logs_end_well(&bench.log("gateway.log"));
}

fn assert_logs_end_well(log: &Path) {
    let text = fs::read_to_string(log).unwrap();
    assert!(text.lines().last().unwrap().contains("\"stopped\""), "{text}");
    assert!(
        !text.contains("panic") && !text.contains("deadline has passed"),
        "{text}"
    );
}

//! The policy in force and the next one (clause 5), through both services: it takes over at its moment, a side that lacks
//! it is told of in time, and what the two sides hold is compared always. And I7 at the portal side: an answer that is
//! more than the policy lists is withheld.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    alarm::Alarm,
    authorisation::Listener,
    clock::{Clock as _, ShiftedClock},
    policy::Policy,
    process::Service,
    refusal::Reason,
    server::{Server, ServerBase},
    terms::RequestKind,
    tls::TlsMaterial,
};
use devkit::{
    client::{Access, Reach},
    deployment::{Addresses, Deployment, Plan},
    registers::Scenario,
    story::{Cast, Offices, ask_once},
};
use integration_tests::{
    Pair, REGISTERS, SEED, address,
    feed::{self, Feed},
    registry_evidence::RegistryEvidence,
    start_gateway,
};
use koseki_proto::koseki::{
    common::v1::{ProvidedRegister, RegisterKind, RequesterCopyInfo, RequesterItems},
    linkage::v1::{
        ExchangeCheckpointsRequest, ExchangeCheckpointsResponse, GetLinkageStatusRequest,
        GetLinkageStatusResponse, GetReceiptsRequest, GetReceiptsResponse, ItemResult,
        ProvideCopyInfoRequest, ProvideCopyInfoResponse, ProvidedCopyInfo, WatchSuppressionsRequest,
        item_result::Outcome,
        linkage_server::{Linkage, LinkageServer},
    },
};
use koseki_provider::Provider;
use tonic::{Request, Response, Status};

const KIND: RequestKind = RequestKind::CertificateRequest;
const MINUTE: Duration = Duration::from_secs(60);

/// Puts a next policy into a side's folder, its consent texts first and the file at once.
fn put(side: &Path, text: &str) {
    let folder = side.join("next-policy");
    fs::create_dir_all(folder.join("consent")).unwrap();
    for entry in fs::read_dir(side.join("policy/consent")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join("consent").join(entry.file_name())).unwrap();
    }
    fs::write(folder.join("new"), text).unwrap();
    fs::rename(folder.join("new"), folder.join("provision-policy.toml")).unwrap();
}

/// The policy in force with another moment, and without the municipality's code for the plain request.
fn next(pair: &Pair, ahead: Duration) -> String {
    let moment = pair.clock.now().after(ahead).to_rfc3339();
    let in_force = pair.deployment.provider().join("policy/provision-policy.toml");
    fs::read_to_string(in_force)
        .unwrap()
        .replacen("2024-03-01T00:00:00+09:00", &moment, 1)
        .replacen(", \"municipality_code\"]", "]", 1)
}

fn stands(server: &Server, alarm: Alarm) -> bool {
    server
        .alarms()
        .standing()
        .iter()
        .any(|(standing, _)| *standing == alarm)
}

/// Waits until an alarm stands, or does not, on both sides.
async fn until(pair: &Pair, alarm: Alarm, standing: bool) {
    for _ in 0..200 {
        if [&pair.provider, &pair.gateway]
            .iter()
            .all(|server| stands(server, alarm) == standing)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!(
        "{}: {:?} {:?}",
        alarm.name(),
        pair.provider.alarms().standing(),
        pair.gateway.alarms().standing()
    );
}

/// The municipality's code in the ordinary person's answer, or the reason for which there is none.
async fn ask(cast: &Cast) -> Result<String, String> {
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    match ask_once(&cast.frontend, &card, KIND, "").await {
        Ok(info) => Ok(info.registers[0].municipality_code.clone()),
        Err(error) => Err(error.reason().unwrap_or("no reason").to_owned()),
    }
}

#[tokio::test]
async fn it_takes_over_on_both_sides_at_its_moment_and_a_side_that_lacks_it_is_told_of_an_hour_before() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    assert_eq!(ask(&cast).await, Ok("131016".to_owned()));

    // More than an hour before, nobody has to have it yet.
    let next = next(&pair, 90 * MINUTE);
    put(&pair.deployment.provider(), &next);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!stands(&pair.provider, Alarm::NextPolicyMissingAtPeer));
    pair.clock.advance(31 * MINUTE);
    until(&pair, Alarm::NextPolicyMissingAtPeer, true).await;

    put(&pair.deployment.gateway(), &next);
    until(&pair, Alarm::NextPolicyMissingAtPeer, false).await;
    cast.frontend.wait_until_providing().await.unwrap();
    assert_eq!(ask(&cast).await, Ok("131016".to_owned()), "not yet in force");

    // A file that cannot be taken leaves what is held.
    for side in [pair.deployment.provider(), pair.deployment.gateway()] {
        fs::write(
            side.join("next-policy/provision-policy.toml"),
            "effective_at = 1\n",
        )
        .unwrap();
    }
    until(&pair, Alarm::NextPolicyUnreadable, true).await;

    pair.clock.advance(60 * MINUTE);
    cast.frontend.wait_until_providing().await.unwrap();
    assert_eq!(ask(&cast).await, Ok(String::new()), "in force");
    for server in [&pair.provider, &pair.gateway] {
        assert!(!stands(server, Alarm::PolicyMismatch));
    }
}

#[tokio::test]
async fn a_difference_in_force_stops_provision_and_alarms_on_both_sides_until_it_is_gone() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let next = next(&pair, 10 * MINUTE);
    put(&pair.deployment.provider(), &next);
    until(&pair, Alarm::NextPolicyMissingAtPeer, true).await;
    pair.clock.advance(11 * MINUTE);
    until(&pair, Alarm::PolicyMismatch, true).await;
    assert_eq!(ask(&cast).await, Err(Reason::Unavailable.name().to_owned()));

    put(&pair.deployment.gateway(), &next);
    until(&pair, Alarm::PolicyMismatch, false).await;
    cast.frontend.wait_until_providing().await.unwrap();
    assert_eq!(ask(&cast).await, Ok(String::new()));
}

/// A registry side that sends more than it was asked for.
struct TooMuch {
    policy: Policy,
    clock: Arc<ShiftedClock>,
    evidence: RegistryEvidence,
    /// Which of the answers it sends.
    answer: Arc<AtomicUsize>,
}

/// Within the mask; then with something more each.
fn answers() -> Vec<RequesterCopyInfo> {
    let register = ProvidedRegister {
        register_kind: RegisterKind::Current.into(),
        registered_domicile: "本籍".to_owned(),
        first_entered_person: "筆頭者".to_owned(),
        municipality_code: "131016".to_owned(),
        copy_revision: 1,
        ..ProvidedRegister::default()
    };
    let plain = RequesterCopyInfo {
        registers: vec![register.clone()],
        requester: None,
    };
    let mut with_handle = plain.clone();
    with_handle.registers[0].register_handle = vec![7; 32];
    let mut with_entry = plain.clone();
    with_entry.requester = Some(RequesterItems {
        name: "氏名".to_owned(),
        ..RequesterItems::default()
    });
    let mut with_removed = plain.clone();
    with_removed.registers.push(ProvidedRegister {
        register_kind: RegisterKind::Removed.into(),
        ..register
    });
    vec![plain, with_handle, with_entry, with_removed]
}

#[tonic::async_trait]
impl Linkage for TooMuch {
    type WatchSuppressionsStream = Feed;

    async fn watch_suppressions(
        &self,
        _: Request<WatchSuppressionsRequest>,
    ) -> Result<Response<Feed>, Status> {
        Ok(Response::new(feed::of_nobody(self.clock.clone())))
    }

    async fn provide_copy_info(
        &self,
        request: Request<ProvideCopyInfoRequest>,
    ) -> Result<Response<ProvideCopyInfoResponse>, Status> {
        let info = answers().swap_remove(self.answer.load(Ordering::SeqCst));
        let results = request.get_ref().items.iter().map(|item| ItemResult {
            request_id: item.request_id.clone(),
            outcome: Some(Outcome::Provided(ProvidedCopyInfo {
                info: Some(info.clone()),
                salt: vec![9; 32],
            })),
        });
        let results: Vec<_> = results.collect();
        let receipt = self.evidence.receipt(request.get_ref(), &results);
        Ok(Response::new(ProvideCopyInfoResponse {
            results,
            receipt: Some(receipt),
        }))
    }

    async fn exchange_checkpoints(
        &self,
        request: Request<ExchangeCheckpointsRequest>,
    ) -> Result<Response<ExchangeCheckpointsResponse>, Status> {
        Ok(Response::new(self.evidence.exchange(request.get_ref())))
    }

    async fn get_receipts(
        &self,
        _: Request<GetReceiptsRequest>,
    ) -> Result<Response<GetReceiptsResponse>, Status> {
        Ok(Response::new(GetReceiptsResponse::default()))
    }

    async fn get_linkage_status(
        &self,
        _: Request<GetLinkageStatusRequest>,
    ) -> Result<Response<GetLinkageStatusResponse>, Status> {
        Ok(Response::new(GetLinkageStatusResponse {
            provider_log: "provider-1".to_owned(),
            policy_sha256: self.policy.sha256.to_vec(),
            now: Some(self.clock.now().to_proto()),
            beacon: vec![7; 32],
            card_lists_fresh: true,
            log_countersigned: true,
            ..GetLinkageStatusResponse::default()
        }))
    }
}

#[tokio::test]
async fn an_answer_outside_the_mask_is_withheld_and_alarms() {
    let directory = tempfile::TempDir::new().unwrap();
    let plan = Plan {
        seed: SEED,
        registers: REGISTERS,
        addresses: Addresses::loopback(),
    };
    let deployment = Deployment::create(directory.path(), &plan).unwrap();
    let clock = Arc::new(ShiftedClock::default());
    let config: <Provider as Service>::Config = common::config::load(&deployment.provider_config()).unwrap();
    let base = ServerBase {
        tls: TlsMaterial::load(&config.tls).unwrap(),
        trust_domain: config.trust_domain().unwrap(),
        limits: config.limits.clone(),
        clock: clock.clone(),
        alarms: common::alarm::Alarms::default(),
        metrics: common::metrics::Metrics::default(),
    };
    let mut registry = Server::start(base, config.listen.ops).await.unwrap();
    let answer = Arc::new(AtomicUsize::new(0));
    let too_much = LinkageServer::new(TooMuch {
        policy: Policy::load(&config.policy_file).unwrap(),
        clock: clock.clone(),
        evidence: RegistryEvidence::load(&config),
        answer: answer.clone(),
    });
    registry
        .listen(Listener::Linkage, config.listen.linkage, |routes| {
            routes.add_service(too_much)
        })
        .await
        .unwrap();
    let there = address(&registry, Listener::Linkage);
    deployment.point_gateway_at(&there).unwrap();
    let gateway = start_gateway(&deployment, clock.clone()).await;
    let access = Access::new(&deployment, clock.clone());
    let reach = Reach {
        ingest: there.clone(),
        registry_admin: there,
        portal: address(&gateway, Listener::Portal),
        portal_admin: address(&gateway, Listener::PortalAdmin),
    };
    let offices = Offices::new(&deployment, &access, &reach).unwrap();
    let loaded = offices.portal[0].load_file(&deployment.linkages()).await.unwrap();
    assert!(loaded.is_whole());
    let cast = Cast::new(&deployment, &access, &reach.portal).unwrap();
    cast.frontend.wait_until_providing().await.unwrap();

    assert_eq!(ask(&cast).await, Ok("131016".to_owned()), "within the mask");
    assert!(gateway.alarms().standing().is_empty());
    for more in 1..answers().len() {
        answer.store(more, Ordering::SeqCst);
        assert_eq!(
            ask(&cast).await,
            Err(Reason::Unavailable.name().to_owned()),
            "{more}"
        );
        assert!(stands(&gateway, Alarm::AnswerOutsideMask));
    }
}

//! The proof of a login on its way from the portal side to the registry side (DESIGN §5): what goes over the line, when the
//! registry side has forgotten it, and what the requester is told. A recorder on the line passes everything on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    alarm::Alarm,
    authorisation::Listener,
    clock::{Clock as _, ShiftedClock},
    evidence::{ReceiptSigner, origin},
    identity::{Role, TrustDomain},
    login_proof,
    process::Service,
    server::{Server, ServerBase},
    tls::TlsMaterial,
};
use devkit::{
    card::CardRoot,
    client::{Access, CallError, Reach, Session, Term},
    deployment::{Addresses, Deployment, Plan},
    registers::Scenario,
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{
    REGISTERS, SEED, address,
    forger::{Forger, KIND},
    log, start_gateway, start_provider, stores, until,
};
use koseki_proto::koseki::{
    evidence::v1::{Outcome as Recorded, Receipt},
    linkage::v1::{
        Eligibility, ExchangeCheckpointsRequest, ExchangeCheckpointsResponse, GetLinkageStatusRequest,
        GetLinkageStatusResponse, GetReceiptsRequest, GetReceiptsResponse, NotLookedUp, NotLookedUpReason,
        ProvideCopyInfoRequest, ProvideCopyInfoResponse, WatchSuppressionsRequest, WatchSuppressionsResponse,
        item_result::Outcome,
        linkage_client::LinkageClient,
        linkage_server::{Linkage, LinkageServer},
    },
};
use koseki_provider::Provider;
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// Stands on the line.
#[derive(Clone)]
struct Recorder {
    /// The registry side.
    behind: Arc<Mutex<LinkageClient<Channel>>>,
    /// What the gateway sent, in order.
    seen: Arc<Mutex<Vec<ProvideCopyInfoRequest>>>,
    /// Told to the gateway for every item, in place of the answer.
    instead: Arc<Mutex<Option<NotLookedUpReason>>>,
    receipts: Arc<ReceiptSigner>,
    /// How many batches may pass.
    passes: Arc<Semaphore>,
}

impl Recorder {
    fn behind(&self) -> LinkageClient<Channel> {
        self.behind.lock().unwrap().clone()
    }

    /// Takes what was seen so far.
    fn seen(&self) -> Vec<ProvideCopyInfoRequest> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Lets nothing pass from now on.
    fn close(&self) {
        self.passes.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self, batches: usize) {
        self.passes.add_permits(batches);
    }
}

#[tonic::async_trait]
impl Linkage for Recorder {
    type WatchSuppressionsStream = Streaming<WatchSuppressionsResponse>;

    async fn watch_suppressions(
        &self,
        request: Request<WatchSuppressionsRequest>,
    ) -> Result<Response<Self::WatchSuppressionsStream>, Status> {
        self.behind().watch_suppressions(request.into_inner()).await
    }

    async fn provide_copy_info(
        &self,
        request: Request<ProvideCopyInfoRequest>,
    ) -> Result<Response<ProvideCopyInfoResponse>, Status> {
        let request = request.into_inner();
        self.seen.lock().unwrap().push(request.clone());
        self.passes.acquire().await.unwrap().forget();
        let mut answer = self.behind().provide_copy_info(request).await?;
        if let Some(reason) = *self.instead.lock().unwrap() {
            for result in &mut answer.get_mut().results {
                result.outcome = Some(Outcome::NotLookedUp(NotLookedUp {
                    reason: reason.into(),
                }));
            }
            let receipt = answer.get_mut().receipt.as_mut().unwrap();
            let mut said = Receipt::decode(receipt.payload.as_slice()).unwrap();
            for item in &mut said.items {
                item.set_outcome(Recorded::NotProvided);
                item.answer_sha256.clear();
            }
            *receipt = self.receipts.sign(&said);
        }
        Ok(answer)
    }

    async fn get_linkage_status(
        &self,
        request: Request<GetLinkageStatusRequest>,
    ) -> Result<Response<GetLinkageStatusResponse>, Status> {
        self.behind().get_linkage_status(request.into_inner()).await
    }

    async fn exchange_checkpoints(
        &self,
        request: Request<ExchangeCheckpointsRequest>,
    ) -> Result<Response<ExchangeCheckpointsResponse>, Status> {
        self.behind().exchange_checkpoints(request.into_inner()).await
    }

    async fn get_receipts(
        &self,
        request: Request<GetReceiptsRequest>,
    ) -> Result<Response<GetReceiptsResponse>, Status> {
        self.behind().get_receipts(request.into_inner()).await
    }
}

struct Scene {
    deployment: Deployment,
    clock: Arc<ShiftedClock>,
    provider: Option<Server>,
    recorder: Recorder,
    cast: Cast,
    gateway: Server,
    _line: Server,
    _directory: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let plan = Plan {
            seed: SEED,
            registers: REGISTERS,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        stores::place(&deployment).await;
        let clock = Arc::new(ShiftedClock::default());
        let provider = start_provider(&deployment, clock.clone()).await;
        let domain = TrustDomain::parse(devkit::deployment::TRUST_DOMAIN).unwrap();
        let origin = origin(&domain, Role::KosekiProvider, &deployment.provider_instance());
        let recorder = Recorder {
            behind: Arc::new(Mutex::new(client(&deployment, &provider, &clock))),
            seen: Arc::default(),
            instead: Arc::default(),
            receipts: Arc::new(ReceiptSigner::load(&deployment.receipt_key(), &origin).unwrap()),
            passes: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        };
        let line = on_the_line(&deployment, &clock, &recorder).await;
        deployment
            .point_gateway_at(&address(&line, Listener::Linkage))
            .unwrap();
        let gateway = start_gateway(&deployment, clock.clone()).await;
        let access = Access::new(&deployment, clock.clone());
        let reach = Reach {
            ingest: address(&provider, Listener::Ingest),
            registry_admin: address(&provider, Listener::KosekiAdmin),
            portal: address(&gateway, Listener::Portal),
            portal_admin: address(&gateway, Listener::PortalAdmin),
        };
        let offices = Offices::new(&deployment, &access, &reach).unwrap();
        let mut teller = Teller::new(|_| {});
        story::load(&deployment, &offices, &mut teller).await.unwrap();
        assert_eq!(teller.failed().count(), 0);
        let cast = Cast::new(&deployment, &access, &reach.portal).unwrap();
        cast.frontend.wait_until_providing().await.unwrap();
        Self {
            deployment,
            clock,
            provider: Some(provider),
            recorder,
            cast,
            gateway,
            _line: line,
            _directory: directory,
        }
    }

    /// A session with a consent that lasts.
    async fn session(&self, scenario: Scenario) -> Session {
        let frontend = &self.cast.frontend;
        let (_, card) = self.cast.person(scenario).unwrap();
        let session = frontend.login(&card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        let term = Term::For(Duration::from_secs(600));
        frontend.consent(&session, &text, term).await.unwrap();
        session
    }

    /// Asks: how it ended, as a name.
    async fn ask(&self, session: &Session) -> String {
        told(self.cast.frontend.copy_info(session, KIND, "").await)
    }

    fn spawn_ask(&self, session: &Session) -> tokio::task::JoinHandle<String> {
        let (frontend, session) = (self.cast.frontend.clone(), session.clone());
        tokio::spawn(async move { told(frontend.copy_info(&session, KIND, "").await) })
    }

    /// The registry side starts again, and remembers nothing.
    async fn start_provider_again(&mut self) {
        let old = self.provider.take().unwrap();
        old.drain(Duration::from_secs(5)).await;
        let fresh = start_provider(&self.deployment, self.clock.clone()).await;
        *self.recorder.behind.lock().unwrap() = client(&self.deployment, &fresh, &self.clock);
        self.provider = Some(fresh);
        let mut behind = self.recorder.behind();
        until(
            "the log of the registry side is countersigned again",
            async || {
                let status = behind
                    .get_linkage_status(GetLinkageStatusRequest::default())
                    .await;
                status.unwrap().into_inner().log_countersigned
            },
        )
        .await;
        self.cast.frontend.wait_until_providing().await.unwrap();
        self.recorder.seen();
    }

    /// Lets these ask in one batch: they queue up behind a request that is held on the line. What each is told.
    async fn in_one_batch(&self, first: &Session, sessions: [&Session; 2], batches: usize) -> [String; 2] {
        self.recorder.close();
        let held = self.spawn_ask(first);
        while self.recorder.seen.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let asked = sessions.map(|session| self.spawn_ask(session));
        // The queue cannot be looked into: they have come to it by then, and the one that is held has time left.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.recorder.open(1 + batches);
        held.await.unwrap();
        let [one, other] = asked;
        let told = [one.await.unwrap(), other.await.unwrap()];
        self.recorder
            .open(Semaphore::MAX_PERMITS - self.recorder.passes.available_permits());
        told
    }
}

fn told(answer: Result<koseki_proto::koseki::common::v1::RequesterCopyInfo, CallError>) -> String {
    match answer {
        Ok(_) => "PROVIDED".to_owned(),
        Err(error) => error.reason().unwrap_or("no answer").to_owned(),
    }
}

fn client(deployment: &Deployment, provider: &Server, clock: &Arc<ShiftedClock>) -> LinkageClient<Channel> {
    Forger::new(deployment, &address(provider, Listener::Linkage), clock.clone()).client
}

async fn on_the_line(deployment: &Deployment, clock: &Arc<ShiftedClock>, recorder: &Recorder) -> Server {
    let config: <Provider as Service>::Config = common::config::load(&deployment.provider_config()).unwrap();
    let base = ServerBase {
        tls: TlsMaterial::load(&config.tls).unwrap(),
        trust_domain: config.trust_domain().unwrap(),
        limits: config.limits,
        clock: clock.clone(),
        alarms: common::alarm::Alarms::default(),
        metrics: common::metrics::Metrics::default(),
    };
    let mut line = Server::start(base, config.listen.ops).await.unwrap();
    let recorder = LinkageServer::new(recorder.clone()).max_decoding_message_size(2 << 20);
    line.listen(Listener::Linkage, config.listen.linkage, |routes| {
        routes.add_service(recorder)
    })
    .await
    .unwrap();
    line
}

fn word(request: &ProvideCopyInfoRequest) -> Eligibility {
    let payload = &request.eligibility.as_ref().unwrap().payload;
    Eligibility::decode(payload.as_slice()).unwrap()
}

#[tokio::test]
async fn a_proof_goes_once_and_its_hash_afterwards() {
    let mut scene = Scene::new().await;
    let session = scene.session(Scenario::Ordinary).await;
    for _ in 0..3 {
        assert_eq!(scene.ask(&session).await, "PROVIDED");
    }
    let seen = scene.recorder.seen();
    let proofs: Vec<_> = seen.iter().map(|batch| &batch.items[0].login_proof).collect();
    assert!(proofs[0].is_some() && proofs[1].is_none() && proofs[2].is_none());
    let proof = proofs[0].as_ref().unwrap();
    let (_, card) = scene.cast.person(Scenario::Ordinary).unwrap();
    assert_eq!(proof.certificate, card.certificate_der);
    for batch in &seen {
        assert_eq!(
            word(batch).items[0].login_proof_sha256,
            login_proof::sha256(proof)
        );
    }
    // Another session of the same requester has a proof of its own.
    let other = scene.session(Scenario::Ordinary).await;
    assert_eq!(scene.ask(&other).await, "PROVIDED");
    let others = scene
        .recorder
        .seen()
        .swap_remove(0)
        .items
        .swap_remove(0)
        .login_proof
        .unwrap();
    assert_ne!(others.text, proof.text);

    // The registry side has forgotten it: the same request goes again, under a new number, and is answered.
    scene.start_provider_again().await;
    let id = scene.cast.frontend.ids().next();
    scene
        .cast
        .frontend
        .copy_info_as(&id, &session, KIND, "")
        .await
        .unwrap();
    let seen = scene.recorder.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].items[0].login_proof.is_none());
    assert_eq!(seen[1].items[0].login_proof.as_ref(), Some(proof));
    assert_eq!(seen[1].items[0].request_id, id);
    assert!(word(&seen[0]).sequence < word(&seen[1]).sequence);
    for database in [
        scene.deployment.provider_database(),
        scene.deployment.gateway_database(),
    ] {
        let (_, entry) = log::provision(&database, &id).await.unwrap();
        assert_eq!(entry.outcome(), Recorded::Released);
        let second = common::digest::sha256(&[&seen[1].eligibility.as_ref().unwrap().payload]);
        assert_eq!(entry.restricted.unwrap().eligibility_sha256, second);
    }
    // It is taken to have forgotten the others, too: they are not asked for one by one.
    assert_eq!(scene.ask(&other).await, "PROVIDED");
    assert_eq!(scene.ask(&session).await, "PROVIDED");
    let seen = scene.recorder.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].items[0].login_proof.is_some() && seen[1].items[0].login_proof.is_none());
}

/// A cover item has nothing of the person, and it goes again with the batch that it is in: whatever becomes of the others
/// becomes of it (I6).
#[tokio::test]
async fn a_cover_item_shares_the_fate_of_a_batch_that_goes_again() {
    let mut scene = Scene::new().await;
    let known = scene.session(Scenario::ImageOnly).await;
    let covered = scene.session(Scenario::NoLinkage).await;
    assert_eq!(scene.ask(&known).await, "NOT_PROVIDED");
    for (round, (batches, expected)) in [(2, "NOT_PROVIDED"), (1, "UNAVAILABLE")].into_iter().enumerate() {
        scene.start_provider_again().await;
        let first = scene.session(Scenario::Ordinary).await;
        let started = scene.clock.monotonic();
        let told = scene.in_one_batch(&first, [&known, &covered], batches).await;
        assert_eq!(told, [expected; 2], "round {round}");
        assert!(scene.clock.monotonic() - started < Duration::from_secs(3));
        let seen = scene.recorder.seen();
        assert_eq!(
            seen.len(),
            3,
            "the one that was held, the batch, and the batch again"
        );
        for (batch, proofs) in [(&seen[1], 0), (&seen[2], 1)] {
            assert_eq!(batch.items.len(), 2);
            let word = word(batch);
            let cover = word.items.iter().position(|item| item.cover).unwrap();
            let item = &word.items[cover];
            assert!(item.session_sha256.is_empty() && item.login_proof_sha256.is_empty());
            assert!(item.logged_in_at.is_none() && item.consent.is_none());
            assert!(batch.items[cover].login_proof.is_none());
            let sent = batch.items.iter().filter(|item| item.login_proof.is_some());
            assert_eq!(sent.count(), proofs);
        }
        // For the second round the registry side has to know it again.
        assert_eq!(scene.ask(&known).await, "NOT_PROVIDED");
    }
}

/// A cover item has no login that the registry side could refuse, so nobody is told that theirs was: it is the register
/// refusal, and an alarm.
#[tokio::test]
async fn a_login_that_only_the_registry_side_refuses_is_the_register_refusal() {
    let mut scene = Scene::new().await;
    for (reason, expected, batches) in [
        (NotLookedUpReason::LoginRefused, "NOT_PROVIDED", 1),
        (NotLookedUpReason::CardExpired, "NOT_PROVIDED", 1),
        (NotLookedUpReason::CardRevoked, "NOT_PROVIDED", 1),
        (NotLookedUpReason::Unavailable, "UNAVAILABLE", 1),
        // A registry side that never has enough is asked twice and no more.
        (NotLookedUpReason::NeedProof, "UNAVAILABLE", 2),
    ] {
        let session = scene.session(Scenario::Ordinary).await;
        *scene.recorder.instead.lock().unwrap() = Some(reason);
        scene.recorder.seen();
        assert_eq!(scene.ask(&session).await, expected, "{reason:?}");
        assert_eq!(scene.recorder.seen().len(), batches, "{reason:?}");
    }
    let alarms = scene.gateway.alarms().standing();
    let told = alarms
        .iter()
        .any(|(alarm, _)| *alarm == Alarm::LoginRefusedByRegistrySide);
    assert!(told, "{alarms:?}");
    *scene.recorder.instead.lock().unwrap() = None;
    let session = scene.session(Scenario::Ordinary).await;
    assert_eq!(scene.ask(&session).await, "PROVIDED");

    // A registry side that does not know the card's root: refused there, by its own word.
    let other = CardRoot::new().unwrap();
    let side = scene.deployment.provider();
    std::fs::write(side.join("card-roots/card-root.pem"), other.certificate_pem()).unwrap();
    let now = time::OffsetDateTime::from_unix_timestamp(scene.clock.now().unix_ms() / 1_000).unwrap();
    let until = now + time::Duration::days(7);
    std::fs::write(
        side.join("card-crls/card-root.crl"),
        other.crl(&[], 1, now, until).unwrap(),
    )
    .unwrap();
    scene.start_provider_again().await;
    // The second time the proof goes at once: it is not taken for one that was verified, and nobody's batch goes twice for it.
    for batches in [2, 1] {
        assert_eq!(scene.ask(&session).await, "NOT_PROVIDED");
        assert_eq!(scene.recorder.seen().len(), batches);
    }
}

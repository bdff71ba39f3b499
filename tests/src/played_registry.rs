//! A registry side that a test plays, in front of a real gateway: what an honest one never says.

use std::sync::{Arc, Mutex};

use common::{
    alarm::Alarms,
    authorisation::Listener,
    clock::{Clock as _, ShiftedClock},
    metrics::Metrics,
    policy::Policy,
    process::Service,
    server::{Server, ServerBase},
    tls::TlsMaterial,
};
use devkit::{
    client::{Access, Reach},
    deployment::{Addresses, Deployment, PROVIDER_INSTANCE, Plan},
    story::{Cast, Offices},
};
use koseki_proto::koseki::{
    common::v1::{ProvidedRegister, RegisterKind, RequesterCopyInfo},
    evidence::v1::Receipt,
    linkage::v1::{
        Envelope, ExchangeCheckpointsRequest, ExchangeCheckpointsResponse, GetLinkageStatusRequest,
        GetLinkageStatusResponse, GetReceiptsRequest, GetReceiptsResponse, ItemResult,
        ProvideCopyInfoRequest, ProvideCopyInfoResponse, ProvidedCopyInfo, WatchSuppressionsRequest,
        item_result::Outcome,
        linkage_server::{Linkage, LinkageServer},
    },
};
use koseki_provider::Provider;
use tempfile::TempDir;
use tonic::{Request, Response, Status};

use crate::{
    REGISTERS, SEED, address,
    feed::{self, Feed},
    registry_evidence::RegistryEvidence,
    start_gateway,
};

/// What it says.
pub struct Says {
    /// The answer to every request.
    pub info: RequesterCopyInfo,
    /// The receipt that goes with it, made of the one that fits.
    pub receipt: fn(&RegistryEvidence, Receipt) -> Option<Envelope>,
    /// What it gives when receipts are asked for again: by the bundle from which on, and how often they were before.
    pub again: fn(&RegistryEvidence, u64, usize) -> GetReceiptsResponse,
    /// How often that was.
    pub asked_again: usize,
}

/// A gateway and the registry side that is played to it.
pub struct PlayedRegistry {
    /// The gateway.
    pub gateway: Server,
    /// Who calls the gateway.
    pub cast: Cast,
    /// The deployment of both.
    pub deployment: Deployment,
    says: Arc<Mutex<Says>>,
    _registry: Server,
    _folder: TempDir,
}

impl PlayedRegistry {
    /// Starts both; until told otherwise, everything that it says is in order.
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let plan = Plan {
            seed: SEED,
            registers: REGISTERS,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(folder.path(), &plan).unwrap();
        let clock = Arc::new(ShiftedClock::default());
        let config: <Provider as Service>::Config =
            common::config::load(&deployment.provider_config()).unwrap();
        let base = ServerBase {
            tls: TlsMaterial::load(&config.tls).unwrap(),
            trust_domain: config.trust_domain().unwrap(),
            limits: config.limits.clone(),
            clock: clock.clone(),
            alarms: Alarms::default(),
            metrics: Metrics::default(),
        };
        let mut registry = Server::start(base, config.listen.ops).await.unwrap();
        let says = Arc::new(Mutex::new(Says {
            info: plain(),
            receipt: |evidence, receipt| Some(evidence.sign(&receipt)),
            again: |_, from, _| GetReceiptsResponse {
                provider_log: PROVIDER_INSTANCE.to_owned(),
                receipts: Vec::new(),
                next_bundle: from,
            },
            asked_again: 0,
        }));
        let played = LinkageServer::new(Played {
            policy: Policy::load(&config.policy_file).unwrap(),
            clock: clock.clone(),
            evidence: RegistryEvidence::load(&config),
            says: says.clone(),
        });
        registry
            .listen(Listener::Linkage, config.listen.linkage, |routes| {
                routes.add_service(played)
            })
            .await
            .unwrap();
        let there = address(&registry, Listener::Linkage);
        deployment.point_gateway_at(&there).unwrap();
        let gateway = start_gateway(&deployment, clock.clone()).await;
        let access = Access::new(&deployment, clock);
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
        Self {
            gateway,
            cast,
            deployment,
            says,
            _registry: registry,
            _folder: folder,
        }
    }

    /// Changes what it says.
    pub fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }
}

/// An answer within the mask of a plain request.
fn plain() -> RequesterCopyInfo {
    RequesterCopyInfo {
        registers: vec![ProvidedRegister {
            register_kind: RegisterKind::Current.into(),
            registered_domicile: "本籍".to_owned(),
            first_entered_person: "筆頭者".to_owned(),
            municipality_code: "131016".to_owned(),
            copy_revision: 1,
            ..ProvidedRegister::default()
        }],
        requester: None,
    }
}

struct Played {
    policy: Policy,
    clock: Arc<ShiftedClock>,
    evidence: RegistryEvidence,
    says: Arc<Mutex<Says>>,
}

#[tonic::async_trait]
impl Linkage for Played {
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
        let says = self.says.lock().unwrap();
        let results = request.get_ref().items.iter().map(|item| ItemResult {
            request_id: item.request_id.clone(),
            outcome: Some(Outcome::Provided(ProvidedCopyInfo {
                info: Some(says.info.clone()),
                salt: vec![9; 32],
            })),
        });
        let results: Vec<_> = results.collect();
        let receipt = self.evidence.receipt(request.get_ref(), &results);
        Ok(Response::new(ProvideCopyInfoResponse {
            receipt: (says.receipt)(&self.evidence, receipt),
            results,
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
        request: Request<GetReceiptsRequest>,
    ) -> Result<Response<GetReceiptsResponse>, Status> {
        let mut says = self.says.lock().unwrap();
        says.asked_again += 1;
        let page = (says.again)(
            &self.evidence,
            request.get_ref().from_bundle,
            says.asked_again - 1,
        );
        Ok(Response::new(page))
    }

    async fn get_linkage_status(
        &self,
        _: Request<GetLinkageStatusRequest>,
    ) -> Result<Response<GetLinkageStatusResponse>, Status> {
        Ok(Response::new(GetLinkageStatusResponse {
            provider_log: PROVIDER_INSTANCE.to_owned(),
            policy_sha256: self.policy.sha256.to_vec(),
            now: Some(self.clock.now().to_proto()),
            beacon: vec![7; 32],
            card_lists_fresh: true,
            log_countersigned: true,
            ..GetLinkageStatusResponse::default()
        }))
    }
}

//! A line that passes everything on but the exchange of checkpoints, so that nothing else stops with it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use common::{
    alarm::Alarms,
    authorisation::Listener,
    clock::ShiftedClock,
    metrics::Metrics,
    process::Service,
    server::{Server, ServerBase},
    tls::TlsMaterial,
};
use devkit::deployment::Deployment;
use integration_tests::{address, forger::Forger};
use koseki_proto::koseki::linkage::v1::{
    ExchangeCheckpointsRequest, ExchangeCheckpointsResponse, GetLinkageStatusRequest,
    GetLinkageStatusResponse, GetReceiptsRequest, GetReceiptsResponse, ProvideCopyInfoRequest,
    ProvideCopyInfoResponse, WatchSuppressionsRequest, WatchSuppressionsResponse,
    linkage_client::LinkageClient,
    linkage_server::{Linkage, LinkageServer},
};
use koseki_provider::Provider;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// Stands on the line.
#[derive(Clone)]
pub(crate) struct Line {
    behind: LinkageClient<Channel>,
    /// Whether checkpoints are kept back.
    pub(crate) cut: Arc<AtomicBool>,
}

impl Line {
    /// Before a provider; the gateway of the deployment is pointed at it.
    pub(crate) async fn before(
        deployment: &Deployment,
        provider: &Server,
        clock: &Arc<ShiftedClock>,
    ) -> (Self, Server) {
        let forger = Forger::new(deployment, &address(provider, Listener::Linkage), clock.clone());
        let line = Self {
            behind: forger.client,
            cut: Arc::default(),
        };
        let config: <Provider as Service>::Config =
            common::config::load(&deployment.provider_config()).unwrap();
        let base = ServerBase {
            tls: TlsMaterial::load(&config.tls).unwrap(),
            trust_domain: config.trust_domain().unwrap(),
            limits: config.limits,
            clock: clock.clone(),
            alarms: Alarms::default(),
            metrics: Metrics::default(),
        };
        let mut server = Server::start(base, config.listen.ops).await.unwrap();
        let served = LinkageServer::new(line.clone()).max_decoding_message_size(2 << 20);
        server
            .listen(Listener::Linkage, config.listen.linkage, |routes| {
                routes.add_service(served)
            })
            .await
            .unwrap();
        deployment
            .point_gateway_at(&address(&server, Listener::Linkage))
            .unwrap();
        (line, server)
    }
}

#[tonic::async_trait]
impl Linkage for Line {
    type WatchSuppressionsStream = Streaming<WatchSuppressionsResponse>;

    async fn watch_suppressions(
        &self,
        request: Request<WatchSuppressionsRequest>,
    ) -> Result<Response<Self::WatchSuppressionsStream>, Status> {
        self.behind.clone().watch_suppressions(request.into_inner()).await
    }

    async fn provide_copy_info(
        &self,
        request: Request<ProvideCopyInfoRequest>,
    ) -> Result<Response<ProvideCopyInfoResponse>, Status> {
        self.behind.clone().provide_copy_info(request.into_inner()).await
    }

    async fn get_linkage_status(
        &self,
        request: Request<GetLinkageStatusRequest>,
    ) -> Result<Response<GetLinkageStatusResponse>, Status> {
        self.behind.clone().get_linkage_status(request.into_inner()).await
    }

    async fn exchange_checkpoints(
        &self,
        request: Request<ExchangeCheckpointsRequest>,
    ) -> Result<Response<ExchangeCheckpointsResponse>, Status> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Status::unavailable("cut"));
        }
        self.behind
            .clone()
            .exchange_checkpoints(request.into_inner())
            .await
    }

    async fn get_receipts(
        &self,
        request: Request<GetReceiptsRequest>,
    ) -> Result<Response<GetReceiptsResponse>, Status> {
        self.behind.clone().get_receipts(request.into_inner()).await
    }
}

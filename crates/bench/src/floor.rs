//! The floor: what merely forwarding costs. A bare tonic forwarder in front of a bare tonic echo, each a process, with the
//! product's TLS and with messages as large as the product's. It checks nothing, stores nothing and knows nobody.

use std::{
    convert::Infallible,
    future::Future,
    path::Path,
    pin::Pin,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use common::{
    clock::SystemClock,
    identity::{Role, TrustDomain},
    tls::{Acceptor, Connector, TlsFiles, TlsMaterial},
};
use devkit::deployment::{Deployment, TRUST_DOMAIN};
use koseki_proto::portal::v1::{
    RequestCopyInfoRequest, RequestCopyInfoResponse, portal_client::PortalClient,
};
use prost::Message as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Channel, Server},
};
use tonic_prost::ProstCodec;

use crate::load::CONNECTIONS;

/// Calls at the same time on one connection: the services' own bound.
const STREAMS: u32 = 256;
const MAX_CONNECTIONS: usize = 1_024;
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Both processes, running. They are killed when this is dropped.
pub(crate) struct Floor {
    echo: Child,
    forwarder: Child,
    /// Where the forwarder listens.
    pub(crate) address: String,
}

impl Floor {
    /// Starts both; the echo answers with this message, under each request's id.
    pub(crate) async fn start(deployment: &Deployment, answer: &RequestCopyInfoResponse) -> Result<Self> {
        let file = deployment.dir().join("floor-answer");
        std::fs::write(&file, answer.encode_to_vec())?;
        let dir = deployment.dir();
        let (echo, at) = spawn(&["floor-echo".as_ref(), dir.as_os_str(), file.as_os_str()]).await?;
        let (forwarder, address) = spawn(&["floor-forwarder".as_ref(), dir.as_os_str(), at.as_ref()]).await?;
        Ok(Self {
            echo,
            forwarder,
            address,
        })
    }

    /// Process ids of the forwarder and of the echo.
    pub(crate) fn ids(&self) -> Result<[u32; 2]> {
        let gone = "a process of the floor has ended";
        Ok([self.forwarder.id().context(gone)?, self.echo.id().context(gone)?])
    }

    /// Ends both.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.forwarder.kill().await?;
        Ok(self.echo.kill().await?)
    }
}

/// Starts this program in another role; where it listens is the first line that it writes.
async fn spawn(arguments: &[&std::ffi::OsStr]) -> Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    Ok((child, line.context("a process of the floor did not start")?))
}

/// The echo: the whole of a process.
pub(crate) async fn run_echo(deployment: &Path, answer: &Path) -> Result<()> {
    let deployment = Deployment::at(deployment);
    let answer = RequestCopyInfoResponse::decode(std::fs::read(answer)?.as_slice())?;
    let files = service_files(&deployment.provider(), "provider");
    serve(&files, Hop::Echo(Arc::new(answer))).await
}

/// The forwarder: the whole of a process.
pub(crate) async fn run_forwarder(deployment: &Path, echo: &str) -> Result<()> {
    let deployment = Deployment::at(deployment);
    let files = service_files(&deployment.gateway(), "gateway");
    let (material, domain) = (TlsMaterial::load(&files)?, TrustDomain::parse(TRUST_DOMAIN)?);
    let instance = deployment.provider_instance();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let clock = Arc::new(SystemClock::new());
        let connector = Connector::new(&material, &domain, echo, Role::KosekiProvider, &instance, clock)?;
        clients.push(PortalClient::new(connector.channel()));
    }
    let next = Arc::new(AtomicUsize::new(0));
    serve(&files, Hop::Forwarder(clients.into(), next)).await
}

fn service_files(folder: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        certificate: folder.join(format!("tls/{name}.pem")),
        private_key: folder.join(format!("tls/{name}-key.pem")),
        peer_ca: folder.join("tls/ca.pem"),
    }
}

async fn serve(files: &TlsFiles, hop: Hop) -> Result<()> {
    let acceptor = Acceptor {
        config: TlsMaterial::load(files)?.server_config()?,
        trust_domain: TrustDomain::parse(TRUST_DOMAIN)?,
        handshake_timeout: HANDSHAKE,
        max_connections: MAX_CONNECTIONS,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .add_service(hop)
        .serve_with_incoming(ReceiverStream::new(acceptor.accept_on(listener)))
        .await?;
    Ok(())
}

/// What a process of the floor does with a call.
#[derive(Clone)]
enum Hop {
    /// Answers.
    Echo(Arc<RequestCopyInfoResponse>),
    /// Calls the echo, over one connection after the other.
    Forwarder(Arc<[PortalClient<Channel>]>, Arc<AtomicUsize>),
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl UnaryService<RequestCopyInfoRequest> for Hop {
    type Response = RequestCopyInfoResponse;
    type Future = Boxed<Response<RequestCopyInfoResponse>, Status>;

    fn call(&mut self, request: Request<RequestCopyInfoRequest>) -> Self::Future {
        match self {
            Self::Echo(answer) => {
                let answer = RequestCopyInfoResponse {
                    request_id: request.into_inner().request_id,
                    ..RequestCopyInfoResponse::clone(answer)
                };
                Box::pin(async move { Ok(Response::new(answer)) })
            }
            Self::Forwarder(clients, next) => {
                let at = next.fetch_add(1, Ordering::Relaxed) % clients.len().max(1);
                let client = clients.get(at).cloned();
                Box::pin(async move {
                    let mut client = client.ok_or_else(|| Status::internal("no connection"))?;
                    let answer = client.request_copy_info(request.into_inner()).await?;
                    Ok(Response::new(answer.into_inner()))
                })
            }
        }
    }
}

impl NamedService for Hop {
    const NAME: &'static str = "portal.v1.Portal";
}

impl tower::Service<http::Request<Body>> for Hop {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let hop = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(hop, request).await) })
    }
}

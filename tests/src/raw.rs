//! Callers that no product code would make: any certificate or none, any path, and connections without calls.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use devkit::pki::{Ca, Issued};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// Nothing here takes longer on a machine that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A caller's TLS configuration, resumption enabled as rustls does by default.
pub fn tls(ca: &Ca, certificate: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(ca.certificate_der().to_vec()))
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(issued) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from(issued.certificate_der.clone())],
                PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A TLS connection and nothing on it.
pub async fn connect(tls: Arc<ClientConfig>, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(tls).connect(name, stream).await
}

/// Calls any path.
#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    connections: Arc<AtomicUsize>,
}

impl Caller {
    /// Connects when it first calls, and again after a break.
    pub fn new(tls: Arc<ClientConfig>, address: SocketAddr) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, io::Error>(TokioIo::new(connect(tls, address).await?)) }
        });
        Self {
            channel: Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector),
            connections,
        }
    }

    /// Its channel, for a client of generated code.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// How often it has connected.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Sends one empty message to a path and takes what comes first: on the wire it is what every kind of method takes.
    pub async fn call(&self, path: &str) -> Result<(), Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        let mut request = Request::new(tokio_stream::once(()));
        request.set_timeout(PATIENCE);
        let path = PathAndQuery::try_from(path).unwrap();
        let codec: ProstCodec<(), ()> = ProstCodec::default();
        let called = async {
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(format!("not connected: {error}")))?;
            let mut answer = grpc.streaming(request, path, codec).await?.into_inner();
            answer.message().await?;
            Ok(())
        };
        tokio::time::timeout(PATIENCE, called).await.unwrap()
    }
}

/// The stable reason of a refusal, if the service gave one.
pub fn reason(status: &Status) -> Option<String> {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
}

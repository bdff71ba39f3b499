use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use super::{
    files::{TlsError, TlsMaterial},
    peer::PeerCertificate,
};
use crate::{
    clock::{Clock, Timestamp},
    identity::{Role, TrustDomain},
};

/// Connects to one server, known by its identity (`role/name`), not by its DNS name.
///
/// tonic connects anew on each call after a failure; after one, this waits from 50 ms up to 2 s before it tries again,
/// and fails at once in between, so that a server that is down is not stormed.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    address: String,
    tls: TlsConnector,
    connect_timeout: Duration,
    clock: Arc<dyn Clock>,
    pause: Mutex<Pause>,
}

#[derive(Default)]
struct Pause {
    failures: u32,
    until: Duration,
}

impl Connector {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);

    /// A connector to `address` (`host:port`), for the server whose certificate names `role` and `name`.
    pub fn new(
        material: &TlsMaterial,
        trust_domain: &TrustDomain,
        address: &str,
        role: Role,
        name: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let verifier = Arc::new(IdentityVerifier {
            roots: material.roots(),
            provider: material.provider(),
            schemes: material.schemes(),
            trust_domain: trust_domain.clone(),
            expected: format!("{}/{name}", role.as_str()),
        });
        Ok(Self(Arc::new(Inner {
            address: address.to_owned(),
            tls: TlsConnector::from(material.client_config(verifier)?),
            connect_timeout: Duration::from_secs(2),
            clock,
            pause: Mutex::default(),
        })))
    }

    /// A channel that connects when it is first used.
    pub fn channel(self) -> Channel {
        // The authority is only a label: the connector dials its own address.
        Endpoint::from_static("http://peer")
            // A peer that vanished without a word is noticed, and dialled anew.
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(self)
    }

    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let inner = &self.0;
        {
            let pause = inner.pause.lock().map_err(|_| io::Error::other("poisoned"))?;
            if inner.clock.monotonic() < pause.until {
                return Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "waiting before the next attempt",
                ));
            }
        }
        let attempt = async {
            let stream = TcpStream::connect(&inner.address).await?;
            stream.set_nodelay(true)?;
            // Nobody looks at the name: the verifier knows whom it expects.
            let name = ServerName::try_from("peer").map_err(io::Error::other)?;
            inner.tls.connect(name, stream).await
        };
        let outcome = tokio::time::timeout(inner.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "connecting took too long",
                ))
            });
        let mut pause = inner.pause.lock().map_err(|_| io::Error::other("poisoned"))?;
        match outcome {
            Ok(stream) => {
                *pause = Pause::default();
                Ok(TokioIo::new(stream))
            }
            Err(error) => {
                let wait = Self::FIRST_PAUSE
                    .saturating_mul(1 << pause.failures.min(10))
                    .min(Self::LONGEST_PAUSE);
                pause.failures = pause.failures.saturating_add(1);
                pause.until = inner.clock.monotonic() + wait;
                tracing::warn!(address = %inner.address, %error, "could not connect");
                Err(error)
            }
        }
    }
}

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// Accepts a server certificate of the deployment's CA whose one URI SAN is the identity expected.
#[derive(Debug)]
struct IdentityVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    schemes: Vec<SignatureScheme>,
    trust_domain: TrustDomain,
    expected: String,
}

impl ServerCertVerifier for IdentityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let now = Timestamp::from_unix_ms(
            i64::try_from(now.as_secs())
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000),
        );
        match PeerCertificate::read(end_entity, &self.trust_domain).identity(now) {
            Ok(peer) if peer.to_string() == self.expected => Ok(ServerCertVerified::assertion()),
            _ => Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName,
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::peer::PeerCertificate;
use crate::identity::TrustDomain;

/// Accepts mutual TLS connections on one socket. Handshakes run beside each other, each within a time, and both they
/// and the open connections are bounded.
pub struct Acceptor {
    /// The TLS configuration.
    pub config: Arc<rustls::ServerConfig>,
    /// Whose identities count.
    pub trust_domain: TrustDomain,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Open connections at most; one more is closed at once.
    pub max_connections: usize,
}

impl Acceptor {
    /// Handshakes at the same time; further ones wait in the socket's backlog.
    const MAX_HANDSHAKES: usize = 128;

    /// Accepts for as long as the receiver is kept.
    pub fn accept_on(self, listener: TcpListener) -> mpsc::Receiver<io::Result<TlsConnection>> {
        let (accepted, receiver) = mpsc::channel(16);
        tokio::spawn(self.run(listener, accepted));
        receiver
    }

    async fn run(self, listener: TcpListener, accepted: mpsc::Sender<io::Result<TlsConnection>>) {
        let handshakes = Arc::new(Semaphore::new(Self::MAX_HANDSHAKES));
        let connections = Arc::new(Semaphore::new(self.max_connections));
        let this = Arc::new(self);
        loop {
            let Ok(handshake) = handshakes.clone().acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                () = accepted.closed() => return,
                stream = listener.accept() => stream,
            };
            let (stream, address) = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: let some close before the next try.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(connection) = connections.clone().try_acquire_owned() else {
                tracing::warn!(peer = %address.ip(), limit = this.max_connections, "too many connections: one was closed");
                continue;
            };
            let (this, accepted) = (this.clone(), accepted.clone());
            tokio::spawn(async move {
                let made = this.handshake(stream, address, connection).await;
                drop(handshake);
                match made {
                    Ok(connection) => {
                        // A closed channel means that the server is stopping.
                        let _ = accepted.send(Ok(connection)).await;
                    }
                    Err(error) => tracing::info!(peer = %address.ip(), %error, "a TLS handshake failed"),
                }
            });
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<TlsConnection> {
        stream.set_nodelay(true)?;
        let handshake = TlsAcceptor::from(self.config.clone()).accept(stream);
        let stream = tokio::time::timeout(self.handshake_timeout, handshake)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))??;
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        // The verifier requires a certificate: a connection without one does not get here.
        let leaf =
            leaf.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "no client certificate"))?;
        let peer = PeerCertificate::read(leaf, &self.trust_domain);
        tracing::debug!(peer = %address.ip(), "a connection was accepted");
        Ok(TlsConnection {
            stream,
            peer,
            _permit: permit,
        })
    }
}

/// An accepted connection, with the peer's certificate.
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    peer: PeerCertificate,
    _permit: OwnedSemaphorePermit,
}

impl Connected for TlsConnection {
    type ConnectInfo = PeerCertificate;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

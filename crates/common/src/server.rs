//! Serving: several gRPC listeners and the operations port as one thing that starts, becomes ready, and drains within a
//! hard deadline.

use std::{collections::BTreeMap, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use crate::{
    alarm::Alarms,
    authorisation::{Authorise, Listener},
    clock::Clock,
    config::ListenerLimits,
    identity::TrustDomain,
    metrics::Metrics,
    ops::{self, Readiness},
    tls::{Acceptor, TlsError, TlsMaterial},
};

/// A service cannot start serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be opened.
    #[error("the {name} listener cannot open {address}")]
    Bind {
        /// The listener.
        name: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What all gRPC listeners of a service share.
pub struct ServerBase {
    /// Certificate, key and CA.
    pub tls: TlsMaterial,
    /// Whose identities count.
    pub trust_domain: TrustDomain,
    /// Bounds.
    pub limits: ListenerLimits,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The service's alarms.
    pub alarms: Alarms,
    /// What the service counts.
    pub metrics: Metrics,
}

/// A running service.
pub struct Server {
    base: ServerBase,
    readiness: Readiness,
    health: Routes,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    background: JoinSet<()>,
    ops: JoinSet<()>,
    addresses: BTreeMap<&'static str, SocketAddr>,
}

impl Server {
    /// Opens the operations port; the service is not ready.
    pub async fn start(base: ServerBase, ops: SocketAddr) -> Result<Self, ServeError> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let mut this = Self {
            base,
            readiness: Readiness::new(reporter).await,
            health: Routes::new(health),
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
            background: JoinSet::new(),
            ops: JoinSet::new(),
            addresses: BTreeMap::new(),
        };
        let socket = this.bind("ops", ops).await?;
        let metrics = this.base.metrics.clone();
        this.ops
            .spawn(ops::serve(socket, this.readiness.clone(), metrics));
        Ok(this)
    }

    /// The service's alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.base.alarms
    }

    /// Opens a gRPC listener with the services given, behind mutual TLS and the table of methods and roles.
    pub async fn listen(
        &mut self,
        listener: Listener,
        address: SocketAddr,
        services: impl FnOnce(Routes) -> Routes,
    ) -> Result<(), ServeError> {
        let limits = &self.base.limits;
        let acceptor = Acceptor {
            config: self.base.tls.server_config()?,
            trust_domain: self.base.trust_domain.clone(),
            handshake_timeout: limits.handshake_timeout(),
            max_connections: limits.max_connections,
        };
        let incoming = ReceiverStream::new(acceptor.accept_on(self.bind(listener.name(), address).await?));
        let mut server = tonic::transport::Server::builder()
            .max_concurrent_streams(self.base.limits.max_streams_per_connection)
            // Small windows bound what a peer can make us keep: streams × window per connection.
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(16 * 1024)
            .timeout(self.base.limits.max_call())
            .layer(Authorise::new(listener, self.base.clock.clone()));
        let routes = services(self.health.clone());
        let mut stopped = self.stop.subscribe();
        let readiness = self.readiness.clone();
        self.tasks.spawn(async move {
            let stopped = async move {
                // A closed channel means that the service is gone: stop as well.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            let served = server
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, stopped)
                .await;
            if let Err(error) = served {
                tracing::error!(listener = listener.name(), %error, "a listener stopped");
                readiness.set(false).await;
            }
        });
        Ok(())
    }

    async fn bind(&mut self, name: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
        let failed = |source| ServeError::Bind {
            name,
            address,
            source,
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        tracing::info!(listener = name, %address, "listening");
        self.addresses.insert(name, address);
        Ok(socket)
    }

    /// Runs work that goes on for as long as the service does, and ends with it.
    pub fn background(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(work);
    }

    /// What says whether the service can serve.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Where a listener really listens: configuration may name port 0.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(name).copied()
    }

    /// Stops: no new call is taken, calls in flight may end, and after `deadline` whatever is left is cut off.
    pub async fn drain(mut self, deadline: Duration) {
        self.readiness.set(false).await;
        // What could say that the service is ready again ends first.
        self.background.shutdown().await;
        self.readiness.set(false).await;
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            tracing::warn!(
                deadline_ms = deadline.as_millis(),
                "the drain's deadline has passed: cutting off what is left"
            );
            self.tasks.shutdown().await;
        }
    }
}

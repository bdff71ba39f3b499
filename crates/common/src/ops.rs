//! The plain-HTTP operations port: `GET /live` answers when the process runs, `GET /ready` when it can serve, and
//! `GET /metrics` tells what the service has counted.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::metrics::Metrics;

/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";

/// Whether the service can serve; told to gRPC health and to the operations port alike. Not before it is said.
#[derive(Clone)]
pub struct Readiness {
    ready: Arc<AtomicBool>,
    reporter: HealthReporter,
}

impl Readiness {
    /// Not ready.
    pub(crate) async fn new(reporter: HealthReporter) -> Self {
        let this = Self {
            ready: Arc::default(),
            reporter,
        };
        this.set(false).await;
        this
    }

    /// Says whether the service can serve.
    pub async fn set(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status("", status).await;
    }

    /// Whether the service can serve.
    pub fn get(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }
}

/// Serves the operations port until the process ends.
pub(crate) async fn serve(socket: TcpListener, readiness: Readiness, metrics: Metrics) {
    let ready = move || async move {
        if readiness.get() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    };
    let told = move || async move { ([(CONTENT_TYPE, METRICS_TYPE)], metrics.render()) };
    let router = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(told));
    if let Err(error) = axum::serve(socket, router).await {
        tracing::error!(%error, "the operations port stopped");
    }
}

/// Asks a service's operations port whether it is ready: the `healthcheck` subcommand, for images without a shell.
pub async fn is_ready(address: SocketAddr) -> std::io::Result<bool> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        stream.take(1_024).read_to_end(&mut answer).await?;
        Ok(answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200"))
    };
    tokio::time::timeout(Duration::from_secs(2), ask)
        .await
        .unwrap_or_else(|_| {
            Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "no answer within 2 s",
            ))
        })
}

//! Mutual TLS on every gRPC listener (clauses 4.4.4, 4.4.5): TLS 1.3 only, a client certificate of the deployment's own
//! CA always, no session resumption (rustls resumes without running the verifier again), limits on everything.

mod acceptor;
mod connector;
mod files;
mod peer;

pub use acceptor::{Acceptor, TlsConnection};
pub use connector::Connector;
pub use files::{TlsError, TlsFiles, TlsMaterial};
pub use peer::PeerCertificate;

//! Callers of both services over mutual TLS, one type for each role: what tests, the demo and the load tools use.

mod access;
mod answer;
mod frontend;
mod ids;
mod lines;
mod municipality;
mod operator;

pub use access::{Access, AccessError, Reach};
pub use answer::{CallError, Refused};
pub use common::lines::send::LineReport;
pub use frontend::{Frontend, Session, Term};
pub use ids::Ids;
pub use lines::Loaded;
pub use municipality::Municipality;
pub use operator::{PortalOperator, Proposed, RegistryOperator};

/// Deadline of every call that is not a stream: longer than any deadline that the interfaces name, so that a busy machine
/// does not look like a service that does not answer.
pub(crate) const DEADLINE: std::time::Duration = std::time::Duration::from_secs(15);

/// A message with the deadline.
pub(crate) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

//! A call that a requester makes through a frontend.

use common::{authorisation::Permit, identity::PeerIdentity, terms::RequestId};

/// Who calls, and under which id. What is recorded uses the id up.
pub struct PortalCall {
    /// The frontend.
    pub frontend: PeerIdentity,
    /// The call's id.
    pub request_id: RequestId,
}

impl PortalCall {
    /// A call that was allowed.
    pub fn new(permit: &Permit, request_id: RequestId) -> Self {
        Self {
            frontend: permit.peer().clone(),
            request_id,
        }
    }
}

//! Provision (提供; clause 4.3): the life of a request on the portal side (DESIGN §4).

mod forward;
mod life;
mod proofs;
mod record;
mod spending;

use std::time::Duration;

use common::{
    evidence::Released,
    identity::PeerIdentity,
    projection::Projected,
    refusal::Reason,
    terms::{Procedure, RequestId, RequestKind},
};

pub use life::Provision;
pub use spending::Spending;

/// A request for copy information, parsed.
pub struct Asked {
    /// Its id.
    pub request_id: RequestId,
    /// The frontend that calls.
    pub peer: PeerIdentity,
    /// SHA-256 of the session token.
    pub session: [u8; 32],
    /// The kind.
    pub kind: RequestKind,
    /// The procedure, which the policy has for the kind.
    pub procedure: Procedure,
    /// When it came in, by the monotonic clock.
    pub arrived: Duration,
}

/// What a request comes to.
#[derive(Debug)]
pub enum Verdict {
    /// The items.
    Provided(Projected),
    /// A refusal.
    Refused(Reason),
}

/// What becomes of a request: a verdict whose entry is durable, or none.
pub type Outcome = Result<Released<Verdict>, Reason>;

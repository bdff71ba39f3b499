//! The provider's suppression feed as the gateway has it (clause 4.3.4; docs/decisions/suppression-feed.md): in memory only,
//! never stored, listed or answered about.

mod follow;
mod replica;
mod snapshot;

pub use follow::Follower;
pub use replica::{Replica, Suppressions};

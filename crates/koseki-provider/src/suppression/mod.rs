//! The suppression feed (clause 4.3.4; docs/decisions/suppression-feed.md): which linkages are stopped altogether, as gateways
//! get it. `store/suppression.rs` says which those are.

mod feed;
mod follow;
mod streams;

pub use feed::Feed;
pub use follow::{Follower, Newest, follower};
pub use streams::{Suppressions, SuppressionsStream};

//! Opening takes two persons (DESIGN §3): one proposes the exact act, another approves it by its hash, and it is done in the
//! transaction that records the approval. Closing takes one and acts at once; another person confirms it.
//!
//! The one mechanism for every kind of act on both sides. What is opened beside provision is each side's own
//! ([`SideStore::open`]).

mod opening;
mod pending;
mod serve;

pub use opening::Opening;
pub use serve::{approve, confirm, list_pending, propose};

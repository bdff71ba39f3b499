//! The four conditions (clause 4.3), one file each, and the clearance that only all four together make (I1).
//!
//! They are checked twice: before a request is forwarded, and again in the transaction that releases the answer.

mod clearance;
mod consented;
mod linked;
mod logged_in;
mod not_suppressed;

pub use clearance::{Clearance, Cleared, Conditions, Guards, clear};
pub use consented::{ConsentFacts, Consented};
pub use linked::{LinkageFacts, Linked};
pub(crate) use logged_in::is_to_be_marked;
pub use logged_in::{HeldCard, KeptProof, LoggedIn, SessionFacts};
pub use not_suppressed::NotSuppressed;

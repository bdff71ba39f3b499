//! The register model (DESIGN §9): what a municipality sends as a copy (副本), parsed once into types that cannot be
//! wrong, and the automatic specification (自動的に特定) of a requester's registers.

mod copy;
mod extraction;
mod record;
mod specification;

pub use copy::{Medium, Member, RegisterCopy, RegisterKey};
pub use extraction::extract;
pub use record::parse_line;
pub use specification::{NotSpecified, RegisterFacts, Specified, specify};

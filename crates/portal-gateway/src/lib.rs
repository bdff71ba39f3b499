//! portal-gateway: the portal side (情報提供等記録開示システム; clause 2.2). It lets a request through to the registry side
//! only when the requester has consented, is logged in with their card, is linked, and is not suppressed.
//!
//! The life of a request is one function: `Provision::provide` in `provision/life.rs`. What lets it through is a
//! [`conditions::Clearance`].

pub mod admin;
pub mod call;
pub mod challenges;
pub mod checkpoints;
pub mod closings;
pub mod conditions;
pub mod config;
pub mod consent;
pub mod hold_back;
mod in_batches;
pub mod linkage;
pub mod login;
pub mod login_limits;
pub mod lost_answers;
pub mod metrics;
mod old_data;
pub mod openings;
pub mod own_records;
pub mod portal;
pub mod provider_link;
pub mod providers;
pub mod provision;
pub mod receipt;
pub mod record_index;
mod record_proofs;
pub mod recorded_answers;
pub mod requester;
mod service;
pub mod sessions;
pub mod store;
pub mod suppression;

pub use service::Gateway;

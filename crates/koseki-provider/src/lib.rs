//! koseki-provider: the registry side (戸籍情報連携システム; clause 2.1). It holds copies of family registers that
//! municipalities send, and answers look-ups by linkage code to portal gateways.
//!
//! The life of a request is in [`provision`]: `service.rs` from the call to the answer, `release.rs` from the gate to the
//! commit.

pub mod admin;
pub mod config;
pub mod gateways;
pub mod guard_wait;
pub mod ingest;
pub mod metrics;
pub mod non_provision;
pub mod persons;
pub mod provision;
pub mod register;
mod service;
pub mod store;
pub mod suppression;

pub use service::Provider;

//! Mechanisms that know neither side: identity, authorisation, TLS, batching, clock, sealing, evidence, configuration,
//! telemetry, refusals, and the terms that both sides share.

pub mod alarm;
pub mod approval;
pub mod authorisation;
pub mod batch;
pub mod card;
pub mod cards;
pub mod clock;
pub mod config;
pub mod digest;
pub mod dsse;
pub mod eligibility;
pub mod evidence;
pub mod files;
pub mod identity;
pub mod json;
pub mod keyring;
pub mod lines;
pub mod ops;
pub mod paging;
pub mod policy;
pub mod process;
pub mod projection;
pub mod refusal;
pub mod sealing;
pub mod server;
pub mod status;
pub mod store;
pub mod suspension;
pub mod telemetry;
pub mod terms;
pub mod tls;

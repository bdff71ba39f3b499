//! The auditor's verifier: exported logs of both sides against `log-keys.txt`, offline, and nothing else (docs/audit-log.md).
//!
//! It shares no code with what writes the logs: trees, checkpoints, keys and acts in force are its own, written from the format's
//! page, RFC 6962 and the C2SP texts; what it has in common with the services are the generated messages, the signature library
//! and SHA-256. Logs are read as streams: one bundle of each log is in memory, and what `guards` and `reconcile` say of
//! themselves.

mod archive;
mod closings;
mod entry;
mod file;
mod guards;
mod keys;
mod log;
mod moment;
mod note;
mod origin;
mod prove;
mod received;
mod reconcile;
mod report;
mod tree;
mod verify;
mod walk;
mod words;

pub use archive::archivable;
pub use keys::{Keys, KeysError};
pub use moment::parse as parse_moment;
pub use prove::prove;
pub use received::{Asked, who_received};
pub use reconcile::reconcile;
pub use report::{Report, Verdict};
pub use verify::verify;
pub use words::Language;

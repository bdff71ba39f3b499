//! The operators' command line: the real program, against both services, with the certificates of the deployment's
//! operators. Everything that it prints in any test is searched for what must not be there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

mod acts;
mod bad_input;
mod bad_profile;
mod breaks;
mod desk;
mod files;
mod overview;
mod terminal;

//! The suppression feed (clause 4.3.4): whoever is stopped altogether is refused by the gateway itself and is not looked up;
//! and the feed is what the records, memberships and linkages say, at every moment, or nothing is provided.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

mod acts;
mod breaks;
mod gateway;
mod midnight;
mod size;
mod world;

//! Development PKI, virtual cards, synthetic registers, process harness and the demo.
//!
//! Nothing here belongs in production: its certificate authorities are made on the spot, and its persons do not exist.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod card;
pub mod client;
mod crl;
pub mod deployment;
mod files;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod registers;
pub mod story;
#[cfg(test)]
mod tool;
mod wall_clock;

//! One file a group of commands.

pub(crate) mod approve;
pub(crate) mod audit;
pub(crate) mod block;
mod closing;
pub(crate) mod ingest;
pub(crate) mod linkages;
pub(crate) mod log;
pub(crate) mod municipalities;
pub(crate) mod non_provision;
pub(crate) mod pending;
pub(crate) mod policy;
mod propose;
pub(crate) mod receipt;
pub(crate) mod status;
mod status_screen;
pub(crate) mod suspension;

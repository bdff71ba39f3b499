//! The gateways that have asked this instance how it is doing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use common::clock::Timestamp;
use koseki_proto::koseki::admin::v1::GatewaySeen;

/// Gateways that are remembered: more than any deployment has.
const MAX: usize = 64;

/// Which gateways were here, and when; shared by the listeners.
#[derive(Clone, Default)]
pub struct GatewaysSeen(Arc<Mutex<BTreeMap<String, Timestamp>>>);

impl GatewaysSeen {
    /// A gateway was here. One too many is not remembered.
    pub fn note(&self, name: &str, now: Timestamp) {
        if let Ok(mut seen) = self.0.lock()
            && (seen.len() < MAX || seen.contains_key(name))
        {
            seen.insert(name.to_owned(), now);
        }
    }

    /// For the status.
    pub fn list(&self) -> Vec<GatewaySeen> {
        let seen = self.0.lock().map(|seen| seen.clone()).unwrap_or_default();
        seen.into_iter()
            .map(|(name, at)| GatewaySeen {
                name,
                seen_at: Some(at.to_proto()),
                policy_sha256: Vec::new(),
            })
            .collect()
    }
}

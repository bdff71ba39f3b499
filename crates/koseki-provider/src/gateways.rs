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
pub struct GatewaysSeen(Arc<Mutex<BTreeMap<String, Seen>>>);

#[derive(Clone)]
struct Seen {
    at: Timestamp,
    policy_sha256: Vec<u8>,
}

impl GatewaysSeen {
    /// A gateway was here, with this policy in force if it said so. One too many is not remembered.
    pub fn note(&self, name: &str, policy_sha256: Option<&[u8]>, at: Timestamp) {
        if let Ok(mut seen) = self.0.lock()
            && (seen.len() < MAX || seen.contains_key(name))
        {
            // A hash of another length is none; nothing longer is kept.
            let policy_sha256 = policy_sha256.filter(|hash| hash.len() == 32);
            let policy_sha256 = policy_sha256.unwrap_or_default().to_vec();
            seen.insert(name.to_owned(), Seen { at, policy_sha256 });
        }
    }

    /// For the status.
    pub fn list(&self) -> Vec<GatewaySeen> {
        let seen = self.0.lock().map(|seen| seen.clone()).unwrap_or_default();
        seen.into_iter()
            .map(|(name, Seen { at, policy_sha256 })| GatewaySeen {
                name,
                seen_at: Some(at.to_proto()),
                policy_sha256,
            })
            .collect()
    }
}

//! Login proofs on their way to the registry side.

use std::collections::HashMap;

use koseki_proto::koseki::linkage::v1::LoginProof;

use super::Asked;
use crate::conditions::{Guards, KeptProof};

/// The login proofs that were read for a batch, by session.
pub(super) struct Proofs(HashMap<[u8; 32], LoginProof>);

impl Proofs {
    /// Those that were read with the guards of the requests.
    pub(super) fn of(asked: &[Asked], guards: &[Guards]) -> Self {
        let proofs = asked.iter().zip(guards).filter_map(|(asked, guards)| {
            match guards.session.as_ref().map(|session| &session.proof) {
                Some(KeptProof::Read(proof)) => Some((asked.session, proof.clone())),
                Some(KeptProof::NotRead | KeptProof::Unreadable) | None => None,
            }
        });
        Self(proofs.collect())
    }

    /// That of a session.
    pub(super) fn of_session(&self, session: &[u8; 32]) -> Option<&LoginProof> {
        self.0.get(session)
    }
}

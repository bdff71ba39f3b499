use common::{clock::Timestamp, refusal::Reason, terms::ActId};

use super::Conditions;
use crate::provision::Asked;

/// A consent of the requester that is neither withdrawn nor spent, as the store has it.
#[derive(Clone)]
pub struct ConsentFacts {
    /// Its id.
    pub id: ActId,
    /// SHA-256 of the text that was shown.
    pub text_sha256: [u8; 32],
    /// When it was given.
    pub given_at: Timestamp,
    /// Until when it holds.
    pub expires_at: Timestamp,
    /// Whether one answer spends it.
    pub one_time: bool,
}

impl ConsentFacts {
    /// Its id, when one answer spends it.
    pub fn spends(&self) -> Option<[u8; 16]> {
        self.one_time.then(|| *self.id.as_bytes())
    }
}

/// That the requester has consented to this kind of request, to a text that is in force (clause 4.3.1).
pub struct Consented(pub(super) ConsentFacts);

impl Consented {
    /// `consents` are those of the requester to the kind that is asked, oldest first.
    pub(super) fn check(
        consents: &[ConsentFacts],
        asked: &Asked,
        conditions: &Conditions<'_>,
    ) -> Result<Self, Reason> {
        let holds = |consent: &&ConsentFacts| {
            conditions.now <= consent.expires_at
                && conditions
                    .policy
                    .text_hashes(asked.kind)
                    .any(|hash| *hash == consent.text_sha256)
        };
        // A lasting consent before a one-time one: what need not be spent is not. Of several the one that holds longest: the
        // answer is carried by the consent that the registry side is told of, which must not end on the way.
        let lasting = consents
            .iter()
            .filter(|consent| !consent.one_time && holds(consent))
            .max_by_key(|consent| consent.expires_at);
        let consent = lasting.or_else(|| consents.iter().find(holds));
        consent.cloned().map(Self).ok_or(Reason::ConsentRequired)
    }
}

use common::{clock::Timestamp, terms::LinkageCode};

use super::Conditions;

/// The linkage of the requester's card, as the store has it.
pub struct LinkageFacts {
    /// Whether it is ACTIVE.
    pub active: bool,
    /// When it was confirmed last.
    pub confirmed_at: Timestamp,
    /// Its code; `None` when it does not open.
    pub code: Option<LinkageCode>,
}

/// That the linkage of the requester worked (clause 4.3.3). Whether their register is specified is the registry side's
/// to say.
pub struct Linked(pub(super) LinkageCode);

impl Linked {
    /// The error is the cause, for this side's restricted audit: outside it is the register refusal (I6).
    pub(super) fn check(
        linkage: Option<&LinkageFacts>,
        conditions: &Conditions<'_>,
    ) -> Result<Self, &'static str> {
        let linkage = linkage.ok_or("NO_LINKAGE")?;
        if !linkage.active {
            return Err("LINKAGE_NOT_ACTIVE");
        }
        let age = conditions.now.since(linkage.confirmed_at);
        if age > conditions.policy.freshness.linkage_confirmed() {
            return Err("LINKAGE_NOT_CONFIRMED");
        }
        linkage.code.clone().map(Self).ok_or("UNREADABLE")
    }
}

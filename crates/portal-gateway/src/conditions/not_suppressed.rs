use common::terms::LinkageCode;

use crate::suppression::Suppressions;

/// That nothing known on the portal side stands against the requester (clause 4.3.4): no block, and their linkage is not in the
/// registry side's suppression feed. The records themselves are the registry side's, and are read there in the transaction
/// that releases.
pub struct NotSuppressed(());

impl NotSuppressed {
    /// The error is the cause, for this side's restricted audit: outside it is the register refusal (I6). What the feed has
    /// stopped is written down as what the registry side itself refuses: nobody can tell one from the other afterwards.
    pub(super) fn check(
        blocked: bool,
        code: Option<&LinkageCode>,
        suppressions: &Suppressions,
    ) -> Result<Self, &'static str> {
        if blocked {
            return Err("BLOCKED");
        }
        match code {
            Some(code) if suppressions.hold(&code.handle()) => Err(Self::OF_THE_REGISTRY_SIDE),
            _ => Ok(Self(())),
        }
    }

    /// The cause of every refusal that is the registry side's.
    pub const OF_THE_REGISTRY_SIDE: &str = "REGISTRY_SIDE";
}

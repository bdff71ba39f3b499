/// That nothing known on the portal side stands against the requester (clause 4.3.4): no block. Non-provision records
/// are the registry side's, and are read there in the transaction that releases.
pub struct NotSuppressed(());

impl NotSuppressed {
    /// The error is the cause, for this side's restricted audit: outside it is the register refusal (I6).
    pub(super) fn check(blocked: bool) -> Result<Self, &'static str> {
        if blocked { Err("BLOCKED") } else { Ok(Self(())) }
    }
}

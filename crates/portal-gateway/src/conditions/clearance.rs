use common::{
    card::RevocationLists,
    clock::Timestamp,
    policy::Policy,
    refusal::Reason,
    suspension::Suspensions,
    terms::{ActId, LinkageCode},
};

use super::{ConsentFacts, Consented, LinkageFacts, Linked, LoggedIn, NotSuppressed, SessionFacts};
use crate::{provision::Asked, suppression::Suppressions};

/// Everything in the store that could forbid one request.
#[derive(Default)]
pub struct Guards {
    /// The session of the token.
    pub session: Option<SessionFacts>,
    /// Consents to the kind that are neither withdrawn nor spent, oldest first.
    pub consents: Vec<ConsentFacts>,
    /// The linkage of the session's card.
    pub linkage: Option<LinkageFacts>,
    /// What the session's card is found by, for the audit.
    pub card_key: Option<[u8; 32]>,
    /// Whether the session's card is blocked.
    pub blocked: bool,
    /// Whether something of it cannot be read: then nothing is decided.
    pub unreadable: bool,
}

/// What requests are checked against beside the store.
pub struct Conditions<'a> {
    /// The policy in force.
    pub policy: &'a Policy,
    /// The cards' revocation lists that count.
    pub lists: RevocationLists,
    /// Kinds that are suspended at this side.
    pub suspensions: Suspensions,
    /// What the registry side has stopped altogether; `None` when that is not known for certain.
    pub suppressions: Option<Suppressions>,
    /// This moment.
    pub now: Timestamp,
}

/// That all four conditions hold for one request, as far as the portal side can tell. Forwarding takes it. It cannot be
/// made without the four, nor cloned, defaulted or deserialised (I1).
///
/// ```compile_fail
/// fn forge(clearance: &portal_gateway::conditions::Clearance) -> portal_gateway::conditions::Clearance {
///     clearance.clone()
/// }
/// ```
/// ```compile_fail
/// use portal_gateway::conditions::*;
/// fn three(a: LoggedIn, b: Consented, c: Linked) -> Clearance { Clearance::new(a, b, c) }
/// ```
pub struct Clearance {
    logged_in: LoggedIn,
    consented: Consented,
    linked: Linked,
}

impl Clearance {
    /// The four checks, together.
    fn new(logged_in: LoggedIn, consented: Consented, linked: Linked, _: NotSuppressed) -> Self {
        Self {
            logged_in,
            consented,
            linked,
        }
    }

    /// The code to look up.
    pub fn code(&self) -> &LinkageCode {
        &self.linked.0
    }

    /// When the requester logged in.
    pub fn logged_in_at(&self) -> Timestamp {
        self.logged_in.at
    }

    /// What names the proof of the login.
    pub fn proof_sha256(&self) -> &[u8; 32] {
        &self.logged_in.proof_sha256
    }

    /// The consent.
    pub fn consent(&self) -> &ConsentFacts {
        &self.consented.0
    }

    /// The consent, when releasing an answer spends it.
    pub fn spends(&self) -> Option<[u8; 16]> {
        self.consent().spends()
    }

    /// Id of the consent.
    pub fn consent_id(&self) -> ActId {
        self.consented.0.id
    }
}

/// What the checks say about a request.
pub enum Cleared {
    /// All hold.
    Clear(Clearance),
    /// Not linked or suppressed. It goes on as a cover item and ends as the register refusal, so that nobody can tell
    /// it from a refusal of the registry side (I6); the cause is for this side's restricted audit.
    Cover {
        /// Why, as a stable name.
        cause: &'static str,
        /// The one-time consent that a release would have spent.
        spends: Option<[u8; 16]>,
    },
    /// Refused for a reason that the caller may know.
    Refused(Reason),
}

/// Checks one request, with those of its consents that may carry it. The order of reasons is fixed: suspended, session and card, consent, then the register refusal;
/// nothing before the last consults linkage or blocks.
pub fn clear(
    asked: &Asked,
    guards: &Guards,
    consents: &[ConsentFacts],
    conditions: &Conditions<'_>,
) -> Cleared {
    match for_the_caller(asked, guards, consents, conditions) {
        Err(reason) => Cleared::Refused(reason),
        Ok((logged_in, consented)) => {
            // Who is stopped is not known: nobody is provided for, linked or not (I4, I6).
            let Some(suppressions) = &conditions.suppressions else {
                return Cleared::Refused(Reason::Unavailable);
            };
            let linked = Linked::check(guards.linkage.as_ref(), conditions);
            let code = linked.as_ref().ok().map(|linked| &linked.0);
            match (NotSuppressed::check(guards.blocked, code, suppressions), linked) {
                (Ok(not_suppressed), Ok(linked)) => {
                    Cleared::Clear(Clearance::new(logged_in, consented, linked, not_suppressed))
                }
                (Err(cause), _) | (_, Err(cause)) => Cleared::Cover {
                    cause,
                    spends: consented.0.spends(),
                },
            }
        }
    }
}

fn for_the_caller(
    asked: &Asked,
    guards: &Guards,
    consents: &[ConsentFacts],
    conditions: &Conditions<'_>,
) -> Result<(LoggedIn, Consented), Reason> {
    if conditions.suspensions.covers(asked.kind) {
        return Err(Reason::ProvisionSuspended);
    }
    if guards.unreadable {
        return Err(Reason::Unavailable);
    }
    let logged_in = LoggedIn::check(guards.session.as_ref(), asked, conditions)?;
    let consented = Consented::check(consents, asked, conditions)?;
    Ok((logged_in, consented))
}

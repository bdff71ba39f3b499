//! The decision about one item, from what the release transaction read. Pure: it awaits nothing.

use common::{
    card::RevocationLists,
    clock::Timestamp,
    evidence::Outcome,
    keyring::{HandleKey, Lookup},
    policy::Policy,
    projection::Projected,
    refusal::Reason,
    suspension::Suspensions,
};

use super::{
    login::{Login, LoginFault, Logins, Proven},
    release::Item,
};
use crate::{
    non_provision::{self, Suppressed},
    register::{self, NotSpecified},
    store::ItemFacts,
};

/// Length of one item's answer at most, in bytes: 256 of them fit into the message limit of 4 MiB.
const MAX_INFO_BYTES: usize = 15 * 1024;

/// What items are decided under.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The policy that the batch names.
    pub(super) policy: &'a Policy,
    /// The kinds that are suspended.
    pub(super) suspensions: &'a Suspensions,
    /// Makes the handles of registers.
    pub(super) handles: &'a HandleKey,
    /// Whether logins still count.
    pub(super) logins: &'a Logins,
    /// The cards' revocation lists that are recorded behind the gate.
    pub(super) lists: &'a RevocationLists,
    /// The moment, read behind the gate.
    pub(super) now: Timestamp,
}

/// What is provided.
pub(super) struct Provided {
    /// The items.
    pub(super) info: Projected,
    /// Of which registers: what each is found by, and its municipality's code. For the restricted audit.
    pub(super) registers: Vec<(Lookup, String)>,
}

/// What is decided about an item.
pub(super) enum Decision {
    /// Provided.
    Provided(Provided),
    /// The register refusal; the cause stays here.
    NotProvided(Cause),
    /// Provision of the kind is suspended.
    Suspended,
    /// The request id was used before.
    RequestIdUsed,
    /// The login does not count.
    Login(LoginFault),
}

impl Decision {
    /// The outcome towards the gateway.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Provided(_) => Outcome::Released,
            Self::Login(LoginFault::RevocationUnknown) => Outcome::Unavailable,
            Self::NotProvided(_) | Self::Login(_) => Outcome::NotProvided,
            Self::Suspended | Self::RequestIdUsed => Outcome::Refused,
        }
    }

    /// What is provided, if anything is.
    pub(super) fn provided(&self) -> Option<&Provided> {
        match self {
            Self::Provided(provided) => Some(provided),
            _ => None,
        }
    }

    /// The reason that the requester is given for it; `None` when the items are provided.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Provided(_) => None,
            Self::NotProvided(_) => Some(Reason::NotProvided),
            Self::Suspended => Some(Reason::ProvisionSuspended),
            Self::RequestIdUsed => Some(Reason::RequestIdUsed),
            Self::Login(LoginFault::RevocationUnknown) => Some(Reason::Unavailable),
            // A cover item has no login: nobody is told that theirs was refused (I6).
            Self::Login(_) => Some(Reason::NotProvided),
        }
    }

    /// Stable name of the cause, for the restricted audit.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Provided(_) => "PROVIDED",
            Self::NotProvided(cause) => cause.name(),
            Self::Suspended => "SUSPENDED",
            Self::RequestIdUsed => "REQUEST_ID_USED",
            Self::Login(fault) => fault.name(),
        }
    }
}

/// Why the register refusal. For the provider's restricted audit only (I6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The gateway had refused it already.
    Cover,
    /// No linkage has this code.
    NoLinkage,
    /// The linkage is bound to another card than the requester has logged in with.
    AnotherCard,
    /// The linkage is not ACTIVE.
    LinkageNotActive,
    /// The linkage was not confirmed for too long.
    LinkageNotConfirmed,
    /// No register is specified.
    NotSpecified(NotSpecified),
    /// A non-provision record stands against it.
    Suppressed(Suppressed),
    /// What is stored cannot be read.
    Unreadable,
    /// The items are more than an answer can carry.
    TooLarge,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Cover => "COVER",
            Self::NoLinkage => "NO_LINKAGE",
            Self::AnotherCard => "ANOTHER_CARD",
            Self::LinkageNotActive => "LINKAGE_NOT_ACTIVE",
            Self::LinkageNotConfirmed => "LINKAGE_NOT_CONFIRMED",
            Self::NotSpecified(NotSpecified::NoCurrentRegister) => "NO_CURRENT_REGISTER",
            Self::NotSpecified(NotSpecified::SeveralCurrentRegisters) => "SEVERAL_CURRENT_REGISTERS",
            Self::NotSpecified(NotSpecified::NotText) => "NOT_TEXT",
            Self::NotSpecified(NotSpecified::InMotion) => "IN_MOTION",
            Self::NotSpecified(NotSpecified::PersonRemoved) => "PERSON_REMOVED",
            Self::Suppressed(Suppressed::Person) => "NON_PROVISION_PERSON",
            Self::Suppressed(Suppressed::Register) => "NON_PROVISION_REGISTER",
            Self::Suppressed(Suppressed::RequesterAgainstRegister) => {
                "NON_PROVISION_REQUESTER_AGAINST_REGISTER"
            }
            Self::Unreadable => "UNREADABLE",
            Self::TooLarge => "TOO_LARGE",
        }
    }
}

/// Decides about an item whose request id is fresh or not. Returns whom it is about as well, for the audit.
pub(super) fn decide(
    item: &Item,
    fresh: bool,
    facts: &ItemFacts,
    context: &Context<'_>,
) -> (Decision, Option<Lookup>) {
    let person = facts.linkage.as_ref().map(|linkage| linkage.person);
    if !fresh {
        return (Decision::RequestIdUsed, None);
    }
    if context.suspensions.covers(item.kind) {
        return (Decision::Suspended, person);
    }
    let provided = match logged_in(item, context) {
        Ok(Some(login)) => provide(item, login, facts, context),
        Ok(None) => Err(Cause::Cover),
        Err(fault) => return (Decision::Login(fault), person),
    };
    (
        provided.map_or_else(Decision::NotProvided, Decision::Provided),
        person,
    )
}

/// Condition 4.3.2: the login that was verified, if it still counts; `None` for a cover item.
fn logged_in<'a>(item: &'a Item, context: &Context<'_>) -> Result<Option<&'a Proven>, LoginFault> {
    match &item.login {
        Login::Cover => Ok(None),
        Login::Refused(fault) => Err(*fault),
        Login::Proven(login) => {
            context
                .logins
                .stands(login, context.lists, context.policy, context.now)?;
            Ok(Some(login))
        }
    }
}

/// Conditions 4.3.3 and 4.3.4, one after the other. Each step takes what only the step before can make.
fn provide(item: &Item, login: &Proven, facts: &ItemFacts, context: &Context<'_>) -> Result<Provided, Cause> {
    if facts.unreadable {
        return Err(Cause::Unreadable);
    }
    let linkage = facts.linkage.as_ref().ok_or(Cause::NoLinkage)?;
    if linkage.card_key != *login.card_key() {
        return Err(Cause::AnotherCard);
    }
    if !linkage.active {
        return Err(Cause::LinkageNotActive);
    }
    if context.now.since(linkage.confirmed_at) > context.policy.freshness.linkage_confirmed() {
        return Err(Cause::LinkageNotConfirmed);
    }
    let specified = register::specify(&facts.registers, &item.provision).map_err(Cause::NotSpecified)?;
    let providable =
        non_provision::check(specified, &linkage.person, &facts.non_provision).map_err(Cause::Suppressed)?;
    let info = register::extract(&providable, &item.provision, context.handles).ok_or(Cause::Unreadable)?;
    if info.encoded_len() > MAX_INFO_BYTES {
        return Err(Cause::TooLarge);
    }
    let registers = providable.specified().registers().iter();
    Ok(Provided {
        info,
        registers: registers
            .map(|register| (register.key, register.municipality_code.clone()))
            .collect(),
    })
}

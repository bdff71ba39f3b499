//! What is recorded before it is released (I2; DESIGN §5): entries of the audit log, and the proof of their commit.

use std::{collections::BTreeSet, time::Duration};

use koseki_proto::koseki::{
    common::v1::{CopyInfoItem, RequestKind as ProtoKind},
    evidence::v1::{Entry, GuardAct, OrdinaryAct, Provision, ProvisionDetail, entry::Event},
};

pub use koseki_proto::koseki::evidence::v1::Outcome;

use crate::{
    clock::Clock,
    identity::PeerIdentity,
    keyring::Pseudonym,
    policy::Item,
    refusal::Reason,
    terms::{ActId, Procedure, RequestId, RequestKind},
};

/// A side's count of forbidding acts. A release carries the epoch under which it committed: an act of epoch *e* forbids
/// every release of an epoch at or above *e* that it is about (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// That a bundle is durable: only the commit of a transaction that appended it makes one. It cannot be cloned, defaulted
/// or deserialised, so there is no answer without an entry.
///
/// ```compile_fail
/// let committed = common::evidence::Committed { epoch: common::evidence::Epoch(0) };
/// ```
#[derive(Debug)]
#[must_use = "an answer takes it"]
pub struct Committed {
    epoch: Epoch,
}

impl Committed {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch }
    }

    /// The epoch under which the bundle was committed; for a forbidding act the one that it made.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// An answer whose entry is durable. Encoding an answer takes one.
///
/// ```compile_fail
/// fn forge<T: Clone>(answer: &common::evidence::Released<T>) -> common::evidence::Released<T> { answer.clone() }
/// ```
#[derive(Debug)]
pub struct Released<T> {
    answer: T,
    at: Duration,
}

/// A committed answer was not handed on in time and is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld;

impl<T> Released<T> {
    /// Joins an answer to the commit of its entry. `decided_at` is when the guards were judged, by the monotonic clock: a
    /// commit that takes long takes it from the time that is left.
    pub fn new(answer: T, _: Committed, decided_at: Duration) -> Self {
        Self {
            answer,
            at: decided_at,
        }
    }

    /// Hands the answer to the transport, unless more than `max_hand_off` has passed since it was decided, which is no
    /// later than its commit (I3).
    pub fn hand_off(self, clock: &dyn Clock, max_hand_off: Duration) -> Result<T, Withheld> {
        if clock.monotonic().saturating_sub(self.at) <= max_hand_off {
            Ok(self.answer)
        } else {
            Err(Withheld)
        }
    }
}

impl<T> Released<Vec<T>> {
    /// Joins released answers to one: it is as old as the oldest of them.
    pub fn gather(released: impl Iterator<Item = Released<T>>) -> Self {
        let mut gathered = Released {
            answer: Vec::new(),
            at: Duration::MAX,
        };
        for one in released {
            gathered.at = gathered.at.min(one.at);
            gathered.answer.push(one.answer);
        }
        gathered
    }

    /// The released answers of a batch, each on its own.
    pub fn each(self) -> impl Iterator<Item = Released<T>> {
        let at = self.at;
        self.answer.into_iter().map(move |answer| Released { answer, at })
    }
}

/// What an entry tells of a request.
pub struct ProvisionEntry<'a> {
    /// The request.
    pub request_id: RequestId,
    /// Its kind.
    pub kind: RequestKind,
    /// Its procedure.
    pub procedure: &'a Procedure,
    /// Outcome towards the caller.
    pub outcome: Outcome,
    /// The reason that the caller was given; `None` when the items were released.
    pub reason: Option<Reason>,
    /// The items that the policy lists; only what was released has some.
    pub items: Option<&'a BTreeSet<Item>>,
    /// Stable name of the cause; restricted.
    pub cause: &'static str,
    /// Whom it is about; restricted.
    pub subject: Option<Pseudonym>,
    /// Who asked; restricted.
    pub peer: &'a PeerIdentity,
    /// The consent behind it; restricted.
    pub consent_id: &'a str,
    /// The eligibility behind it; restricted.
    pub eligibility_sha256: Option<[u8; 32]>,
}

impl ProvisionEntry<'_> {
    /// As it is written.
    pub fn to_entry(&self) -> Entry {
        Entry {
            event: Some(Event::Provision(Provision {
                request_id: self.request_id.to_string(),
                kind: self.kind.to_proto().into(),
                procedure: self.procedure.as_str().to_owned(),
                outcome: self.outcome.into(),
                reason: self.reason.map(Reason::name).unwrap_or_default().to_owned(),
                items: self
                    .items
                    .into_iter()
                    .flatten()
                    .map(|item| CopyInfoItem::from(*item).into())
                    .collect(),
                restricted: Some(ProvisionDetail {
                    cause: self.cause.to_owned(),
                    subject_pseudonym: self.subject.map(Vec::from).unwrap_or_default(),
                    peer: self.peer.to_string(),
                    consent_id: self.consent_id.to_owned(),
                    eligibility_sha256: self.eligibility_sha256.map(Vec::from).unwrap_or_default(),
                }),
            })),
        }
    }
}

/// What an entry tells of an act that forbids releases, or lifts one.
pub struct GuardActEntry<'a> {
    /// The act, when it has an id.
    pub act_id: Option<ActId>,
    /// Stable name.
    pub act: &'static str,
    /// Who did it.
    pub actor: &'a PeerIdentity,
    /// The kind concerned; `None` for all.
    pub kind: Option<RequestKind>,
    /// What is concerned; `None` for everybody.
    pub subject: Option<Pseudonym>,
    /// The operator's words.
    pub reason: &'a str,
}

impl GuardActEntry<'_> {
    /// As it is written.
    pub fn to_entry(&self) -> Entry {
        Entry {
            event: Some(Event::GuardAct(GuardAct {
                act_id: self.act_id.map(|id| id.to_string()).unwrap_or_default(),
                act: self.act.to_owned(),
                actor: self.actor.to_string(),
                kind: self
                    .kind
                    .map_or(ProtoKind::Unspecified, RequestKind::to_proto)
                    .into(),
                subject_pseudonym: self.subject.map(Vec::from).unwrap_or_default(),
                reason: self.reason.to_owned(),
            })),
        }
    }
}

/// The entry of an act that forbids nothing.
pub fn ordinary_act(
    act: &'static str,
    actor: &PeerIdentity,
    count: u64,
    subject: Option<Pseudonym>,
    reference: &str,
) -> Entry {
    Entry {
        event: Some(Event::OrdinaryAct(OrdinaryAct {
            act: act.to_owned(),
            actor: actor.to_string(),
            count,
            subject_pseudonym: subject.map(Vec::from).unwrap_or_default(),
            reference: reference.to_owned(),
        })),
    }
}

//! What is written into the audit log: each entry has a public part and a restricted one (docs/audit-log.md).

use std::collections::BTreeSet;

use koseki_proto::koseki::{
    common::v1::{CopyInfoItem, RequestKind as ProtoKind},
    evidence::v1::{
        Entry, GuardAct, GuardActDetail, LostAnswer, LostAnswerDetail, OrdinaryAct, OrdinaryActDetail,
        Outcome, Provision, ProvisionDetail, Public, ReceiptItem, Restricted, public::Event,
        restricted::Detail,
    },
};
use prost::Message as _;

use super::Epoch;
use crate::{
    clock::Timestamp,
    digest::{self, RandomFailed},
    identity::PeerIdentity,
    keyring::Pseudonym,
    policy::Item,
    refusal::Reason,
    terms::{ActId, Procedure, RequestId, RequestKind},
};

/// An entry before its commit: what happened, and what only auditors see of it.
#[derive(Clone)]
pub struct NewEntry {
    event: Event,
    detail: Detail,
}

impl NewEntry {
    /// The entry as it is stored, under this epoch and at this time, and its leaf: `public ‖ SHA-256(salt ‖ restricted)`.
    pub(crate) fn into_stored(self, epoch: Epoch, at: Timestamp) -> Result<(Entry, Vec<u8>), RandomFailed> {
        let public = Public {
            at_unix_s: at.unix_ms().div_euclid(1_000).unsigned_abs(),
            epoch: epoch.0,
            event: Some(self.event),
        };
        let restricted = Restricted {
            at: Some(at.to_proto()),
            detail: Some(self.detail),
        };
        let entry = Entry {
            public: public.encode_to_vec(),
            salt: digest::random::<32>()?.to_vec(),
            restricted: restricted.encode_to_vec(),
        };
        let mut leaf = entry.public.clone();
        leaf.extend_from_slice(&digest::sha256(&[&entry.salt, &entry.restricted]));
        Ok((entry, leaf))
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
    /// What only auditors see.
    pub detail: ProvisionDetail,
}

impl ProvisionEntry<'_> {
    /// As it is written.
    pub fn into_entry(self) -> NewEntry {
        NewEntry {
            event: Event::Provision(Provision {
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
            }),
            detail: Detail::Provision(self.detail),
        }
    }
}

/// What an entry tells of an answer that the provider released and that came to nothing here.
pub struct LostAnswerEntry<'a> {
    /// The provider's log.
    pub provider_log: &'a str,
    /// The eligibility that it answered.
    pub eligibility_sha256: [u8; 32],
    /// What its receipt says.
    pub item: &'a ReceiptItem,
}

impl LostAnswerEntry<'_> {
    /// As it is written.
    pub fn to_entry(&self) -> NewEntry {
        NewEntry {
            event: Event::LostAnswer(LostAnswer {
                request_id: self.item.request_id.clone(),
            }),
            detail: Detail::LostAnswer(LostAnswerDetail {
                provider_log: self.provider_log.to_owned(),
                eligibility_sha256: self.eligibility_sha256.to_vec(),
                outcome: self.item.outcome,
                answer_sha256: self.item.answer_sha256.clone(),
            }),
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
    /// The register concerned; with a subject, only that one towards it.
    pub register: Option<Pseudonym>,
    /// The operator's words.
    pub reason: &'a str,
    /// The one consent that it withdraws.
    pub consent: Option<ActId>,
    /// The one session that it ends.
    pub session: Option<Pseudonym>,
    /// From when on it is in force, when not at once, and until when, when that is known.
    pub validity: (Option<Timestamp>, Option<Timestamp>),
    /// The act that it lifts or shortens, when that does not follow from what is concerned.
    pub lifts: Option<ActId>,
    /// What else it is about.
    pub reference: String,
    /// For a linkage that was changed: the card that it led from so far, and the one that it leads from now, when it is active.
    pub cards: (Option<Pseudonym>, Option<Pseudonym>),
}

impl<'a> GuardActEntry<'a> {
    /// An act of this name about everybody, in force at once; the rest is to be said.
    pub fn new(act: &'static str, actor: &'a PeerIdentity) -> Self {
        Self {
            act_id: None,
            act,
            actor,
            kind: None,
            subject: None,
            register: None,
            reason: "",
            consent: None,
            session: None,
            validity: (None, None),
            lifts: None,
            reference: String::new(),
            cards: (None, None),
        }
    }

    /// As it is written.
    pub fn to_entry(&self) -> NewEntry {
        NewEntry {
            event: Event::GuardAct(GuardAct {
                act: self.act.to_owned(),
                kind: self
                    .kind
                    .map_or(ProtoKind::Unspecified, RequestKind::to_proto)
                    .into(),
            }),
            detail: Detail::GuardAct(GuardActDetail {
                act_id: self.act_id.map(|id| id.to_string()).unwrap_or_default(),
                actor: self.actor.to_string(),
                subject_pseudonym: self.subject.map(Vec::from).unwrap_or_default(),
                reason: self.reason.to_owned(),
                request_id: String::new(),
                consent_id: self.consent.map(|id| id.to_string()).unwrap_or_default(),
                session_pseudonym: self.session.map(Vec::from).unwrap_or_default(),
                valid_from: self.validity.0.map(Timestamp::to_proto),
                valid_until: self.validity.1.map(Timestamp::to_proto),
                register_pseudonym: self.register.map(Vec::from).unwrap_or_default(),
                lifts_act_id: self.lifts.map(|id| id.to_string()).unwrap_or_default(),
                reference: self.reference.clone(),
                former_card_pseudonym: self.cards.0.map(Vec::from).unwrap_or_default(),
                card_pseudonym: self.cards.1.map(Vec::from).unwrap_or_default(),
            }),
        }
    }
}

/// The entry, with the id of the portal call that it came of.
pub fn of_call(mut entry: NewEntry, request_id: RequestId) -> NewEntry {
    match &mut entry.detail {
        Detail::GuardAct(act) => act.request_id = request_id.to_string(),
        Detail::OrdinaryAct(act) => act.request_id = request_id.to_string(),
        Detail::Provision(_) | Detail::LostAnswer(_) => {}
    }
    entry
}

/// The entry of an act that forbids nothing.
pub fn ordinary_act(
    act: &'static str,
    actor: &PeerIdentity,
    count: u64,
    subject: Option<Pseudonym>,
    reference: &str,
) -> NewEntry {
    NewEntry {
        event: Event::OrdinaryAct(OrdinaryAct { act: act.to_owned() }),
        detail: Detail::OrdinaryAct(OrdinaryActDetail {
            actor: actor.to_string(),
            count,
            subject_pseudonym: subject.map(Vec::from).unwrap_or_default(),
            reference: reference.to_owned(),
            request_id: String::new(),
            card_pseudonyms: Vec::new(),
            act_id: String::new(),
            reason: String::new(),
        }),
    }
}

/// The entry of an act that forbids nothing, with its id and the operator's words.
pub fn of_operator(mut entry: NewEntry, act_id: ActId, reason: &str) -> NewEntry {
    if let Detail::OrdinaryAct(act) = &mut entry.detail {
        act.act_id = act_id.to_string();
        reason.clone_into(&mut act.reason);
    }
    entry
}

/// The entry of an act that forbids nothing and added active linkages of these cards.
pub fn with_cards(mut entry: NewEntry, cards: &[Pseudonym]) -> NewEntry {
    if let Detail::OrdinaryAct(act) = &mut entry.detail {
        act.card_pseudonyms = cards.iter().map(|card| Vec::from(*card)).collect();
    }
    entry
}

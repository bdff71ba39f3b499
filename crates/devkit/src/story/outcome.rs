//! What a step must come to, and what it came to.

use common::refusal::Reason;
use koseki_proto::koseki::common::v1::{self as proto, RequesterCopyInfo};

use crate::{
    client::{CallError, Refused},
    registers::{KanaStatus, ProvidedRegister, RegisterDate, RegisterKind, RequesterItems},
};

/// What a step must come to.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Exactly these items, byte for byte.
    Provided(Vec<ProvidedRegister>),
    /// Exactly these, and the requester's own entry.
    ProvidedWithEntry(Vec<ProvidedRegister>, RequesterItems),
    /// Exactly these, and of each register a handle; the one given, where one is.
    ProvidedWithHandle(Vec<ProvidedRegister>, Option<Vec<u8>>),
    /// A refusal for this reason, and nothing else in it.
    Refused(Reason),
    /// It is done.
    Done,
}

/// What a step came to.
#[derive(Clone, Debug)]
pub enum Came {
    /// Items.
    Provided(Items),
    /// A refusal.
    Refused(Refused),
    /// It is done, and this is to be said about it.
    Done(String),
    /// Anything else.
    Failed(String),
}

/// All the items of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items {
    /// The registers.
    pub registers: Vec<ProvidedRegister>,
    /// The handles of those that have one, in the same order.
    pub handles: Vec<Vec<u8>>,
    /// The requester's own entry.
    pub requester: Option<RequesterItems>,
}

impl Expected {
    /// Whether it is what came.
    pub fn is_met_by(&self, came: &Came) -> bool {
        match (self, came) {
            (Self::Provided(expected), Came::Provided(came)) => {
                *expected == came.registers && came.handles.is_empty() && came.requester.is_none()
            }
            (Self::ProvidedWithEntry(expected, own), Came::Provided(came)) => {
                *expected == came.registers && came.handles.is_empty() && came.requester.as_ref() == Some(own)
            }
            (Self::ProvidedWithHandle(expected, handle), Came::Provided(came)) => {
                *expected == came.registers
                    && came.requester.is_none()
                    && came.handles.len() == expected.len()
                    && came.handles.iter().all(|came| match handle {
                        Some(handle) => came == handle,
                        None => came.len() == 32,
                    })
            }
            (Self::Refused(expected), Came::Refused(came)) => expected.name() == came.reason,
            (Self::Done, Came::Done(_)) => true,
            _ => false,
        }
    }

    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Provided(registers) => format!("the items of {}, byte for byte", count(registers.len())),
            Self::ProvidedWithEntry(registers, _) => format!(
                "the items of {} and of the requester's own entry, byte for byte",
                count(registers.len())
            ),
            Self::ProvidedWithHandle(registers, None) => {
                format!("the items of {} and a handle", count(registers.len()))
            }
            Self::ProvidedWithHandle(registers, Some(_)) => {
                format!("the items of {} and the same handle", count(registers.len()))
            }
            Self::Refused(reason) => format!("refused with {}", reason.name()),
            Self::Done => "done".to_owned(),
        }
    }
}

impl Came {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Provided(items) => {
                let with = |there: bool, what| if there { what } else { "" };
                format!(
                    "the items of {}{}{}",
                    count(items.registers.len()),
                    with(!items.handles.is_empty(), " with handles"),
                    with(items.requester.is_some(), " and an entry"),
                )
            }
            Self::Refused(refused) => format!("refused with {refused}"),
            Self::Done(_) => "done".to_owned(),
            Self::Failed(text) => text.clone(),
        }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// What an act came to that gives nothing back.
    pub fn of_act<T>(result: Result<T, CallError>) -> Self {
        Self::of(result, |_| Self::Done(String::new()))
    }

    /// What a request came to.
    pub fn of_request(result: Result<RequesterCopyInfo, CallError>) -> Self {
        Self::of(result, |info| match items(info) {
            Some(items) => Self::Provided(items),
            None => Self::Failed("a register or an entry that the interface does not know".to_owned()),
        })
    }

    /// What a call came to, whose result `done` tells.
    pub fn of<T>(result: Result<T, CallError>, done: impl FnOnce(T) -> Self) -> Self {
        match result {
            Ok(value) => done(value),
            Err(CallError::Refused(refused)) => Self::Refused(refused),
            Err(error @ CallError::NoAnswer { .. }) => Self::Failed(error.to_string()),
        }
    }
}

fn count(registers: usize) -> String {
    if registers == 1 {
        "one register".to_owned()
    } else {
        format!("{registers} registers")
    }
}

fn items(info: RequesterCopyInfo) -> Option<Items> {
    let handles = info.registers.iter().map(|register| &register.register_handle);
    let handles = handles.filter(|handle| !handle.is_empty()).cloned().collect();
    let requester = match info.requester {
        Some(requester) => Some(own_entry(requester)?),
        None => None,
    };
    let registers = info.registers.into_iter().map(provided);
    Some(Items {
        registers: registers.collect::<Option<_>>()?,
        handles,
        requester,
    })
}

fn own_entry(requester: proto::RequesterItems) -> Option<RequesterItems> {
    let name_kana_status = match requester.name_kana_status() {
        proto::NameKanaStatus::Unspecified => return None,
        proto::NameKanaStatus::None => KanaStatus::None,
        proto::NameKanaStatus::Planned => KanaStatus::Planned,
        proto::NameKanaStatus::Reported => KanaStatus::Reported,
        proto::NameKanaStatus::EnteredExOfficio => KanaStatus::EnteredExOfficio,
    };
    let there = |text: String| (!text.is_empty()).then_some(text);
    let birth_date = requester.birth_date?;
    Some(RequesterItems {
        name: requester.name,
        name_kana: there(requester.name_kana),
        name_kana_status,
        birth_date: RegisterDate {
            iso: there(birth_date.iso),
            written: birth_date.written,
        },
    })
}

fn provided(register: proto::ProvidedRegister) -> Option<ProvidedRegister> {
    let register_kind = match register.register_kind() {
        proto::RegisterKind::Unspecified => return None,
        proto::RegisterKind::Current => RegisterKind::Current,
        proto::RegisterKind::Removed => RegisterKind::Removed,
        proto::RegisterKind::PreRevision => RegisterKind::PreRevision,
    };
    Some(ProvidedRegister {
        register_kind,
        registered_domicile: register.registered_domicile,
        first_entered_person: register.first_entered_person,
        municipality_code: register.municipality_code,
        copy_revision: register.copy_revision,
    })
}

pub(super) fn kana_status(status: KanaStatus) -> &'static str {
    match status {
        KanaStatus::None => "なし",
        KanaStatus::Planned => "記載予定",
        KanaStatus::Reported => "届出",
        KanaStatus::EnteredExOfficio => "職権記載",
    }
}

pub(super) fn register_kind(kind: RegisterKind) -> &'static str {
    match kind {
        RegisterKind::Current => "現在戸籍",
        RegisterKind::Removed => "除籍",
        RegisterKind::PreRevision => "改製原戸籍",
    }
}

//! What a step must come to, and what it came to.

use common::refusal::Reason;
use koseki_proto::koseki::common::v1::{self as proto, RequesterCopyInfo};

use crate::{
    client::{CallError, Refused},
    registers::{ProvidedRegister, RegisterKind},
};

/// What a step must come to.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Exactly these items, byte for byte.
    Provided(Vec<ProvidedRegister>),
    /// A refusal for this reason, and nothing else in it.
    Refused(Reason),
    /// It is done.
    Done,
}

/// What a step came to.
#[derive(Clone, Debug)]
pub enum Came {
    /// Items.
    Provided(Vec<ProvidedRegister>),
    /// A refusal.
    Refused(Refused),
    /// It is done, and this is to be said about it.
    Done(String),
    /// Anything else.
    Failed(String),
}

impl Expected {
    /// Whether it is what came.
    pub fn is_met_by(&self, came: &Came) -> bool {
        match (self, came) {
            (Self::Provided(expected), Came::Provided(came)) => expected == came,
            (Self::Refused(expected), Came::Refused(came)) => expected.name() == came.reason,
            (Self::Done, Came::Done(_)) => true,
            _ => false,
        }
    }

    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Provided(registers) => format!("the items of {}, byte for byte", count(registers.len())),
            Self::Refused(reason) => format!("refused with {}", reason.name()),
            Self::Done => "done".to_owned(),
        }
    }
}

impl Came {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Provided(registers) => format!("the items of {}", count(registers.len())),
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
        Self::of(result, |info| {
            match info.registers.into_iter().map(provided).collect() {
                Some(registers) => Self::Provided(registers),
                None => Self::Failed("a register of a kind that the interface does not know".to_owned()),
            }
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

pub(super) fn register_kind(kind: RegisterKind) -> &'static str {
    match kind {
        RegisterKind::Current => "現在戸籍",
        RegisterKind::Removed => "除籍",
        RegisterKind::PreRevision => "改製原戸籍",
    }
}

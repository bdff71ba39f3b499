//! What a command could not do, told the same way everywhere: what, where (file, line, field or flag), which rule, and
//! what to do next. Never a value of a file or of a message.

use std::path::Path;

use serde_json::{Map, Value};

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The server refused: nothing was changed by this call.
    Refused,
    /// The command line or what it names is wrong: nothing was sent.
    Usage,
    /// A file cannot be used.
    File,
    /// The operator did not say yes: nothing was sent.
    NotConfirmed,
    /// The server was not reached: nothing was sent.
    Connection,
    /// It was sent, and what became of it is not known.
    UnknownOutcome,
    /// A file was loaded in part.
    Incomplete,
    /// The machine.
    System,
}

impl Kind {
    /// Its stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "REFUSED",
            Self::Usage => "USAGE",
            Self::File => "FILE",
            Self::NotConfirmed => "NOT_CONFIRMED",
            Self::Connection => "CONNECTION",
            Self::UnknownOutcome => "UNKNOWN_OUTCOME",
            Self::Incomplete => "INCOMPLETE",
            Self::System => "SYSTEM",
        }
    }

    /// 1 when the server decided, 2 when it could not be done or is not known.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Usage
            | Self::File
            | Self::NotConfirmed
            | Self::Connection
            | Self::UnknownOutcome
            | Self::Incomplete
            | Self::System => 2,
        }
    }
}

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    /// The server's stable reason.
    pub(crate) reason: Option<String>,
    /// The flag, key or field at fault.
    pub(crate) field: Option<String>,
    /// The rule that it breaks.
    pub(crate) rule: Option<String>,
    pub(crate) next: String,
    /// The command that goes on, or does the same again.
    pub(crate) repeat: Option<String>,
    /// What had been done by then.
    pub(crate) done: Option<Value>,
}

/// What commands return.
pub(crate) type Result<T> = std::result::Result<T, Box<Failure>>;

impl Failure {
    pub(crate) fn new(kind: Kind, what: impl Into<String>, next: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            kind,
            what: what.into(),
            reason: None,
            field: None,
            rule: None,
            next: next.into(),
            repeat: None,
            done: None,
        })
    }

    /// A flag's value breaks a rule.
    pub(crate) fn flag(flag: &str, rule: impl ToString) -> Box<Self> {
        let mut failure = Self::new(
            Kind::Usage,
            format!("{flag} breaks its rule; nothing was sent"),
            format!("correct {flag} and repeat the command"),
        );
        failure.field = Some(flag.to_owned());
        failure.rule = Some(rule.to_string());
        failure
    }

    /// A file cannot be used.
    pub(crate) fn file(path: &Path, why: impl ToString, next: impl Into<String>) -> Box<Self> {
        let mut failure = Self::new(Kind::File, format!("{}: cannot be used", path.display()), next);
        failure.field = Some(path.display().to_string());
        failure.rule = Some(why.to_string());
        failure
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("error: {}", self.what);
        let details = [
            ("reason", &self.reason),
            ("where", &self.field),
            ("rule", &self.rule),
        ];
        for (name, value) in details {
            if let Some(value) = value {
                text.push_str(&format!("\n  {name}: {value}"));
            }
        }
        text.push_str(&format!("\n  next: {}", self.next));
        if let Some(repeat) = &self.repeat {
            text.push_str(&format!("\n    {repeat}"));
        }
        text
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("kind".to_owned(), self.kind.name().into());
        error.insert("exit_code".to_owned(), self.kind.exit_code().into());
        error.insert("message".to_owned(), self.what.clone().into());
        let details = [
            ("reason", &self.reason),
            ("field", &self.field),
            ("rule", &self.rule),
            ("repeat", &self.repeat),
        ];
        for (name, value) in details {
            if let Some(value) = value {
                error.insert(name.to_owned(), value.clone().into());
            }
        }
        error.insert("next".to_owned(), self.next.clone().into());
        let mut document = Map::new();
        document.insert("error".to_owned(), error.into());
        if let Some(done) = &self.done {
            document.insert("done".to_owned(), done.clone());
        }
        document.into()
    }
}

//! What a server's refusal, or no answer at all, means to the operator.

use common::refusal::{ERROR_DOMAIN, Reason};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    connection::no_connection,
    failure::{Failure, Kind},
    next_step::next_step,
};

/// An act that was sent: how it is told, and how it is done again.
pub(crate) struct Sent<'a> {
    /// The server.
    pub(crate) server: &'a str,
    /// The command that does the same again.
    pub(crate) repeat: String,
    /// From the message's fields to the flags that they came from.
    pub(crate) flags: &'a [(&'a str, &'a str)],
}

/// The reason that the server gave, if it is one of its closed list.
pub(crate) fn reason(status: &Status) -> Option<Reason> {
    let details = status.get_error_details();
    let info = details.error_info()?;
    let known = |reason: &Reason| reason.name() == info.reason && info.domain == ERROR_DOMAIN;
    Reason::ALL.into_iter().find(known)
}

/// Whether an act may be sent although the look at the server before it failed: somebody is there who does not turn this
/// operator away, but cannot tell its state in time. A closing must not wait for what only reads.
pub(crate) fn may_act(status: &Status) -> bool {
    match reason(status) {
        Some(reason) => !matches!(reason, Reason::IdentityInvalid | Reason::PermissionDenied),
        None => matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
    }
}

/// Why there was no answer: the message and its causes, which tell of connections and certificates only.
pub(crate) fn causes(status: &Status) -> String {
    let mut text = format!("{:?}", status.code());
    if !status.message().is_empty() {
        text = format!("{text}, {}", status.message());
    }
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A call that only reads failed.
pub(crate) fn of_reading(status: &Status, server: &str) -> Box<Failure> {
    match reason(status) {
        Some(reason) => refused(status, reason, server, &[]),
        None if status.code() == Code::Unimplemented => older(server),
        None => no_connection(server, &causes(status)),
    }
}

/// An act failed. Without a reason of the server's, and with `UNAVAILABLE`, it may have been done all the same.
pub(crate) fn of_act(status: &Status, sent: Sent<'_>) -> Box<Failure> {
    match reason(status) {
        Some(reason) if reason != Reason::Unavailable => refused(status, reason, sent.server, sent.flags),
        None if status.code() == Code::Unimplemented => older(sent.server),
        known => {
            let mut failure = Failure::new(
                Kind::UnknownOutcome,
                format!(
                    "{}: what became of the act is not known: {}",
                    sent.server,
                    causes(status)
                ),
                "repeat exactly this; if it was done already, it changes nothing and succeeds:",
            );
            failure.reason = known.map(|reason| reason.name().to_owned());
            failure.repeat = Some(sent.repeat);
            failure
        }
    }
}

fn older(server: &str) -> Box<Failure> {
    Failure::new(
        Kind::Refused,
        format!("{server} does not have this method; nothing was changed"),
        "use the kosekictl of the server's version: `kosekictl status` tells it",
    )
}

pub(crate) fn refused(status: &Status, reason: Reason, server: &str, flags: &[(&str, &str)]) -> Box<Failure> {
    let what = format!("{server} refused: {}; nothing was changed", status.message());
    let mut failure = Failure::new(Kind::Refused, what, next_step(reason));
    failure.reason = Some(reason.name().to_owned());
    let details = status.get_error_details();
    let violation = details.bad_request().and_then(|bad| bad.field_violations.first());
    if let Some(violation) = violation {
        failure.field = Some(flag_of(&violation.field, flags));
        failure.rule = Some(violation.description.clone());
    }
    failure
}

/// The flag that a message's field came from; the field itself when there is none.
pub(crate) fn flag_of(field: &str, flags: &[(&str, &str)]) -> String {
    let flag = flags.iter().find(|(name, _)| *name == field);
    flag.map_or(field, |(_, flag)| flag).to_owned()
}

#[cfg(test)]
mod tests {
    use common::{refusal::Refusal, terms::RuleBroken};

    use super::*;

    fn sent() -> Sent<'static> {
        Sent {
            server: "koseki-provider/provider-1",
            repeat: "kosekictl suspend --act-id X".to_owned(),
            flags: &[("act_id", "--act-id")],
        }
    }

    #[test]
    fn a_refusal_names_the_flag_and_changes_nothing() {
        let status = Status::from(Refusal::malformed("act_id", RuleBroken("a UUID")));
        let failure = of_act(&status, sent());
        assert_eq!((failure.kind, failure.repeat.as_deref()), (Kind::Refused, None));
        assert_eq!(failure.field.as_deref(), Some("--act-id"));
        assert_eq!(failure.rule.as_deref(), Some("a UUID"));
    }

    #[test]
    fn what_may_have_been_done_is_said_to_be_unknown_and_how_to_repeat_it() {
        let lost = Status::unknown("transport error");
        let unavailable = Status::from(Refusal::new(Reason::Unavailable));
        for status in [lost, unavailable, Status::deadline_exceeded("")] {
            let failure = of_act(&status, sent());
            assert_eq!(failure.kind, Kind::UnknownOutcome, "{status:?}");
            assert_eq!(failure.repeat.as_deref(), Some("kosekictl suspend --act-id X"));
        }
    }

    #[test]
    fn a_server_that_cannot_tell_its_state_can_still_close() {
        let of = |reason| Status::from(Refusal::new(reason));
        for status in [
            of(Reason::Unavailable),
            of(Reason::Overloaded),
            Status::deadline_exceeded(""),
        ] {
            assert!(may_act(&status), "{status:?}");
        }
        for status in [
            of(Reason::PermissionDenied),
            of(Reason::IdentityInvalid),
            Status::unavailable(""),
        ] {
            assert!(!may_act(&status), "{status:?}");
        }
    }

    #[test]
    fn a_reason_of_another_domain_is_not_taken_for_the_servers() {
        let mut details = tonic_types::ErrorDetails::new();
        details.set_error_info(
            "PERMISSION_DENIED",
            "proxy.example",
            std::collections::HashMap::new(),
        );
        let status = Status::with_error_details(Code::PermissionDenied, "no", details);
        assert_eq!(reason(&status), None);
        assert_eq!(of_reading(&status, "s").kind, Kind::Connection);
    }
}

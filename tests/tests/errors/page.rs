//! docs/errors.md, made from the reasons.

use std::fmt::Write as _;

use common::{
    language::Language,
    refusal::{ERROR_DOMAIN, Reason, Retry, WhoActs},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");

fn who(reason: Reason) -> &'static str {
    match reason.who_acts() {
        WhoActs::Caller => "caller",
        WhoActs::Requester => "requester",
        WhoActs::Operators => "operators",
    }
}

fn retry(reason: Reason) -> String {
    match reason.retry() {
        Retry::Never => "never".to_owned(),
        Retry::After(wait) => format!("after RetryInfo ({} s)", wait.as_secs()),
        Retry::AfterLogin => "after a new login".to_owned(),
        Retry::AfterConsent => "after a new consent".to_owned(),
    }
}

fn page() -> String {
    let mut page = format!(
        "\
# Errors

Every refusal of both services is a gRPC status with `google.rpc` details (package `tonic-types` in Rust,
`grpcio-status` in Python):

- `ErrorInfo`: `reason`, stable, from the table below; `domain` `{ERROR_DOMAIN}`; in `metadata` the `request_id` of the call
  when it had one that could be read.
- `LocalizedMessage`: for the person in front of the screen, in Japanese, or in English when the call's metadata has an
  `accept-language` that prefers it (RFC 9110). The status's own message is English and for programmers.
- `BadRequest`, with `MALFORMED` only: the field's path and the rule that it breaks, never the value. Field `message`: the
  message as a whole could not be read.
- `RetryInfo`, where waiting helps.

*Who acts*: who can do something about it; `caller` is who wrote or runs the calling program. *Retry* is for the same thing
asked for again, always as a new request with a new `request_id`; no request is ever answered twice. Which method gives which
reasons stands above the method in [proto/](../proto). A status without `ErrorInfo` comes from the connection, not from a
service: what became of the call is not known.

`tests/tests/errors` makes this page from the code, and provokes every row.

| reason | gRPC code | who acts | retry | Japanese, English |
|---|---|---|---|---|
"
    );
    for reason in Reason::ALL {
        let _ = writeln!(
            page,
            "| `{}` | `{:?}` | {} | {} | {}<br>{} |",
            reason.name(),
            reason.code(),
            who(reason),
            retry(reason),
            reason.text(Language::Japanese),
            reason.text(Language::English),
        );
    }
    page
}

pub(crate) fn check() {
    let made = page();
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(PAGE, &made).unwrap();
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        made == committed,
        "docs/errors.md is not that of the code: UPDATE_GOLDEN=1 cargo test -p integration-tests --test errors"
    );
}

//! Every reason for which a call is refused is provoked over the wire, in both languages, and says what `docs/errors.md`
//! says of it. `UPDATE_GOLDEN=1` writes that page anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

mod operators;
mod page;
mod portal;
mod registry;
mod scene;

use std::collections::BTreeMap;

use common::{
    language::Language,
    refusal::{ERROR_DOMAIN, Reason, Retry},
};
use integration_tests::log;
use integration_tests::log::Event;
use scene::Scene;
use tonic::Status;
use tonic_types::StatusExt as _;

/// What came back, by the reason that it was asked for.
type Provoked = BTreeMap<&'static str, Status>;

async fn provoke_all(language: Language) -> Provoked {
    let scene = Scene::new(language).await;
    let mut provoked = portal::provoke(&scene).await;
    provoked.extend(operators::provoke(&scene).await);
    provoked.extend(registry::provoke(&scene).await);
    provoked
}

fn check(reason: Reason, status: &Status, language: Language) {
    let name = reason.name();
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("{name}: {status:?}"));
    assert_eq!(info.reason, name, "{status:?}");
    assert_eq!(info.domain, ERROR_DOMAIN, "{name}");
    assert_eq!(status.code(), reason.code(), "{name}");
    assert_eq!(status.message(), reason.text(Language::English), "{name}");
    let told = details.localized_message().unwrap();
    assert_eq!(
        (told.locale.as_str(), told.message.as_str()),
        (language.tag(), reason.text(language)),
        "{name}"
    );
    let wait = match reason.retry() {
        Retry::After(wait) => Some(wait),
        Retry::Never | Retry::AfterLogin | Retry::AfterConsent => None,
    };
    let retry = details.retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry, wait, "{name}");
    let violations = details.bad_request().map_or(0, |bad| bad.field_violations.len());
    assert_eq!(violations, usize::from(reason == Reason::Malformed), "{name}");
}

async fn every_reason(language: Language) {
    let provoked = provoke_all(language).await;
    for reason in Reason::ALL {
        let status = provoked
            .get(reason.name())
            .unwrap_or_else(|| panic!("{} was not provoked", reason.name()));
        check(reason, status, language);
    }
    assert_eq!(provoked.len(), Reason::ALL.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_comes_over_the_wire_in_japanese() {
    every_reason(Language::Japanese).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_comes_over_the_wire_in_english() {
    every_reason(Language::English).await;
}

/// The id of a portal call is echoed in its refusal, whatever the reason.
#[tokio::test]
async fn a_portal_refusal_echoes_the_call() {
    let scene = Scene::new(Language::Japanese).await;
    for (id, status) in portal::with_ids(&scene).await {
        let info = status.get_error_details().error_info().cloned().unwrap();
        assert_eq!(info.metadata.get("request_id"), Some(&id), "{}", info.reason);
    }
}

/// An id that one call has used up is refused by every call that is recorded, and the entry of each has its call's id.
#[tokio::test]
async fn a_used_id_is_refused_by_every_call_that_is_recorded() {
    let scene = Scene::new(Language::Japanese).await;
    let (refused, done) = portal::with_used_ids(&scene).await;
    assert_eq!(refused.len(), 4);
    for status in refused {
        check(Reason::RequestIdUsed, &status, Language::Japanese);
    }
    let names: Vec<_> = done.iter().map(|(act, _)| *act).collect();
    assert_eq!(
        names,
        ["LOGIN", "LOGIN", "GRANT_CONSENT", "WITHDRAW_CONSENT", "LOGOUT"]
    );
    let bundles = log::bundles(&scene.pair.deployment.gateway_database()).await;
    for (act, id) in done {
        let mut entries = bundles.iter().flat_map(|bundle| &bundle.entries);
        let recorded = entries.any(|entry| match &entry.event {
            Some(Event::OrdinaryAct(entry)) => entry.act == act && entry.request_id == id,
            Some(Event::GuardAct(entry)) => entry.act == act && entry.request_id == id,
            _ => false,
        });
        assert!(recorded, "{act}");
    }
}

/// What the framework cannot read, or finds too long, is refused as any other bad input, with nothing of its inner words.
#[tokio::test]
async fn a_message_that_cannot_be_read_is_malformed() {
    let scene = Scene::new(Language::Japanese).await;
    for status in portal::unreadable(&scene).await {
        check(Reason::Malformed, &status, Language::Japanese);
        let violations = status.get_error_details().bad_request().unwrap().clone();
        assert_eq!(violations.field_violations[0].field, "message");
    }
}

#[test]
fn the_page_is_that_of_the_code() {
    page::check();
}

//! Consent (clause 4.3.1): to one kind and one text, until a date, withdrawable by whom it belongs to.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::terms::RequestKind;
use devkit::{
    client::{Session, Term},
    registers::Scenario,
};
use integration_tests::{Pair, hooks::Places};

const KIND: RequestKind = RequestKind::CertificateRequest;
const OTHER: RequestKind = RequestKind::ProvisionCodeRequest;

#[tokio::test]
async fn it_is_to_one_kind_one_text_and_one_requester() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = frontend.login(&card).await.unwrap();
    let text = frontend.consent_text(KIND).await.unwrap();

    let mut changed = text.clone();
    changed.text_sha256.reverse();
    let refused = frontend
        .consent(&session, &changed, Term::OneTime)
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_TEXT_UNKNOWN"));
    let mut for_another_kind = text.clone();
    for_another_kind.kind = OTHER.to_proto().into();
    let refused = frontend
        .consent(&session, &for_another_kind, Term::OneTime)
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_TEXT_UNKNOWN"));
    let too_long = Term::For(Duration::from_secs(86_400 * 91));
    let refused = frontend.consent(&session, &text, too_long).await.unwrap_err();
    assert_eq!(refused.reason(), Some("MALFORMED"));

    let consent = frontend
        .consent(&session, &text, Term::For(Duration::from_secs(600)))
        .await
        .unwrap();
    frontend.copy_info(&session, KIND, "").await.unwrap();
    let refused = frontend.copy_info(&session, OTHER, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_REQUIRED"));

    // Another requester has neither the consent nor a say in it.
    let (_, other_card) = cast.person(Scenario::Plane2).unwrap();
    let other = frontend.login(&other_card).await.unwrap();
    let refused = frontend.copy_info(&other, KIND, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_REQUIRED"));
    let refused = frontend.withdraw(&other, &consent).await.unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_UNKNOWN"));
    frontend.copy_info(&session, KIND, "").await.unwrap();

    // It outlives the session, not its date.
    let again = frontend.login(&card).await.unwrap();
    frontend.copy_info(&again, KIND, "").await.unwrap();
    pair.clock.advance(Duration::from_secs(599));
    frontend.wait_until_providing().await.unwrap();
    let later = frontend.login(&card).await.unwrap();
    pair.clock.advance(Duration::from_secs(2));
    frontend.wait_until_providing().await.unwrap();
    let refused = frontend.copy_info(&later, KIND, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_REQUIRED"));

    frontend.withdraw(&later, &consent).await.unwrap();
    frontend.withdraw(&later, &consent).await.unwrap();
}

/// A one-time consent gives one answer, also when several requests come at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_consent_gives_one_answer() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    for _ in 0..8 {
        cast.frontend
            .consent(&session, &text, Term::OneTime)
            .await
            .unwrap();
        // On connections of their own.
        let asks = (0..4).map(|_| async {
            let frontend = pair.cast().await.frontend;
            frontend.copy_info(&session, KIND, "").await
        });
        let came = futures_util::future::join_all(asks).await;
        let (answered, refused): (Vec<_>, Vec<_>) = came.into_iter().partition(Result::is_ok);
        assert_eq!(answered.len(), 1, "{refused:?}");
        for refused in refused {
            assert_eq!(refused.unwrap_err().reason(), Some("CONSENT_REQUIRED"));
        }
    }
    let refused = cast.frontend.copy_info(&session, KIND, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_REQUIRED"));
}

/// Two requests with a one-time consent each are both answered, also when the second one comes while the first is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn two_one_time_consents_give_two_answers_at_once() {
    let (none, portal) = (Places::default(), Places::default());
    let pair = Pair::start_hooked(&none, &portal).await.load().await;
    let cast = pair.cast().await;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = Arc::new(cast.frontend.login(&card).await.unwrap());
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    for _ in 0..2 {
        cast.frontend
            .consent(&session, &text, Term::OneTime)
            .await
            .unwrap();
    }
    let (second, with) = (pair.cast().await.frontend, session.clone());
    portal.before_gate(async move {
        second.copy_info(&with, KIND, "").await.unwrap();
    });
    cast.frontend.copy_info(&session, KIND, "").await.unwrap();
    assert!(portal.all_done());
}

/// However many come at once, and so in one batch: no more hold than may, the others are refused for it, and those that hold count. What
/// is asked for with a session that nobody has is refused by itself.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_hold_than_may_however_many_come_at_once() {
    const MOST: usize = 256;
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = frontend.login(&card).await.unwrap();
    let text = frontend.consent_text(KIND).await.unwrap();
    let nobody = Session::invented();
    let consents = (0..MOST + 20).map(|number| {
        let session = if number % 25 == 5 { &nobody } else { &session };
        frontend.consent(session, &text, Term::OneTime)
    });
    let came = futures_util::future::join_all(consents).await;
    let mut refused = BTreeMap::new();
    for refusal in came.iter().filter_map(|came| came.as_ref().err()) {
        *refused.entry(refusal.reason().unwrap()).or_insert(0_usize) += 1;
    }
    let given = came.iter().filter(|came| came.is_ok()).count();
    assert_eq!(given, MOST, "{refused:?}");
    assert_eq!(
        refused,
        BTreeMap::from([("SESSION_INVALID", 11), ("TOO_MANY_CONSENTS", 9)])
    );
    frontend.copy_info(&session, KIND, "").await.unwrap();
    // That one was spent: there is a place again.
    frontend.consent(&session, &text, Term::OneTime).await.unwrap();
    let refused = frontend
        .consent(&session, &text, Term::OneTime)
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("TOO_MANY_CONSENTS"));
}

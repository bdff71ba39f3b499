//! I6: one refusal for the register, whatever its cause: the same bytes, and no earlier than a fixed time after the
//! request came in.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::time::Duration;

use common::{clock::Clock as _, terms::RequestKind};
use devkit::{client::CallError, registers::Scenario, story};
use integration_tests::Pair;

const KIND: RequestKind = RequestKind::CertificateRequest;

#[tokio::test]
async fn it_leaves_at_a_fixed_time_with_the_same_bytes() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let mut teller = story::Teller::new(|_| {});
    story::record(&cast.persons, &pair.offices(), &mut teller)
        .await
        .unwrap();
    assert_eq!(teller.failed().count(), 0);
    let mut wire = None;
    for scenario in [
        Scenario::Suppressed,
        Scenario::Blocked,
        Scenario::NoLinkage,
        Scenario::SuspendedLinkage,
        Scenario::TwoCurrentRegisters,
        Scenario::ImageOnly,
        Scenario::InMotion,
    ] {
        let (_, card) = cast.person(scenario).unwrap();
        let session = cast.frontend.login(&card).await.unwrap();
        let text = cast.frontend.consent_text(KIND).await.unwrap();
        cast.frontend
            .consent(&session, &text, devkit::client::Term::OneTime)
            .await
            .unwrap();
        let started = pair.clock.monotonic();
        let CallError::Refused(refused) = cast.frontend.copy_info(&session, KIND, "").await.unwrap_err()
        else {
            panic!("no answer")
        };
        let took = pair.clock.monotonic() - started;
        assert_eq!(refused.reason, "NOT_PROVIDED", "{scenario:?}");
        assert!(took >= Duration::from_secs(1), "{scenario:?} left after {took:?}");
        assert_eq!(
            *wire.get_or_insert_with(|| refused.wire.clone()),
            refused.wire,
            "{scenario:?}"
        );
    }
}

/// With the registry side away, a request that the gateway would have refused itself becomes what all others become.
#[tokio::test]
async fn with_the_registry_side_stopped_or_suspended_all_are_alike() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let mut sessions = Vec::new();
    for scenario in [Scenario::Ordinary, Scenario::NoLinkage, Scenario::ImageOnly] {
        let (_, card) = cast.person(scenario).unwrap();
        let session = cast.frontend.login(&card).await.unwrap();
        let text = cast.frontend.consent_text(KIND).await.unwrap();
        let term = devkit::client::Term::For(Duration::from_secs(600));
        cast.frontend.consent(&session, &text, term).await.unwrap();
        sessions.push(session);
    }
    let [alice, _] = &pair.offices().registry;
    alice
        .suspend(&cast.frontend.ids().next(), Some(KIND))
        .await
        .unwrap();
    for session in &sessions {
        let refused = cast.frontend.copy_info(session, KIND, "").await.unwrap_err();
        assert_eq!(refused.reason(), Some("PROVISION_SUSPENDED"));
    }
    pair.provider.drain(Duration::from_secs(1)).await;
    for session in &sessions {
        let refused = cast.frontend.copy_info(session, KIND, "").await.unwrap_err();
        assert_eq!(refused.reason(), Some("UNAVAILABLE"));
    }
}

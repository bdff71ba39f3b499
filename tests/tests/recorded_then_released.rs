//! I2: an answer leaves a service only after its entry is durable there; when the entry cannot be written there is no
//! answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::time::Duration;

use common::terms::RequestKind;
use devkit::{
    client::{Session, Term},
    registers::Scenario,
    story::Cast,
};
use integration_tests::{
    Pair,
    hooks::Places,
    log::{bundles, provision, released},
};
use koseki_proto::koseki::evidence::v1::Outcome;

const KIND: RequestKind = RequestKind::CertificateRequest;

async fn consented(cast: &Cast, scenario: Scenario, term: Term) -> Session {
    let (_, card) = cast.person(scenario).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    cast.frontend.consent(&session, &text, term).await.unwrap();
    session
}

const AN_HOUR: Term = Term::For(Duration::from_secs(3_600));

#[tokio::test]
async fn an_answer_has_its_entry_on_both_sides_when_it_arrives() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let session = consented(&cast, Scenario::Ordinary, AN_HOUR).await;
    for _ in 0..5 {
        let id = cast.frontend.ids().next();
        cast.frontend.copy_info_as(&id, &session, KIND, "").await.unwrap();
        for database in [
            pair.deployment.provider_database(),
            pair.deployment.gateway_database(),
        ] {
            let (_, entry) = provision(&database, &id)
                .await
                .expect("an answer without its entry");
            assert_eq!(entry.outcome(), Outcome::Released);
        }
    }
}

#[tokio::test]
async fn without_an_entry_there_is_no_answer() {
    let (registry, portal) = (Places::default(), Places::default());
    let pair = Pair::start_hooked(&registry, &portal).await.load().await;
    let cast = pair.cast().await;
    let session = consented(&cast, Scenario::Ordinary, AN_HOUR).await;
    let databases = [
        pair.deployment.provider_database(),
        pair.deployment.gateway_database(),
    ];
    for (side, places) in [(0, &registry), (1, &portal)] {
        places.let_commits_fail(true);
        let before = released(&databases[side]).await;
        for _ in 0..3 {
            let refused = cast.frontend.copy_info(&session, KIND, "").await.unwrap_err();
            assert_eq!(refused.reason(), Some("UNAVAILABLE"));
        }
        assert_eq!(released(&databases[side]).await, before);
        // It recovers by itself, and the log goes on where it was.
        places.let_commits_fail(false);
        cast.frontend.copy_info(&session, KIND, "").await.unwrap();
        assert_eq!(released(&databases[side]).await, before + 1);
    }
    for database in &databases {
        bundles(database).await;
    }
}

/// A one-time consent is spent by the commit that releases, and only by it.
#[tokio::test]
async fn a_one_time_consent_gives_one_answer_and_is_not_spent_by_none() {
    let portal = Places::default();
    let pair = Pair::start_hooked(&Places::default(), &portal).await.load().await;
    let cast = pair.cast().await;
    let session = consented(&cast, Scenario::Ordinary, Term::OneTime).await;

    portal.let_commits_fail(true);
    let refused = cast.frontend.copy_info(&session, KIND, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some("UNAVAILABLE"));
    portal.let_commits_fail(false);

    let asked = (0..8).map(|_| {
        let (frontend, session) = (cast.frontend.clone(), session.clone());
        tokio::spawn(async move { frontend.copy_info(&session, KIND, "").await })
    });
    let mut answers = 0;
    for task in asked.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(_) => answers += 1,
            Err(refused) => assert_eq!(refused.reason(), Some("CONSENT_REQUIRED")),
        }
    }
    assert_eq!(answers, 1);
    assert_eq!(released(&pair.deployment.gateway_database()).await, 1);
}

/// A refusal is recorded as well, with a cause that does not leave the side, and the same towards everybody.
#[tokio::test]
async fn refusals_are_recorded_with_their_cause() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    for (scenario, there, here) in [
        (
            Scenario::TwoCurrentRegisters,
            "SEVERAL_CURRENT_REGISTERS",
            "REGISTRY_SIDE",
        ),
        (Scenario::ImageOnly, "NOT_TEXT", "REGISTRY_SIDE"),
        (Scenario::InMotion, "IN_MOTION", "REGISTRY_SIDE"),
        (Scenario::RemovedPerson, "PERSON_REMOVED", "REGISTRY_SIDE"),
        (Scenario::SuspendedLinkage, "LINKAGE_NOT_ACTIVE", "REGISTRY_SIDE"),
        (Scenario::NoLinkage, "COVER", "NO_LINKAGE"),
    ] {
        let session = consented(&cast, scenario, AN_HOUR).await;
        let id = cast.frontend.ids().next();
        let refused = cast
            .frontend
            .copy_info_as(&id, &session, KIND, "")
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some("NOT_PROVIDED"), "{scenario:?}");
        for (database, cause) in [
            (pair.deployment.provider_database(), there),
            (pair.deployment.gateway_database(), here),
        ] {
            let (_, entry) = provision(&database, &id).await.unwrap();
            assert_eq!(entry.outcome(), Outcome::NotProvided);
            assert_eq!(entry.restricted.unwrap().cause, cause, "{scenario:?}");
        }
    }
}

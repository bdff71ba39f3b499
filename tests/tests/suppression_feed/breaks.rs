//! Breaks of the line, and a line on which nothing moves.

use std::time::Duration;

use common::{authorisation::Listener, clock::Clock as _, terms::RequestKind};
use devkit::{client::PortalOperator, registers::Scenario, story::Cast};
use integration_tests::{
    Pair, address,
    feed::{self, Watcher},
    log::provision,
    proxy::{Line, Proxy},
    start_provider, until,
};
use koseki_proto::portal::v1::ProvisionState;

use crate::gateway::session;

const KIND: RequestKind = RequestKind::CertificateRequest;

/// Looks until something is so.
async fn feed_age_ms(operator: &PortalOperator) -> Option<u64> {
    let status = operator.status().await.unwrap();
    status.suppression_feed.map(|feed| feed.age_ms)
}

async fn reason(cast: &Cast, session: &devkit::client::Session) -> Option<String> {
    let answer = cast.frontend.copy_info(session, KIND, "").await;
    answer.err().map(|error| error.reason().unwrap().to_owned())
}

/// While the feed is too old everybody is refused alike, whoever they are.
#[tokio::test]
async fn a_feed_that_is_cut_or_stalled_comes_back_with_a_snapshot() {
    let proxy = Proxy::start().await;
    let pair = Pair::start_behind(&proxy).await.load().await;
    let cast = pair.cast().await;
    let [operator, _] = pair.offices().portal;
    let mut sessions = Vec::new();
    for scenario in [Scenario::Ordinary, Scenario::NoLinkage, Scenario::ImageOnly] {
        sessions.push(session(&cast, scenario).await);
    }
    for line in [Line::Cut, Line::Stalled] {
        proxy.set(line);
        pair.clock.advance(Duration::from_secs(11));
        until("the alarm stands", async || {
            let told = operator.status().await.unwrap().side.unwrap();
            !told.ready
                && told
                    .alarms
                    .iter()
                    .any(|alarm| alarm.name == "SUPPRESSION_FEED_STALE")
        })
        .await;
        assert!(feed_age_ms(&operator).await.unwrap() > 10_000, "{line:?}");
        for session in &sessions {
            assert_eq!(
                reason(&cast, session).await.as_deref(),
                Some("UNAVAILABLE"),
                "{line:?}"
            );
        }
        let states = cast.frontend.status().await.unwrap();
        assert!(
            states
                .iter()
                .all(|kind| kind.state() == ProvisionState::Unavailable)
        );

        proxy.set(Line::Open);
        cast.frontend.wait_until_providing().await.unwrap();
        assert!(feed_age_ms(&operator).await.unwrap() < 10_000, "{line:?}");
        assert_eq!(reason(&cast, &sessions[0]).await, None, "{line:?}");
        until("the alarm is over", async || {
            operator.status().await.unwrap().side.unwrap().alarms.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_provider_that_starts_anew_serves_a_new_series_of_the_same() {
    let proxy = Proxy::start().await;
    let pair = Pair::start_behind(&proxy).await.load().await;
    let cast = pair.cast().await;
    let [alice, _] = pair.offices().registry;
    let person = &cast.person(Scenario::Ordinary).unwrap().0.person_id;
    alice
        .record_non_provision(&alice.ids().next(), Some(person), None)
        .await
        .unwrap();
    let session = session(&cast, Scenario::Ordinary).await;
    let mut watcher = Watcher::start(&pair, "watcher").await;

    // What watches does not hold a stop up.
    let Pair {
        deployment,
        clock,
        provider,
        gateway,
        registry_store,
        ..
    } = pair;
    // The file is one process's alone.
    drop(registry_store);
    let begun = clock.monotonic();
    provider.drain(Duration::from_secs(20)).await;
    let took = clock.monotonic() - begun;
    assert!(took < Duration::from_secs(10), "{took:?}");
    while watcher.take().await {}
    let provider = start_provider(&deployment, clock.clone()).await;
    proxy.point_at(&address(&provider, Listener::Linkage));
    cast.frontend.wait_until_providing().await.unwrap();
    // The gateway has the new one: it does not let the code out.
    until("the new series is there", async || {
        let id = cast.frontend.ids().next();
        let refused = cast
            .frontend
            .copy_info_as(&id, &session, KIND, "")
            .await
            .unwrap_err();
        // Its log is not countersigned yet.
        if refused.reason() == Some("UNAVAILABLE") {
            return false;
        }
        assert_eq!(refused.reason(), Some("NOT_PROVIDED"));
        let (_, entry) = provision(&deployment.provider_database(), &id).await.unwrap();
        entry.restricted.unwrap().cause == "COVER"
    })
    .await;
    drop((provider, gateway));
}

#[tokio::test]
async fn a_gateway_instance_has_one_stream_and_a_snapshot_is_the_same_for_all() {
    let pair = Pair::start_loaded().await;
    let mut first = Watcher::start(&pair, "watcher").await;
    let second = Watcher::start(&pair, "watcher").await;
    assert_eq!(
        first.entries().as_slice(),
        second.entries().as_slice(),
        "padding, too"
    );
    // A beat or two may be on their way.
    let mut more = 0;
    while first.take().await {
        more += 1;
        assert!(more < 10, "two streams of one instance");
    }
    let mut other = Watcher::start(&pair, "other").await;
    assert_eq!(other.entries().as_slice(), second.entries().as_slice());
    assert!(other.take().await, "it goes on");
    // The pair's own gateway was never disturbed.
    let [operator, _] = pair.offices().portal;
    pair.cast().await;
    assert!(feed_age_ms(&operator).await.unwrap() < 5_000);
    drop(feed::open(&pair, "another").await.unwrap());
}

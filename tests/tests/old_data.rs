//! What is kept for a bounded time is removed when that is over, and not before (DESIGN §7), over eight years of the injected
//! clock; and what is counted of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{collections::BTreeMap, time::Duration};

use common::{clock::Clock as _, terms::RequestKind};
use devkit::{client::Term, registers::Scenario};
use integration_tests::{Pair, raw::PATIENCE, stored};
use portal_gateway::store::{Challenge, ChallengeStep};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{interval, timeout},
};

const KIND: RequestKind = RequestKind::CertificateRequest;
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The metrics of a service, as its operations port tells them.
async fn metrics(server: &common::server::Server) -> String {
    let mut stream = TcpStream::connect(server.address("ops").unwrap()).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The values by name and label.
fn values(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Rows of the tables that are kept for a bounded time.
async fn kept(pair: &Pair) -> [usize; 4] {
    let stored = stored(&pair.deployment.gateway_database()).await;
    ["challenge", "session", "consent", "account"].map(|table| stored[table].len())
}

/// Moves the clock on and waits until a whole round was made: challenges are the last of it.
async fn after(pair: &Pair, by: Duration) -> [usize; 4] {
    pair.clock.advance(by);
    let id: [u8; 16] = rand::random();
    let challenge = Challenge {
        id,
        frontend: "demo".to_owned(),
        text: Vec::new(),
        expires_at: pair.clock.now().before(Duration::from_secs(1)),
    };
    let steps = [ChallengeStep::Keep(challenge)];
    pair.portal_store
        .challenges(&steps, pair.clock.now())
        .await
        .unwrap();
    let gone = async {
        let mut looks = interval(Duration::from_millis(200));
        while kept(pair).await[0] > 0 {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, gone)
        .await
        .expect("a challenge was not removed");
    kept(pair).await
}

#[tokio::test]
async fn old_rows_are_removed_after_their_time_and_not_before() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    for scenario in [Scenario::Ordinary, Scenario::Plane2] {
        let (_, card) = cast.person(scenario).unwrap();
        let session = frontend.login(&card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        let days = |days| Term::For(DAY * days);
        frontend.consent(&session, &text, days(80)).await.unwrap();
        let withdrawn = frontend.consent(&session, &text, days(1)).await.unwrap();
        frontend.copy_info(&session, KIND, "").await.unwrap();
        frontend.withdraw(&session, &withdrawn).await.unwrap();
        frontend.logout(&session).await.unwrap();
    }
    let [_, sessions, consents, accounts] = kept(&pair).await;
    assert_eq!((sessions, consents, accounts), (2, 4, 2));
    // A session's 30 days begin when it has ended at the latest, 30 minutes after the login.
    assert_eq!(after(&pair, DAY * 30).await, [0, 2, 4, 2]);
    assert_eq!(after(&pair, Duration::from_secs(3_600)).await, [0, 0, 4, 2]);
    // A consent's seven years begin at the moment until which it was given.
    assert_eq!(after(&pair, YEAR * 7 - DAY * 30).await, [0, 0, 4, 2]);
    assert_eq!(after(&pair, DAY * 10).await, [0, 0, 2, 2]);
    assert_eq!(after(&pair, DAY * 68).await, [0, 0, 2, 2]);
    assert_eq!(after(&pair, DAY * 15).await, [0, 0, 0, 2]);
    after(&pair, YEAR).await;

    let counted = values(&metrics(&pair.gateway).await);
    let removed = |table: &str| counted[&format!("portal_store_removed_rows_total{{table=\"{table}\"}}")];
    assert_eq!((removed("session"), removed("consent")), (2, 4));
    assert_eq!(removed("provision_record"), 2);
    assert!(removed("challenge") >= 6, "{counted:?}");
}

/// docs/metrics.md lists what the services tell, and nothing else.
#[tokio::test]
async fn every_metric_is_in_the_docs_and_logins_that_fail_are_counted() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    for (scenario, reason) in [
        (Scenario::RevokedCard, "CARD_REVOKED"),
        (Scenario::ExpiredCard, "CARD_EXPIRED"),
    ] {
        let (_, card) = cast.person(scenario).unwrap();
        let refused = cast.frontend.login(&card).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.reason(), Some(reason));
        let counted = values(&metrics(&pair.gateway).await);
        let name = format!("portal_login_failures_total{{reason=\"{reason}\"}}");
        assert_eq!(counted[&name], 1, "{counted:?}");
    }

    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
    // The first cell of a row names one metric or several: what stands between backticks.
    let listed: Vec<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('|'))
        .flat_map(|(cell, _)| cell.split('`').step_by(2))
        .collect();
    let mut told = metrics(&pair.gateway).await;
    told.push_str(&metrics(&pair.provider).await);
    let mut names: Vec<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, _kind)| name)
        .collect();
    names.sort_unstable();
    assert_eq!(names, listed);
}

//! When sessions end beside logout, idling and age (clause 4.3.2): with a block, when the card counts no more, and when there
//! are too many; and what one frontend may begin and get wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::time::Duration;

use common::{clock::Clock as _, identity::Role, terms::RequestKind};
use data_encoding::HEXLOWER;
use devkit::{
    card::{CardProfile, VirtualCard},
    client::{CallError, Frontend, Ids, Session, Term},
    deployment::TRUST_DOMAIN,
    pki::{Ca, Subject},
    registers::Scenario,
};
use integration_tests::{Pair, hooks::Places, log, raw::PATIENCE, set_number, stores::Behind};
use koseki_proto::portal::v1::{
    BeginLoginRequest, BeginLoginResponse, CompleteLoginRequest, portal_client::PortalClient,
};
use time::OffsetDateTime;
use tokio::time::{interval, timeout};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

const KIND: RequestKind = RequestKind::CertificateRequest;
const HOUR: Term = Term::For(Duration::from_secs(3_600));

fn reason<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> String {
    outcome.unwrap_err().reason().unwrap_or_default().to_owned()
}

async fn ask(frontend: &Frontend, session: &Session) -> Result<(), CallError> {
    frontend.copy_info(session, KIND, "").await.map(|_| ())
}

async fn consent(frontend: &Frontend, session: &Session) -> Result<String, CallError> {
    let text = frontend.consent_text(KIND).await?;
    frontend.consent(session, &text, HOUR).await
}

/// How many sessions were not ended.
async fn open_sessions(pair: &Pair) -> i64 {
    count(pair, "SELECT count(*) FROM session WHERE NOT ended").await
}

async fn count(pair: &Pair, sql: &'static str) -> i64 {
    let mut behind = Behind::open(&pair.deployment.gateway_database()).await;
    let row = behind.connection().one(sql, &[]).await;
    row.unwrap().int(0).unwrap()
}

#[tokio::test]
async fn a_block_ends_the_sessions_of_its_card_and_of_no_other() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (person, card) = cast.person(Scenario::Ordinary).unwrap();
    let (_, other_card) = cast.person(Scenario::Plane2).unwrap();
    let (first, second) = (
        frontend.login(&card).await.unwrap(),
        frontend.login(&card).await.unwrap(),
    );
    let other = frontend.login(&other_card).await.unwrap();
    for session in [&first, &other] {
        consent(frontend, session).await.unwrap();
        ask(frontend, session).await.unwrap();
    }
    let [operator, _] = pair.offices().portal;
    let key = HEXLOWER.decode(person.card_key_sha256.as_bytes()).unwrap();
    operator.block(&operator.ids().next(), &key).await.unwrap();
    for session in [&first, &second] {
        assert_eq!(reason(ask(frontend, session).await), "SESSION_INVALID");
        assert_eq!(reason(consent(frontend, session).await), "SESSION_INVALID");
    }
    ask(frontend, &other).await.unwrap();
    // A login never looks at blocks; what is asked then is the register refusal.
    let again = frontend.login(&card).await.unwrap();
    assert_eq!(reason(ask(frontend, &again).await), "NOT_PROVIDED");
}

/// The status of the certificate is looked at with each call that opens something; closing is never refused for it.
#[tokio::test]
async fn a_session_ends_when_a_call_finds_that_its_certificate_has_expired() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let mut profile = CardProfile::user_authentication("0000000000009001");
    let end = pair.clock.now().unix_ms() / 1_000 + 90;
    profile.not_after = OffsetDateTime::from_unix_timestamp(end).unwrap();
    let card = pair.deployment.issue_card(&profile).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(frontend.login(&card).await.unwrap());
    }
    let given = consent(frontend, &sessions[0]).await.unwrap();
    assert_eq!(reason(ask(frontend, &sessions[0]).await), "NOT_PROVIDED");
    pair.clock.advance(Duration::from_secs(95));
    frontend.wait_until_providing().await.unwrap();
    assert_eq!(open_sessions(&pair).await, 3);
    for found in ["CARD_EXPIRED", "SESSION_INVALID"] {
        assert_eq!(reason(ask(frontend, &sessions[0]).await), found);
        assert_eq!(reason(consent(frontend, &sessions[1]).await), found);
    }
    assert_eq!(open_sessions(&pair).await, 1);
    frontend.withdraw(&sessions[2], &given).await.unwrap();
    frontend.logout(&sessions[2]).await.unwrap();
    assert_eq!(open_sessions(&pair).await, 0);
}

#[tokio::test]
async fn sessions_of_revoked_cards_end_when_a_newer_list_is_read() {
    let none = Places::default();
    let pair = Pair::start_prepared([&none, &none], |deployment| {
        set_number(&deployment.gateway_config(), "card", "crl_reload_seconds", 1);
    })
    .await
    .load()
    .await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let (_, other_card) = cast.person(Scenario::Plane2).unwrap();
    let other = frontend.login(&other_card).await.unwrap();
    consent(frontend, &other).await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(frontend.login(&card).await.unwrap());
    }
    consent(frontend, &sessions[0]).await.unwrap();
    ask(frontend, &sessions[0]).await.unwrap();
    assert_eq!(open_sessions(&pair).await, 4);
    pair.deployment
        .publish_revocations(std::slice::from_ref(&card.serial))
        .unwrap();
    // Nobody calls with them.
    let swept = async {
        let mut looks = interval(Duration::from_millis(100));
        while open_sessions(&pair).await != 1 {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, swept).await.expect("the sessions did not end");
    for session in &sessions {
        assert_eq!(reason(ask(frontend, session).await), "SESSION_INVALID");
    }
    assert_eq!(reason(frontend.login(&card).await.map(|_| ())), "CARD_REVOKED");
    ask(frontend, &other).await.unwrap();
}

/// The oldest ends: a requester must not be locked out by sessions whose tokens are lost.
#[tokio::test]
async fn an_account_has_sixteen_open_sessions_at_most() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let (_, other_card) = cast.person(Scenario::Plane2).unwrap();
    let other = frontend.login(&other_card).await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..17 {
        sessions.push(frontend.login(&card).await.unwrap());
        // One after the other by the clock, too.
        pair.clock.advance(Duration::from_millis(2));
    }
    assert_eq!(open_sessions(&pair).await, 17);
    assert_eq!(reason(consent(frontend, &sessions[0]).await), "SESSION_INVALID");
    for session in sessions[1..].iter().chain([&other]) {
        consent(frontend, session).await.unwrap();
    }
    // A release may have read the one that was pushed out as open: its logout is an act behind the gate like any other.
    let database = pair.deployment.gateway_database();
    assert!(log::guard_act(&database, "LOGOUT").await.is_none());
    frontend.logout(&sessions[0]).await.unwrap();
    let (epoch, _) = log::guard_act(&database, "LOGOUT").await.unwrap();
    frontend.logout(&sessions[0]).await.unwrap();
    assert_eq!(log::guard_act(&database, "LOGOUT").await.unwrap().0, epoch);
}

/// A frontend that makes its own mistakes.
struct Careless {
    client: PortalClient<Channel>,
    ids: Ids,
}

impl Careless {
    fn new(pair: &Pair, name: &str) -> Self {
        let role = Role::PortalFrontend;
        let (authority, clients) = (
            pair.deployment.dir().join("authority"),
            pair.deployment.clients(role),
        );
        let subject = Subject::identity(TRUST_DOMAIN, &format!("{}/{name}", role.as_str()));
        let issued = Ca::read_from(&authority, "ca").unwrap().issue(&subject).unwrap();
        issued.write_to(&clients, name).unwrap();
        let channel = pair
            .access()
            .to_gateway(role, name, &pair.reach().portal)
            .unwrap();
        Self {
            client: PortalClient::new(channel),
            ids: Ids::new(pair.clock.clone()),
        }
    }

    async fn begin(&self) -> Result<BeginLoginResponse, Status> {
        let request = BeginLoginRequest {
            request_id: self.ids.next(),
            web_origin: "https://portal.example".to_owned(),
        };
        let mut client = self.client.clone();
        client.begin_login(request).await.map(tonic::Response::into_inner)
    }

    async fn complete(
        &self,
        challenge: &BeginLoginResponse,
        card: &VirtualCard,
        signature: Vec<u8>,
    ) -> Result<(), Status> {
        let request = CompleteLoginRequest {
            request_id: self.ids.next(),
            challenge_id: challenge.challenge_id.clone(),
            certificate: card.certificate_der.clone(),
            signature,
        };
        self.client.clone().complete_login(request).await.map(|_| ())
    }
}

fn refused(outcome: Result<(), Status>) -> String {
    let details = outcome.unwrap_err().get_error_details();
    let reason = details.error_info().unwrap().reason.clone();
    assert_eq!(details.retry_info().is_some(), reason == "OVERLOADED", "{reason}");
    reason
}

#[tokio::test]
async fn a_frontend_whose_logins_fail_is_slowed_down_and_no_other_is() {
    let none = Places::default();
    let pair = Pair::start_prepared([&none, &none], |deployment| {
        let config = deployment.gateway_config();
        set_number(&config, "login", "failures", 3);
        set_number(&config, "login", "failures_per_second", 1);
        set_number(&config, "login", "challenges", 20);
    })
    .await
    .load()
    .await;
    let cast = pair.cast().await;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let careless = Careless::new(&pair, "careless");
    // What works does not count, however often.
    for _ in 0..5 {
        let challenge = careless.begin().await.unwrap();
        let signature = card.sign(&challenge.text).unwrap();
        careless.complete(&challenge, &card, signature).await.unwrap();
    }
    // Failures of each kind do, until no more is looked at: a good login neither, whose challenge is left.
    pair.clock.advance(Duration::from_secs(10));
    pair.cast().await;
    let good = careless.begin().await.unwrap();
    let unknown = BeginLoginResponse {
        challenge_id: vec![7; 16],
        ..good.clone()
    };
    let signature = card.sign(&good.text).unwrap();
    let mut reasons = Vec::new();
    for _ in 0..3 {
        reasons.push(refused(
            careless.complete(&unknown, &card, signature.clone()).await,
        ));
    }
    assert_eq!(reasons, ["CHALLENGE_INVALID"; 3]);
    assert_eq!(
        refused(careless.complete(&good, &card, signature.clone()).await),
        "OVERLOADED"
    );
    // Another frontend goes on.
    cast.frontend.login(&card).await.unwrap();
    // After a while it may try again.
    pair.clock.advance(Duration::from_secs(2));
    careless.complete(&good, &card, signature).await.unwrap();

    // It begins no more challenges than its share, either, until those have expired.
    for _ in 6..20 {
        careless.begin().await.unwrap();
    }
    assert_eq!(refused(careless.begin().await.map(|_| ())), "OVERLOADED");
    cast.frontend.login(&card).await.unwrap();
    pair.clock.advance(Duration::from_secs(121));
    pair.cast().await;
    careless.begin().await.unwrap();
}

/// Logins that come at once, and so in one batch: a card that nobody knew leads to one account, which has no more sessions than may
/// be; each session is of its own card.
#[tokio::test(flavor = "multi_thread")]
async fn logins_that_come_at_once_find_one_account_for_each_card() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let (_, other) = cast.person(Scenario::Plane2).unwrap();
    let logins = (0..24).map(|number| frontend.login(if number % 4 == 0 { &other } else { &card }));
    let came = futures_util::future::join_all(logins).await;
    let sessions: Vec<Session> = came.into_iter().map(Result::unwrap).collect();
    // 16 of the 18 of one card, and 6 of the other.
    assert_eq!(open_sessions(&pair).await, 22);
    assert_eq!(
        count(&pair, "SELECT count(DISTINCT account_id) FROM session").await,
        2
    );

    // What is given with one session of an account holds with every other one, and with no one else's.
    let (others, own): (Vec<_>, Vec<_>) = (0..).zip(&sessions).partition(|(number, _)| number % 4 == 0);
    let mut given = 0;
    for (_, session) in &own {
        match consent(frontend, session).await {
            Ok(_) => given += 1,
            refused => assert_eq!(reason(refused), "SESSION_INVALID"),
        }
    }
    assert_eq!(given, 16);
    for (_, session) in &others {
        let refused = frontend.copy_info(session, KIND, "").await.map(|_| ());
        assert_eq!(reason(refused), "CONSENT_REQUIRED");
    }
}

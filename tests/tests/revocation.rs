//! Revocation lists on both sides (clause 4.3.2, I3, I4): a newer one is a guard act, its number never goes back, a bad one
//! leaves the old one in its place, and without a fresh one nobody logs in and nothing is provided.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{fs, future::Future, path::PathBuf, sync::Arc, time::Duration};

use common::{
    card::{CardRoots, RevocationList},
    clock::{Clock as _, ShiftedClock},
    server::Server,
    store::{Database, SideStore},
    terms::RequestKind,
};
use devkit::{
    card::{CardRoot, ListProfile, VirtualCard},
    client::{Frontend, Session, Term},
    deployment::Deployment,
    registers::Scenario,
};
use integration_tests::{
    Pair,
    hooks::Places,
    identity,
    log::{guard_act, provision},
    until,
};
use koseki_proto::{
    koseki::{common::v1::RevocationListStatus, evidence::v1::Outcome},
    portal::v1::{
        BeginLoginRequest, BeginLoginResponse, CompleteLoginRequest, ProvisionState,
        portal_client::PortalClient,
    },
};
use time::OffsetDateTime;
use tokio::time::sleep;

const KIND: RequestKind = RequestKind::CertificateRequest;
const DAY: Duration = Duration::from_secs(86_400);

/// What signs lists for a deployment, above the number of the one that it was made with.
struct Lists {
    root: CardRoot,
    clock: Arc<ShiftedClock>,
    folders: [PathBuf; 2],
    first: u64,
}

impl Lists {
    fn of(pair: &Pair) -> Self {
        let crls = |side: PathBuf| side.join("card-crls");
        Self {
            root: pair.deployment.card_root().unwrap(),
            clock: pair.clock.clone(),
            folders: [crls(pair.deployment.provider()), crls(pair.deployment.gateway())],
            first: u64::try_from(pair.clock.now().unix_ms() / 1_000).unwrap() + 100,
        }
    }

    fn profile(&self, number: u64, revoked: &[&VirtualCard]) -> ListProfile {
        let now = OffsetDateTime::from_unix_timestamp(self.clock.now().unix_ms() / 1_000).unwrap();
        let revoked = revoked.iter().map(|card| card.serial.clone()).collect();
        ListProfile::new(
            revoked,
            self.first + number,
            now - time::Duration::minutes(1),
            now + time::Duration::days(7),
        )
    }

    fn der(&self, number: u64, revoked: &[&VirtualCard]) -> Vec<u8> {
        self.root.list(&self.profile(number, revoked)).unwrap()
    }

    /// Puts a list in the place of the others, whole.
    fn put(&self, side: usize, der: &[u8]) {
        let folder = &self.folders[side];
        fs::write(folder.join("next"), der).unwrap();
        fs::rename(folder.join("next"), folder.join("card-root.crl")).unwrap();
    }

    fn put_on_both(&self, der: &[u8]) {
        self.put(REGISTRY, der);
        self.put(PORTAL, der);
    }

    fn number(&self, number: u64) -> String {
        let digits = format!("{:X}", self.first + number);
        format!("0x{}{digits}", if digits.len() % 2 == 1 { "0" } else { "" })
    }
}

const REGISTRY: usize = 0;
const PORTAL: usize = 1;

/// What operators see of the lists, on the registry and the portal side.
async fn told(pair: &Pair) -> [Vec<RevocationListStatus>; 2] {
    let offices = pair.offices();
    let registry = offices.registry[0].status().await.unwrap().side.unwrap();
    let portal = offices.portal[0].status().await.unwrap().side.unwrap();
    [registry.revocation_lists, portal.revocation_lists]
}

async fn until_taken(pair: &Pair, number: &str) {
    until("the list is taken", async || {
        let taken = told(pair).await;
        taken
            .iter()
            .all(|lists| lists.len() == 1 && lists[0].number == number)
    })
    .await;
}

async fn state(frontend: &Frontend) -> ProvisionState {
    let kinds = frontend.status().await.unwrap();
    kinds.first().unwrap().state()
}

async fn until_state(frontend: &Frontend, wanted: ProvisionState) {
    until("the state is told", async || state(frontend).await == wanted).await;
}

/// Those that are about revocation lists.
fn alarms(server: &Server) -> Vec<&'static str> {
    let standing = server.alarms().standing();
    let names = standing.iter().map(|(alarm, _)| alarm.name());
    names.filter(|name| name.starts_with("REVOCATION_LIST")).collect()
}

async fn until_alarms(server: &Server, wanted: &[&str]) {
    until("the alarm stands or is over", async || alarms(server) == wanted).await;
}

/// A requester with everything in order.
struct Requester {
    frontend: Frontend,
    card: VirtualCard,
    session: Session,
}

impl Requester {
    async fn new(pair: &Pair) -> Self {
        let cast = pair.cast().await;
        let (_, card) = cast.person(Scenario::Ordinary).unwrap();
        let frontend = cast.frontend.clone();
        let session = frontend.login(&card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        frontend
            .consent(&session, &text, Term::For(DAY * 9))
            .await
            .unwrap();
        let this = Self {
            frontend,
            card,
            session,
        };
        assert_eq!(this.asks().await, None);
        this
    }

    /// The reason of the refusal, if it is one.
    async fn asks(&self) -> Option<String> {
        self.asks_as(&self.frontend.ids().next()).await
    }

    async fn asks_as(&self, id: &str) -> Option<String> {
        let asked = self.frontend.copy_info_as(id, &self.session, KIND, "").await;
        asked
            .err()
            .map(|error| error.reason().unwrap_or("none").to_owned())
    }

    async fn logs_in(&self) -> Option<String> {
        let login = self.frontend.login(&self.card).await;
        login
            .err()
            .map(|error| error.reason().unwrap_or("none").to_owned())
    }
}

#[tokio::test]
async fn a_newer_list_is_a_guard_act_on_both_sides() {
    let pair = Pair::start_loaded().await;
    let requester = Requester::new(&pair).await;
    let lists = Lists::of(&pair);
    let databases = [
        pair.deployment.provider_database(),
        pair.deployment.gateway_database(),
    ];
    let mut before = Vec::new();
    for database in &databases {
        // That of the list that was there at the start.
        before.push(guard_act(database, "TAKE_REVOCATION_LIST").await.unwrap().0);
    }
    let ended = requester.frontend.ids().next();
    assert_eq!(requester.asks_as(&ended).await, None);

    lists.put_on_both(&lists.der(1, &[&requester.card]));
    until_taken(&pair, &lists.number(1)).await;
    for (database, before) in databases.iter().zip(before) {
        let (epoch, act) = guard_act(database, "TAKE_REVOCATION_LIST").await.unwrap();
        assert!(epoch > before);
        assert!(
            act.reason
                .starts_with(&format!("number {} of the root", lists.number(1)))
        );
        assert!(act.actor.ends_with("/provider-1") || act.actor.ends_with("/gateway-1"));
    }
    let [registry, portal] = told(&pair).await;
    for list in [&registry[0], &portal[0]] {
        assert_eq!((list.revoked, list.fresh), (1, true));
        let age = list.next_update.unwrap().seconds - list.this_update.unwrap().seconds;
        assert_eq!(age, 7 * 86_400 + 60);
    }
    assert_eq!(registry[0].issuer_key_sha256, portal[0].issuer_key_sha256);

    // The session is looked at again, by whoever comes first: the request, or who ends the sessions of revoked cards. A new one is not
    // opened.
    let asked = requester.asks().await;
    assert!(
        matches!(asked.as_deref(), Some("CARD_REVOKED" | "SESSION_INVALID")),
        "{asked:?}"
    );
    assert_eq!(requester.logs_in().await.as_deref(), Some("CARD_REVOKED"));
    let (taken, _) = guard_act(&databases[PORTAL], "TAKE_REVOCATION_LIST")
        .await
        .unwrap();
    let (released, entry) = provision(&databases[PORTAL], &ended).await.unwrap();
    assert_eq!(entry.outcome(), Outcome::Released);
    assert!(released < taken);
}

#[tokio::test]
async fn a_number_never_goes_back_also_after_a_restart() {
    let pair = Pair::start_loaded().await;
    let requester = Requester::new(&pair).await;
    let lists = Lists::of(&pair);
    lists.put_on_both(&lists.der(2, &[&requester.card]));
    until_taken(&pair, &lists.number(2)).await;

    // Neither another list with its number nor an older one is newer, although neither has revoked the card.
    for number in [2, 1] {
        lists.put_on_both(&lists.der(number, &[]));
        for server in [&pair.provider, &pair.gateway] {
            until_alarms(server, &["REVOCATION_LIST_UNUSABLE"]).await;
        }
        assert_eq!(requester.logs_in().await.as_deref(), Some("CARD_REVOKED"));
        assert_eq!(told(&pair).await[PORTAL][0].revoked, 1);
    }

    let none = Places::default();
    let pair = pair.again([&none, &none], |_| {}).await;
    for server in [&pair.provider, &pair.gateway] {
        until_alarms(server, &["REVOCATION_LIST_UNUSABLE", "REVOCATION_LIST_STALE"]).await;
        assert!(!server.readiness().get());
    }
    assert_eq!(told(&pair).await, [vec![], vec![]]);
    let frontend = Frontend::new(&pair.access(), &pair.reach().portal).unwrap();
    assert_eq!(state(&frontend).await, ProvisionState::Unavailable);
    let requester = Requester {
        frontend,
        ..requester
    };
    assert_eq!(requester.logs_in().await.as_deref(), Some("UNAVAILABLE"));

    lists.put_on_both(&lists.der(3, &[]));
    until_taken(&pair, &lists.number(3)).await;
    for server in [&pair.provider, &pair.gateway] {
        until_alarms(server, &[]).await;
    }
    until_state(&requester.frontend, ProvisionState::Providing).await;
    assert_eq!(requester.logs_in().await, None);
}

#[tokio::test]
async fn a_bad_list_leaves_the_old_one_in_its_place() {
    let pair = Pair::start_loaded().await;
    let requester = Requester::new(&pair).await;
    let lists = Lists::of(&pair);
    let kept = told(&pair).await;
    let good = lists.der(1, &[&requester.card]);
    let stranger = CardRoot::new().unwrap();
    let mut altered = good.clone();
    *altered.last_mut().unwrap() ^= 1;
    let no_number = ListProfile {
        number: None,
        ..lists.profile(1, &[])
    };
    for bad in [
        altered,
        good[..good.len() / 2].to_vec(),
        vec![],
        stranger.list(&lists.profile(1, &[])).unwrap(),
        lists.root.list(&no_number).unwrap(),
    ] {
        lists.put_on_both(&bad);
        for server in [&pair.provider, &pair.gateway] {
            until_alarms(server, &["REVOCATION_LIST_UNUSABLE"]).await;
        }
        assert_eq!(told(&pair).await, kept);
        assert_eq!(requester.logs_in().await, None);
        assert_eq!(requester.asks().await, None);
        // Taken away again: what was taken is held on.
        for folder in &lists.folders {
            fs::remove_file(folder.join("card-root.crl")).unwrap();
        }
        for server in [&pair.provider, &pair.gateway] {
            until_alarms(server, &[]).await;
        }
        assert_eq!(told(&pair).await, kept);
    }
    lists.put_on_both(&good);
    until_taken(&pair, &lists.number(1)).await;
    // The call finds it, unless the sweep that a newer list brings was there before.
    let refused = requester.asks().await;
    let refused = refused.as_deref();
    assert!(
        matches!(refused, Some("CARD_REVOKED" | "SESSION_INVALID")),
        "{refused:?}"
    );
}

/// Without a fresh list nobody logs in and nothing is provided (I4), and the portal is told.
#[tokio::test]
async fn a_stale_list_stops_logins_and_provision_until_a_fresh_one_comes() {
    let pair = Pair::start_loaded().await;
    let requester = Requester::new(&pair).await;
    let lists = Lists::of(&pair);
    // Its age reaches the policy's 48 hours while a session is open.
    pair.clock.advance(Duration::from_secs(48 * 3_600 - 600));
    requester.frontend.wait_until_providing().await.unwrap();
    let session = requester.frontend.login(&requester.card).await.unwrap();
    let requester = Requester { session, ..requester };
    assert_eq!(requester.asks().await, None);
    assert_eq!(pair.policy().login.crl_max_age_hours, 48);
    pair.clock.advance(Duration::from_secs(310));
    assert_eq!(requester.asks().await.as_deref(), Some("UNAVAILABLE"));
    assert_eq!(state(&requester.frontend).await, ProvisionState::Unavailable);
    assert_eq!(requester.logs_in().await.as_deref(), Some("UNAVAILABLE"));
    for server in [&pair.provider, &pair.gateway] {
        until_alarms(server, &["REVOCATION_LIST_STALE"]).await;
        until("it is not ready", async || !server.readiness().get()).await;
    }
    assert!(!told(&pair).await[REGISTRY][0].fresh);

    lists.put_on_both(&lists.der(1, &[]));
    until_taken(&pair, &lists.number(1)).await;
    until_state(&requester.frontend, ProvisionState::Providing).await;
    assert_eq!(requester.logs_in().await, None);
    assert_eq!(requester.asks().await, None);
    for server in [&pair.provider, &pair.gateway] {
        until_alarms(server, &[]).await;
        until("it is ready", async || server.readiness().get()).await;
    }
}

async fn portal(pair: &Pair) -> PortalClient<tonic::transport::Channel> {
    let access = pair.access();
    let channel = access.to_gateway(
        common::identity::Role::PortalFrontend,
        "demo",
        &pair.reach().portal,
    );
    PortalClient::new(channel.unwrap())
}

async fn begin(pair: &Pair) -> BeginLoginResponse {
    let request = BeginLoginRequest {
        request_id: devkit::client::Ids::new(pair.clock.clone()).next(),
        web_origin: "https://portal.example".to_owned(),
    };
    portal(pair)
        .await
        .begin_login(request)
        .await
        .unwrap()
        .into_inner()
}

/// A list of the deployment's root that lies in no folder.
fn elsewhere(deployment: &Deployment, der: &[u8]) -> RevocationList {
    let roots = CardRoots::load(&deployment.gateway().join("card-roots")).unwrap();
    roots.revocation_list(der).unwrap()
}

/// Another instance of the side records a newer list, which this one does not have.
async fn recorded_by_another(side: &dyn SideStore, list: &RevocationList, clock: &ShiftedClock) {
    let database: &Database = side.database();
    let other = identity("portal-gateway/gateway-2");
    database.take_list(list, &other, clock.now()).await.unwrap();
}

/// An instance whose list is behind what is recorded provides nothing and opens no session, from the commit on.
#[tokio::test]
async fn an_instance_that_is_behind_refuses() {
    let (registry, portal_places) = (Places::default(), Places::default());
    let pair = Pair::start_hooked(&registry, &portal_places).await.load().await;
    let requester = Requester::new(&pair).await;
    let lists = Lists::of(&pair);
    let mut number = 0;
    for (places, is_registry) in [(&portal_places, false), (&registry, true)] {
        number += 1;
        let der = lists.der(number, &[]);
        let list = elsewhere(&pair.deployment, &der);
        let (stores, clock) = (
            (pair.registry_store.clone(), pair.portal_store.clone()),
            pair.clock.clone(),
        );
        places.before_gate(async move {
            match is_registry {
                true => recorded_by_another(stores.0.side(), &list, &clock).await,
                false => recorded_by_another(stores.1.side(), &list, &clock).await,
            }
        });
        assert_eq!(requester.asks().await.as_deref(), Some("UNAVAILABLE"));
        assert!(places.all_done());
        until_state(&requester.frontend, ProvisionState::Unavailable).await;
        lists.put_on_both(&der);
        until_taken(&pair, &lists.number(number)).await;
        until_state(&requester.frontend, ProvisionState::Providing).await;
        assert_eq!(requester.asks().await, None);
    }

    // A login between the commit and the next look at what is recorded.
    let challenge = begin(&pair).await;
    let der = lists.der(number + 1, &[]);
    let list = elsewhere(&pair.deployment, &der);
    recorded_by_another(pair.portal_store.side(), &list, &pair.clock).await;
    let request = CompleteLoginRequest {
        request_id: requester.frontend.ids().next(),
        challenge_id: challenge.challenge_id,
        certificate: requester.card.certificate_der.clone(),
        signature: requester.card.sign(&challenge.text).unwrap(),
    };
    let refused = portal(&pair).await.complete_login(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    lists.put_on_both(&der);
    until_taken(&pair, &lists.number(number + 1)).await;
    assert_eq!(requester.logs_in().await, None);
}

/// A release that waits while a newer list is recorded goes by the newer list.
#[tokio::test]
async fn a_release_that_waited_behind_a_newer_list_sees_it() {
    let places = Places::default();
    // Two seconds for an answer: the list is looked for every second.
    let longer = |deployment: &Deployment| {
        for side in [deployment.provider(), deployment.gateway()] {
            let path = side.join("policy/provision-policy.toml");
            let text = fs::read_to_string(&path).unwrap();
            let text = text
                .replace("refusal_after_ms = 1000", "refusal_after_ms = 2000")
                .replace("forward_deadline_ms = 900", "forward_deadline_ms = 1900");
            fs::write(path, text).unwrap();
        }
    };
    let pair = Pair::start_prepared([&Places::default(), &places], longer)
        .await
        .load()
        .await;
    let requester = Requester::new(&pair).await;
    let lists = Lists::of(&pair);
    let der = lists.der(1, &[&requester.card]);
    let wanted = elsewhere(&pair.deployment, &der);
    let store = pair.portal_store.clone();
    let putting: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        lists.put(PORTAL, &der);
        let database = store.side().database();
        while database
            .gate_facts()
            .await
            .unwrap()
            .list_numbers()
            .of(&wanted.issuer)
            != Some(wanted.number)
        {
            sleep(Duration::from_millis(5)).await;
        }
    });
    places.before_gate(putting);
    let id = requester.frontend.ids().next();
    assert_eq!(requester.asks_as(&id).await.as_deref(), Some("CARD_REVOKED"));
    assert!(places.all_done());
    let database = pair.deployment.gateway_database();
    let (epoch, entry) = provision(&database, &id).await.unwrap();
    assert_ne!(entry.outcome(), Outcome::Released);
    assert_eq!(
        guard_act(&database, "TAKE_REVOCATION_LIST").await.unwrap().0,
        epoch
    );
    // It was admitted by the list before: the registry side had released it.
    let there = provision(&pair.deployment.provider_database(), &id)
        .await
        .unwrap();
    assert_eq!(there.1.outcome(), Outcome::Released);
}

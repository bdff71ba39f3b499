//! I3: a forbidding act and a release at one side are totally ordered by that side's gate.
//!
//! Two places decide. An act that commits right before a release takes the gate must be seen by it, although the request
//! was admitted before. An act that comes while a release is behind the gate must wait for its commit, and make a later
//! epoch. Each act of each side is done at both places, through the real calls.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use common::{
    clock::Clock as _,
    lines::LoadStart,
    terms::{ActId, RequestKind},
};
use devkit::{
    client::{Frontend, PortalOperator, Session, Term},
    registers::{OperatorRecord, Scenario, ScenarioPerson},
};
use integration_tests::{
    Pair,
    gate::both_wait_at_the_gate,
    hooks::Places,
    identity,
    log::{guard_act, provision},
    stores::on_postgres,
};
use koseki_proto::koseki::{
    admin::v1::{RecordNonProvisionRequest, RegisterRef},
    evidence::v1::Outcome,
};
use koseki_provider::{non_provision::NonProvisionRecord, store::ProviderStore};
use tokio::{sync::oneshot, task::JoinHandle};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// Long enough for an act that nothing holds up to be done many times over.
const HELD_UP: Duration = Duration::from_millis(250);

type Act = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A requester with everything in order, and what can be done about them on the portal side.
struct Requester {
    frontend: Frontend,
    session: Session,
    consent: String,
    operator: PortalOperator,
    card_key_sha256: Vec<u8>,
}

impl Requester {
    async fn new(pair: &Pair, scenario: Scenario) -> Self {
        let cast = pair.cast().await;
        let (person, card) = cast.person(scenario).unwrap();
        let frontend = cast.frontend.clone();
        let session = frontend.login(&card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        let consent = frontend
            .consent(&session, &text, Term::For(Duration::from_secs(3_600)))
            .await
            .unwrap();
        let [operator, _] = pair.offices().portal;
        let card_key_sha256 = data_encoding::HEXLOWER
            .decode(person.card_key_sha256.as_bytes())
            .unwrap();
        Self {
            frontend,
            session,
            consent,
            operator,
            card_key_sha256,
        }
    }

    /// The act as a future that is done when its call has returned success.
    fn act(&self, act: PortalAct) -> Act {
        let (frontend, session, consent) =
            (self.frontend.clone(), self.session.clone(), self.consent.clone());
        let (operator, card_key) = (self.operator.clone(), self.card_key_sha256.clone());
        Box::pin(async move {
            let act_id = frontend.ids().next();
            match act {
                PortalAct::Withdraw => frontend.withdraw(&session, &consent).await.unwrap(),
                PortalAct::Logout => frontend.logout(&session).await.unwrap(),
                PortalAct::Suspend => {
                    operator.suspend(&act_id, Some(KIND)).await.unwrap();
                }
                PortalAct::SuspendAll => {
                    operator.suspend(&act_id, None).await.unwrap();
                }
                PortalAct::Block => {
                    operator.block(&act_id, &card_key).await.unwrap();
                }
            }
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum PortalAct {
    Withdraw,
    Logout,
    Suspend,
    SuspendAll,
    Block,
}

impl PortalAct {
    const ALL: [(Self, &str, &str); 5] = [
        (Self::Withdraw, "WITHDRAW_CONSENT", "CONSENT_REQUIRED"),
        (Self::Logout, "LOGOUT", "SESSION_INVALID"),
        (Self::Block, "SET_BLOCK", "SESSION_INVALID"),
        (Self::Suspend, "SUSPEND_PROVISION", "PROVISION_SUSPENDED"),
        (Self::SuspendAll, "SUSPEND_PROVISION", "PROVISION_SUSPENDED"),
    ];
}

/// How a release is recorded.
#[derive(Clone, Copy, Debug)]
enum Way {
    AtOnce,
    StepByStep,
}

impl Way {
    fn places(self) -> Places {
        let places = Places::default();
        if matches!(self, Self::StepByStep) {
            places.release_step_by_step();
        }
        places
    }
}

/// Each act in each way that the store has.
fn in_both_ways<A: Copy>(acts: impl IntoIterator<Item = A>) -> Vec<(A, Way)> {
    let ways = match on_postgres() {
        true => [Way::AtOnce, Way::StepByStep].as_slice(),
        false => &[Way::StepByStep],
    };
    let each = |act| ways.iter().map(move |way| (act, *way));
    acts.into_iter().flat_map(each).collect()
}

/// Starts an act behind the gate and makes sure that it does not get done there. The task ends when it is done.
fn hold_up(act: Act) -> (Act, oneshot::Receiver<JoinHandle<()>>) {
    let (started, task) = oneshot::channel();
    let deed = Box::pin(async move {
        let mut task = tokio::spawn(act);
        let done = tokio::time::timeout(HELD_UP, &mut task).await;
        assert!(done.is_err(), "an act was done while a release held the gate");
        started.send(task).unwrap();
    });
    (deed, task)
}

/// Asks, and is refused for an act that the registry side did not know of: the portal side's gate is what stopped it, and the entry is
/// under the act's epoch.
async fn stopped_at_the_portals_gate(pair: &Pair, requester: &Requester, act: &str, reason: &str) {
    let id = requester.frontend.ids().next();
    let asked = requester.frontend.copy_info_as(&id, &requester.session, KIND, "");
    assert_eq!(asked.await.unwrap_err().reason(), Some(reason), "{act}");
    let (_, there) = provision(&pair.deployment.provider_database(), &id)
        .await
        .unwrap();
    assert_eq!(there.outcome(), Outcome::Released, "{act}");
    let database = pair.deployment.gateway_database();
    let (epoch, here) = provision(&database, &id).await.unwrap();
    assert_ne!(here.outcome(), Outcome::Released, "{act}");
    assert_eq!(
        guard_act(&database, act).await.unwrap().0,
        epoch,
        "{act}: its epoch"
    );
}

#[tokio::test]
async fn an_act_before_the_gate_is_seen_on_the_portal_side() {
    for ((act, name, reason), way) in in_both_ways(PortalAct::ALL) {
        let places = way.places();
        let pair = Pair::start_hooked(&Places::default(), &places).await.load().await;
        let requester = Requester::new(&pair, Scenario::Ordinary).await;
        places.before_gate(requester.act(act));
        stopped_at_the_portals_gate(&pair, &requester, name, reason).await;
        assert!(places.all_done(), "{act:?}");
    }
}

/// Between admission and the gate: what the release was admitted by does not stand any more, and this instance knows it.
#[tokio::test]
async fn an_act_while_the_registry_side_answers_is_seen_on_the_portal_side() {
    for (act, name, reason) in PortalAct::ALL {
        let there = Places::default();
        let pair = Pair::start_hooked(&there, &Places::default()).await.load().await;
        let requester = Requester::new(&pair, Scenario::Ordinary).await;
        there.behind_gate(requester.act(act));
        stopped_at_the_portals_gate(&pair, &requester, name, reason).await;
        assert!(there.all_done(), "{act:?}");
    }
}

/// What others close meanwhile forbids nothing of it: it is released, under the epoch that they have made.
#[tokio::test]
async fn what_others_close_while_the_registry_side_answers_does_not_stop_a_release() {
    let there = Places::default();
    let pair = Pair::start_hooked(&there, &Places::default()).await.load().await;
    let requester = Requester::new(&pair, Scenario::Ordinary).await;
    let other = Requester::new(&pair, Scenario::VariationSequence).await;
    let acts = [PortalAct::Withdraw, PortalAct::Logout].map(|act| other.act(act));
    there.behind_gate(async move {
        for act in acts {
            act.await;
        }
    });
    let id = requester.frontend.ids().next();
    requester
        .frontend
        .copy_info_as(&id, &requester.session, KIND, "")
        .await
        .unwrap();
    assert!(there.all_done());
    let database = pair.deployment.gateway_database();
    let (epoch, _) = provision(&database, &id).await.unwrap();
    assert_eq!(guard_act(&database, "LOGOUT").await.unwrap().0, epoch);
}

#[tokio::test]
async fn an_act_behind_the_gate_waits_on_the_portal_side() {
    for (act, name, reason) in PortalAct::ALL {
        let places = Places::default();
        let pair = Pair::start_hooked(&Places::default(), &places).await.load().await;
        let requester = Requester::new(&pair, Scenario::Ordinary).await;
        let (deed, task) = hold_up(requester.act(act));
        places.behind_gate(deed);
        let id = requester.frontend.ids().next();
        requester
            .frontend
            .copy_info_as(&id, &requester.session, KIND, "")
            .await
            .unwrap();
        task.await.unwrap().await.unwrap();
        let database = pair.deployment.gateway_database();
        let (released, _) = provision(&database, &id).await.unwrap();
        let (acted, _) = guard_act(&database, name).await.unwrap();
        assert!(
            released < acted,
            "{act:?}: released under {released}, forbidden by {acted}"
        );
        let refused = requester
            .frontend
            .copy_info(&requester.session, KIND, "")
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some(reason), "{act:?}");
    }
}

/// What can be done about a requester on the registry side.
#[derive(Clone, Copy, Debug)]
enum RegistryAct {
    Record(Scenario),
    Suspend,
    SuspendLinkage,
}

impl RegistryAct {
    const ALL: [(Self, &str, &str); 5] = [
        (
            Self::Record(Scenario::Suppressed),
            "RECORD_NON_PROVISION",
            "NOT_PROVIDED",
        ),
        (
            Self::Record(Scenario::RegisterSuppressed),
            "RECORD_NON_PROVISION",
            "NOT_PROVIDED",
        ),
        (
            Self::Record(Scenario::RequesterAgainstRegister),
            "RECORD_NON_PROVISION",
            "NOT_PROVIDED",
        ),
        (Self::Suspend, "SUSPEND_PROVISION", "PROVISION_SUSPENDED"),
        (Self::SuspendLinkage, "CHANGE_LINKAGE", "NOT_PROVIDED"),
    ];

    fn scenario(self) -> Scenario {
        match self {
            Self::Record(scenario) => scenario,
            Self::Suspend | Self::SuspendLinkage => Scenario::Ordinary,
        }
    }
}

/// The act on the store, as its call does it, but without the wait that the call adds after its commit.
fn registry_act(pair: &Pair, act: RegistryAct, person: &ScenarioPerson) -> Act {
    let (store, clock) = (pair.registry_store.clone(), pair.clock.clone());
    let operator = identity("operator/alice");
    let linkages = std::fs::read_to_string(pair.deployment.persons()).unwrap();
    let person = person.clone();
    Box::pin(async move {
        match act {
            RegistryAct::Record(_) => {
                let record = NonProvisionRecord::parse(&record_of(&person), clock.now()).unwrap();
                store
                    .record_non_provision(record, &operator, clock.now())
                    .await
                    .unwrap();
            }
            RegistryAct::Suspend => {
                let act = common::suspension::Suspend {
                    act_id: common::terms::ActId::random().unwrap(),
                    kind: None,
                    reason: "test".to_owned(),
                };
                store
                    .side()
                    .database()
                    .suspend(act, &operator, clock.now())
                    .await
                    .unwrap();
            }
            RegistryAct::SuspendLinkage => suspend_linkage(&store, &linkages, &person.person_id).await,
        }
    })
}

fn record_of(person: &ScenarioPerson) -> RecordNonProvisionRequest {
    let Some(OperatorRecord::NonProvision { person_id, register }) = &person.record else {
        panic!("{} has no non-provision record", person.name)
    };
    RecordNonProvisionRequest {
        act_id: common::terms::ActId::random().unwrap().to_string(),
        person_id: person_id.clone().unwrap_or_default(),
        register: register.as_ref().map(|register| RegisterRef {
            municipality_code: register.municipality_code.clone(),
            local_number: register.local_number.clone(),
        }),
        authority: "test".to_owned(),
        document_number: "1".to_owned(),
        ..Default::default()
    }
}

async fn suspend_linkage(store: &Arc<dyn ProviderStore>, lines: &str, person_id: &str) {
    let of_person = format!("\"person_id\":\"{person_id}\"");
    let mut linkages = lines
        .lines()
        .filter(|line| line.contains(&of_person) && line.contains("\"linkage\""));
    let line = linkages.next().unwrap().replace("\"ACTIVE\"", "\"SUSPENDED\"");
    let parsed = koseki_provider::persons::parse_line(line.as_bytes()).unwrap();
    let now = common::clock::SystemClock::new().now();
    let start = LoadStart {
        load_id: ActId::parse("0192f0c1-2b6e-7c41-8a55-0d3c5e0a1b2c").unwrap(),
        dry_run: false,
    };
    let loaded = store
        .store_persons(start, vec![parsed], &identity("operator/alice"), now)
        .await
        .unwrap();
    assert!(loaded.forbids);
}

#[tokio::test]
async fn an_act_before_the_gate_is_seen_on_the_registry_side() {
    for ((act, name, reason), way) in in_both_ways(RegistryAct::ALL) {
        let places = way.places();
        let pair = Pair::start_hooked(&places, &Places::default()).await.load().await;
        let requester = Requester::new(&pair, act.scenario()).await;
        let cast = pair.cast().await;
        let (person, _) = cast.person(act.scenario()).unwrap();
        places.before_gate(registry_act(&pair, act, person));
        let id = requester.frontend.ids().next();
        let refused = requester
            .frontend
            .copy_info_as(&id, &requester.session, KIND, "")
            .await
            .unwrap_err();
        assert!(places.all_done());
        assert_eq!(refused.reason(), Some(reason), "{act:?}");
        let database = pair.deployment.provider_database();
        let (epoch, entry) = provision(&database, &id).await.unwrap();
        assert_ne!(entry.outcome(), Outcome::Released);
        assert_eq!(guard_act(&database, name).await.unwrap().0, epoch);
    }
}

#[tokio::test]
async fn an_act_behind_the_gate_waits_on_the_registry_side() {
    for (act, name, reason) in RegistryAct::ALL {
        let places = Places::default();
        let pair = Pair::start_hooked(&places, &Places::default()).await.load().await;
        let requester = Requester::new(&pair, act.scenario()).await;
        let cast = pair.cast().await;
        let (person, _) = cast.person(act.scenario()).unwrap();
        let (deed, task) = hold_up(registry_act(&pair, act, person));
        places.behind_gate(deed);
        let id = requester.frontend.ids().next();
        requester
            .frontend
            .copy_info_as(&id, &requester.session, KIND, "")
            .await
            .unwrap();
        task.await.unwrap().await.unwrap();
        let database = pair.deployment.provider_database();
        let (released, _) = provision(&database, &id).await.unwrap();
        let (acted, _) = guard_act(&database, name).await.unwrap();
        assert!(
            released < acted,
            "{act:?}: released under {released}, forbidden by {acted}"
        );
        let refused = requester
            .frontend
            .copy_info(&requester.session, KIND, "")
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some(reason), "{act:?}");
    }
}

/// An act that commits while a release waits at the gate is seen by it: on PostgreSQL only what is read in a statement of
/// its own, after the gate was taken, is new enough. On SQLite the gate is the one connection that writes: nothing can be
/// begun before it is had.
#[tokio::test]
async fn an_act_that_commits_while_a_release_waits_at_the_gate_is_seen() {
    if !on_postgres() {
        println!("only on PostgreSQL (KOSEKI_STORE=postgres)");
        return;
    }
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let database = pair.deployment.provider_database();
    for (act, name, reason) in RegistryAct::ALL {
        // After a suspension nobody is provided to; a load takes the gate twice.
        if !matches!(act, RegistryAct::Record(_)) {
            continue;
        }
        let requester = Requester::new(&pair, act.scenario()).await;
        let (person, _) = cast.person(act.scenario()).unwrap();
        let id = requester.frontend.ids().next();
        let (frontend, session, asked) = (requester.frontend.clone(), requester.session.clone(), id.clone());
        let request = async move { frontend.copy_info_as(&asked, &session, KIND, "").await };
        let ((), came) = both_wait_at_the_gate(&database, registry_act(&pair, act, person), request).await;
        assert_eq!(came.unwrap_err().reason(), Some(reason), "{act:?}");
        let (epoch, entry) = provision(&database, &id).await.unwrap();
        assert_ne!(entry.outcome(), Outcome::Released, "{act:?}");
        assert_eq!(guard_act(&database, name).await.unwrap().0, epoch, "{act:?}");
    }
    let database = pair.deployment.gateway_database();
    for (act, name, reason) in PortalAct::ALL {
        let requester = Requester::new(&pair, Scenario::Lineage).await;
        let id = requester.frontend.ids().next();
        let (frontend, session, asked) = (requester.frontend.clone(), requester.session.clone(), id.clone());
        let request = async move { frontend.copy_info_as(&asked, &session, KIND, "").await };
        let ((), came) = both_wait_at_the_gate(&database, requester.act(act), request).await;
        assert_eq!(came.unwrap_err().reason(), Some(reason), "{act:?}");
        let (epoch, entry) = provision(&database, &id).await.unwrap();
        assert_ne!(entry.outcome(), Outcome::Released, "{act:?}");
        assert_eq!(guard_act(&database, name).await.unwrap().0, epoch, "{act:?}");
        if matches!(act, PortalAct::Block) {
            // Whatever comes after this act is refused for it.
            break;
        }
    }
}

/// DESIGN §4: when a forbidding call at the provider has returned, no conforming gateway releases an earlier answer.
#[tokio::test]
async fn a_forbidding_call_at_the_registry_side_outlasts_every_answer_on_the_way() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let offices = pair.offices();
    let [alice, _] = &offices.registry;
    let policy =
        common::policy::Policy::load(&pair.deployment.provider().join("policy/provision-policy.toml"))
            .unwrap();
    let wait = policy.exchange.max_answer_age() + policy.exchange.max_hand_off();

    let (person, _) = cast.person(Scenario::Suppressed).unwrap();
    let started = pair.clock.monotonic();
    alice
        .record_non_provision(&cast.frontend.ids().next(), Some(&person.person_id), None)
        .await
        .unwrap();
    assert!(pair.clock.monotonic() - started >= wait);

    let started = pair.clock.monotonic();
    alice.suspend(&cast.frontend.ids().next(), None).await.unwrap();
    assert!(pair.clock.monotonic() - started >= wait);

    let lines = std::fs::read_to_string(pair.deployment.persons()).unwrap();
    let line = lines
        .lines()
        .find(|line| line.contains("\"ACTIVE\""))
        .unwrap()
        .replace("\"ACTIVE\"", "\"SUSPENDED\"");
    let started = pair.clock.monotonic();
    let loaded = alice.load(std::io::Cursor::new(line.into_bytes())).await;
    assert!(loaded.is_whole());
    assert!(pair.clock.monotonic() - started >= wait);
}

/// An answer that is older than `max_answer_age` is withheld, and recorded as such.
#[tokio::test]
async fn an_answer_that_is_too_old_is_withheld() {
    let places = Places::default();
    let pair = Pair::start_hooked(&Places::default(), &places).await.load().await;
    let requester = Requester::new(&pair, Scenario::Ordinary).await;
    let clock = pair.clock.clone();
    // At the gate: a release that does not wait there does not get older.
    places.release_step_by_step();
    places.before_gate(async move { clock.advance(Duration::from_secs(3)) });
    let id = requester.frontend.ids().next();
    let refused = requester
        .frontend
        .copy_info_as(&id, &requester.session, KIND, "")
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("UNAVAILABLE"));
    let (_, here) = provision(&pair.deployment.gateway_database(), &id).await.unwrap();
    assert_eq!(here.outcome(), Outcome::Unavailable);
    let (_, there) = provision(&pair.deployment.provider_database(), &id)
        .await
        .unwrap();
    assert_eq!(there.outcome(), Outcome::Released);
}

/// A linkage that was replaced while the answer was on its way: the answer is another code's, although the card is linked.
#[tokio::test]
async fn an_answer_of_a_replaced_linkage_is_withheld() {
    let places = Places::default();
    let pair = Pair::start_hooked(&Places::default(), &places).await.load().await;
    let requester = Requester::new(&pair, Scenario::Ordinary).await;
    let linkages = std::fs::read_to_string(pair.deployment.linkages()).unwrap();
    let card_key = data_encoding::HEXLOWER.encode(&requester.card_key_sha256);
    let old = linkages.lines().find(|line| line.contains(&card_key)).unwrap();
    let mut new: serde_json::Value = serde_json::from_str(old).unwrap();
    new["linkage_code"] = data_encoding::BASE64URL_NOPAD.encode(&[7; 32]).into();
    let replaced = format!("{}\n{new}\n", old.replace("\"ACTIVE\"", "\"REVOKED\""));
    let operator = requester.operator.clone();
    places.before_gate(async move {
        let loaded = operator.load(std::io::Cursor::new(replaced.into_bytes())).await;
        assert!(loaded.is_whole() && loaded.refused().next().is_none());
    });
    let id = requester.frontend.ids().next();
    let asked = requester
        .frontend
        .copy_info_as(&id, &requester.session, KIND, "")
        .await;
    assert_eq!(asked.unwrap_err().reason(), Some("NOT_PROVIDED"));
    let (_, entry) = provision(&pair.deployment.gateway_database(), &id).await.unwrap();
    assert_eq!(entry.restricted.unwrap().cause, "LINKAGE_CHANGED");
}

/// Opening takes two persons, each asking anew: acts that are sent again, as after a lost reply, open nothing, and a
/// suspension that was lifted is not said to be in force.
#[tokio::test]
async fn acts_that_are_sent_again_open_nothing() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let [alice, bob] = pair.offices().portal;
    let first = cast.frontend.ids().next();
    alice.suspend(&first, None).await.unwrap();
    alice.suspend(&first, None).await.unwrap();
    let proposed = alice.propose_resume(None).await.unwrap();
    let alone = alice.approve(&proposed).await.unwrap_err();
    assert_eq!(alone.reason(), Some("ANOTHER_PERSON_NEEDED"));
    let epoch = bob.approve(&proposed).await.unwrap();
    // A lost reply: the same approval again tells the same and opens nothing.
    assert_eq!(bob.approve(&proposed).await.unwrap(), epoch);
    let again = alice.suspend(&first, None).await.unwrap_err();
    assert_eq!(again.reason(), Some("ACT_ID_USED"));
    // A proposal is about one suspension: a new one makes it void.
    alice.suspend(&alice.ids().next(), None).await.unwrap();
    let old = alice.propose_resume(None).await.unwrap();
    bob.suspend(&bob.ids().next(), None).await.unwrap();
    let void = bob.approve(&old).await.unwrap_err();
    assert_eq!(void.reason(), Some("NOT_APPLICABLE"));
}

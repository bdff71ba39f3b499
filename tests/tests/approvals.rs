//! Closing takes one person, opening two (DESIGN §3): each kind of act that opens something, through the real calls of both
//! sides, with what must not open it; and closings that wait for their second person.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{io::Cursor, time::Duration};

use common::{
    alarm::Alarm,
    clock::Clock as _,
    lines::LoadStart,
    refusal::Reason,
    server::Server,
    terms::{
        ActId,
        RequestKind::{self, CertificateRequest},
    },
};
use devkit::{
    client::{CallError, PortalOperator, Proposed, RegistryOperator},
    registers::{Scenario, ScenarioPerson},
    story::{Cast, Offices, ask_once},
};
use integration_tests::{Pair, identity};
use koseki_proto::koseki::common::v1::{
    LiftBlock, LineOutcome, LineReason, ReactivateLinkage, ReleaseNonProvision, RequesterCopyInfo,
    ResumeProvision, ShortenNonProvision, opening_act::Act,
};

use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3_600);

/// A pair, the people in front of the portal, and those behind the admin listeners.
struct Scene {
    pair: Pair,
    cast: Cast,
    offices: Offices,
}

impl Scene {
    async fn open() -> Self {
        let pair = Pair::start_loaded().await;
        let (cast, offices) = (pair.cast().await, pair.offices());
        Self { pair, cast, offices }
    }

    fn registry(&self) -> (&RegistryOperator, &RegistryOperator) {
        let [alice, bob] = &self.offices.registry;
        (alice, bob)
    }

    fn portal(&self) -> (&PortalOperator, &PortalOperator) {
        let [alice, bob] = &self.offices.portal;
        (alice, bob)
    }

    fn person(&self, scenario: Scenario) -> &ScenarioPerson {
        self.cast.person(scenario).unwrap().0
    }

    async fn ask(&self, scenario: Scenario) -> Result<RequesterCopyInfo, CallError> {
        let (_, card) = self.cast.person(scenario).unwrap();
        ask_once(&self.cast.frontend, &card, CertificateRequest, "").await
    }

    /// What is lifted is in the suppression feed a moment later: until then the gateway still refuses.
    async fn provided_soon(&self, scenario: Scenario) {
        for _ in 0..10 {
            match self.ask(scenario).await {
                Ok(_) => return,
                refused => assert_eq!(reason_of(refused), Reason::NotProvided.name()),
            }
        }
        panic!("nothing is provided");
    }

    async fn refused(&self, scenario: Scenario, reason: Reason) {
        assert_eq!(reason_of(self.ask(scenario).await), reason.name());
    }
}

fn reason_of<T>(outcome: Result<T, CallError>) -> String {
    match outcome {
        Ok(_) => "DONE".to_owned(),
        Err(error) => error.reason().unwrap_or("NO_ANSWER").to_owned(),
    }
}

fn card_key(person: &ScenarioPerson) -> Vec<u8> {
    data_encoding::HEXLOWER
        .decode(person.card_key_sha256.as_bytes())
        .unwrap()
}

fn release(record_id: &str) -> Act {
    Act::ReleaseNonProvision(ReleaseNonProvision {
        record_id: record_id.to_owned(),
    })
}

/// Waits until an alarm of a service stands, or does not.
async fn until(server: &Server, alarm: Alarm, stands: bool) {
    for _ in 0..300 {
        if server.alarms().standing().iter().any(|(name, _)| *name == alarm) == stands {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{}: {:?}", alarm.name(), server.alarms().standing());
}

#[tokio::test]
async fn a_non_provision_record_is_released_by_two_persons_and_only_as_proposed() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.registry();
    let person = &scene.person(Scenario::Ordinary).person_id;
    let record = alice.ids().next();
    alice
        .record_non_provision(&record, Some(person), None)
        .await
        .unwrap();
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;

    let proposed = alice.propose(release(&record)).await.unwrap();
    // Proposed is not done.
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    assert_eq!(
        reason_of(alice.approve(&proposed).await),
        Reason::AnotherPersonNeeded.name()
    );
    let other = Proposed {
        act_sha256: vec![7; 32],
        ..proposed.clone()
    };
    assert_eq!(reason_of(bob.approve(&other).await), Reason::Malformed.name());
    let unknown = Proposed {
        id: bob.ids().next(),
        ..proposed.clone()
    };
    assert_eq!(
        reason_of(bob.approve(&unknown).await),
        Reason::UnknownReference.name()
    );
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;

    let epoch = bob.approve(&proposed).await.unwrap();
    assert_eq!(
        bob.approve(&proposed).await.unwrap(),
        epoch,
        "the same approval again changes nothing"
    );
    scene.provided_soon(Scenario::Ordinary).await;
    let listed = bob.list_non_provision(Some(person), None).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].record_id, record);
    assert!(listed[0].released_at.is_some(), "who asks is told what there was");
    assert_eq!(
        reason_of(alice.propose(release(&record)).await),
        Reason::NotApplicable.name(),
        "it is released already"
    );
}

#[tokio::test]
async fn a_non_provision_record_is_shortened_by_two_persons() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.registry();
    let person = &scene.person(Scenario::Ordinary).person_id;
    let record = alice.ids().next();
    alice
        .record_non_provision(&record, Some(person), None)
        .await
        .unwrap();
    let shorten = |until: Duration| {
        Act::ShortenNonProvision(ShortenNonProvision {
            record_id: record.clone(),
            valid_until: Some(scene.pair.clock.now().after(until).to_proto()),
        })
    };
    let proposed = alice.propose(shorten(HOUR)).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    // What would let it hold longer is no shortening.
    assert_eq!(
        reason_of(alice.propose(shorten(2 * HOUR)).await),
        Reason::Malformed.name()
    );
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    scene.pair.clock.advance(HOUR + Duration::from_secs(1));
    scene.cast.frontend.wait_until_providing().await.unwrap();
    scene.ask(Scenario::Ordinary).await.unwrap();
}

#[tokio::test]
async fn a_block_is_lifted_by_two_persons_and_a_new_one_voids_the_proposal() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.portal();
    let card = card_key(scene.person(Scenario::Ordinary));
    alice.block(&alice.ids().next(), &card).await.unwrap();
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    let lift = || {
        Act::LiftBlock(LiftBlock {
            card_key_sha256: card.clone(),
        })
    };
    let old = alice.propose(lift()).await.unwrap();
    // Somebody has a reason of their own to block it.
    bob.block(&bob.ids().next(), &card).await.unwrap();
    assert_eq!(reason_of(bob.approve(&old).await), Reason::NotApplicable.name());
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    let new = alice.propose(lift()).await.unwrap();
    bob.approve(&new).await.unwrap();
    scene.ask(Scenario::Ordinary).await.unwrap();
}

#[tokio::test]
async fn a_suspended_linkage_becomes_active_by_two_persons_on_each_side() {
    let scene = Scene::open().await;
    let person = scene.person(Scenario::Ordinary);
    let files = [scene.pair.deployment.persons(), scene.pair.deployment.linkages()];
    let [registry_line, portal_line] = files.map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        let of_card = format!("\"card_key_sha256\":\"{}\"", person.card_key_sha256);
        text.lines()
            .find(|line| line.contains(&of_card))
            .unwrap()
            .to_owned()
    });
    let suspended = |line: &str| Cursor::new(line.replace("\"ACTIVE\"", "\"SUSPENDED\"").into_bytes());
    let active = |line: &str| Cursor::new(line.to_owned().into_bytes());
    let reactivate = || {
        Act::ReactivateLinkage(ReactivateLinkage {
            card_key_sha256: card_key(person),
        })
    };

    let (alice, bob) = scene.registry();
    assert!(alice.load(suspended(&registry_line)).await.is_whole());
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    let alone = alice.load(active(&registry_line)).await;
    assert_eq!(alone.lines[0].reason, LineReason::NeedsTwoPersons);
    let proposed = alice.propose(reactivate()).await.unwrap();
    assert_eq!(
        reason_of(alice.approve(&proposed).await),
        Reason::AnotherPersonNeeded.name()
    );
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    bob.approve(&proposed).await.unwrap();
    scene.ask(Scenario::Ordinary).await.unwrap();

    let (alice, bob) = scene.portal();
    assert!(alice.load(suspended(&portal_line)).await.is_whole());
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    let alone = alice.load(active(&portal_line)).await;
    assert_eq!(alone.lines[0].reason, LineReason::NeedsTwoPersons);
    let proposed = alice.propose(reactivate()).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    scene.ask(Scenario::Ordinary).await.unwrap();
}

#[tokio::test]
async fn a_proposal_is_void_after_the_policys_time_and_each_side_has_its_own_acts() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.registry();
    alice
        .suspend(&alice.ids().next(), Some(CertificateRequest))
        .await
        .unwrap();
    let resume = |kind: RequestKind| {
        Act::ResumeProvision(ResumeProvision {
            kind: kind.to_proto().into(),
        })
    };
    assert_eq!(
        reason_of(alice.propose(resume(RequestKind::Notification)).await),
        Reason::NotApplicable.name(),
        "what is not suspended cannot be resumed"
    );
    let proposed = alice.propose(resume(CertificateRequest)).await.unwrap();
    assert_eq!(bob.pending().await.unwrap().proposals.len(), 1);
    // deploy/policy: proposal_hours = 24.
    scene.pair.clock.advance(24 * HOUR + Duration::from_secs(1));
    assert_eq!(bob.pending().await.unwrap().proposals.len(), 0);
    assert_eq!(
        reason_of(bob.approve(&proposed).await),
        Reason::NotApplicable.name()
    );

    let lift = Act::LiftBlock(LiftBlock {
        card_key_sha256: vec![1; 32],
    });
    assert_eq!(reason_of(alice.propose(lift).await), Reason::Malformed.name());
    let (portal, _) = scene.portal();
    let record = alice.ids().next();
    assert_eq!(
        reason_of(portal.propose(release(&record)).await),
        Reason::Malformed.name()
    );
    assert_eq!(
        reason_of(alice.propose(release(&record)).await),
        Reason::UnknownReference.name()
    );
}

#[tokio::test]
async fn a_closing_that_nobody_confirms_alarms_and_stays_in_force() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.portal();
    let act = alice.ids().next();
    alice.suspend(&act, Some(CertificateRequest)).await.unwrap();
    let waiting = bob.pending().await.unwrap().closings;
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (waiting[0].act_id.as_str(), waiting[0].act.as_str()),
        (act.as_str(), "SUSPEND_PROVISION")
    );
    assert_eq!(
        reason_of(alice.confirm(&act).await),
        Reason::AnotherPersonNeeded.name()
    );
    assert_eq!(
        reason_of(bob.confirm(&bob.ids().next()).await),
        Reason::UnknownReference.name()
    );

    // deploy/policy: confirmation_hours = 24.
    scene.pair.clock.advance(24 * HOUR + Duration::from_secs(1));
    until(&scene.pair.gateway, Alarm::ClosingUnconfirmed, true).await;
    let status = bob.status().await.unwrap().side.unwrap();
    assert!(
        status
            .alarms
            .iter()
            .any(|alarm| alarm.name == "CLOSING_UNCONFIRMED")
    );
    assert_eq!(status.unconfirmed_closings, 1);
    scene.cast.frontend.wait_until_decided().await.unwrap();
    scene
        .refused(Scenario::Ordinary, Reason::ProvisionSuspended)
        .await;

    bob.confirm(&act).await.unwrap();
    bob.confirm(&act).await.unwrap();
    until(&scene.pair.gateway, Alarm::ClosingUnconfirmed, false).await;
    assert!(bob.pending().await.unwrap().closings.is_empty());
    scene
        .refused(Scenario::Ordinary, Reason::ProvisionSuspended)
        .await;
}

/// The line by which a scenario person's linkage is loaded, on the registry and on the portal side.
fn linkage_lines(scene: &Scene, person: &ScenarioPerson) -> [Value; 2] {
    let files = [scene.pair.deployment.persons(), scene.pair.deployment.linkages()];
    files.map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        let of_card = format!("\"card_key_sha256\":\"{}\"", person.card_key_sha256);
        let line = text.lines().find(|line| line.contains(&of_card)).unwrap();
        serde_json::from_str(line).unwrap()
    })
}

fn person_line(scene: &Scene, person: &ScenarioPerson) -> Value {
    let text = std::fs::read_to_string(scene.pair.deployment.persons()).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .find(|line| line["type"] == "person" && line["person_id"] == person.person_id.as_str())
        .unwrap()
}

/// A line in which some fields are others.
fn with(line: &Value, fields: &[(&str, Value)]) -> Value {
    let mut line = line.clone();
    for (name, value) in fields {
        line[*name] = value.clone();
    }
    line
}

fn file(lines: &[Value]) -> Cursor<Vec<u8>> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    Cursor::new(lines.join("\n").into_bytes())
}

fn another_code() -> Value {
    data_encoding::BASE64URL_NOPAD.encode(&[0x5a; 32]).into()
}

#[tokio::test]
async fn no_line_leads_around_a_record_by_entering_somebody_under_another_id() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.registry();
    let person = scene.person(Scenario::Ordinary);
    let record = alice.ids().next();
    alice
        .record_non_provision(&record, Some(&person.person_id), None)
        .await
        .unwrap();
    let entered = person_line(&scene, person);
    let [linkage, _] = linkage_lines(&scene, person);
    let emptied = with(&entered, &[("members", json!([]))]);
    let other = with(&entered, &[("person_id", "another-id".into())]);
    let linked = [
        ("person_id", "another-id".into()),
        ("linkage_code", another_code()),
    ];
    let detour = [emptied, other, with(&linkage, &linked)];
    let loaded = alice.load(file(&detour)).await;
    let reasons: Vec<_> = loaded.lines.iter().map(|line| line.reason).collect();
    assert_eq!(
        reasons,
        [
            LineReason::NeedsTwoPersons,
            LineReason::Duplicate,
            LineReason::UnknownReference
        ],
        "{loaded:?}"
    );
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
    // What two persons have released stands in nobody's way.
    let proposed = alice.propose(release(&record)).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    assert!(alice.load(file(&detour[..2])).await.is_whole());
}

#[tokio::test]
async fn no_line_leads_around_a_suspended_linkage() {
    let scene = Scene::open().await;
    let (alice, _) = scene.registry();
    let person = scene.person(Scenario::Ordinary);
    let [registry, portal] = linkage_lines(&scene, person);
    let other_card: Value = "5a".repeat(32).into();
    let state = |state: &str| ("state", Value::from(state));

    let pending = alice.load(file(&[with(&registry, &[state("PENDING")])])).await;
    assert_eq!(pending.lines[0].reason, LineReason::InvalidField, "{pending:?}");
    assert!(
        alice
            .load(file(&[with(&registry, &[state("SUSPENDED")])]))
            .await
            .is_whole()
    );
    let around = [
        registry.clone(),
        with(&registry, &[state("REVOKED")]),
        with(
            &registry,
            &[state("SUSPENDED"), ("card_key_sha256", other_card.clone())],
        ),
        with(&registry, &[("linkage_code", another_code())]),
        with(
            &registry,
            &[
                state("PENDING"),
                ("linkage_code", another_code()),
                ("card_key_sha256", other_card.clone()),
            ],
        ),
        json!({
            "type": "rotate", "linkage_code": registry["linkage_code"], "new_linkage_code": another_code(),
            "card_key_sha256": registry["card_key_sha256"],
        }),
        with(&person_line(&scene, person), &[("members", json!([]))]),
    ];
    let loaded = alice.load(file(&around)).await;
    for (at, line) in loaded.lines.iter().enumerate() {
        assert_eq!(line.reason, LineReason::NeedsTwoPersons, "{at}: {line:?}");
    }
    assert_eq!(loaded.lines.len(), around.len());
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;

    let (alice, _) = scene.portal();
    let pending = alice.load(file(&[with(&portal, &[state("PENDING")])])).await;
    assert_eq!(pending.lines[0].reason, LineReason::InvalidField, "{pending:?}");
    assert!(
        alice
            .load(file(&[with(&portal, &[state("SUSPENDED")])]))
            .await
            .is_whole()
    );
    let around = [
        portal.clone(),
        with(&portal, &[state("REVOKED")]),
        with(&portal, &[state("SUSPENDED"), ("card_key_sha256", other_card)]),
    ];
    let loaded = alice.load(file(&around)).await;
    for line in &loaded.lines {
        assert_eq!(line.reason, LineReason::NeedsTwoPersons, "{line:?}");
    }
    let taken = alice
        .load(file(&[with(&portal, &[("linkage_code", another_code())])]))
        .await;
    assert_eq!(
        taken.lines[0].reason,
        LineReason::Duplicate,
        "the card has a linkage"
    );
    scene.refused(Scenario::Ordinary, Reason::NotProvided).await;
}

#[tokio::test]
async fn an_id_stands_for_one_act_of_one_person() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.registry();
    let lines = [Scenario::Ordinary, Scenario::Lineage].map(|scenario| {
        let [line, _] = linkage_lines(&scene, scene.person(scenario));
        with(&line, &[("state", "SUSPENDED".into())])
    });
    let load_id = alice.ids().next();
    assert!(
        alice
            .load_as(&load_id, false, file(&lines[..1]), |_| ())
            .await
            .is_whole()
    );
    let of_another = bob.load_as(&load_id, false, file(&lines[1..]), |_| ()).await;
    let broken = of_another.broken.unwrap();
    assert_eq!(broken.reason(), Some(Reason::ActIdUsed.name()));
    assert_eq!(
        reason_of(alice.suspend(&load_id, None).await),
        Reason::ActIdUsed.name(),
        "another act under the id of a load"
    );
    bob.confirm(&load_id).await.unwrap();
    assert!(bob.pending().await.unwrap().closings.is_empty());
    // More of the same load is more to confirm.
    assert!(
        alice
            .load_as(&load_id, false, file(&lines[1..]), |_| ())
            .await
            .is_whole()
    );
    assert_eq!(bob.pending().await.unwrap().closings.len(), 1);
}

#[tokio::test]
async fn an_act_that_two_persons_have_ended_is_not_said_to_be_in_force() {
    let scene = Scene::open().await;
    let (alice, bob) = scene.registry();
    let person = scene.person(Scenario::Ordinary);
    let record = alice.ids().next();
    let again = || alice.record_non_provision(&record, Some(&person.person_id), None);
    let epoch = again().await.unwrap();
    assert_eq!(again().await.unwrap(), epoch);
    let proposed = alice.propose(release(&record)).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    assert_eq!(reason_of(again().await), Reason::ActIdUsed.name());

    let (alice, bob) = scene.portal();
    let (act, card) = (alice.ids().next(), card_key(person));
    let epoch = alice.block(&act, &card).await.unwrap();
    assert_eq!(alice.block(&act, &card).await.unwrap(), epoch);
    let lift = Act::LiftBlock(LiftBlock {
        card_key_sha256: card.clone(),
    });
    let proposed = alice.propose(lift).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    assert_eq!(
        reason_of(alice.block(&act, &card).await),
        Reason::ActIdUsed.name()
    );
}

/// What another instance has forbidden is repeated at this one: its answer waits as that of the act itself would have.
#[tokio::test]
async fn an_act_that_is_repeated_at_another_instance_is_waited_for() {
    let scene = Scene::open().await;
    let (alice, _) = scene.registry();
    let person = scene.person(Scenario::Ordinary);
    let [line, _] = linkage_lines(&scene, person);
    let suspended = with(&line, &[("state", "SUSPENDED".into())]);
    let file_of = || file(std::slice::from_ref(&suspended));
    // Whatever this instance has done itself is long settled.
    scene.pair.clock.advance(HOUR);
    let parsed = koseki_provider::persons::parse_line(suspended.to_string().as_bytes()).unwrap();
    let start = LoadStart {
        load_id: ActId::random().unwrap(),
        dry_run: false,
    };
    let (store, now) = (&scene.pair.registry_store, scene.pair.clock.now());
    let stored = store
        .store_persons(start, vec![parsed], &identity("operator/bob"), now)
        .await;
    assert!(stored.unwrap().forbids);
    let wait = scene.pair.policy().exchange.guard_wait();
    let started = scene.pair.clock.monotonic();
    let repeated = alice.load(file_of()).await;
    assert_eq!(repeated.lines[0].outcome, LineOutcome::Unchanged, "{repeated:?}");
    assert!(scene.pair.clock.monotonic() - started >= wait);
    // Once is enough.
    scene.pair.clock.advance(HOUR);
    let started = scene.pair.clock.monotonic();
    assert!(alice.load(file_of()).await.is_whole());
    assert!(scene.pair.clock.monotonic() - started < wait);
}

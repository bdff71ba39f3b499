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
    refusal::Reason,
    server::Server,
    terms::RequestKind::{self, CertificateRequest},
};
use devkit::{
    client::{CallError, PortalOperator, Proposed, RegistryOperator},
    registers::{Scenario, ScenarioPerson},
    story::{Cast, Offices, ask_once},
};
use integration_tests::Pair;
use koseki_proto::koseki::common::v1::{
    LiftBlock, LineReason, ReactivateLinkage, ReleaseNonProvision, RequesterCopyInfo, ResumeProvision,
    ShortenNonProvision, opening_act::Act,
};

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
    scene.ask(Scenario::Ordinary).await.unwrap();
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

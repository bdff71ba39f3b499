//! Accounts survive the reissue of a card (clauses 2.5, 4.3.2): an operator of each side binds the new card, the old one
//! stops at once, and the requester's consents hold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{io::Cursor, time::Duration};

use common::{refusal::Reason, terms::RequestKind};
use data_encoding::HEXLOWER;
use devkit::{
    card::{CardProfile, VirtualCard},
    client::{CallError, Frontend, Session, Term},
    registers::{Scenario, ScenarioPerson},
    story::{Cast, Offices},
};
use integration_tests::{
    Pair,
    hooks::Places,
    log::{guard_act, provision},
    stored,
};
use koseki_proto::koseki::{
    common::v1::{LiftBlock, LineOutcome, LineReason, opening_act::Act},
    evidence::v1::Outcome,
};
use serde_json::{Value, json};

const KIND: RequestKind = RequestKind::CertificateRequest;
const HOUR: Term = Term::For(Duration::from_secs(3_600));

fn reason<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> String {
    outcome.unwrap_err().reason().unwrap_or_default().to_owned()
}

fn hash(card: &VirtualCard) -> String {
    HEXLOWER.encode(&card.public_key_sha256)
}

fn file(lines: &[Value]) -> Cursor<Vec<u8>> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    Cursor::new(lines.join("\n").into_bytes())
}

/// A requester whose card is to be replaced, and those who replace it.
struct Scene {
    pair: Pair,
    cast: Cast,
    offices: Offices,
    person: ScenarioPerson,
    old: VirtualCard,
    new: VirtualCard,
    code: String,
}

impl Scene {
    async fn open(portal: &Places) -> Self {
        let pair = Pair::start_hooked(&Places::default(), portal).await.load().await;
        let (cast, offices) = (pair.cast().await, pair.offices());
        let (person, old) = cast.person(Scenario::Ordinary).unwrap();
        let person = person.clone();
        let of_card = format!("\"card_key_sha256\":\"{}\"", person.card_key_sha256);
        let lines = std::fs::read_to_string(pair.deployment.linkages()).unwrap();
        let line = lines.lines().find(|line| line.contains(&of_card)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        let new = card(&pair, 1);
        Self {
            code: line["linkage_code"].as_str().unwrap().to_owned(),
            pair,
            cast,
            offices,
            person,
            old,
            new,
        }
    }

    fn frontend(&self) -> &Frontend {
        &self.cast.frontend
    }

    fn line(&self, old: &VirtualCard, new: &VirtualCard) -> Value {
        json!({"type": "replace_card", "linkage_code": self.code, "card_key_sha256": hash(old),
               "new_card_key_sha256": hash(new)})
    }

    /// Loads a line on both sides; the outcome, which must be the same on both.
    async fn load(&self, line: &Value) -> LineOutcome {
        let portal = self.offices.portal[0]
            .load(file(std::slice::from_ref(line)))
            .await;
        let registry = self.offices.registry[0]
            .load(file(std::slice::from_ref(line)))
            .await;
        assert!(portal.broken.is_none() && registry.broken.is_none());
        assert_eq!(portal.lines, registry.lines);
        portal.lines[0].outcome
    }

    async fn consent(&self, session: &Session, term: Term) -> String {
        let text = self.frontend().consent_text(KIND).await.unwrap();
        self.frontend().consent(session, &text, term).await.unwrap()
    }

    async fn ask(&self, session: &Session) -> Result<(), CallError> {
        self.frontend().copy_info(session, KIND, "").await.map(|_| ())
    }
}

fn card(pair: &Pair, number: u64) -> VirtualCard {
    let profile = CardProfile::user_authentication(&format!("{:016}", 9_000 + number));
    pair.deployment.issue_card(&profile).unwrap()
}

#[tokio::test]
async fn a_new_card_reaches_the_account_and_the_old_one_stops_at_once() {
    let scene = Scene::open(&Places::default()).await;
    let frontend = scene.frontend();
    let old = frontend.login(&scene.old).await.unwrap();
    let consent = scene.consent(&old, HOUR).await;
    scene.ask(&old).await.unwrap();
    // Before it is bound the new card is one that nobody knows.
    let early = frontend.login(&scene.new).await.unwrap();
    assert_eq!(reason(scene.ask(&early).await), "CONSENT_REQUIRED");

    // A dry run tells what would be, and changes nothing.
    let line = scene.line(&scene.old, &scene.new);
    let database = scene.pair.deployment.gateway_database();
    let before = stored(&database).await;
    let [alice, bob] = &scene.offices.portal;
    let dry = alice.ids().next();
    let told = alice
        .load_as(&dry, true, file(std::slice::from_ref(&line)), |_| {})
        .await;
    assert_eq!(told.lines[0].outcome, LineOutcome::Stored);
    assert_eq!(stored(&database).await, before);
    scene.ask(&old).await.unwrap();

    assert_eq!(scene.load(&line).await, LineOutcome::Stored);
    // All sessions have ended: the old card's, and the one that the new card had without the account.
    for session in [&old, &early] {
        assert_eq!(reason(scene.ask(session).await), "SESSION_INVALID");
    }
    let new = frontend.login(&scene.new).await.unwrap();
    scene.ask(&new).await.unwrap();
    // The old card leads to nobody: neither to the consent nor to the linkage.
    let again = frontend.login(&scene.old).await.unwrap();
    assert_eq!(reason(scene.ask(&again).await), "CONSENT_REQUIRED");
    assert_eq!(
        reason(frontend.withdraw(&again, &consent).await),
        Reason::ConsentUnknown.name()
    );
    scene.consent(&again, Term::OneTime).await;
    assert_eq!(reason(scene.ask(&again).await), "NOT_PROVIDED");

    // It is a forbidding act of one person, which another confirms.
    let pending = bob.pending().await.unwrap();
    let closing = pending
        .closings
        .iter()
        .find(|one| one.act == "CHANGE_LINKAGES")
        .unwrap();
    assert_eq!(
        reason(alice.confirm(&closing.act_id).await),
        "ANOTHER_PERSON_NEEDED"
    );
    bob.confirm(&closing.act_id).await.unwrap();
    for side in [&database, &scene.pair.deployment.provider_database()] {
        let (_, act) = guard_act(side, "CHANGE_LINKAGE").await.unwrap();
        assert_eq!(act.actor, "operator/alice");
    }

    // The same line, and the line by which the linkage was loaded first, are stored already.
    let before = stored(&database).await;
    let first = json!({"type": "linkage", "linkage_code": scene.code, "card_key_sha256": hash(&scene.old),
                       "state": "ACTIVE"});
    for line in [&line, &first] {
        let told = alice.load(file(std::slice::from_ref(line))).await;
        assert_eq!(told.lines[0].outcome, LineOutcome::Unchanged, "{line}");
    }
    assert_eq!(stored(&database).await, before);
    scene.ask(&new).await.unwrap();

    // And once more, twice in one file: the account goes along.
    let (second, third) = (card(&scene.pair, 2), card(&scene.pair, 3));
    let lines = [scene.line(&scene.new, &second), scene.line(&second, &third)];
    for outcome in [LineOutcome::Stored, LineOutcome::Unchanged] {
        let portal = alice.load(file(&lines)).await;
        let registry = scene.offices.registry[0].load(file(&lines)).await;
        assert_eq!(portal.lines, registry.lines);
        assert!(portal.lines.iter().all(|line| line.outcome == outcome));
    }
    assert_eq!(scene.load(&line).await, LineOutcome::Unchanged);
    assert_eq!(reason(scene.ask(&new).await), "SESSION_INVALID");
    let last = frontend.login(&third).await.unwrap();
    scene.ask(&last).await.unwrap();
    frontend.withdraw(&last, &consent).await.unwrap();
    // A card that was replaced is never bound again.
    let back = scene.line(&third, &scene.old);
    let refused = alice.load(file(&[back])).await;
    assert_eq!(
        (refused.lines[0].reason, refused.lines[0].field.as_str()),
        (LineReason::InvalidField, "new_card_key_sha256")
    );
}

/// A replacement and a release are ordered by the gate (I3).
#[tokio::test]
async fn an_answer_on_its_way_to_the_old_card_is_not_released_after_the_replacement() {
    let places = Places::default();
    let scene = Scene::open(&places).await;
    let session = scene.frontend().login(&scene.old).await.unwrap();
    scene.consent(&session, HOUR).await;
    let (operator, line) = (
        scene.offices.portal[0].clone(),
        scene.line(&scene.old, &scene.new),
    );
    places.before_gate(async move {
        let told = operator.load(file(&[line])).await;
        assert_eq!(told.lines[0].outcome, LineOutcome::Stored);
    });
    let id = scene.frontend().ids().next();
    let asked = scene.frontend().copy_info_as(&id, &session, KIND, "").await;
    assert_eq!(reason(asked), "SESSION_INVALID");
    assert!(places.all_done());
    let database = scene.pair.deployment.gateway_database();
    let (epoch, entry) = provision(&database, &id).await.unwrap();
    let (acted, _) = guard_act(&database, "CHANGE_LINKAGE").await.unwrap();
    assert_eq!((entry.outcome(), epoch), (Outcome::Refused, acted));
}

/// A block is lifted by two persons: no line leads around it to another card.
#[tokio::test]
async fn a_block_goes_along_to_the_new_card() {
    let scene = Scene::open(&Places::default()).await;
    let [alice, bob] = &scene.offices.portal;
    let old = HEXLOWER.decode(scene.person.card_key_sha256.as_bytes()).unwrap();
    alice.block(&alice.ids().next(), &old).await.unwrap();
    assert_eq!(
        scene.load(&scene.line(&scene.old, &scene.new)).await,
        LineOutcome::Stored
    );
    let session = scene.frontend().login(&scene.new).await.unwrap();
    scene.consent(&session, HOUR).await;
    assert_eq!(reason(scene.ask(&session).await), "NOT_PROVIDED");
    let lift = |card: &[u8]| {
        Act::LiftBlock(LiftBlock {
            card_key_sha256: card.to_vec(),
        })
    };
    // The old card's block is another one.
    let proposed = alice.propose(lift(&old)).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    assert_eq!(reason(scene.ask(&session).await), "NOT_PROVIDED");
    let proposed = alice.propose(lift(&scene.new.public_key_sha256)).await.unwrap();
    assert_eq!(reason(alice.approve(&proposed).await), "ANOTHER_PERSON_NEEDED");
    bob.approve(&proposed).await.unwrap();
    scene.ask(&session).await.unwrap();
}

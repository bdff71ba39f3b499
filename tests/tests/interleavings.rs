//! Random interleavings of everything that requesters and operators do, on several connections, and on PostgreSQL through two
//! instances: no release that an act in force forbids (I3), none without all four conditions (I1), judged by the epochs in
//! both sides' logs.
//!
//! Who does what next is drawn from a seed that is printed; `KOSEKI_SEED` repeats the choices, not what is under way at a
//! moment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{refusal::Reason, terms::RequestKind};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use devkit::{
    card::VirtualCard,
    client::{CallError, Frontend, Session, Term},
    registers::{Scenario, ScenarioPerson},
    story::Offices,
};
use integration_tests::{
    Pair,
    history::{History, Key, Release, of_account, of_kind},
    hooks::Places,
    instances::TwoDeployments,
    soak,
    stores::on_postgres,
};
use koseki_proto::koseki::common::v1::{LiftBlock, ReleaseNonProvision, opening_act::Act};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::timeout};

const KIND: RequestKind = RequestKind::CertificateRequest;
const PERSONS: [Scenario; 4] = [
    Scenario::Ordinary,
    Scenario::VariationSequence,
    Scenario::CompatibilityIdeograph,
    Scenario::Plane2,
];
/// Connections of each person, in turn through the instances.
const CONNECTIONS: usize = 2;
/// Rounds of the operators of the portal side and of the registry side, whose forbidding calls take their time; and by how
/// much more there are at the stated size.
const PORTAL_ROUNDS: usize = 16;
const REGISTRY_ROUNDS: usize = 5;
const MANY: usize = 20;
/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// A requester: what their connections share.
struct Requester {
    name: String,
    card: VirtualCard,
    /// The one session, and its number.
    session: tokio::sync::Mutex<(u64, Option<Session>)>,
    /// Consents that were given and not withdrawn.
    consents: Mutex<Vec<String>>,
    /// How many requests have been answered or refused.
    asked: watch::Sender<u64>,
    /// How many of them have been answered.
    answered: watch::Sender<u64>,
}

/// What the test knows of what was done.
#[derive(Default)]
struct Known {
    /// Whom an act, a load or a request was about.
    about: Mutex<BTreeMap<String, String>>,
    one_time: Mutex<BTreeSet<String>>,
    answers: Mutex<BTreeSet<String>>,
    refusals: Mutex<BTreeMap<String, usize>>,
    stop: AtomicBool,
}

impl Known {
    fn is_about(&self, id: &str, person: &str) {
        let mut about = self.about.lock().unwrap();
        about.insert(id.to_owned(), person.to_owned());
    }
}

impl Requester {
    /// The session, opened when there is none: a requester has one at a time.
    async fn session(&self, frontend: &Frontend) -> (u64, Session) {
        let mut held = self.session.lock().await;
        if held.1.is_none() {
            *held = (held.0 + 1, Some(frontend.login(&self.card).await.unwrap()));
        }
        (held.0, held.1.clone().unwrap())
    }

    /// A session has ended: the next call opens another.
    async fn ended(&self, number: u64) {
        let mut held = self.session.lock().await;
        if held.0 == number {
            held.1 = None;
        }
    }

    /// One thing that a requester does.
    async fn turn(&self, frontend: &Frontend, known: &Known, rng: &mut ChaCha8Rng) {
        let choice = rng.random_range(0..100);
        let one_time = rng.random_bool(0.3);
        let (number, session) = self.session(frontend).await;
        let done = match choice {
            0..4 => match frontend.logout(&session).await {
                Ok(()) => return self.ended(number).await,
                Err(error) => Err(error),
            },
            4..16 => self.consent(frontend, &session, known, one_time).await,
            16..24 => self.withdraw(frontend, &session).await,
            _ => self.ask(frontend, &session, known).await,
        };
        if let Err(error) = done {
            let reason = error.reason().unwrap_or_else(|| panic!("{error}"));
            *known
                .refusals
                .lock()
                .unwrap()
                .entry(reason.to_owned())
                .or_default() += 1;
            if reason == Reason::SessionInvalid.name() {
                self.ended(number).await;
            } else if reason == Reason::ConsentRequired.name() {
                // Otherwise most requests would come to nothing.
                let _ = self.consent(frontend, &session, known, one_time).await;
            }
        }
    }

    async fn consent(
        &self,
        frontend: &Frontend,
        session: &Session,
        known: &Known,
        one_time: bool,
    ) -> Result<(), CallError> {
        let text = frontend.consent_text(KIND).await?;
        let term = if one_time {
            Term::OneTime
        } else {
            Term::For(Duration::from_secs(3_600))
        };
        let id = frontend.consent(session, &text, term).await?;
        if one_time {
            known.one_time.lock().unwrap().insert(id.clone());
        }
        self.consents.lock().unwrap().push(id);
        Ok(())
    }

    async fn withdraw(&self, frontend: &Frontend, session: &Session) -> Result<(), CallError> {
        // All of them: one that is left would answer.
        let consents = std::mem::take(&mut *self.consents.lock().unwrap());
        for (at, consent) in consents.iter().enumerate() {
            if let Err(error) = frontend.withdraw(session, consent).await {
                self.consents
                    .lock()
                    .unwrap()
                    .extend(consents[at..].iter().cloned());
                return Err(error);
            }
        }
        Ok(())
    }

    async fn ask(&self, frontend: &Frontend, session: &Session, known: &Known) -> Result<(), CallError> {
        let id = frontend.ids().next();
        known.is_about(&id, &self.name);
        let came = frontend.copy_info_as(&id, session, KIND, "").await;
        self.asked.send_modify(|asked| *asked += 1);
        came?;
        self.answered.send_modify(|answered| *answered += 1);
        known.answers.lock().unwrap().insert(id);
        Ok(())
    }

    /// Waits until some more requests have come to an end.
    async fn until_asked(&self, more: u64) {
        assert!(
            grows(&self.asked, more).await,
            "{} does not ask any more",
            self.name
        );
    }

    /// Waits until one more request has been answered.
    async fn until_answered(&self) {
        assert!(
            grows(&self.answered, 1).await,
            "{} is not answered any more, though nothing stands against it",
            self.name
        );
    }
}

/// Waits until a count has grown by that much; false if it does not.
async fn grows(count: &watch::Sender<u64>, by: u64) -> bool {
    let mut count = count.subscribe();
    let wanted = *count.borrow() + by;
    let waited = timeout(PATIENCE, count.wait_for(|count| *count >= wanted)).await;
    waited.is_ok()
}

/// A person as operators know them.
struct Subject {
    person: ScenarioPerson,
    requester: Arc<Requester>,
    code: String,
}

impl Subject {
    fn line(&self, side: &str, state: &str) -> Value {
        let mut line = json!({"type": "linkage", "linkage_code": self.code, "state": state,
                              "card_key_sha256": self.person.card_key_sha256});
        if side == "registry" {
            line["person_id"] = self.person.person_id.as_str().into();
        }
        line
    }
}

/// Both operators of each side, through either instance.
struct Desk {
    offices: Vec<Offices>,
    known: Arc<Known>,
    rng: ChaCha8Rng,
}

impl Desk {
    fn any(&mut self) -> usize {
        self.rng.random_range(0..self.offices.len())
    }

    fn pause(&mut self) -> u64 {
        self.rng.random_range(1..6)
    }

    /// A block, and its lifting.
    async fn block(&mut self, subject: &Subject) {
        let (at, pause) = (self.any(), self.pause());
        let [alice, bob] = &self.offices[at].portal;
        let card = HEXLOWER
            .decode(subject.person.card_key_sha256.as_bytes())
            .unwrap();
        let act = alice.ids().next();
        self.known.is_about(&act, &subject.requester.name);
        alice.block(&act, &card).await.unwrap();
        subject.requester.until_asked(pause).await;
        let lift = Act::LiftBlock(LiftBlock {
            card_key_sha256: card,
        });
        let proposed = alice.propose(lift).await.unwrap();
        self.known.is_about(&proposed.id, &subject.requester.name);
        bob.approve(&proposed).await.unwrap();
    }

    /// A non-provision record, and its release.
    async fn record(&mut self, subject: &Subject) {
        let (at, pause) = (self.any(), self.pause());
        let [alice, bob] = &self.offices[at].registry;
        let act = alice.ids().next();
        self.known.is_about(&act, &subject.requester.name);
        alice
            .record_non_provision(&act, Some(&subject.person.person_id), None)
            .await
            .unwrap();
        subject.requester.until_asked(pause).await;
        let release = Act::ReleaseNonProvision(ReleaseNonProvision { record_id: act });
        let proposed = alice.propose(release).await.unwrap();
        self.known.is_about(&proposed.id, &subject.requester.name);
        bob.approve(&proposed).await.unwrap();
    }

    /// Provision is suspended at a side, and resumed.
    async fn suspend(&mut self, registry: bool, subject: &Subject) {
        let (at, pause) = (self.any(), self.pause());
        let offices = &self.offices[at];
        if registry {
            let [alice, bob] = &offices.registry;
            alice.suspend(&alice.ids().next(), Some(KIND)).await.unwrap();
            subject.requester.until_asked(pause).await;
            let proposed = alice.propose_resume(Some(KIND)).await.unwrap();
            bob.approve(&proposed).await.unwrap();
        } else {
            let [alice, bob] = &offices.portal;
            alice.suspend(&alice.ids().next(), Some(KIND)).await.unwrap();
            subject.requester.until_asked(pause).await;
            let proposed = alice.propose_resume(Some(KIND)).await.unwrap();
            bob.approve(&proposed).await.unwrap();
        }
    }

    /// The linkage is revoked at one side and then at the other, and the person is linked again by another code.
    async fn relink(&mut self, subject: &mut Subject) {
        let first = if self.rng.random() { "portal" } else { "registry" };
        let second = if first == "portal" { "registry" } else { "portal" };
        for side in [first, second] {
            self.load(side, subject.line(side, "REVOKED"), subject).await;
            let pause = self.pause();
            subject.requester.until_asked(pause).await;
        }
        subject.code = BASE64URL_NOPAD.encode(&self.rng.random::<[u8; 32]>());
        for side in [second, first] {
            self.load(side, subject.line(side, "ACTIVE"), subject).await;
        }
    }

    async fn load(&mut self, side: &str, line: Value, subject: &Subject) {
        let at = self.any();
        let offices = &self.offices[at];
        let id = offices.portal[0].ids().next();
        self.known.is_about(&id, &subject.requester.name);
        let file = Cursor::new(line.to_string().into_bytes());
        let loaded = match side {
            "portal" => offices.portal[0].load_as(&id, false, file, |_| {}).await,
            _ => offices.registry[0].load_as(&id, false, file, |_| {}).await,
        };
        assert!(loaded.broken.is_none(), "{:?}", loaded.broken);
        assert!(
            loaded.lines.iter().all(|line| line.rule.is_empty()),
            "{:?}",
            loaded.lines
        );
    }
}

/// The code by which a person is linked at the beginning.
fn code_of(pair: &Pair, person: &ScenarioPerson) -> String {
    let of_card = format!("\"card_key_sha256\":\"{}\"", person.card_key_sha256);
    let lines = std::fs::read_to_string(pair.deployment.linkages()).unwrap();
    let line = lines.lines().find(|line| line.contains(&of_card)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    line["linkage_code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_released_that_an_act_in_force_forbids() {
    let seed = soak::seed();
    let times = if soak::is_soak() { MANY } else { 1 };
    println!("seed {seed} (KOSEKI_SEED repeats the choices)");
    let stream = |number: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        rng
    };
    let pairs: Vec<Pair> = if on_postgres() {
        let none = Places::default();
        TwoDeployments::create().await.start(&none, &none).await.into()
    } else {
        vec![Pair::start_loaded().await]
    };
    let cast = pairs[0].cast().await;
    let known = Arc::new(Known::default());
    let mut subjects = Vec::new();
    let mut requesters = JoinSet::new();
    for (at, scenario) in PERSONS.into_iter().enumerate() {
        let (person, card) = cast.person(scenario).unwrap();
        let requester = Arc::new(Requester {
            name: person.name.clone(),
            card,
            session: tokio::sync::Mutex::new((0, None)),
            consents: Mutex::default(),
            asked: watch::Sender::new(0),
            answered: watch::Sender::new(0),
        });
        for connection in 0..CONNECTIONS {
            let frontend = pairs[connection % pairs.len()].cast().await.frontend;
            let (requester, known) = (requester.clone(), known.clone());
            let mut rng = stream((1 + at * CONNECTIONS + connection) as u64);
            requesters.spawn(async move {
                while !known.stop.load(Ordering::SeqCst) {
                    requester.turn(&frontend, &known, &mut rng).await;
                }
            });
        }
        subjects.push(Subject {
            person: person.clone(),
            requester,
            code: code_of(&pairs[0], person),
        });
    }

    let desk = |number| Desk {
        offices: pairs.iter().map(Pair::offices).collect(),
        known: known.clone(),
        rng: stream(number),
    };
    let (mut portal, mut registry) = (desk(100), desk(101));
    // Each desk has persons of its own for a linkage or a record, so that one does not undo what the other has just done.
    let (mut of_registry, of_portal) = {
        let of_portal = subjects.split_off(PERSONS.len() / 2);
        (subjects, of_portal)
    };
    let at_the_portal = async {
        for round in 0..PORTAL_ROUNDS * times {
            let who = portal.rng.random_range(0..of_portal.len());
            match round % 8 {
                7 => portal.suspend(false, &of_portal[who]).await,
                _ => portal.block(&of_portal[who]).await,
            }
        }
    };
    let at_the_registry = async {
        for round in 0..REGISTRY_ROUNDS * times {
            let who = registry.rng.random_range(0..of_registry.len());
            match round % 5 {
                0 | 2 => registry.record(&of_registry[who]).await,
                4 => registry.suspend(true, &of_registry[who]).await,
                _ => registry.relink(&mut of_registry[who]).await,
            }
        }
    };
    tokio::join!(at_the_portal, at_the_registry);
    // Everything has been lifted by now. Somebody against whom there was something until the last moment is answered again, too.
    for subject in of_registry.iter().chain(&of_portal) {
        subject.requester.until_answered().await;
    }
    known.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = requesters.join_next().await {
        ended.unwrap();
    }

    let about = known.about.lock().unwrap().clone();
    let person = |release: &Release| about[&release.request_id].clone();
    let kind = |release: &Release| of_kind(release.kind);
    let mut gateway = History::read(&pairs[0].deployment.gateway_database(), &about).await;
    let mut provider = History::read(&pairs[0].deployment.provider_database(), &about).await;
    for history in [&mut gateway, &mut provider] {
        for scenario in PERSONS {
            for condition in ["linkage", "no block", "no record"] {
                history.held_from_the_start((condition, scenario.name().to_owned()));
            }
        }
        history.held_from_the_start(("not suspended", of_kind(KIND.to_proto())));
    }
    // A block ends sessions, too. An account is whose requests it has answered.
    let accounts: BTreeMap<String, String> = gateway
        .released
        .iter()
        .map(|release| (of_account(&release.subject), person(release)))
        .collect();
    assert_eq!(accounts.len(), PERSONS.len());
    for (account, person) in &accounts {
        gateway.closes_as_well(&("no block", person.clone()), ("login", account.clone()));
    }

    let mut violations = gateway.violations(|release| -> Vec<Key> {
        vec![
            ("login", of_account(&release.subject)),
            ("consent", release.consent.clone()),
            ("linkage", person(release)),
            ("no block", person(release)),
            ("not suspended", kind(release)),
        ]
    });
    violations.extend(provider.violations(|release| -> Vec<Key> {
        vec![
            ("linkage", person(release)),
            ("no record", person(release)),
            ("not suspended", kind(release)),
        ]
    }));
    assert!(violations.is_empty(), "{violations:#?}");

    // What came was released at both sides, and once; what the gateway has released the provider has as well.
    let ids = |history: &History| -> Vec<String> {
        let ids = history.released.iter().map(|release| release.request_id.clone());
        ids.collect()
    };
    let sides = [ids(&gateway), ids(&provider)];
    let sets: Vec<BTreeSet<String>> = sides.iter().map(|ids| ids.iter().cloned().collect()).collect();
    for (ids, set) in sides.iter().zip(&sets) {
        assert_eq!(ids.len(), set.len(), "released twice");
    }
    assert!(known.answers.lock().unwrap().is_subset(&sets[0]));
    assert!(sets[0].is_subset(&sets[1]));
    // A one-time consent has given one answer at most.
    let one_time = known.one_time.lock().unwrap().clone();
    let on_one_time: Vec<&String> = gateway
        .released
        .iter()
        .map(|release| &release.consent)
        .filter(|consent| one_time.contains(*consent))
        .collect();
    let spent: BTreeSet<_> = on_one_time.iter().collect();
    assert_eq!(
        spent.len(),
        on_one_time.len(),
        "a one-time consent gave two answers"
    );

    // Everything was there that could have been wrong.
    let refusals = known.refusals.lock().unwrap().clone();
    let figures = json!({
        "seed": seed,
        "instances": pairs.len(),
        "answers": sets[0].len(),
        "on_one_time_consents": spent.len(),
        "acts_at_the_gateway": gateway.acts,
        "acts_at_the_provider": provider.acts,
        "refusals": refusals,
    });
    println!("{figures:#}");
    soak::write_figures(&figures);
    for act in [
        "LOGOUT",
        "WITHDRAW_CONSENT",
        "SET_BLOCK",
        "LIFT_BLOCK",
        "CHANGE_LINKAGE",
        "SUSPEND_PROVISION",
        "RESUME_PROVISION",
    ] {
        assert!(gateway.acts.contains_key(act), "no {act} at the gateway");
    }
    for act in [
        "RECORD_NON_PROVISION",
        "RELEASE_NON_PROVISION",
        "CHANGE_LINKAGE",
        "SUSPEND_PROVISION",
        "RESUME_PROVISION",
    ] {
        assert!(provider.acts.contains_key(act), "no {act} at the provider");
    }
    for reason in [
        Reason::SessionInvalid,
        Reason::ConsentRequired,
        Reason::NotProvided,
        Reason::ProvisionSuspended,
    ] {
        assert!(
            refusals.contains_key(reason.name()),
            "never refused with {reason:?}"
        );
    }
    assert!(sets[0].len() > 100, "{} answers", sets[0].len());
}

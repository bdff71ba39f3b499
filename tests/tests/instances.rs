//! Several instances on one PostgreSQL (DESIGN §7): they serve the same answers, and what one records the others obey.
//!
//! The test under load is not deterministic in what is under way at a moment; which persons are recorded is drawn from a
//! seed that it prints, and `KOSEKI_SEED` repeats. One answer of each act is certain to be on its way through the other
//! instances when the act is done.
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
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    clock::{Clock, ShiftedClock},
    refusal::Reason,
    terms::{ActId, LinkageCode, RequestKind},
};
use devkit::{
    card::VirtualCard,
    client::{CallError, Frontend, Session, Term},
    registers::{OperatorRecord, Scenario, ScenarioPerson},
    story::{Cast, ask_once},
};
use integration_tests::{
    Pair,
    feed::Watcher,
    gate::both_wait_at_the_gate,
    hooks::Places,
    identity,
    instances::TwoDeployments,
    log::{Event, guard_act, logs, provision},
    soak, until,
};
use koseki_proto::koseki::{
    admin::v1::{RecordNonProvisionRequest, RegisterRef},
    evidence::v1::Outcome,
};
use koseki_provider::non_provision::NonProvisionRecord;
use prost::Message as _;
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// What the scenario persons ask with.
const ASKS: [(RequestKind, &str); 3] = [
    (KIND, ""),
    (KIND, "lineage"),
    (RequestKind::Notification, "name_kana"),
];
/// Persons with everything in order, until something is recorded about them.
const PROVIDED: [Scenario; 10] = [
    Scenario::Ordinary,
    Scenario::Suppressed,
    Scenario::RegisterSuppressed,
    Scenario::RequesterAgainstRegister,
    Scenario::VariationSequence,
    Scenario::CompatibilityIdeograph,
    Scenario::Plane2,
    Scenario::PrivateUse,
    Scenario::IdeographicSpace,
    Scenario::Lineage,
];
/// Persons about whom something is recorded under load, in every run and at the stated size, and persons who only ask.
const FEW_RECORDS: usize = 4;
const MANY_RECORDS: usize = 8;
const ONLY_ASKING: usize = 2;
/// Answers of each person through each gateway before anything is recorded, and refusals afterwards.
const ANSWERS_BEFORE: usize = 10;
const REFUSALS_AFTER: usize = 2;
/// How long an answer is kept on its way: less than `max_answer_age`, or it would be withheld, and than the database lets a
/// transaction idle.
const ON_THE_WAY: Duration = Duration::from_millis(400);
/// Long enough for an act that nothing holds up to be done many times over.
const HELD_UP: Duration = Duration::from_millis(250);
/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer in bytes, or the refusal in bytes but for the request's id. What could not be decided in time, on a machine that is busy, is
/// asked again, as a portal does.
async fn asked(
    cast: &Cast,
    scenario: Scenario,
    (kind, procedure): (RequestKind, &str),
) -> Result<Vec<u8>, Vec<u8>> {
    let (_, card) = cast.person(scenario).unwrap();
    let mut tries = 5;
    loop {
        match ask_once(&cast.frontend, &card, kind, procedure).await {
            Ok(info) => return Ok(info.encode_to_vec()),
            Err(error) if tries > 0 && error.reason() == Some(Reason::Unavailable.name()) => tries -= 1,
            Err(CallError::Refused(refused)) => return Err(refused.wire),
            Err(error) => panic!("{}: {error}", scenario.name()),
        }
    }
}

/// What one instance writes down, both serve: each to its own gateways, under a key of its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_serve_the_same_suppression_feed() {
    let places = Places::default();
    let pairs = TwoDeployments::create().await.start(&places, &places).await;
    let (person, _) = pairs[0]
        .cast()
        .await
        .person(Scenario::Ordinary)
        .map(|(person, card)| (person.clone(), card))
        .unwrap();
    let persons = std::fs::read_to_string(pairs[0].deployment.persons()).unwrap();
    let of_card = format!("\"card_key_sha256\":\"{}\"", person.card_key_sha256);
    let line = persons.lines().find(|line| line.contains(&of_card)).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let handle = LinkageCode::parse_text(line["linkage_code"].as_str().unwrap())
        .unwrap()
        .handle();
    let mut watchers = [
        Watcher::start(&pairs[0], "watcher").await,
        Watcher::start(&pairs[1], "watcher").await,
    ];
    assert!(watchers.iter().all(|watcher| !watcher.holds(&handle)));
    let [operator, _] = pairs[0].offices().registry;
    operator
        .record_non_provision(&operator.ids().next(), Some(&person.person_id), None)
        .await
        .unwrap();
    for watcher in &mut watchers {
        watcher.until(1).await;
        assert!(watcher.holds(&handle));
        assert_eq!(watcher.sequence, 1);
    }
    assert_ne!(watchers[0].entries().as_slice(), watchers[1].entries().as_slice());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_serve_the_same_answers() {
    let places = Places::default();
    let pairs = TwoDeployments::create().await.start(&places, &places).await;
    let casts = [pairs[0].cast().await, pairs[1].cast().await];
    let (mut answers, mut refusals) = (0, 0);
    for asks in ASKS {
        // All persons at the same time, each through one gateway after the other: a consent for one answer is given on
        // one database.
        let came = Scenario::ALL.map(|scenario| {
            let casts = &casts;
            async move {
                [
                    asked(&casts[0], scenario, asks).await,
                    asked(&casts[1], scenario, asks).await,
                ]
            }
        });
        for (scenario, [first, second]) in Scenario::ALL
            .into_iter()
            .zip(futures_util::future::join_all(came).await)
        {
            assert_eq!(first, second, "{} {asks:?}", scenario.name());
            match first {
                Ok(items) => {
                    assert!(!items.is_empty());
                    answers += 1;
                }
                Err(_) => refusals += 1,
            }
        }
    }
    assert!(
        answers >= 3 * PROVIDED.len() && refusals >= 3 * 6,
        "{answers} {refusals}"
    );
    // A session and a consent are the side's, not the instance's.
    let (_, card) = casts[0].person(Scenario::Ordinary).unwrap();
    let asker = Asker::new(&casts[0].frontend, &card).await;
    casts[1]
        .frontend
        .copy_info(&asker.session, KIND, "")
        .await
        .unwrap();
    let provider = logs(&pairs[0].deployment.provider_database()).await;
    assert_eq!(provider.keys().collect::<Vec<_>>(), ["provider-1", "provider-2"]);
    let gateway = logs(&pairs[0].deployment.gateway_database()).await;
    assert_eq!(gateway.keys().collect::<Vec<_>>(), ["gateway-1", "gateway-2"]);
}

/// A requester with a session, and a consent that holds for an hour.
struct Asker {
    session: Session,
    consent: String,
}

impl Asker {
    async fn new(frontend: &Frontend, card: &VirtualCard) -> Self {
        let session = frontend.login(card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        let hour = Term::For(Duration::from_secs(3_600));
        let consent = frontend.consent(&session, &text, hour).await.unwrap();
        Self { session, consent }
    }
}

/// Where at the gate a release of the second instances is when an act comes through the first ones.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Right before it takes the gate.
    Before,
    /// It waits at the gate, behind the act.
    At,
    /// Between its reads and its commit.
    Behind,
}

/// A side of the second instances.
struct SecondSide<'a> {
    frontend: &'a Frontend,
    places: &'a Places,
    database: PathBuf,
    /// What follows from the act.
    refusal: Reason,
}

impl SecondSide<'_> {
    /// Lets somebody ask, and does the act at a place of the release; the act's epoch is its result.
    async fn ordered(&self, place: Place, asker: &Asker, act: impl Future<Output = u64> + Send + 'static) {
        let (frontend, session, id) = (
            self.frontend.clone(),
            asker.session.clone(),
            self.frontend.ids().next(),
        );
        let request_id = id.clone();
        let request = async move { frontend.copy_info_as(&request_id, &session, KIND, "").await };
        let (done, acted) = oneshot::channel();
        let act = async move { done.send(act.await).unwrap() };
        let asked = match place {
            Place::Before => {
                self.places.before_gate(act);
                request.await
            }
            Place::At => both_wait_at_the_gate(&self.database, act, request).await.1,
            Place::Behind => {
                self.places.behind_gate(async move {
                    let early = timeout(HELD_UP, &mut tokio::spawn(act)).await;
                    assert!(
                        early.is_err(),
                        "an act was done while another instance's release held the gate"
                    );
                });
                request.await
            }
        };
        assert!(self.places.all_done());
        let acted = timeout(PATIENCE, acted).await.unwrap().unwrap();
        let (epoch, entry) = provision(&self.database, &id).await.unwrap();
        let refused = match place {
            Place::Before | Place::At => {
                assert_ne!(entry.outcome(), Outcome::Released, "{place:?}");
                assert_eq!(epoch, acted, "{place:?}: another epoch than the act's");
                asked
            }
            Place::Behind => {
                asked.unwrap();
                assert_eq!(entry.outcome(), Outcome::Released);
                assert!(epoch < acted, "released under {epoch}, forbidden by {acted}");
                self.frontend.copy_info(&asker.session, KIND, "").await
            }
        };
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), Some(self.refusal.name()), "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_and_releases_of_two_instances_are_ordered_by_one_gate() {
    let (registry, portal) = (Places::default(), Places::default());
    let pairs = TwoDeployments::create().await.start(&registry, &portal).await;
    let casts = [pairs[0].cast().await, pairs[1].cast().await];
    let frontend = &casts[1].frontend;

    let side = SecondSide {
        frontend,
        places: &registry,
        database: pairs[0].deployment.provider_database(),
        refusal: Reason::NotProvided,
    };
    for (scenario, place) in [
        (Scenario::Suppressed, Place::Before),
        (Scenario::RequesterAgainstRegister, Place::At),
        (Scenario::RegisterSuppressed, Place::Behind),
    ] {
        let (person, card) = casts[0].person(scenario).unwrap();
        let asker = Asker::new(frontend, &card).await;
        let record = NonProvisionRecord::parse(&record_of(person), pairs[0].clock.now()).unwrap();
        let (store, now) = (pairs[0].registry_store.clone(), pairs[0].clock.now());
        // On the store, without the wait that the call adds after its commit.
        let act = async move {
            let epoch = store
                .record_non_provision(record, &identity("operator/alice"), now)
                .await;
            epoch.unwrap().0
        };
        side.ordered(place, &asker, act).await;
    }

    let side = SecondSide {
        frontend,
        places: &portal,
        database: pairs[0].deployment.gateway_database(),
        refusal: Reason::ConsentRequired,
    };
    for place in [Place::Before, Place::At, Place::Behind] {
        let (_, card) = casts[0].person(Scenario::Ordinary).unwrap();
        let asker = Asker::new(frontend, &card).await;
        let first = casts[0].frontend.clone();
        let (session, consent) = (asker.session.clone(), asker.consent.clone());
        let database = side.database.clone();
        let act = async move {
            first.withdraw(&session, &consent).await.unwrap();
            guard_act(&database, "WITHDRAW_CONSENT").await.unwrap().0
        };
        side.ordered(place, &asker, act).await;
    }
}

/// A one-time consent gives one answer, also when two instances have read it before either has spent it.
#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_consent_gives_one_answer_through_two_instances() {
    let portal = Places::default();
    let pairs = TwoDeployments::create()
        .await
        .start(&Places::default(), &portal)
        .await;
    let casts = [pairs[0].cast().await, pairs[1].cast().await];
    let (_, card) = casts[0].person(Scenario::Ordinary).unwrap();
    let session = casts[0].frontend.login(&card).await.unwrap();
    let text = casts[0].frontend.consent_text(KIND).await.unwrap();
    for place in [Place::Before, Place::Behind] {
        let one_time = casts[0].frontend.consent(&session, &text, Term::OneTime).await;
        let consent = one_time.unwrap();
        let (first, of_first) = (casts[0].frontend.clone(), session.clone());
        let (told, came) = oneshot::channel();
        let ask_first = async move { told.send(first.copy_info(&of_first, KIND, "").await).unwrap() };
        match place {
            Place::Before => portal.before_gate(ask_first),
            // Both share the gate: this one has read that the consent is given, and has not spent it yet.
            Place::At | Place::Behind => portal.behind_gate(ask_first),
        }
        let second = casts[1].frontend.copy_info(&session, KIND, "").await;
        assert!(portal.all_done());
        came.await.unwrap().unwrap();
        let refused = second.unwrap_err();
        assert_eq!(
            refused.reason(),
            Some(Reason::ConsentRequired.name()),
            "{place:?}"
        );
        let gateway = logs(&pairs[0].deployment.gateway_database()).await;
        let on_it = gateway.values().flatten().flat_map(|bundle| &bundle.entries);
        let on_it = on_it.filter(|entry| match &entry.event {
            Some(Event::Provision(provision)) => provision
                .restricted
                .as_ref()
                .is_some_and(|detail| detail.consent_id == consent),
            _ => false,
        });
        assert_eq!(on_it.count(), 1);
    }
}

fn record_of(person: &ScenarioPerson) -> RecordNonProvisionRequest {
    let Some(OperatorRecord::NonProvision { person_id, register }) = &person.record else {
        panic!("{} has no non-provision record", person.name)
    };
    RecordNonProvisionRequest {
        act_id: ActId::random().unwrap().to_string(),
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

/// What came back for a request: items, or the reason of the refusal.
struct Came {
    request_id: String,
    at: Duration,
    refusal: Option<String>,
}

/// Somebody who asks through one gateway without end, one request at a time.
#[derive(Default)]
struct Asking {
    under_way: Mutex<String>,
    came: Mutex<Vec<Came>>,
}

impl Asking {
    fn count(&self, refusal: Option<Reason>) -> usize {
        let wanted = refusal.map(Reason::name);
        let came = self.came.lock().unwrap();
        came.iter()
            .filter(|came| came.refusal.as_deref() == wanted)
            .count()
    }

    /// When the items of a request came, if they came.
    fn items_of(&self, request_id: &str) -> Option<Duration> {
        let came = self.came.lock().unwrap();
        let items = came
            .iter()
            .find(|came| came.request_id == request_id && came.refusal.is_none());
        items.map(|came| came.at)
    }

    async fn go_on(&self, frontend: &Frontend, asker: &Asker, clock: &ShiftedClock, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let request_id = frontend.ids().next();
            self.under_way.lock().unwrap().clone_from(&request_id);
            let came = frontend.copy_info_as(&request_id, &asker.session, KIND, "").await;
            let at = clock.monotonic();
            let refusal = came
                .err()
                .map(|error| error.reason().unwrap_or_else(|| panic!("{error}")).to_owned());
            let came = Came {
                request_id,
                at,
                refusal,
            };
            self.came.lock().unwrap().push(came);
        }
    }
}

/// Somebody who asks through both gateways.
struct Person {
    name: &'static str,
    id: String,
    asking: [Arc<Asking>; 2],
}

/// Lets persons ask through both gateways until they are stopped.
async fn let_ask(
    pairs: &[Pair; 2],
    casts: &[Cast; 2],
    scenarios: &[Scenario],
    work: &mut JoinSet<()>,
    stop: &Arc<AtomicBool>,
) -> Vec<Person> {
    let mut persons = Vec::new();
    for scenario in scenarios {
        let (person, card) = casts[0].person(*scenario).unwrap();
        let asking: [Arc<Asking>; 2] = Default::default();
        for (cast, asking) in casts.iter().zip(&asking) {
            let asker = Asker::new(&cast.frontend, &card).await;
            let (frontend, asking) = (cast.frontend.clone(), asking.clone());
            let (clock, stop) = (pairs[0].clock.clone(), stop.clone());
            work.spawn(async move { asking.go_on(&frontend, &asker, &clock, &stop).await });
        }
        persons.push(Person {
            name: scenario.name(),
            id: person.person_id.clone(),
            asking,
        });
    }
    persons
}

/// Keeps an answer for this person on its way: the second provider has released it, and the second gateway has decided about
/// it, by a suppression feed that knew of nothing, and waits with the commit until it is told to go on, or for as long as an answer may be on its way. The request's id.
async fn keep_on_the_way(pair: &Pair, portal: &Places, person: &Person) -> (String, oneshot::Sender<()>) {
    let database = pair.deployment.provider_database();
    let keep = async {
        loop {
            let (there, arrived) = oneshot::channel();
            let (go_on, told) = oneshot::channel::<()>();
            portal.behind_gate(async move {
                there.send(()).unwrap();
                // Nobody may be left to tell.
                let _ = timeout(ON_THE_WAY, told).await;
            });
            arrived.await.unwrap();
            // The batch that is kept may be without the person: then the next one is tried.
            let id = person.asking[1].under_way.lock().unwrap().clone();
            let released = provision(&database, &id).await;
            if released.is_some_and(|(_, entry)| entry.outcome() == Outcome::Released)
                && person.asking[1].items_of(&id).is_none()
            {
                return (id, go_on);
            }
            // It may have gone on by itself.
            let _ = go_on.send(());
        }
    };
    timeout(PATIENCE, keep).await.expect("an answer was under way")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_made_through_one_instance_is_obeyed_by_the_other_under_load() {
    let seed = soak::seed();
    let records = if soak::is_soak() {
        MANY_RECORDS
    } else {
        FEW_RECORDS
    };
    println!("seed {seed} (KOSEKI_SEED repeats it), {records} records");
    let mut scenarios = PROVIDED;
    scenarios.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));

    let portal = Places::default();
    let deployments = TwoDeployments::create().await;
    deployments.let_answers_be_old();
    let pairs = deployments.start(&Places::default(), &portal).await;
    let casts = [pairs[0].cast().await, pairs[1].cast().await];
    let [operator, _] = pairs[0].offices().registry;
    let stop = Arc::new(AtomicBool::new(false));
    let mut work = JoinSet::new();
    let persons = let_ask(
        &pairs,
        &casts,
        &scenarios[..records + ONLY_ASKING],
        &mut work,
        &stop,
    )
    .await;

    let mut acts = Vec::new();
    let mut came_on_the_way = 0;
    for person in &persons[..records] {
        until("there were too few answers before", async || {
            person
                .asking
                .iter()
                .all(|asking| asking.count(None) >= ANSWERS_BEFORE)
        })
        .await;
        let (kept, go_on) = keep_on_the_way(&pairs[1], &portal, person).await;
        let act_id = operator.ids().next();
        let epoch = operator
            .record_non_provision(&act_id, Some(&person.id), None)
            .await
            .unwrap();
        let returned = pairs[0].clock.monotonic();
        // If the call has waited as it must, the answer has come long ago.
        let _ = go_on.send(());
        until("the person was not refused", async || {
            let refused = |asking: &Arc<Asking>| asking.count(Some(Reason::NotProvided));
            person
                .asking
                .iter()
                .all(|asking| refused(asking) >= REFUSALS_AFTER)
        })
        .await;
        for (asking, gateway) in person.asking.iter().zip(["gateway-1", "gateway-2"]) {
            let came = asking.came.lock().unwrap();
            let late = came
                .iter()
                .filter(|came| came.refusal.is_none() && came.at > returned);
            let late: Vec<_> = late.map(|came| (&came.request_id, came.at - returned)).collect();
            assert!(
                late.is_empty(),
                "{}: after the record's call had returned there came through {gateway}: {late:?}",
                person.name
            );
        }
        came_on_the_way += usize::from(person.asking[1].items_of(&kept).is_some());
        acts.push((act_id, epoch));
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = work.join_next().await {
        ended.unwrap();
    }
    // Otherwise nothing was there that could have been late.
    assert!(
        came_on_the_way > 0,
        "every answer that was kept on its way was withheld"
    );

    let provider = logs(&pairs[0].deployment.provider_database()).await;
    let gateway = logs(&pairs[0].deployment.gateway_database()).await;
    let mut forbidden = BTreeMap::new();
    let mut released = BTreeMap::<_, Vec<_>>::new();
    let mut ids = [BTreeSet::new(), BTreeSet::new()];
    for bundle in provider.values().flatten() {
        for entry in &bundle.entries {
            match entry.event.as_ref().unwrap() {
                Event::GuardAct(act) => {
                    forbidden.insert(act.act_id.clone(), (bundle.epoch, act.subject_pseudonym.clone()));
                }
                Event::Provision(provision) if provision.outcome() == Outcome::Released => {
                    let subject = &provision.restricted.as_ref().unwrap().subject_pseudonym;
                    released.entry(subject.clone()).or_default().push((
                        bundle.epoch,
                        &bundle.log,
                        &provision.request_id,
                    ));
                    assert!(ids[0].insert(&provision.request_id), "released twice");
                }
                _ => {}
            }
        }
    }
    for entry in gateway.values().flatten().flat_map(|bundle| &bundle.entries) {
        match entry.event.as_ref().unwrap() {
            Event::Provision(provision) if provision.outcome() == Outcome::Released => {
                assert!(ids[1].insert(&provision.request_id), "released twice");
            }
            _ => {}
        }
    }
    for (act_id, returned) in &acts {
        let (epoch, subject) = &forbidden[act_id];
        assert_eq!(epoch, returned);
        for log in ["provider-1", "provider-2"] {
            let of_log = released[subject].iter().filter(|(_, name, _)| *name == log);
            assert!(of_log.count() >= ANSWERS_BEFORE, "{log}");
        }
        for (under, log, id) in &released[subject] {
            assert!(
                under < epoch,
                "{id} was released in {log} under epoch {under}, forbidden since {epoch}"
            );
        }
    }
    // What came has its entry on both sides.
    let mut answers = 0;
    for asking in persons.iter().flat_map(|person| &person.asking) {
        for came in asking
            .came
            .lock()
            .unwrap()
            .iter()
            .filter(|came| came.refusal.is_none())
        {
            assert!(
                ids.iter().all(|ids| ids.contains(&came.request_id)),
                "{}",
                came.request_id
            );
            answers += 1;
        }
    }
    let figures = json!({
        "seed": seed,
        "records": records,
        "answers": answers,
        "kept_on_their_way_and_come_before_the_call_returned": came_on_the_way,
    });
    println!("{figures:#}");
    soak::write_figures(&figures);
}

#[tokio::test(flavor = "multi_thread")]
async fn own_records_of_both_instances_are_one_list() {
    let none = Places::default();
    let [first, second] = TwoDeployments::create().await.start(&none, &none).await;
    let casts = [first.cast().await, second.cast().await];
    let (_, card) = casts[0].person(Scenario::Ordinary).unwrap();
    let session = casts[0].frontend.login(&card).await.unwrap();
    let text = casts[0].frontend.consent_text(KIND).await.unwrap();
    let an_hour = Term::For(Duration::from_secs(3_600));
    casts[0].frontend.consent(&session, &text, an_hour).await.unwrap();
    // Both index while both write.
    let mut asked = BTreeSet::new();
    for _ in 0..20 {
        let asks = casts.iter().map(|cast| {
            let id = cast.frontend.ids().next();
            asked.insert(id.clone());
            let session = &session;
            async move { cast.frontend.copy_info_as(&id, session, KIND, "").await }
        });
        for outcome in futures_util::future::join_all(asks.collect::<Vec<_>>()).await {
            outcome.unwrap();
        }
    }
    for cast in &casts {
        until("every request is in the list, once", async || {
            let page = cast.frontend.own_records(&session, 200, &[]).await.unwrap();
            let ids: Vec<String> = page.records.into_iter().map(|record| record.request_id).collect();
            let once: BTreeSet<String> = ids.iter().cloned().collect();
            assert_eq!(ids.len(), once.len());
            once == asked
        })
        .await;
    }
}

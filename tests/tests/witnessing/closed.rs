//! Logs that are closed, for good: on their own side, while requests run, and on the other side, when nobody can close them on
//! their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{alarm::Alarm, clock::ShiftedClock, process::Service as _, telemetry};
use devkit::{client::CallError, deployment::Addresses};
use integration_tests::{
    Pair,
    hooks::Places,
    log::{self, Event},
    stores::Behind,
};
use koseki_proto::portal::v1::ProvisionState;
use koseki_provider::Provider;
use portal_gateway::Gateway;
use tokio::{sync::oneshot, time::timeout};

use super::{
    ask,
    differs::{Side, until_closed},
    impatient, session, sizes, stands, until, until_countersigned,
};

/// Long enough for an act that nothing holds up to be done many times over.
const HELD_UP: Duration = Duration::from_millis(250);

/// Requests that are asked for at the same time.
const CALLERS: usize = 8;

async fn close(side: Side, pair: &Pair, act_id: &str) -> Result<u64, CallError> {
    match side {
        Side::Registry => pair.offices().registry[0].close_log(act_id).await,
        Side::Portal => pair.offices().portal[0].close_log(act_id).await,
    }
}

async fn close_peer(by: Side, pair: &Pair, act_id: &str, instance: &str) -> Result<u64, CallError> {
    match by {
        Side::Registry => pair.offices().registry[0].close_peer_log(act_id, instance).await,
        Side::Portal => pair.offices().portal[0].close_peer_log(act_id, instance).await,
    }
}

/// Something else that an operator would have recorded.
async fn suspend(side: Side, pair: &Pair, act_id: &str) -> Result<u64, CallError> {
    match side {
        Side::Registry => pair.offices().registry[0].suspend(act_id, None).await,
        Side::Portal => pair.offices().portal[0].suspend(act_id, None).await,
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> String {
    outcome.unwrap_err().reason().unwrap_or("no answer").to_owned()
}

async fn closed_while_requests_run(side: Side) {
    let (none, mut successor) = (Places::default(), None);
    let mut pair = Pair::start_prepared([&none, &none], |deployment| {
        // Keys are read at the start: those of the instance that follows are there before.
        successor = Some(deployment.add_instance(2, &Addresses::loopback()).unwrap());
    })
    .await
    .load()
    .await;
    let (database, name) = (side.database(&pair.deployment), side.log(&pair.deployment));
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (session, _) = session(&cast).await;
    let (closed, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (provided, refusals) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let caller = async || {
        while !stop.load(Ordering::SeqCst) {
            let asked_after = closed.load(Ordering::SeqCst);
            let outcome = ask(frontend, &session).await;
            if asked_after {
                assert_eq!(outcome, "UNAVAILABLE");
                refusals.fetch_add(1, Ordering::SeqCst);
            } else if outcome == "PROVIDED" {
                provided.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let act_id = frontend.ids().next();
    let act = async {
        until("they are answered", async || {
            provided.load(Ordering::SeqCst) > CALLERS
        })
        .await;
        let epoch = close(side, &pair, &act_id).await.unwrap();
        let released = log::released(&database).await;
        closed.store(true, Ordering::SeqCst);
        until("they are refused", async || {
            refusals.load(Ordering::SeqCst) > CALLERS
        })
        .await;
        stop.store(true, Ordering::SeqCst);
        (epoch, released)
    };
    let ((epoch, released), _) = tokio::join!(
        act,
        futures_util::future::join_all((0..CALLERS).map(|_| caller()))
    );
    assert_eq!(log::released(&database).await, released, "nothing after the act");

    // The act is the last entry, and nothing comes after it.
    let (size, _) = sizes(&database, &name).await;
    for act_id in [frontend.ids().next(), frontend.ids().next()] {
        assert_eq!(refused(suspend(side, &pair, &act_id).await), "UNAVAILABLE");
    }
    let bundles = &log::logs(&database).await[name.as_str()];
    let last = bundles.last().unwrap();
    let Some(Event::GuardAct(act)) = &last.entries.last().unwrap().event else {
        panic!("the last entry is another one");
    };
    assert_eq!((act.act.as_str(), &act.act_id), ("CLOSE_LOG", &act_id));
    assert_eq!(last.epoch, epoch);
    assert_eq!(sizes(&database, &name).await.0, size);

    // A reply that was lost is given again; nothing else closes it a second time.
    assert_eq!(close(side, &pair, &act_id).await.unwrap(), epoch);
    let other = frontend.ids().next();
    assert_eq!(refused(close(side, &pair, &other).await), "NOT_APPLICABLE");

    // It is told, and what there is is countersigned all the same.
    let [own, peer] = side.of(&pair);
    until("it is told", async || stands(own, Alarm::LogClosed)).await;
    until("it is not ready", async || !own.readiness().get()).await;
    until_countersigned(&database, &name).await;
    assert_eq!(sizes(&database, &name).await, (size, size));
    assert!(!stands(own, Alarm::LogUnwritable) && !stands(own, Alarm::LogDiffers));
    assert!(!stands(peer, Alarm::PeerLogInconsistent) && !stands(peer, Alarm::LogClosed));

    // What the portal says is what there is.
    until("it is not said to be provided", async || {
        let states = frontend.status().await.unwrap();
        states
            .iter()
            .all(|kind| kind.state() == ProvisionState::Unavailable)
    })
    .await;

    // It does not start again; instances with other names go on, and there another person confirms it.
    let closed = pair.deployment.clone();
    pair.deployment = successor.unwrap();
    let pair = pair
        .again_now(async |_| {
            until_closed(&database).await;
            let clock = Arc::new(ShiftedClock::default());
            let failed = match side {
                Side::Registry => {
                    let config = common::config::load(&closed.provider_config()).unwrap();
                    Provider::start(config, clock).await
                }
                Side::Portal => {
                    let config = common::config::load(&closed.gateway_config()).unwrap();
                    Gateway::start(config, clock).await
                }
            };
            let told = telemetry::chain(&**failed.err().as_ref().unwrap());
            assert!(
                told.contains("closed for good: start an instance with a new name"),
                "{told}"
            );
            until_closed(&database).await;
        })
        .await;
    let cast = pair.cast().await;
    let (session, _) = super::session(&cast).await;
    assert_eq!(ask(&cast.frontend, &session).await, "PROVIDED");
    let offices = pair.offices();
    match side {
        Side::Registry => offices.registry[1].confirm(&act_id).await.unwrap(),
        Side::Portal => offices.portal[1].confirm(&act_id).await.unwrap(),
    }
    assert_eq!(sizes(&database, &name).await, (size, size));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_registry_side_that_is_closed_while_requests_run_has_nothing_after_it() {
    closed_while_requests_run(Side::Registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_portal_side_that_is_closed_while_requests_run_has_nothing_after_it() {
    closed_while_requests_run(Side::Portal).await;
}

/// A gateway releases what it has asked for before its log is closed: nobody could record it afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_on_its_way_is_recorded_before_the_log_is_closed() {
    let (none, places) = (Places::default(), Places::default());
    let pair = Pair::start_hooked(&none, &places).await.load().await;
    let cast = pair.cast().await;
    let (session, _) = session(&cast).await;
    let (operator, act_id) = (pair.offices().portal[0].clone(), cast.frontend.ids().next());
    let (done, closed) = oneshot::channel();
    // The registry side has answered, and nothing of it is recorded here.
    places.before_gate(async move {
        let mut act = tokio::spawn(async move { operator.close_log(&act_id).await });
        assert!(timeout(HELD_UP, &mut act).await.is_err(), "it waits");
        assert!(done.send(act).is_ok());
    });
    assert_eq!(ask(&cast.frontend, &session).await, "PROVIDED");
    closed.await.unwrap().await.unwrap().unwrap();
    let [registry, portal] = [Side::Registry, Side::Portal].map(|side| side.database(&pair.deployment));
    assert_eq!(
        (log::released(&registry).await, log::released(&portal).await),
        (1, 1)
    );
    assert!(log::guard_act(&portal, "CLOSE_LOG").await.is_some());
}

/// The log whose end the other side decides, and the other side.
async fn closed_by_the_other(side: Side) {
    let other = match side {
        Side::Registry => Side::Portal,
        Side::Portal => Side::Registry,
    };
    let none = Places::default();
    let pair = Pair::start_prepared([&none, &none], impatient).await.load().await;
    let (database, name) = (side.database(&pair.deployment), side.log(&pair.deployment));
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let (asking, consent) = session(&cast).await;
    assert_eq!(ask(frontend, &asking).await, "PROVIDED");
    until_countersigned(&database, &name).await;
    let (size, _) = sizes(&database, &name).await;

    let act_id = frontend.ids().next();
    let unknown = close_peer(other, &pair, &act_id, "nobody").await;
    assert_eq!(refused(unknown), "UNKNOWN_REFERENCE");
    let epoch = close_peer(other, &pair, &act_id, &name).await.unwrap();
    assert_eq!(
        close_peer(other, &pair, &act_id, &name).await.unwrap(),
        epoch,
        "a reply that was lost"
    );
    let again = close_peer(other, &pair, &frontend.ids().next(), &name).await;
    assert_eq!(refused(again), "NOT_APPLICABLE");
    let acts = log::bundles(&other.database(&pair.deployment)).await;
    let acts = acts.iter().flat_map(|bundle| &bundle.entries);
    let acts: Vec<_> = acts
        .filter_map(|entry| match &entry.event {
            Some(Event::OrdinaryAct(act)) if act.act == "CLOSE_PEER_LOG" => Some(act.detail.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(acts.len(), 1);
    assert_eq!(acts[0].act_id, act_id);
    assert!(!acts[0].reason.is_empty());
    assert!(
        acts[0].reference.ends_with(&format!("/{name} {size}")),
        "{}",
        acts[0].reference
    );

    // It stops within the policy's time, although it has nothing new to be countersigned.
    let [own, peer] = side.of(&pair);
    until("it is told", async || stands(own, Alarm::LogUnwitnessed)).await;
    until("it is not ready", async || !own.readiness().get()).await;
    assert!(
        !stands(peer, Alarm::PeerLogInconsistent),
        "it is as it was closed"
    );
    assert_eq!(ask(frontend, &asking).await, "UNAVAILABLE");

    // What forbids goes on there, and is not countersigned any more.
    frontend.withdraw(&asking, &consent).await.unwrap();
    suspend(side, &pair, &frontend.ids().next()).await.unwrap();
    until("the other side is told", async || {
        stands(peer, Alarm::PeerLogInconsistent)
    })
    .await;
    let (now, witnessed) = sizes(&database, &name).await;
    assert!(now > size && witnessed == size, "{now} {witnessed} {size}");
    let mut behind = Behind::open(&other.database(&pair.deployment)).await;
    let row = behind
        .connection()
        .one("SELECT size, closed FROM witnessed_log", &[])
        .await
        .unwrap();
    assert_eq!((row.int(0).unwrap(), row.bool(1).unwrap()), (size, true));
    assert!(!stands(own, Alarm::LogDiffers) && !stands(peer, Alarm::LogUnwitnessed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_registry_side_that_the_portal_side_has_closed_provides_nothing_any_more() {
    closed_by_the_other(Side::Registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_portal_side_that_the_registry_side_has_closed_provides_nothing_any_more() {
    closed_by_the_other(Side::Portal).await;
}

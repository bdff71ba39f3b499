//! Requesters who ask without end while something is broken, and what they were told.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{refusal::Reason, terms::RequestKind};
use devkit::{
    client::{Frontend, Session, Term},
    registers::Scenario,
    story::Cast,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{interval, timeout},
};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// Persons who are provided, whatever is recorded in a test.
const PERSONS: [Scenario; 3] = [Scenario::Ordinary, Scenario::VariationSequence, Scenario::Plane2];
/// Between a refusal and the next attempt.
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);
/// Nothing takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often something came.
#[derive(Clone, Copy, Default)]
struct Told {
    answered: usize,
    refused: usize,
}

/// Requesters with a consent that holds, who ask without end.
pub struct Asking {
    told: Arc<watch::Sender<Told>>,
    paused: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    work: JoinSet<BTreeSet<String>>,
}

impl Asking {
    /// Logs them in, lets them consent, and starts.
    pub async fn start(cast: &Cast) -> Self {
        let told = Arc::new(watch::Sender::default());
        let (paused, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut work = JoinSet::new();
        for scenario in PERSONS {
            let frontend = cast.frontend.clone();
            let session = frontend.login(&cast.person(scenario).unwrap().1).await.unwrap();
            let text = frontend.consent_text(KIND).await.unwrap();
            let hour = Term::For(Duration::from_secs(3_600));
            frontend.consent(&session, &text, hour).await.unwrap();
            let (told, paused, stop) = (told.clone(), paused.clone(), stop.clone());
            work.spawn(ask(frontend, session, told, paused, stop));
        }
        Self {
            told,
            paused,
            stop,
            work,
        }
    }

    /// Lets them wait, or go on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    /// Waits until each has surely been answered since now.
    pub async fn until_answered(&self, after: &str) {
        let fault = format!("after {after}: requesters are not answered");
        self.until(&fault, |told| told.answered).await;
    }

    /// Waits until each has surely been refused since now.
    pub async fn until_refused(&self, while_so: &str) {
        let fault = format!("{while_so}: requesters are not refused");
        self.until(&fault, |told| told.refused).await;
    }

    /// Of each one call may have been under way before.
    async fn until(&self, fault: &str, count: impl Fn(&Told) -> usize) {
        let mut told = self.told.subscribe();
        let enough = count(&told.borrow()) + 2 * PERSONS.len();
        let waited = timeout(PATIENCE, told.wait_for(|told| count(told) >= enough)).await;
        assert!(waited.is_ok(), "{fault}");
    }

    /// Ends; the ids of the requests that were answered with items. Everything else was refused as unavailable.
    pub async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        let answered = self.work.join_all().await;
        answered.into_iter().flatten().collect()
    }
}

async fn ask(
    frontend: Frontend,
    session: Session,
    told: Arc<watch::Sender<Told>>,
    paused: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
) -> BTreeSet<String> {
    let mut answered = BTreeSet::new();
    let mut attempts = interval(ATTEMPT_EVERY);
    while !stop.load(Ordering::SeqCst) {
        attempts.tick().await;
        if paused.load(Ordering::SeqCst) {
            continue;
        }
        let request_id = frontend.ids().next();
        match frontend.copy_info_as(&request_id, &session, KIND, "").await {
            Ok(_) => {
                answered.insert(request_id);
                told.send_modify(|told| told.answered += 1);
            }
            Err(error) => {
                assert_eq!(error.reason(), Some(Reason::Unavailable.name()), "{error}");
                told.send_modify(|told| told.refused += 1);
            }
        }
    }
    answered
}

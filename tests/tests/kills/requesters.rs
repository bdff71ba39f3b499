//! Requesters log in, consent, ask and withdraw without end. Each knows of its own consents what must come back.

use std::{sync::Arc, time::Duration};

use common::{refusal::Reason, terms::RequestKind};
use devkit::{
    card::VirtualCard,
    client::{CallError, Frontend, Session, Term},
    registers::Scenario,
    story::Cast,
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::{sync::Mutex, task::JoinSet, time::interval};

use crate::ledger::{Ledger, Side, Thing};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// Consents end soon, so that one of which nobody knows whether it was recorded does not blur the rest of the run.
const TERM: Duration = Duration::from_secs(20);
/// Around a consent's end nothing is expected.
const MARGIN: Duration = Duration::from_secs(2);
/// Between two calls of a requester that could not be answered.
const ATTEMPT_EVERY: Duration = Duration::from_millis(50);

/// Persons who are provided, whatever operators record.
const PERSONS: [Scenario; 6] = [
    Scenario::Ordinary,
    Scenario::VariationSequence,
    Scenario::CompatibilityIdeograph,
    Scenario::Plane2,
    Scenario::PrivateUse,
    Scenario::IdeographicSpace,
];

/// A requester, and what it knows.
struct Requester {
    name: &'static str,
    frontend: Frontend,
    card: VirtualCard,
    session: Option<Session>,
    /// Consents that were acknowledged and not withdrawn, with the time until which they surely hold.
    live: Vec<(String, Duration)>,
    /// Until when a consent may hold of which it does not know.
    blurred_until: Duration,
}

/// What the last call leaves to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certain {
    Provided,
    ConsentRequired,
    Nothing,
}

pub(crate) fn start(work: &mut JoinSet<()>, ledger: &Arc<Ledger>, cast: &Arc<Cast>, seed: u64) {
    for (number, scenario) in PERSONS.into_iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64 + 1);
        let mut requester = Requester {
            name: scenario.name(),
            frontend: cast.frontend.clone(),
            card: cast.person(scenario).unwrap().1,
            session: None,
            live: Vec::new(),
            blurred_until: Duration::ZERO,
        };
        let ledger = ledger.clone();
        work.spawn(async move {
            let mut attempts = interval(ATTEMPT_EVERY);
            while !ledger.is_stopped() {
                ledger.until_up(Side::Gateway).await;
                if requester.turn(&ledger, &mut rng).await.is_err() {
                    ledger.broke();
                    attempts.tick().await;
                }
            }
            KNOWN.lock().await.push(requester);
        });
    }
}

/// The requesters, handed over for the look at the end. The test is the only one of its process.
static KNOWN: Mutex<Vec<Requester>> = Mutex::const_new(Vec::new());

/// Every consent and every withdrawal that was acknowledged holds.
pub(crate) async fn check(ledger: &Ledger, cast: &Cast) {
    let mut requesters = KNOWN.lock().await;
    assert_eq!(requesters.len(), PERSONS.len());
    for requester in requesters.iter_mut() {
        requester.frontend = cast.frontend.clone();
        // Twice: with what it has, and with everything withdrawn.
        for _ in 0..2 {
            let came = requester.ask(ledger).await;
            assert!(came.is_ok(), "{}: {came:?}", requester.name);
            for (consent, until) in std::mem::take(&mut requester.live) {
                let session = requester.session(ledger).await.unwrap();
                let withdrawn = requester.frontend.withdraw(&session, &consent).await;
                let known = withdrawn.as_ref().err().and_then(CallError::reason)
                    == Some(Reason::ConsentUnknown.name());
                // What has ended by itself may be forgotten.
                let ended = ledger.now() > until;
                assert!(
                    withdrawn.is_ok() || (known && ended),
                    "{}: a consent was lost: {withdrawn:?}",
                    requester.name
                );
            }
        }
    }
}

impl Requester {
    /// One thing that a requester does. An error is a call without an answer.
    async fn turn(&mut self, ledger: &Ledger, rng: &mut ChaCha8Rng) -> Result<(), CallError> {
        let session = self.session(ledger).await?;
        self.forget_ended(ledger);
        match rng.random_range(0..4) {
            0 if self.live.len() < 3 => self.consent(ledger, &session).await?,
            1 if !self.live.is_empty() => self.withdraw(ledger, &session).await?,
            _ => {}
        }
        self.ask(ledger).await
    }

    async fn session(&mut self, ledger: &Ledger) -> Result<Session, CallError> {
        if self.session.is_none() {
            let session = self.frontend.login(&self.card).await?;
            ledger.acknowledge(Side::Gateway, Thing::Request, |_| {});
            self.session = Some(session);
        }
        Ok(self.session.clone().unwrap())
    }

    async fn consent(&mut self, ledger: &Ledger, session: &Session) -> Result<(), CallError> {
        let text = self.frontend.consent_text(KIND).await?;
        let given_at = ledger.now();
        let consented = self.frontend.consent(session, &text, Term::For(TERM)).await;
        match consented {
            Ok(id) => {
                self.live.push((id.clone(), given_at + TERM));
                ledger.acknowledge(Side::Gateway, Thing::Request, |written| {
                    written.consents.insert(id);
                });
                Ok(())
            }
            Err(error) => {
                self.blurred_until = ledger.now() + TERM + MARGIN;
                Err(error)
            }
        }
    }

    async fn withdraw(&mut self, ledger: &Ledger, session: &Session) -> Result<(), CallError> {
        let (id, until) = self.live.remove(0);
        match self.frontend.withdraw(session, &id).await {
            Ok(()) => {
                ledger.acknowledge(Side::Gateway, Thing::Request, |written| {
                    written.withdrawals.insert(id);
                });
                Ok(())
            }
            Err(error) => {
                // It may still hold.
                self.blurred_until = self.blurred_until.max(until + MARGIN);
                Err(error)
            }
        }
    }

    /// Consents near their end blur what can be expected.
    fn forget_ended(&mut self, ledger: &Ledger) {
        let now = ledger.now();
        for (_, until) in self.live.extract_if(.., |(_, until)| now + MARGIN * 3 > *until) {
            self.blurred_until = self.blurred_until.max(until + MARGIN);
        }
    }

    fn certain(&self, ledger: &Ledger) -> Certain {
        if self
            .live
            .iter()
            .any(|(_, until)| ledger.now() + MARGIN * 2 < *until)
        {
            Certain::Provided
        } else if self.live.is_empty() && ledger.now() > self.blurred_until {
            Certain::ConsentRequired
        } else {
            Certain::Nothing
        }
    }

    async fn ask(&mut self, ledger: &Ledger) -> Result<(), CallError> {
        let session = self.session(ledger).await?;
        let certain = self.certain(ledger);
        let request_id = self.frontend.ids().next();
        let came = self.frontend.copy_info_as(&request_id, &session, KIND, "").await;
        match (certain, came) {
            (Certain::Provided | Certain::Nothing, Ok(_)) => {
                ledger.acknowledge(Side::Gateway, Thing::Request, |written| {
                    written.answers.insert(request_id);
                });
                ledger.acknowledge(Side::Provider, Thing::Request, |_| {});
                Ok(())
            }
            (Certain::ConsentRequired, Ok(_)) => {
                ledger.violated(format!("{}: provided without a consent that holds", self.name));
                Ok(())
            }
            (certain, Err(error)) => {
                let reason = error.reason().unwrap_or_default();
                let is = |known: Reason| reason == known.name();
                if is(Reason::ConsentRequired) && certain != Certain::Provided {
                    return Ok(());
                }
                if reason.is_empty() || is(Reason::Unavailable) || is(Reason::Overloaded) {
                    return Err(error);
                }
                ledger.violated(format!(
                    "{}: {certain:?} was certain, and {error} came",
                    self.name
                ));
                Ok(())
            }
        }
    }
}

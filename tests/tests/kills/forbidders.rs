//! Operators forbid while services are killed; requesters whom that concerns keep asking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{refusal::Reason, terms::RequestKind};
use data_encoding::HEXLOWER;
use devkit::{
    card::VirtualCard,
    client::{CallError, Frontend, Term},
    registers::{OperatorRecord, Scenario, ScenarioPerson},
    story::{Cast, Offices},
};
use koseki_proto::koseki::common::v1::RequesterCopyInfo;
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};

use crate::ledger::{Ledger, Side, Thing};

/// Between two attempts of something that was not answered.
const ATTEMPT_EVERY: Duration = Duration::from_millis(50);
/// What the registry side suspends, and the portal side; nobody resumes it.
const AT_THE_PROVIDER: (RequestKind, &str) = (RequestKind::Notification, "general");
const AT_THE_GATEWAY: (RequestKind, &str) = (RequestKind::ProvisionCodeRequest, "");

/// What somebody asks for again and again, and whether it is forbidden.
struct Watched {
    name: String,
    card: VirtualCard,
    kind: RequestKind,
    procedure: &'static str,
    /// The refusal that follows.
    refusal: Reason,
    forbidden: AtomicBool,
}

/// Starts the operators and those who keep asking.
pub(crate) fn start(
    work: &mut JoinSet<()>,
    ledger: &Arc<Ledger>,
    cast: &Arc<Cast>,
    offices: &Arc<Offices>,
    kills: usize,
) {
    let recorded: Vec<ScenarioPerson> = cast
        .persons
        .iter()
        .filter(|person| person.record.is_some())
        .cloned()
        .collect();
    ledger.acts_left.send_replace(recorded.len());
    for (number, person) in recorded.into_iter().enumerate() {
        let watched = Arc::new(Watched {
            name: person.name.clone(),
            card: cast.deployment.card(&person).unwrap(),
            kind: RequestKind::CertificateRequest,
            procedure: "",
            refusal: Reason::NotProvided,
            forbidden: AtomicBool::new(false),
        });
        watch(work, ledger, cast, &watched);
        let (ledger, offices) = (ledger.clone(), offices.clone());
        work.spawn(async move {
            // Spread over the run.
            ledger.until_killed(number * kills / 4).await;
            record(&ledger, &offices, &person).await;
            watched.forbidden.store(true, Ordering::SeqCst);
            ledger.acts_left.send_modify(|left| *left -= 1);
        });
    }
    let (_, card) = cast.person(Scenario::Lineage).unwrap();
    for (side, (kind, procedure)) in [(Side::Provider, AT_THE_PROVIDER), (Side::Gateway, AT_THE_GATEWAY)] {
        let watched = Arc::new(Watched {
            name: format!("{} while {kind:?} is suspended", Scenario::Lineage.name()),
            card: VirtualCard::from_pem(&card.certificate_pem, &card.key_pem).unwrap(),
            kind,
            procedure,
            refusal: Reason::ProvisionSuspended,
            forbidden: AtomicBool::new(false),
        });
        watch(work, ledger, cast, &watched);
        let (ledger, offices) = (ledger.clone(), offices.clone());
        work.spawn(async move {
            let mut acts = interval(ATTEMPT_EVERY * 10);
            while !ledger.is_stopped() {
                acts.tick().await;
                suspend(&ledger, &offices, side, kind).await;
                watched.forbidden.store(true, Ordering::SeqCst);
            }
        });
    }
}

/// Waits until every act that is to be done is done.
pub(crate) async fn finish(ledger: &Ledger, limit: Duration) {
    let mut left = ledger.acts_left.subscribe();
    let done = timeout(limit, left.wait_for(|left| *left == 0)).await;
    assert!(done.is_ok(), "acts of operators were not acknowledged");
}

/// Repeats an act under the same id until it is acknowledged.
async fn until_acknowledged<F>(ledger: &Ledger, side: Side, act_id: &str, act: impl Fn() -> F)
where
    F: Future<Output = Result<u64, CallError>>,
{
    let mut attempts = interval(ATTEMPT_EVERY);
    loop {
        ledger.until_up(side).await;
        attempts.tick().await;
        match act().await {
            Ok(_) => {
                ledger.acknowledge(side, Thing::Act, |written| {
                    written.acts[side as usize].insert(act_id.to_owned());
                });
                return;
            }
            Err(error)
                if error
                    .reason()
                    .is_none_or(|reason| reason == Reason::Unavailable.name()) =>
            {
                ledger.broke()
            }
            Err(error) => {
                ledger.violated(format!("an act at {side:?} was refused: {error}"));
                return;
            }
        }
    }
}

async fn suspend(ledger: &Ledger, offices: &Offices, side: Side, kind: RequestKind) {
    let act_id = offices.registry[0].ids().next();
    until_acknowledged(ledger, side, &act_id, async || match side {
        Side::Provider => offices.registry[0].suspend(&act_id, Some(kind)).await,
        Side::Gateway => offices.portal[0].suspend(&act_id, Some(kind)).await,
    })
    .await;
}

async fn record(ledger: &Ledger, offices: &Offices, person: &ScenarioPerson) {
    let act_id = offices.registry[0].ids().next();
    match person.record.as_ref().unwrap() {
        OperatorRecord::NonProvision { person_id, register } => {
            let register = register.as_ref().map(|register| {
                (
                    register.municipality_code.as_str(),
                    register.local_number.as_str(),
                )
            });
            until_acknowledged(ledger, Side::Provider, &act_id, || {
                offices.registry[0].record_non_provision(&act_id, person_id.as_deref(), register)
            })
            .await;
        }
        OperatorRecord::Block { card_key_sha256 } => {
            let hash = HEXLOWER.decode(card_key_sha256.as_bytes()).unwrap();
            until_acknowledged(ledger, Side::Gateway, &act_id, || {
                offices.portal[0].block(&act_id, &hash)
            })
            .await;
        }
    }
}

/// Asks again and again. What began after the act was acknowledged must be refused.
fn watch(work: &mut JoinSet<()>, ledger: &Arc<Ledger>, cast: &Arc<Cast>, watched: &Arc<Watched>) {
    let (ledger, cast, watched) = (ledger.clone(), cast.clone(), watched.clone());
    WATCHED.lock().unwrap().push(watched.clone());
    work.spawn(async move {
        let mut attempts = interval(ATTEMPT_EVERY);
        while !ledger.is_stopped() {
            ledger.until_up(Side::Gateway).await;
            attempts.tick().await;
            if watched.ask(&ledger, &cast).await.is_none() {
                ledger.broke();
            }
        }
    });
}

/// What is watched, for the look at the end. The test is the only one of its process.
static WATCHED: std::sync::Mutex<Vec<Arc<Watched>>> = std::sync::Mutex::new(Vec::new());

/// Every act that was acknowledged still forbids.
pub(crate) async fn check(ledger: &Ledger, cast: &Cast) {
    let watched = WATCHED.lock().unwrap().clone();
    assert!(!watched.is_empty());
    for watched in watched {
        assert!(
            watched.forbidden.load(Ordering::SeqCst),
            "{}: nobody has forbidden it",
            watched.name
        );
        let reason = watched.ask(ledger, cast).await;
        assert_eq!(
            reason.as_deref(),
            Some(watched.refusal.name()),
            "{}",
            watched.name
        );
    }
}

impl Watched {
    /// Logs in, consents for one answer, asks; a consent that was not spent is withdrawn, or they would add up to as many
    /// as a requester can have.
    async fn consent_and_ask(&self, frontend: &Frontend) -> Result<RequesterCopyInfo, CallError> {
        let session = frontend.login(&self.card).await?;
        let text = frontend.consent_text(self.kind).await?;
        let consent = frontend.consent(&session, &text, Term::OneTime).await?;
        let answer = frontend.copy_info(&session, self.kind, self.procedure).await;
        if answer.is_err() {
            // The service may be down by now: then this one consent is left.
            let _ = frontend.withdraw(&session, &consent).await;
        }
        answer
    }

    /// The refusal's reason, empty for an answer with items, `None` for no answer.
    async fn ask(&self, ledger: &Ledger, cast: &Cast) -> Option<String> {
        let forbidden = self.forbidden.load(Ordering::SeqCst);
        let reason = match self.consent_and_ask(&cast.frontend).await {
            Ok(_) => String::new(),
            Err(error) => error.reason()?.to_owned(),
        };
        if reason == Reason::Unavailable.name() {
            return None;
        }
        // Before the act is acknowledged it may be in force or not.
        // A block, once in force, ends sessions, this one as well.
        let before = reason.is_empty() || reason == Reason::SessionInvalid.name();
        let may_be = reason == self.refusal.name() || (!forbidden && before);
        if !may_be {
            ledger.violated(format!(
                "{}: forbidden: {forbidden}, and `{reason}` came",
                self.name
            ));
        }
        Some(reason)
    }
}

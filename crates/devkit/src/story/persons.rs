//! Every scenario person of docs/sandbox.md asks once, and the register refusals are compared byte by byte.

use common::{refusal::Reason, terms::RequestKind};
use futures_util::future::join_all;
use koseki_proto::koseki::common::v1::RequesterCopyInfo;

use super::{Came, Cast, Expected, StoryError, Teller, one_requester::current};
use crate::{
    card::VirtualCard,
    client::{CallError, Frontend, Term},
    registers::{Outcome, Scenario, ScenarioPerson},
};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// The procedure that asks for older registers too.
const LINEAGE: &str = "lineage";

/// Which of them ask, and what must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Those about whom operators will record something: nothing is recorded yet, so they are provided.
    BeforeRecords,
    /// All of them, after operators have recorded what the scenarios say.
    AfterRecords,
}

/// Logs in, consents for one answer, asks.
///
/// # Errors
/// The first refusal on the way, or no answer.
pub async fn ask_once(
    frontend: &Frontend,
    card: &VirtualCard,
    kind: RequestKind,
    procedure: &str,
) -> Result<RequesterCopyInfo, CallError> {
    let session = frontend.login(card).await?;
    let text = frontend.consent_text(kind).await?;
    frontend.consent(&session, &text, Term::OneTime).await?;
    frontend.copy_info(&session, kind, procedure).await
}

/// One person's question, and what must come back.
struct Question<'a> {
    person: &'a ScenarioPerson,
    card: VirtualCard,
    procedure: &'static str,
    expected: Expected,
}

impl Question<'_> {
    async fn ask(&self, frontend: &Frontend) -> Came {
        Came::of_request(ask_once(frontend, &self.card, KIND, self.procedure).await)
    }
}

/// Lets them all ask, at the same time: a register refusal takes its fixed time.
///
/// # Errors
/// When a card cannot be read.
pub async fn every_person(cast: &Cast, when: When, teller: &mut Teller) -> Result<(), StoryError> {
    let mut questions = Vec::new();
    for person in &cast.persons {
        for (procedure, expected) in expectations(person, when) {
            questions.push(Question {
                person,
                card: cast.deployment.card(person)?,
                procedure,
                expected,
            });
        }
    }
    teller.scene(match when {
        When::BeforeRecords => "Persons about whom nothing is recorded yet",
        When::AfterRecords => "Every scenario person",
    });
    // One after the other for the same person: a consent for one answer is used up by whichever comes first.
    let (first, second): (Vec<_>, Vec<_>) = questions
        .iter()
        .partition(|question| question.procedure.is_empty());
    let mut answers = Vec::new();
    for questions in [first, second] {
        let came = join_all(questions.iter().map(|question| question.ask(&cast.frontend))).await;
        answers.extend(questions.into_iter().zip(came));
    }
    for (question, came) in &answers {
        let what = match question.procedure {
            "" => format!("{} logs in, consents and asks", question.person.name),
            procedure => format!("{} asks with the procedure `{procedure}`", question.person.name),
        };
        teller.step(&what, &question.expected, came);
    }
    if when == When::AfterRecords {
        compare_refusals(&answers, teller);
    }
    Ok(())
}

fn expectations(person: &ScenarioPerson, when: When) -> Vec<(&'static str, Expected)> {
    if when == When::BeforeRecords {
        return match person.until_recorded.as_slice() {
            [] => Vec::new(),
            registers => vec![("", Expected::Provided(current(registers)))],
        };
    }
    match &person.expected {
        Outcome::Provided { registers } => {
            let mut expected = vec![("", Expected::Provided(current(registers)))];
            if person.name == Scenario::Lineage.name() {
                expected.push((LINEAGE, Expected::Provided(registers.clone())));
            }
            expected
        }
        Outcome::NotProvided => vec![("", Expected::Refused(Reason::NotProvided))],
        Outcome::CardRevoked => vec![("", Expected::Refused(Reason::CardRevoked))],
        Outcome::CardExpired => vec![("", Expected::Refused(Reason::CardExpired))],
    }
}

/// A requester must not learn which of the causes it was (I6).
fn compare_refusals(answers: &[(&Question<'_>, Came)], teller: &mut Teller) {
    let refusals: Vec<_> = answers
        .iter()
        .filter_map(|(_, came)| came.refusal())
        .filter(|refused| refused.reason == Reason::NotProvided.name())
        .collect();
    let differ = refusals.windows(2).any(|pair| match pair {
        [one, other] => one.wire != other.wire,
        _ => false,
    });
    let came = match refusals.first() {
        Some(first) if !differ => Came::Done(format!(
            "{} refusals of {} bytes each",
            refusals.len(),
            first.wire.len()
        )),
        Some(_) => Came::Failed("two of them differ in more than the request id".to_owned()),
        None => Came::Failed("there is none".to_owned()),
    };
    let what = "all register refusals are the same to the byte, but for the request id";
    teller.step(what, &Expected::Done, &came);
}

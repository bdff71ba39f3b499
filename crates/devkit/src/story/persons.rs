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
/// What scenario persons ask with.
type Asks = (RequestKind, &'static str);
const PLAIN: Asks = (KIND, "");
/// The procedure that asks for older registers too.
const LINEAGE: Asks = (KIND, "lineage");
/// The procedure that asks for the requester's own entry.
const NAME_KANA: Asks = (RequestKind::Notification, "name_kana");

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
    asks: Asks,
    expected: Expected,
}

impl Question<'_> {
    async fn ask(&self, frontend: &Frontend) -> Came {
        let (kind, procedure) = self.asks;
        Came::of_request(ask_once(frontend, &self.card, kind, procedure).await)
    }
}

/// Lets them all ask, at the same time: a register refusal takes its fixed time.
///
/// # Errors
/// When a card cannot be read.
pub async fn every_person(cast: &Cast, when: When, teller: &mut Teller) -> Result<(), StoryError> {
    let mut questions = Vec::new();
    for person in &cast.persons {
        for (asks, expected) in expectations(person, when) {
            questions.push(Question {
                person,
                card: cast.deployment.card(person)?,
                asks,
                expected,
            });
        }
    }
    teller.scene(match when {
        When::BeforeRecords => "Persons about whom nothing is recorded yet",
        When::AfterRecords => "Every scenario person",
    });
    // One after the other for the same person: a consent for one answer is used up by whichever comes first.
    let mut answers = Vec::new();
    for asks in [PLAIN, LINEAGE, NAME_KANA] {
        let questions: Vec<_> = questions
            .iter()
            .filter(|question| question.asks == asks)
            .collect();
        let came = join_all(questions.iter().map(|question| question.ask(&cast.frontend))).await;
        answers.extend(questions.into_iter().zip(came));
    }
    for (question, came) in &answers {
        let what = match question.asks.1 {
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

fn expectations(person: &ScenarioPerson, when: When) -> Vec<(Asks, Expected)> {
    if when == When::BeforeRecords {
        return match person.until_recorded.as_slice() {
            [] => Vec::new(),
            registers => vec![(PLAIN, Expected::Provided(current(registers)))],
        };
    }
    match &person.expected {
        Outcome::Provided { registers, requester } => {
            let mut expected = vec![(PLAIN, Expected::Provided(current(registers)))];
            if person.name == Scenario::Lineage.name() {
                expected.push((LINEAGE, Expected::Provided(registers.clone())));
            }
            let with_entry = Expected::ProvidedWithEntry(current(registers), requester.clone());
            expected.push((NAME_KANA, with_entry));
            expected
        }
        Outcome::NotProvided => vec![(PLAIN, Expected::Refused(Reason::NotProvided))],
        Outcome::CardRevoked => vec![(PLAIN, Expected::Refused(Reason::CardRevoked))],
        Outcome::CardExpired => vec![(PLAIN, Expected::Refused(Reason::CardExpired))],
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

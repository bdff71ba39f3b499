//! One requester, step by step: each of the four conditions is missing once, and once all hold.

use std::time::Duration;

use common::{refusal::Reason, terms::RequestKind};
use koseki_proto::portal::v1::{Capacity, ProvisionOutcome};
use tokio::time::interval;

use super::{Came, Cast, Expected, StoryError, Teller};
use crate::{
    client::{DEADLINE, Session, Term},
    registers::{Outcome, ProvidedRegister, RegisterKind, Scenario},
};

/// How long the requester lets a consent hold.
const CONSENT_HOLDS: Duration = Duration::from_secs(3_600);
const KIND: RequestKind = RequestKind::CertificateRequest;
/// Between two looks at the own records.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Plays the ordinary person.
///
/// # Errors
/// When the data set does not have them.
pub async fn one_requester(cast: &Cast, teller: &mut Teller) -> Result<(), StoryError> {
    let frontend = &cast.frontend;
    let (person, card) = cast.person(Scenario::Ordinary)?;
    let Outcome::Provided { registers, .. } = &person.expected else {
        return Err(StoryError::Missing("ordinary person with a register"));
    };
    let items = Expected::Provided(current(registers));

    teller.scene("One requester (請求者) at the portal");
    let came = Came::of_act(frontend.wait_until_providing().await);
    teller.step(
        "the frontend waits until copy information is provided",
        &Expected::Done,
        &came,
    );

    let came = Came::of_request(frontend.copy_info(&Session::invented(), KIND, "").await);
    teller.step(
        "asks without having logged in",
        &Expected::Refused(Reason::SessionInvalid),
        &came,
    );

    let session = match frontend.login(&card).await {
        Ok(session) => session,
        Err(error) => {
            teller.step(
                "logs in with the card",
                &Expected::Done,
                &Came::of_act::<()>(Err(error)),
            );
            return Ok(());
        }
    };
    let told = "the card has signed the whole text; a session is open".to_owned();
    teller.step("logs in with the card", &Expected::Done, &Came::Done(told));

    let came = Came::of_request(frontend.copy_info(&session, KIND, "").await);
    teller.step(
        "asks without having consented",
        &Expected::Refused(Reason::ConsentRequired),
        &came,
    );

    let text = match frontend.consent_text(KIND).await {
        Ok(text) => text,
        Err(error) => {
            teller.step(
                "reads the consent text",
                &Expected::Done,
                &Came::of_act::<()>(Err(error)),
            );
            return Ok(());
        }
    };
    teller.step(
        "reads the consent text",
        &Expected::Done,
        &Came::Done(text.text.trim().to_owned()),
    );
    let an_hour = Term::For(CONSENT_HOLDS);
    let came = Came::of_act(
        frontend
            .grant(&session, &text, an_hour, Capacity::Representative)
            .await,
    );
    teller.step(
        "consents for somebody else",
        &Expected::Refused(Reason::RepresentedNotSupported),
        &came,
    );
    let consent = frontend.consent(&session, &text, an_hour).await;
    let consent_id = consent.clone().unwrap_or_default();
    teller.step(
        "consents to it for an hour",
        &Expected::Done,
        &Came::of_act(consent),
    );

    let request_id = frontend.ids().next();
    let came = Came::of_request(frontend.copy_info_as(&request_id, &session, KIND, "").await);
    teller.step("asks: all four conditions hold", &items, &came);

    let came = Came::of_request(frontend.copy_info_as(&request_id, &session, KIND, "").await);
    teller.step(
        "asks again under the same request id",
        &Expected::Refused(Reason::RequestIdUsed),
        &came,
    );

    let came = Came::of_request(
        frontend
            .copy_info(&session, RequestKind::Notification, "general")
            .await,
    );
    let what = "asks for another kind of request, to which there is no consent";
    teller.step(what, &Expected::Refused(Reason::ConsentRequired), &came);

    let came = Came::of_act(frontend.withdraw(&session, &consent_id).await);
    teller.step("withdraws the consent", &Expected::Done, &came);
    let came = Came::of_request(frontend.copy_info(&session, KIND, "").await);
    teller.step(
        "asks after having withdrawn",
        &Expected::Refused(Reason::ConsentRequired),
        &came,
    );

    let came = Came::of_act(frontend.consent(&session, &text, Term::OneTime).await);
    teller.step("consents for one answer", &Expected::Done, &came);
    let came = Came::of_request(frontend.copy_info(&session, KIND, "").await);
    teller.step("asks", &items, &came);
    let came = Came::of_request(frontend.copy_info(&session, KIND, "").await);
    teller.step(
        "asks a second time: the consent is used up",
        &Expected::Refused(Reason::ConsentRequired),
        &came,
    );

    least_information(cast, &session, registers, teller).await;

    let came = Came::of_act(frontend.receipt(&session, &consent_id).await);
    teller.step(
        "takes the receipt of the first consent once more",
        &Expected::Done,
        &came,
    );
    let came = record_of(cast, &session, &request_id).await;
    teller.step(
        "finds the first request in the own records",
        &Expected::Done,
        &came,
    );

    let came = Came::of_act(frontend.logout(&session).await);
    teller.step("logs out", &Expected::Done, &came);
    let came = Came::of_request(frontend.copy_info(&session, KIND, "").await);
    teller.step(
        "asks after having logged out",
        &Expected::Refused(Reason::SessionInvalid),
        &came,
    );
    Ok(())
}

/// Looks for a provided request in the requester's own records, which follow the log within a second.
async fn record_of(cast: &Cast, session: &Session, request_id: &str) -> Came {
    let look = async {
        let mut looks = interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let page = match cast.frontend.own_records(session, 0, &[]).await {
                Ok(page) => page,
                Err(error) => return Came::of_act::<()>(Err(error)),
            };
            let provided = page.records.iter().find(|record| {
                record.request_id == request_id && record.outcome() == ProvisionOutcome::Provided
            });
            if let Some(record) = provided {
                let (items, frontend) = (record.items.len(), &record.frontend);
                return Came::Done(format!(
                    "{items} items were provided through the frontend {frontend}"
                ));
            }
        }
    };
    let found = tokio::time::timeout(DEADLINE, look).await;
    found.unwrap_or_else(|_| Came::Failed("it is not in the own records".to_owned()))
}

/// For the kind whose policy lists a handle instead of the municipality's code, the answer has no code (I7), and the
/// register is named the same each time.
async fn least_information(
    cast: &Cast,
    session: &Session,
    registers: &[ProvidedRegister],
    teller: &mut Teller,
) {
    let kind = RequestKind::ProvisionCodeRequest;
    let mut fewer = current(registers);
    for register in &mut fewer {
        register.municipality_code.clear();
    }
    let mut handle = None;
    for what in [
        "asks for a kind for which the policy lists other items (識別符号等の発行等の請求)",
        "asks for it again: the register has the same handle",
    ] {
        let consented = match cast.frontend.consent_text(kind).await {
            Ok(text) => cast.frontend.consent(session, &text, Term::OneTime).await,
            Err(error) => Err(error),
        };
        let came = match consented {
            Ok(_) => Came::of_request(cast.frontend.copy_info(session, kind, "").await),
            Err(error) => Came::of_act::<()>(Err(error)),
        };
        let expected = Expected::ProvidedWithHandle(fewer.clone(), handle.take());
        teller.step(what, &expected, &came);
        if let Came::Provided(items) = &came {
            handle = items.handles.first().cloned();
        }
    }
}

/// Those that a plain procedure gives.
pub(super) fn current(registers: &[ProvidedRegister]) -> Vec<ProvidedRegister> {
    let current = registers
        .iter()
        .filter(|register| register.register_kind == RegisterKind::Current);
    current.cloned().collect()
}

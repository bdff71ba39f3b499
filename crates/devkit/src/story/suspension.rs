//! Provision is suspended and resumed (clause 3.3): closing takes one operator and acts at once, opening takes two.

use common::{refusal::Reason, terms::RequestKind};

use super::{Came, Cast, Expected, Offices, Side, StoryError, Teller, ask_once, one_requester::current};
use crate::{
    deployment::OPERATORS,
    registers::{Outcome, Scenario},
};

/// The kind that the registry side suspends; the portal side suspends all.
const KIND: RequestKind = RequestKind::CertificateRequest;
/// A kind and procedure that are not suspended then.
const OTHER: (RequestKind, &str) = (RequestKind::Notification, "general");

/// One operator suspends.
pub async fn suspend(offices: &Offices, side: Side, teller: &mut Teller) {
    teller.scene(&format!("Provision is suspended at {}", side.name()));
    let [name, _] = OPERATORS;
    let (what, result) = match side {
        Side::Portal => {
            let [operator, _] = &offices.portal;
            ("all kinds", operator.suspend(&operator.ids().next(), None).await)
        }
        Side::Registry => {
            let [operator, _] = &offices.registry;
            (
                "requests for certificates (交付の請求)",
                operator.suspend(&operator.ids().next(), Some(KIND)).await,
            )
        }
    };
    let came = Came::of(result, |epoch| Came::Done(format!("in force, epoch {epoch}")));
    teller.step(
        &format!("operator {name} suspends {what}"),
        &Expected::Done,
        &came,
    );
}

/// What a requester meets then.
///
/// # Errors
/// When the data set does not have the ordinary person.
pub async fn while_suspended(cast: &Cast, side: Side, teller: &mut Teller) -> Result<(), StoryError> {
    let (person, card) = cast.person(Scenario::Ordinary)?;
    let Outcome::Provided { registers, .. } = &person.expected else {
        return Err(StoryError::Missing("ordinary person with a register"));
    };
    let came = Came::of_request(ask_once(&cast.frontend, &card, KIND, "").await);
    let refused = Expected::Refused(Reason::ProvisionSuspended);
    teller.step(
        "the requester asks, with everything else in order",
        &refused,
        &came,
    );
    let (kind, procedure) = OTHER;
    let (what, expected) = match side {
        Side::Portal => ("asks for another kind: all are suspended", refused),
        Side::Registry => (
            "asks for another kind, which is not suspended",
            Expected::Provided(current(registers)),
        ),
    };
    let came = Came::of_request(ask_once(&cast.frontend, &card, kind, procedure).await);
    teller.step(what, &expected, &came);
    Ok(())
}

/// One operator is not enough, also not twice; two are.
pub async fn ask_to_resume(offices: &Offices, side: Side, teller: &mut Teller) {
    let [first, second] = OPERATORS;
    let ([registry, other_registry], [portal, other_portal]) = (&offices.registry, &offices.portal);
    let proposed = match side {
        Side::Portal => portal.propose_resume(None).await,
        Side::Registry => registry.propose_resume(Some(KIND)).await,
    };
    let came = Came::of_act(proposed.as_ref().map(|_| ()).map_err(Clone::clone));
    let what = format!("operator {first} proposes to provide again");
    teller.step(&what, &Expected::Done, &came);
    let Ok(proposed) = proposed else { return };
    for (name, registry, portal, expected) in [
        (
            first,
            registry,
            portal,
            Expected::Refused(Reason::AnotherPersonNeeded),
        ),
        (second, other_registry, other_portal, Expected::Done),
    ] {
        let approved = match side {
            Side::Portal => portal.approve(&proposed).await,
            Side::Registry => registry.approve(&proposed).await,
        };
        let what = format!("operator {name} approves that");
        teller.step(&what, &expected, &Came::of_act(approved));
    }
}

/// What a requester gets then.
///
/// # Errors
/// When the data set does not have the ordinary person.
pub async fn provided_again(cast: &Cast, teller: &mut Teller) -> Result<(), StoryError> {
    let (person, card) = cast.person(Scenario::Ordinary)?;
    let Outcome::Provided { registers, .. } = &person.expected else {
        return Err(StoryError::Missing("ordinary person with a register"));
    };
    let came = Came::of_act(cast.frontend.wait_until_providing().await);
    teller.step(
        "the frontend sees that provision is open again",
        &Expected::Done,
        &came,
    );
    let came = Came::of_request(ask_once(&cast.frontend, &card, KIND, "").await);
    teller.step(
        "the requester asks again",
        &Expected::Provided(current(registers)),
        &came,
    );
    Ok(())
}

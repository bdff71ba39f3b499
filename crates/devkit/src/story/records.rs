//! Operators record what the scenarios need: non-provision on the registry side, a block on the portal side.

use data_encoding::HEXLOWER;
use futures_util::future::join_all;

use super::{Came, Expected, Offices, StoryError, Teller};
use crate::{
    client::CallError,
    deployment::OPERATORS,
    registers::{OperatorRecord, ScenarioPerson},
};

/// Records all of it, at the same time: an act returns only when no earlier answer can still be released.
///
/// # Errors
/// When the data set is not the one that the story tells of.
pub async fn record(
    persons: &[ScenarioPerson],
    offices: &Offices,
    teller: &mut Teller,
) -> Result<(), StoryError> {
    teller.scene("Operators record what forbids");
    let [operator, _] = OPERATORS;
    let records = persons
        .iter()
        .filter_map(|person| person.record.as_ref().map(|record| (person, record)));
    let acts =
        join_all(records.map(|(person, record)| async move { (person, record, act(offices, record).await) }));
    for (person, record, outcome) in acts.await {
        let what = format!("operator {operator} {}", in_words(person, record));
        let came = match outcome {
            Some(result) => Came::of(result, |epoch| Came::Done(format!("in force, epoch {epoch}"))),
            None => return Err(StoryError::Missing("key hash of the card to be blocked")),
        };
        teller.step(&what, &Expected::Done, &came);
    }
    Ok(())
}

async fn act(offices: &Offices, record: &OperatorRecord) -> Option<Result<u64, CallError>> {
    match record {
        OperatorRecord::NonProvision { person_id, register } => {
            let [operator, _] = &offices.registry;
            let register = register.as_ref().map(|register| {
                (
                    register.municipality_code.as_str(),
                    register.local_number.as_str(),
                )
            });
            let act_id = operator.ids().next();
            Some(
                operator
                    .record_non_provision(&act_id, person_id.as_deref(), register)
                    .await,
            )
        }
        OperatorRecord::Block { card_key_sha256 } => {
            let [operator, _] = &offices.portal;
            let hash = HEXLOWER.decode(card_key_sha256.as_bytes()).ok()?;
            Some(operator.block(&operator.ids().next(), &hash).await)
        }
    }
}

fn in_words(person: &ScenarioPerson, record: &OperatorRecord) -> String {
    let name = &person.name;
    match record {
        OperatorRecord::NonProvision {
            person_id: Some(_),
            register: None,
        } => {
            format!(
                "of the registry side records non-provision (提供すべきでない旨の記録) of the person `{name}`"
            )
        }
        OperatorRecord::NonProvision { person_id: None, .. } => {
            format!("of the registry side records non-provision of the register of `{name}`")
        }
        OperatorRecord::NonProvision { .. } => {
            format!("of the registry side records non-provision of the register to the requester `{name}`")
        }
        OperatorRecord::Block { .. } => format!("of the portal side blocks the card of `{name}`"),
    }
}

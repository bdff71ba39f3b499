//! Writing what came of a batch.

use common::{
    keyring::Lookup,
    store::{Column, StoreError, Value, WriteTx, table},
};

use super::{Linkage, Person};

pub(super) async fn persons(tx: &mut WriteTx, persons: &[(&Lookup, &Person)]) -> Result<(), StoreError> {
    let batch = table([
        (
            "person",
            Column::Bytes(persons.iter().map(|(lookup, _)| lookup.to_vec()).collect()),
        ),
        (
            "content",
            Column::Bytes(
                persons
                    .iter()
                    .map(|(_, person)| person.content.to_vec())
                    .collect(),
            ),
        ),
    ]);
    tx.execute(
        "INSERT INTO person (person, content) SELECT person, content FROM {batch} WHERE true \
         ON CONFLICT (person) DO UPDATE SET content = excluded.content",
        &[("batch", batch)],
    )
    .await?;
    // All are taken away before any is given: a reference may pass from one person of the batch to another.
    tx.execute(
        "DELETE FROM person_member WHERE person_id IN \
         (SELECT id FROM person WHERE person IN (SELECT value FROM {persons}))",
        &[(
            "persons",
            Value::keys(persons.iter().map(|(lookup, _)| lookup.as_slice())),
        )],
    )
    .await?;
    let (mut owners, mut references) = (Vec::new(), Vec::new());
    for (lookup, person) in persons {
        for reference in &person.references {
            owners.push(lookup.to_vec());
            references.push(reference.to_vec());
        }
    }
    let batch = table([
        ("person", Column::Bytes(owners)),
        ("reference", Column::Bytes(references)),
    ]);
    tx.execute(
        "INSERT INTO person_member (reference, person_id) \
         SELECT batch.reference, person.id FROM {batch} JOIN person ON person.person = batch.person",
        &[("batch", batch)],
    )
    .await?;
    Ok(())
}

pub(super) async fn linkages(tx: &mut WriteTx, linkages: &[(&Lookup, &Linkage)]) -> Result<(), StoreError> {
    let bytes = |of: fn(&(&Lookup, &Linkage)) -> Vec<u8>| Column::Bytes(linkages.iter().map(of).collect());
    let batch = table([
        ("handle", bytes(|(handle, _)| handle.to_vec())),
        (
            "sealed_handle",
            bytes(|(_, linkage)| linkage.sealed_handle.clone()),
        ),
        ("person", bytes(|(_, linkage)| linkage.person.to_vec())),
        ("card_key", bytes(|(_, linkage)| linkage.card_key.to_vec())),
        (
            "state",
            Column::Text(
                linkages
                    .iter()
                    .map(|(_, linkage)| linkage.state.as_str().to_owned())
                    .collect(),
            ),
        ),
        (
            "confirmed_at",
            Column::Int(
                linkages
                    .iter()
                    .map(|(_, linkage)| Some(linkage.confirmed_at.unix_ms()))
                    .collect(),
            ),
        ),
    ]);
    tx.execute(
        "INSERT INTO linkage (handle, sealed_handle, person_id, person, card_key, state, confirmed_at) \
         SELECT batch.handle, batch.sealed_handle, person.id, person.person, batch.card_key, batch.state, \
            batch.confirmed_at \
         FROM {batch} JOIN person ON person.person = batch.person WHERE true \
         ON CONFLICT (handle) DO UPDATE SET card_key = excluded.card_key, state = excluded.state, \
            confirmed_at = excluded.confirmed_at",
        &[("batch", batch)],
    )
    .await?;
    Ok(())
}

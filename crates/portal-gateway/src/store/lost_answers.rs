//! How far this instance has looked for lost answers.

use common::{
    clock::Timestamp,
    evidence::NewEntry,
    store::{Access, Database, StoreError},
};

/// A place in a log of the registry side and in the own one.
pub struct LostAnswerPlace {
    /// The next bundle there.
    pub provider_bundle: u64,
    /// The first bundle here that can have an entry for that one or a later one.
    pub own_bundle: u64,
}

/// The place; the beginning of both when it was never looked.
pub async fn lost_answer_place(
    database: &Database,
    provider_log: &str,
) -> Result<LostAnswerPlace, StoreError> {
    let mut reader = database.reader().await?;
    let row = reader
        .connection()
        .optional(
            "SELECT provider_bundle, own_bundle FROM lost_answer_place \
             WHERE log = {log} AND provider_log = {provider_log}",
            &[
                ("log", database.log().into()),
                ("provider_log", provider_log.into()),
            ],
        )
        .await?;
    let (provider_bundle, own_bundle) = match row {
        Some(row) => (row.int(0)?.unsigned_abs(), row.int(1)?.unsigned_abs()),
        None => (0, 0),
    };
    Ok(LostAnswerPlace {
        provider_bundle,
        own_bundle,
    })
}

/// Goes on from a place with the entries of what was lost, unless somebody else has: true when it did.
pub async fn record_lost_answers(
    database: &Database,
    provider_log: &str,
    before: &LostAnswerPlace,
    after: &LostAnswerPlace,
    entries: Vec<NewEntry>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let number =
        |number: u64| i64::try_from(number).map_err(|_| StoreError::Unreadable("the number of a bundle"));
    let params = [
        ("log", database.log().into()),
        ("provider_log", provider_log.into()),
        ("before", number(before.provider_bundle)?.into()),
        ("after", number(after.provider_bundle)?.into()),
        ("own_bundle", number(after.own_bundle)?.into()),
    ];
    let access = if entries.is_empty() {
        Access::Ungated
    } else {
        Access::Ordinary
    };
    let mut tx = database.begin(access).await?;
    tx.execute(
        "INSERT INTO lost_answer_place (log, provider_log, provider_bundle, own_bundle) \
         VALUES ({log}, {provider_log}, 0, 0) ON CONFLICT DO NOTHING",
        &params,
    )
    .await?;
    let moved = tx
        .execute(
            "UPDATE lost_answer_place SET provider_bundle = {after}, own_bundle = {own_bundle} \
             WHERE log = {log} AND provider_log = {provider_log} AND provider_bundle = {before}",
            &params,
        )
        .await?;
    if moved != 1 {
        return Ok(false);
    }
    if entries.is_empty() {
        tx.commit_unrecorded().await?;
    } else {
        let _ = tx.commit(entries, now).await?;
    }
    Ok(true)
}

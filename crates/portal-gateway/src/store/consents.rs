//! A requester's consents, for showing them; what a request needs of them is read with its guards.

use common::{
    clock::Timestamp,
    store::{Database, Row, StoreError},
    terms::{ActId, RequestKind},
};

use crate::{
    conditions::ConsentFacts,
    consent::{Consent, ConsentPlace, ConsentState},
};

pub(super) async fn list(
    database: &Database,
    account: i64,
    behind: Option<&ConsentPlace>,
    limit: i64,
) -> Result<Vec<Consent>, StoreError> {
    let (given_at, id) = match behind {
        Some(place) => (place.given_at.unix_ms(), place.id.as_bytes().as_slice()),
        None => (i64::MAX, [].as_slice()),
    };
    let params = [
        ("account", account.into()),
        ("given_at", given_at.into()),
        ("id", id.into()),
        ("limit", limit.into()),
    ];
    let mut reader = database.reader().await?;
    let rows = reader
        .connection()
        .all(
            "SELECT id, kind, text_sha256, language, given_at, expires_at, one_time, state, withdrawn_at FROM consent \
             WHERE account_id = {account} AND (given_at, id) < ({given_at}, {id}) \
             ORDER BY given_at DESC, id DESC LIMIT {limit}",
            &params,
        )
        .await?;
    rows.iter().map(consent).collect()
}

pub(super) async fn one(database: &Database, account: i64, id: ActId) -> Result<Option<Consent>, StoreError> {
    let mut reader = database.reader().await?;
    let row = reader
        .connection()
        .optional(
            "SELECT id, kind, text_sha256, language, given_at, expires_at, one_time, state, withdrawn_at FROM consent \
             WHERE account_id = {account} AND id = {id}",
            &[("account", account.into()), ("id", id.as_bytes().into())],
        )
        .await?;
    row.as_ref().map(consent).transpose()
}

fn consent(row: &Row) -> Result<Consent, StoreError> {
    let moment = |at| Ok::<_, StoreError>(Timestamp::from_unix_ms(row.int(at)?));
    let kind = i32::try_from(row.int(1)?).ok();
    Ok(Consent {
        facts: ConsentFacts {
            id: ActId::from_bytes(row.array(0)?),
            text_sha256: row.array(2)?,
            given_at: moment(4)?,
            expires_at: moment(5)?,
            one_time: row.bool(6)?,
        },
        kind: kind
            .and_then(|kind| RequestKind::parse(kind).ok())
            .ok_or(StoreError::Unreadable("a kind of request"))?,
        language: row.text(3)?.to_owned(),
        state: match row.text(7)? {
            "GIVEN" => ConsentState::Given,
            "SPENT" => ConsentState::Spent,
            "WITHDRAWN" => ConsentState::Withdrawn,
            _ => return Err(StoreError::Unreadable("the state of a consent")),
        },
        withdrawn_at: row.optional_int(8)?.map(Timestamp::from_unix_ms),
    })
}

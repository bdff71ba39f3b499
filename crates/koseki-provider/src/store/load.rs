//! Loading copies, persons and linkages: a batch of lines is one transaction, and one outcome a line.

use std::collections::HashMap;

use common::{
    clock::Timestamp,
    digest,
    evidence::ordinary_act,
    identity::PeerIdentity,
    keyring::{Keyring, Lookup},
    lines::{LineFault, Outcome},
    sealing::Place,
    store::{Change, Load, StoreError, WriteTx, hex_array},
    terms::{LinkageCode, LinkageState, RegisterKind},
};
use koseki_proto::koseki::common::v1::{LineOutcome, LineReason};
use sqlx::Row as _;

use super::{
    Loaded,
    sqlite::{body_place, handle_lookup, lookup_column, member_lookup, person_lookup, register_lookup},
};
use crate::{
    persons::PersonLine,
    register::{Medium, RegisterCopy},
};

/// Stores copies.
pub(super) async fn copies(
    mut tx: WriteTx,
    keys: &Keyring,
    copies: Vec<RegisterCopy>,
    sender: &PeerIdentity,
    now: Timestamp,
) -> Result<Vec<Outcome>, StoreError> {
    let lookups: Vec<Lookup> = copies
        .iter()
        .map(|copy| register_lookup(keys, &copy.key))
        .collect();
    let mut stored = stored_revisions(&mut tx, &lookups).await?;
    let mut outcomes = Vec::with_capacity(copies.len());
    let mut count = 0;
    for (copy, key) in copies.iter().zip(&lookups) {
        let content = keys.lookup.lookup("digest", &[&copy.digest]);
        let outcome = match stored.get(key) {
            Some((revision, _)) if *revision > copy.revision => Ok(LineOutcome::Older),
            Some((revision, known)) if *revision == copy.revision && *known == content => {
                Ok(LineOutcome::Unchanged)
            }
            Some((revision, _)) if *revision == copy.revision => Err(LineFault::new(
                LineReason::Duplicate,
                "revision",
                "one content for a register and revision",
            )),
            _ => {
                store_copy(&mut tx, keys, copy, key, &content, now).await?;
                stored.insert(*key, (copy.revision, content));
                count += 1;
                Ok(LineOutcome::Stored)
            }
        };
        outcomes.push(outcome);
    }
    if count > 0 {
        let _ = tx
            .commit(vec![ordinary_act("LOAD_COPIES", sender, count, None, "")], now)
            .await?;
    }
    Ok(outcomes)
}

async fn stored_revisions(
    tx: &mut WriteTx,
    keys: &[Lookup],
) -> Result<HashMap<Lookup, (u64, Lookup)>, StoreError> {
    let rows = sqlx::query(
        "SELECT key, revision, digest FROM register_copy WHERE key IN (SELECT unhex(value) FROM json_each(?1))",
    )
    .bind(hex_array(keys.iter().map(Lookup::as_slice)))
    .fetch_all(tx.connection())
    .await?;
    rows.iter()
        .map(|row| {
            let revision = row.try_get::<i64, _>(1)?.unsigned_abs();
            Ok((lookup_column(row, 0)?, (revision, lookup_column(row, 2)?)))
        })
        .collect()
}

async fn store_copy(
    tx: &mut WriteTx,
    keys: &Keyring,
    copy: &RegisterCopy,
    key: &Lookup,
    content: &Lookup,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (id,): (i64,) = sqlx::query_as(
        "INSERT INTO register_copy \
            (key, municipality_code, kind, medium, in_motion, revision, digest, received_at, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (key) DO UPDATE SET \
            kind = excluded.kind, medium = excluded.medium, in_motion = excluded.in_motion, \
            revision = excluded.revision, digest = excluded.digest, received_at = excluded.received_at, \
            body = excluded.body \
         RETURNING id",
    )
    .bind(key.as_slice())
    .bind(copy.key.municipality_code.as_str())
    .bind(match copy.kind {
        RegisterKind::Current => "current",
        RegisterKind::Removed => "removed",
        RegisterKind::PreRevision => "pre_revision",
    })
    .bind(match copy.medium {
        Medium::Text => "text",
        Medium::Image => "image",
        Medium::Paper => "paper",
    })
    .bind(copy.in_motion)
    .bind(i64::try_from(copy.revision).map_err(|_| StoreError::Unreadable("a revision"))?)
    .bind(content.as_slice())
    .bind(now.unix_ms())
    .bind(keys.sealer.seal(body_place(key, copy.revision), &copy.body)?)
    .fetch_one(tx.connection())
    .await?;
    sqlx::query("DELETE FROM member WHERE register_id = ?1")
        .bind(id)
        .execute(tx.connection())
        .await?;
    let members: Vec<serde_json::Value> = copy
        .members
        .iter()
        .enumerate()
        .map(|(position, member)| {
            let lookup = member_lookup(keys, copy.key.municipality_code.as_str(), &member.reference);
            serde_json::json!([
                data_encoding::HEXLOWER.encode(&lookup),
                i32::from(member.removed),
                position
            ])
        })
        .collect();
    sqlx::query(
        "INSERT INTO member (register_id, reference, removed, position) \
         SELECT ?1, unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(?2)",
    )
    .bind(id)
    .bind(serde_json::Value::from(members).to_string())
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Stores persons and linkages.
pub(super) async fn persons(
    mut tx: WriteTx,
    keys: &Keyring,
    lines: Vec<PersonLine>,
    operator: &PeerIdentity,
    now: Timestamp,
) -> Result<Loaded, StoreError> {
    let mut outcomes = Vec::with_capacity(lines.len());
    let mut load = Load::new(operator);
    for line in &lines {
        let change = match line {
            PersonLine::Person { person_id, members } => {
                let members: Vec<Lookup> = members
                    .iter()
                    .map(|(code, reference)| member_lookup(keys, code.as_str(), reference))
                    .collect();
                store_person(&mut tx, keys, &person_lookup(keys, person_id), &members).await?
            }
            PersonLine::Linkage {
                code,
                person_id,
                card_key_sha256,
                state,
            } => {
                let card_key = keys.lookup.lookup("card-key", &[card_key_sha256]);
                let linkage = Linkage {
                    person: person_lookup(keys, person_id),
                    card_key,
                    state: *state,
                };
                store_linkage(&mut tx, keys, code, &linkage).await?
            }
        };
        outcomes.push(change.map(|change| load.count(change)));
    }
    let forbids = load.commit(tx, now).await?;
    Ok(Loaded { outcomes, forbids })
}

async fn store_person(
    tx: &mut WriteTx,
    keys: &Keyring,
    person: &Lookup,
    members: &[Lookup],
) -> Result<Result<Change, LineFault>, StoreError> {
    let parts: Vec<&[u8]> = members.iter().map(Lookup::as_slice).collect();
    let content = digest::sha256(&parts);
    let known: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT id, content FROM person WHERE person = ?1")
        .bind(person.as_slice())
        .fetch_optional(tx.connection())
        .await?;
    if known.as_ref().is_some_and(|(_, stored)| *stored == content) {
        return Ok(Ok(Change::Nothing));
    }
    let taken: Option<(i64,)> = sqlx::query_as(
        "SELECT person_id FROM person_member WHERE reference IN (SELECT unhex(value) FROM json_each(?1)) \
         AND person_id IS NOT ?2 LIMIT 1",
    )
    .bind(hex_array(members.iter().map(Lookup::as_slice)))
    .bind(known.as_ref().map(|(id, _)| *id))
    .fetch_optional(tx.connection())
    .await?;
    if taken.is_some() {
        return Ok(Err(LineFault::new(
            LineReason::Duplicate,
            "members",
            "a reference belongs to one person at most",
        )));
    }
    let (id,): (i64,) = sqlx::query_as(
        "INSERT INTO person (person, content) VALUES (?1, ?2) \
         ON CONFLICT (person) DO UPDATE SET content = excluded.content RETURNING id",
    )
    .bind(person.as_slice())
    .bind(content.as_slice())
    .fetch_one(tx.connection())
    .await?;
    sqlx::query("DELETE FROM person_member WHERE person_id = ?1")
        .bind(id)
        .execute(tx.connection())
        .await?;
    sqlx::query(
        "INSERT INTO person_member (reference, person_id) SELECT unhex(value), ?2 FROM json_each(?1)",
    )
    .bind(hex_array(members.iter().map(Lookup::as_slice)))
    .bind(id)
    .execute(tx.connection())
    .await?;
    // Other registers may be specified from now on, or none.
    Ok(Ok(change(keys, known.is_some(), person)))
}

/// What storing something about a person changed: what was known before may have allowed more.
fn change(keys: &Keyring, known: bool, person: &Lookup) -> Change {
    if known {
        Change::Forbids(keys.pseudonym.pseudonym("subject", person))
    } else {
        Change::Added
    }
}

struct Linkage {
    person: Lookup,
    card_key: Lookup,
    state: LinkageState,
}

async fn store_linkage(
    tx: &mut WriteTx,
    keys: &Keyring,
    code: &LinkageCode,
    linkage: &Linkage,
) -> Result<Result<Change, LineFault>, StoreError> {
    let person: Option<(i64,)> = sqlx::query_as("SELECT id FROM person WHERE person = ?1")
        .bind(linkage.person.as_slice())
        .fetch_optional(tx.connection())
        .await?;
    let Some((person_id,)) = person else {
        return Ok(Err(LineFault::new(
            LineReason::UnknownReference,
            "person_id",
            "a person that is loaded",
        )));
    };
    let handle = code.handle();
    let lookup = handle_lookup(keys, &handle);
    let known: Option<(i64, Vec<u8>, String)> =
        sqlx::query_as("SELECT person_id, card_key, state FROM linkage WHERE handle = ?1")
            .bind(lookup.as_slice())
            .fetch_optional(tx.connection())
            .await?;
    if let Some((known_person, card_key, state)) = &known {
        if *known_person != person_id {
            return Ok(Err(LineFault::new(
                LineReason::Duplicate,
                "linkage_code",
                "one person for a code, for ever",
            )));
        }
        if *state == linkage.state.as_str() && *card_key == linkage.card_key {
            return Ok(Ok(Change::Nothing));
        }
        if state == "REVOKED" {
            return Ok(Err(LineFault::new(
                LineReason::InvalidField,
                "state",
                "a revoked linkage stays revoked",
            )));
        }
    }
    let place = Place {
        column: "linkage.sealed_handle",
        row: &lookup,
        revision: 0,
    };
    sqlx::query(
        "INSERT INTO linkage (handle, sealed_handle, person_id, card_key, state) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (handle) DO UPDATE SET card_key = excluded.card_key, state = excluded.state",
    )
    .bind(lookup.as_slice())
    .bind(keys.sealer.seal(place, handle.expose())?)
    .bind(person_id)
    .bind(linkage.card_key.as_slice())
    .bind(linkage.state.as_str())
    .execute(tx.connection())
    .await?;
    Ok(Ok(change(keys, known.is_some(), &linkage.person)))
}

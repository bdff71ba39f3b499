//! Storing copies: a batch is one transaction of a few statements, whatever its size.

use std::collections::HashMap;

use common::{
    clock::Timestamp,
    evidence::ordinary_act,
    identity::PeerIdentity,
    keyring::{Keyring, Lookup},
    lines::{LineFault, Outcome},
    store::{Access, Column, Database, StoreError, Value, WriteTx, table},
    terms::RegisterKind,
};
use koseki_proto::koseki::common::v1::{LineOutcome, LineReason};

use super::{current_registers, lookups, suppression};
use crate::register::{Medium, RegisterCopy};

/// A copy with what its rows are found by.
struct Keyed<'a> {
    copy: &'a RegisterCopy,
    key: Lookup,
    content: Lookup,
}

/// Times that a batch is tried again when another stream has stored a newer revision of one of its registers meanwhile.
const TRIES: u32 = 3;

pub(super) async fn store(
    database: &Database,
    copies: Vec<RegisterCopy>,
    sender: &PeerIdentity,
    now: Timestamp,
) -> Result<Vec<Outcome>, StoreError> {
    let keys = &database.keys;
    let copies: Vec<Keyed<'_>> = copies
        .iter()
        .map(|copy| Keyed {
            key: lookups::register(keys, &copy.key),
            content: keys.lookup.lookup("digest", &[&copy.digest]),
            copy,
        })
        .collect();
    for _ in 0..TRIES {
        let mut stored = stored_revisions(database, &copies).await?;
        let known: Vec<Lookup> = stored.keys().copied().collect();
        let (outcomes, newest) = judge(&copies, &mut stored);
        if newest.is_empty() {
            return Ok(outcomes);
        }
        // All that is not the database's work is done before the transaction begins.
        let rows = copy_rows(keys, &newest)?;
        let references = member_references(keys, &newest);
        let mut tx = database.begin(Access::Copies).await?;
        if !write(&mut tx, rows, &newest, &references, &known, now).await? {
            continue;
        }
        let count = outcomes
            .iter()
            .filter(|outcome| **outcome == Ok(LineOutcome::Stored))
            .count();
        let mut entries = vec![ordinary_act(
            "LOAD_COPIES",
            sender,
            u64::try_from(count).unwrap_or(u64::MAX),
            None,
            "",
        )];
        let current = newest
            .iter()
            .zip(references)
            .filter(|(keyed, _)| keyed.copy.kind == RegisterKind::Current)
            .flat_map(|(_, references)| references);
        // From here on in the order of the gate, as loads of persons do it: two that touch one person wait for each other.
        tx.take_gate().await?;
        entries.extend(current_registers::check(&mut tx, keys, current.collect(), sender, now).await?);
        let written: Vec<Lookup> = newest.iter().map(|keyed| keyed.key).collect();
        suppression::copies_stored(&mut tx, &written, now).await?;
        let _ = tx.commit(entries, now).await?;
        return Ok(outcomes);
    }
    Err(StoreError::Unreadable("registers that others keep changing"))
}

/// What becomes of each copy, and which are to be written: of each register the newest one.
fn judge<'a>(
    copies: &'a [Keyed<'a>],
    stored: &mut HashMap<Lookup, (u64, Lookup)>,
) -> (Vec<Outcome>, Vec<&'a Keyed<'a>>) {
    let mut outcomes = Vec::with_capacity(copies.len());
    let mut newest: HashMap<Lookup, &Keyed<'_>> = HashMap::new();
    for keyed in copies {
        outcomes.push(match stored.get(&keyed.key) {
            Some((revision, _)) if *revision > keyed.copy.revision => Ok(LineOutcome::Older),
            Some((revision, content)) if *revision == keyed.copy.revision && *content == keyed.content => {
                Ok(LineOutcome::Unchanged)
            }
            Some((revision, _)) if *revision == keyed.copy.revision => Err(LineFault::new(
                LineReason::Duplicate,
                "revision",
                "one content for a register and revision",
            )),
            _ => {
                stored.insert(keyed.key, (keyed.copy.revision, keyed.content));
                newest.insert(keyed.key, keyed);
                Ok(LineOutcome::Stored)
            }
        });
    }
    let mut newest: Vec<&Keyed<'_>> = newest.into_values().collect();
    // Everybody locks rows in this order: two streams with the same registers wait for each other at most once.
    newest.sort_by_key(|keyed| keyed.key);
    (outcomes, newest)
}

/// Read outside of any transaction: what others store meanwhile, [`write`] finds. Copies that are all stored already
/// keep nobody waiting.
async fn stored_revisions(
    database: &Database,
    copies: &[Keyed<'_>],
) -> Result<HashMap<Lookup, (u64, Lookup)>, StoreError> {
    let asked = Value::keys(copies.iter().map(|keyed| keyed.key.as_slice()));
    let rows = database
        .reader()
        .await?
        .connection()
        .all(
            "SELECT key, revision, digest FROM register_copy WHERE key IN (SELECT value FROM {asked})",
            &[("asked", asked)],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.array(0)?, (row.int(1)?.unsigned_abs(), row.array(2)?))))
        .collect()
}

/// Seals the copies.
fn copy_rows(keys: &Keyring, copies: &[&Keyed<'_>]) -> Result<Value, StoreError> {
    let mut bodies = Vec::with_capacity(copies.len());
    let mut revisions = Vec::with_capacity(copies.len());
    for keyed in copies {
        let place = lookups::body_place(&keyed.key, keyed.copy.revision);
        bodies.push(keys.sealer.seal(place, &keyed.copy.body)?);
        let revision =
            i64::try_from(keyed.copy.revision).map_err(|_| StoreError::Unreadable("a revision"))?;
        revisions.push(Some(revision));
    }
    let text = |of: fn(&RegisterCopy) -> &str| {
        Column::Text(copies.iter().map(|keyed| of(keyed.copy).to_owned()).collect())
    };
    Ok(table([
        (
            "key",
            Column::Bytes(copies.iter().map(|keyed| keyed.key.to_vec()).collect()),
        ),
        (
            "municipality_code",
            text(|copy| copy.key.municipality_code.as_str()),
        ),
        ("kind", text(|copy| kind_name(copy.kind))),
        ("medium", text(|copy| medium_name(copy.medium))),
        (
            "in_motion",
            Column::Bool(copies.iter().map(|keyed| keyed.copy.in_motion).collect()),
        ),
        ("revision", Column::Int(revisions)),
        (
            "digest",
            Column::Bytes(copies.iter().map(|keyed| keyed.content.to_vec()).collect()),
        ),
        ("body", Column::Bytes(bodies)),
    ]))
}

/// What the members of each copy are found by.
fn member_references(keys: &Keyring, copies: &[&Keyed<'_>]) -> Vec<Vec<Lookup>> {
    let of = |copy: &RegisterCopy| {
        let code = copy.key.municipality_code;
        let members = copy.members.iter();
        members
            .map(|member| lookups::member(keys, code.as_str(), &member.reference))
            .collect()
    };
    copies.iter().map(|keyed| of(keyed.copy)).collect()
}

/// Writes copies and their members; false when another transaction has stored a newer revision of one of them meanwhile, or
/// one that was not known, whose members would stay. Then nothing counts.
async fn write(
    tx: &mut WriteTx,
    rows: Value,
    copies: &[&Keyed<'_>],
    references: &[Vec<Lookup>],
    known: &[Lookup],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let rows = tx
        .all(
            "INSERT INTO register_copy \
                (key, municipality_code, kind, medium, in_motion, revision, digest, received_at, body) \
             SELECT key, municipality_code, kind, medium, in_motion, revision, digest, {now}, body FROM {rows} \
             WHERE true ON CONFLICT (key) DO UPDATE SET \
                kind = excluded.kind, medium = excluded.medium, in_motion = excluded.in_motion, \
                revision = excluded.revision, digest = excluded.digest, received_at = excluded.received_at, \
                body = excluded.body WHERE register_copy.revision < excluded.revision \
                AND register_copy.key IN (SELECT value FROM {known}) \
             RETURNING id, key",
            &[
                ("rows", rows),
                ("known", Value::keys(known.iter().map(Lookup::as_slice))),
                ("now", now.unix_ms().into()),
            ],
        )
        .await?;
    if rows.len() != copies.len() {
        return Ok(false);
    }
    let mut ids: HashMap<Lookup, i64> = HashMap::with_capacity(rows.len());
    for row in &rows {
        ids.insert(row.array(1)?, row.int(0)?);
    }
    let replaced: Vec<i64> = known.iter().filter_map(|key| ids.get(key).copied()).collect();
    if !replaced.is_empty() {
        tx.execute(
            "DELETE FROM member WHERE register_id IN (SELECT value FROM {replaced})",
            &[("replaced", Value::numbers(replaced))],
        )
        .await?;
    }
    write_members(tx, copies, references, &ids).await?;
    Ok(true)
}

async fn write_members(
    tx: &mut WriteTx,
    copies: &[&Keyed<'_>],
    references: &[Vec<Lookup>],
    ids: &HashMap<Lookup, i64>,
) -> Result<(), StoreError> {
    let mut members = Vec::with_capacity(copies.len() * 4);
    for (keyed, references) in copies.iter().zip(references) {
        let id = ids.get(&keyed.key).copied();
        for (position, (member, reference)) in keyed.copy.members.iter().zip(references).enumerate() {
            members.push((reference, id, member.removed, i64::try_from(position).ok()));
        }
    }
    // In the order of the index, whose pages are then met one after the other.
    members.sort_unstable_by_key(|(reference, id, ..)| (*reference, *id));
    let batch = table([
        (
            "register_id",
            Column::Int(members.iter().map(|(_, id, ..)| *id).collect()),
        ),
        (
            "reference",
            Column::Bytes(members.iter().map(|(reference, ..)| reference.to_vec()).collect()),
        ),
        (
            "removed",
            Column::Bool(members.iter().map(|(_, _, removed, _)| *removed).collect()),
        ),
        (
            "position",
            Column::Int(members.iter().map(|(.., position)| *position).collect()),
        ),
    ]);
    tx.execute(
        "INSERT INTO member (register_id, reference, removed, position) \
         SELECT register_id, reference, removed, position FROM {batch}",
        &[("batch", batch)],
    )
    .await?;
    Ok(())
}

fn kind_name(kind: RegisterKind) -> &'static str {
    match kind {
        RegisterKind::Current => "current",
        RegisterKind::Removed => "removed",
        RegisterKind::PreRevision => "pre_revision",
    }
}

fn medium_name(medium: Medium) -> &'static str {
    match medium {
        Medium::Text => "text",
        Medium::Image => "image",
        Medium::Paper => "paper",
    }
}

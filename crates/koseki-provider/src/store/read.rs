//! What a release reads: one statement for the whole batch, so that all of it is of one moment.

use common::{
    clock::Timestamp,
    keyring::{Keyring, Lookup},
    store::{Column, Connection, GateFacts, Row, StoreError, table},
    terms::RegisterKind,
};

use super::{ItemFacts, LinkageFacts, LookUp, lookups};
use crate::{
    non_provision::RecordFacts,
    register::{Medium, RegisterFacts},
};

/// Whether a record in force says this; records are told as yes or no, so that however many there are, a body is read once.
macro_rules! stands {
    ($against:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM non_provision AS record WHERE ",
            $against,
            " AND released_at IS NULL AND (valid_from IS NULL OR valid_from <= {now}) \
                AND (valid_until IS NULL OR valid_until > {now}))"
        )
    };
}

/// A row is a linkage with one of the registers of its person, if there is one, and whether a record stands against the person,
/// the register, or the person towards the register. Joined one after the other, from what is asked for on, nothing is kept and
/// read again on the way, and no table is gone through. The first row has what could forbid every release.
macro_rules! read {
    ($registers:literal) => {
        concat!(
            "SELECT asked.at, linkage.person, card_key, state, confirmed_at, register_copy.key, body, kind, medium, \
                    municipality_code, revision, received_at, position, in_motion, removed, ",
            stands!("record.person = linkage.person AND record.register IS NULL"),
            ", ",
            stands!("record.register = register_copy.key AND record.person IS NULL"),
            ", ",
            stands!("record.person = linkage.person AND record.register = register_copy.key"),
            ", CASE WHEN asked.at = 0 THEN (SELECT facts FROM gate_facts) END \
             FROM {asked} LEFT JOIN linkage ON linkage.handle = asked.handle ",
            $registers,
            " AND (kind = 'current' OR asked.closed = 1)"
        )
    };
}

/// On PostgreSQL a register that is not asked for makes no row, and no records are looked for towards it.
const READ_POSTGRES: &str = read!(
    "LEFT JOIN (person_member JOIN member ON member.reference = person_member.reference \
                JOIN register_copy ON register_copy.id = member.register_id) ON person_member.person_id = linkage.person_id"
);

/// SQLite would put all members of all registers together for that; here it is a row without a register.
pub const READ_SQLITE: &str = read!(
    "LEFT JOIN person_member ON person_member.person_id = linkage.person_id \
     LEFT JOIN member ON member.reference = person_member.reference \
     LEFT JOIN register_copy ON register_copy.id = member.register_id"
);

pub(super) async fn items(
    connection: &mut Connection<'_>,
    keys: &Keyring,
    asked: &[LookUp],
    now: Timestamp,
) -> Result<(Vec<ItemFacts>, GateFacts), StoreError> {
    let handles = asked
        .iter()
        .map(|asked| lookups::handle(keys, &asked.handle).to_vec());
    let closed = asked.iter().map(|asked| Some(i64::from(asked.closed_registers)));
    let mut items: Vec<ItemFacts> = asked.iter().map(|_| ItemFacts::default()).collect();
    let asked = table([
        ("handle", Column::Bytes(handles.collect())),
        ("closed", Column::Int(closed.collect())),
    ]);
    let params = [("asked", asked), ("now", now.unix_ms().into())];
    let sql = match connection {
        Connection::Sqlite(_) => READ_SQLITE,
        Connection::Postgres(_) => READ_POSTGRES,
    };
    let mut facts = None;
    for row in connection.all(sql, &params).await? {
        if let Some(text) = row.optional_text(18)? {
            facts = Some(GateFacts::parse(text)?);
        }
        let item = items
            .get_mut(row.place(0)?)
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        // A row that cannot be read must not touch the neighbours of its item.
        item.unreadable |= take(item, &row, keys).is_err();
    }
    let facts = facts.ok_or(StoreError::Unreadable("a batch without items"))?;
    Ok((items, facts))
}

fn take(item: &mut ItemFacts, row: &Row, keys: &Keyring) -> Result<(), StoreError> {
    let Some(person) = row.optional_array(1)? else {
        return Ok(());
    };
    if item.linkage.is_none() {
        item.linkage = Some(LinkageFacts {
            active: row.text(3)? == "ACTIVE",
            confirmed_at: Timestamp::from_unix_ms(row.int(4)?),
            person,
            card_key: row.array(2)?,
        });
    }
    let key = row.optional_array(5)?;
    if let Some(key) = key {
        item.registers.push(register(row, key, keys)?);
    }
    for (stands, person, register) in [
        (row.bool(15)?, Some(person), None),
        (row.bool(16)?, None, key),
        (row.bool(17)?, Some(person), key),
    ] {
        if stands {
            item.non_provision.push(RecordFacts { person, register });
        }
    }
    Ok(())
}

fn register(row: &Row, key: Lookup, keys: &Keyring) -> Result<RegisterFacts, StoreError> {
    let revision = row.int(10)?.unsigned_abs();
    Ok(RegisterFacts {
        key,
        kind: match row.text(7)? {
            "current" => RegisterKind::Current,
            "removed" => RegisterKind::Removed,
            "pre_revision" => RegisterKind::PreRevision,
            _ => return Err(StoreError::Unreadable("a register's kind")),
        },
        medium: match row.text(8)? {
            "text" => Medium::Text,
            "image" => Medium::Image,
            "paper" => Medium::Paper,
            _ => return Err(StoreError::Unreadable("a register's medium")),
        },
        municipality_code: row.text(9)?.to_owned(),
        revision,
        received_at: Timestamp::from_unix_ms(row.int(11)?),
        position: row.place(12)?,
        in_motion: row.bool(13)?,
        removed: row.bool(14)?,
        // One copy that does not open must not touch the neighbours of its item.
        body: keys
            .sealer
            .open(lookups::body_place(&key, revision), row.bytes(6)?)
            .ok(),
    })
}

//! What a release reads behind the gate: one statement for the whole batch, so that all of it is of one moment.

use common::{
    clock::Timestamp,
    keyring::{Keyring, Lookup},
    store::{Column, Row, StoreError, WriteTx, table},
    terms::RegisterKind,
};

use super::{ItemFacts, LinkageFacts, LookUp, lookups};
use crate::{
    non_provision::RecordFacts,
    register::{Medium, RegisterFacts},
};

macro_rules! in_force {
    ($record:literal) => {
        concat!(
            $record,
            ".released_at IS NULL AND (",
            $record,
            ".valid_from IS NULL OR ",
            $record,
            ".valid_from <= {now}) AND (",
            $record,
            ".valid_until IS NULL OR ",
            $record,
            ".valid_until > {now})"
        )
    };
}

/// A row is a linkage with one of the registers of its person, if there is one, and with a record in force that names the person
/// and one that names the register, if there are: as many rows as there are ways to combine them. Joined one after the other,
/// nothing is kept and read again on the way, least of all bodies.
pub const READ: &str = concat!(
    "SELECT asked.at, linkage.person, card_key, state, confirmed_at, \
            register_copy.key, body, kind, medium, municipality_code, revision, received_at, position, in_motion, removed, \
            of_person.person, of_person.register, of_register.person, of_register.register \
     FROM {asked} JOIN linkage ON linkage.handle = asked.handle \
     LEFT JOIN person_member ON person_member.person_id = linkage.person_id \
     LEFT JOIN member ON member.reference = person_member.reference \
     LEFT JOIN register_copy ON register_copy.id = member.register_id AND (kind = 'current' OR asked.closed = 1) \
     LEFT JOIN non_provision AS of_person ON of_person.person = linkage.person AND ",
    in_force!("of_person"),
    " LEFT JOIN non_provision AS of_register ON of_register.register = register_copy.key AND ",
    in_force!("of_register")
);

pub(super) async fn items(
    tx: &mut WriteTx,
    keys: &Keyring,
    asked: &[LookUp],
    now: Timestamp,
) -> Result<Vec<ItemFacts>, StoreError> {
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
    for row in tx.all(READ, &params).await? {
        let item = items
            .get_mut(row.place(0)?)
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        // A row that cannot be read must not touch the neighbours of its item.
        item.unreadable |= take(item, &row, keys).is_err();
    }
    Ok(items)
}

fn take(item: &mut ItemFacts, row: &Row, keys: &Keyring) -> Result<(), StoreError> {
    if item.linkage.is_none() {
        item.linkage = Some(LinkageFacts {
            active: row.text(3)? == "ACTIVE",
            confirmed_at: Timestamp::from_unix_ms(row.int(4)?),
            person: row.array(1)?,
            card_key: row.array(2)?,
        });
    }
    if let Some(key) = row.optional_array(5)? {
        let position = row.place(12)?;
        let known = |known: &RegisterFacts| known.key == key && known.position == position;
        if !item.registers.iter().any(known) {
            item.registers.push(register(row, key, position, keys)?);
        }
    }
    for (person, register) in [(15, 16), (17, 18)] {
        let record = RecordFacts {
            person: row.optional_array(person)?,
            register: row.optional_array(register)?,
        };
        if record != RecordFacts::default() && !item.non_provision.contains(&record) {
            item.non_provision.push(record);
        }
    }
    Ok(())
}

fn register(row: &Row, key: Lookup, position: usize, keys: &Keyring) -> Result<RegisterFacts, StoreError> {
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
        position,
        in_motion: row.bool(13)?,
        removed: row.bool(14)?,
        // One copy that does not open must not touch the neighbours of its item.
        body: keys
            .sealer
            .open(lookups::body_place(&key, revision), row.bytes(6)?)
            .ok(),
    })
}

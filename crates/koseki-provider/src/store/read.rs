//! What a release reads behind the gate: one statement for the whole batch, so that all of it is of one moment.

use common::{
    clock::Timestamp,
    keyring::Keyring,
    store::{Column, Row, StoreError, WriteTx, table},
    terms::RegisterKind,
};

use super::{ItemFacts, LinkageFacts, LookUp, lookups};
use crate::{
    non_provision::RecordFacts,
    register::{Medium, RegisterFacts},
};

/// A row is a linkage (part 1), a register of its person (2), or a record in force that names the person or the register (3).
pub const READ: &str = "\
    WITH linked AS ( \
        SELECT asked.at AS at, linkage.state AS state, linkage.confirmed_at AS confirmed_at, \
               linkage.card_key AS card_key, linkage.person_id AS person_id, linkage.person AS person, \
               asked.closed AS closed \
        FROM {asked} JOIN linkage ON linkage.handle = asked.handle \
    ), entered AS ( \
        SELECT linked.at AS at, register_copy.key AS key, register_copy.body AS body, kind, medium, \
               municipality_code, revision, received_at, member.position AS position, in_motion, removed \
        FROM linked JOIN person_member ON person_member.person_id = linked.person_id \
        JOIN member ON member.reference = person_member.reference \
        JOIN register_copy ON register_copy.id = member.register_id AND (kind = 'current' OR linked.closed = 1) \
    ), standing AS ( \
        SELECT person, register FROM non_provision WHERE released_at IS NULL \
          AND (valid_from IS NULL OR valid_from <= {now}) AND (valid_until IS NULL OR valid_until > {now}) \
          AND id IN (SELECT id FROM non_provision WHERE person IN (SELECT person FROM linked) \
                     UNION SELECT id FROM non_provision WHERE register IN (SELECT key FROM entered)) \
    ) \
    SELECT CAST(1 AS BIGINT) AS part, at, person AS one, card_key AS two, state AS kind, \
           CAST(NULL AS TEXT) AS medium, CAST(NULL AS TEXT) AS municipality_code, confirmed_at AS number, \
           CAST(NULL AS BIGINT) AS received_at, CAST(NULL AS BIGINT) AS position, \
           CAST(NULL AS BOOLEAN) AS in_motion, CAST(NULL AS BOOLEAN) AS removed FROM linked \
    UNION ALL SELECT 2, at, key, body, kind, medium, municipality_code, revision, received_at, position, in_motion, \
           removed FROM entered \
    UNION ALL SELECT 3, linked.at, standing.person, register, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
           FROM linked JOIN standing ON standing.person = linked.person \
    UNION ALL SELECT 3, entered.at, standing.person, register, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
           FROM entered JOIN standing ON standing.register = entered.key";

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
            .get_mut(row.place(1)?)
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        // A row that cannot be read must not touch the neighbours of its item.
        item.unreadable |= take(item, &row, keys).is_err();
    }
    Ok(items)
}

fn take(item: &mut ItemFacts, row: &Row, keys: &Keyring) -> Result<(), StoreError> {
    match row.int(0)? {
        1 => {
            item.linkage = Some(LinkageFacts {
                active: row.text(4)? == "ACTIVE",
                confirmed_at: Timestamp::from_unix_ms(row.int(7)?),
                person: row.array(2)?,
                card_key: row.array(3)?,
            });
        }
        2 => item.registers.push(register(row, keys)?),
        _ => item.non_provision.push(RecordFacts {
            person: row.optional_array(2)?,
            register: row.optional_array(3)?,
        }),
    }
    Ok(())
}

fn register(row: &Row, keys: &Keyring) -> Result<RegisterFacts, StoreError> {
    let key = row.array(2)?;
    let revision = row.int(7)?.unsigned_abs();
    Ok(RegisterFacts {
        key,
        kind: match row.text(4)? {
            "current" => RegisterKind::Current,
            "removed" => RegisterKind::Removed,
            "pre_revision" => RegisterKind::PreRevision,
            _ => return Err(StoreError::Unreadable("a register's kind")),
        },
        medium: match row.text(5)? {
            "text" => Medium::Text,
            "image" => Medium::Image,
            "paper" => Medium::Paper,
            _ => return Err(StoreError::Unreadable("a register's medium")),
        },
        municipality_code: row.text(6)?.to_owned(),
        revision,
        received_at: Timestamp::from_unix_ms(row.int(8)?),
        position: row.place(9)?,
        in_motion: row.bool(10)?,
        removed: row.bool(11)?,
        // One copy that does not open must not touch the neighbours of its item.
        body: keys
            .sealer
            .open(lookups::body_place(&key, revision), row.bytes(3)?)
            .ok(),
    })
}

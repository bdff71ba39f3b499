//! Persons who are entered in more than one current register: nothing is specified for them until their municipalities have
//! settled it, and an alarm stands until then.

use common::{
    clock::Timestamp,
    evidence::{NewEntry, ordinary_act},
    identity::PeerIdentity,
    keyring::{Keyring, Lookup},
    store::{Connection, Database, StoreError, Value, WriteTx},
};

const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(7236837468)";

/// Two that touch one person at the same time would each not see the other's register. Behind the gate and the log's head, as
/// everybody takes it; on SQLite there is one writer.
pub(super) async fn one_at_a_time(tx: &mut WriteTx) -> Result<(), StoreError> {
    if matches!(tx.connection(), Connection::Postgres(_)) {
        tx.all(ONE_AT_A_TIME, &[]).await?;
    }
    Ok(())
}

/// Looks at the persons of these references again; entries for those who are in a second current register since now.
pub(super) async fn check(
    tx: &mut WriteTx,
    keys: &Keyring,
    references: Vec<Lookup>,
    actor: &PeerIdentity,
    now: Timestamp,
) -> Result<Vec<NewEntry>, StoreError> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    one_at_a_time(tx).await?;
    let rows = tx
        .all(
            "SELECT person.person, count(register_copy.id) > 1 AS several, \
                    count(several_current_registers.person) > 0 AS known \
             FROM person \
             LEFT JOIN several_current_registers ON several_current_registers.person = person.person \
             LEFT JOIN person_member ON person_member.person_id = person.id \
             LEFT JOIN member ON member.reference = person_member.reference AND NOT member.removed \
             LEFT JOIN register_copy ON register_copy.id = member.register_id AND register_copy.kind = 'current' \
             WHERE person.id IN (SELECT person_id FROM person_member \
                                 WHERE reference IN (SELECT value FROM {member_references})) \
             GROUP BY person.person \
             HAVING count(register_copy.id) > 1 OR count(several_current_registers.person) > 0 \
             ORDER BY person.person",
            &[("member_references", Value::keys(references.iter().map(Lookup::as_slice)))],
        )
        .await?;
    let (mut found, mut settled): (Vec<Lookup>, Vec<Lookup>) = (Vec::new(), Vec::new());
    for row in &rows {
        match (row.bool(1)?, row.bool(2)?) {
            (true, false) => found.push(row.array(0)?),
            (false, true) => settled.push(row.array(0)?),
            _ => {}
        }
    }
    if !settled.is_empty() {
        tx.execute(
            "DELETE FROM several_current_registers WHERE person IN (SELECT value FROM {settled})",
            &[("settled", Value::keys(settled.iter().map(Lookup::as_slice)))],
        )
        .await?;
    }
    if !found.is_empty() {
        let found = Value::keys(found.iter().map(Lookup::as_slice));
        tx.execute(
            "INSERT INTO several_current_registers (person, since) SELECT value, {now} FROM {found} WHERE true \
             ON CONFLICT DO NOTHING",
            &[("found", found), ("now", now.unix_ms().into())],
        )
        .await?;
    }
    let entry = |person: &Lookup| {
        let subject = keys.pseudonym.pseudonym("subject", person);
        ordinary_act("SECOND_CURRENT_REGISTER", actor, 0, Some(subject), "")
    };
    Ok(found.iter().map(entry).collect())
}

/// How many persons wait for their municipalities to settle it.
pub(super) async fn several(database: &Database) -> Result<u64, StoreError> {
    let mut reader = database.reader().await?;
    let row = reader
        .connection()
        .one("SELECT count(*) FROM several_current_registers", &[])
        .await?;
    Ok(row.int(0)?.unsigned_abs())
}

//! Non-provision records in the database.

use common::{
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry, ordinary_act},
    identity::PeerIdentity,
    keyring::{Keyring, Lookup, Pseudonym},
    sealing::Place,
    store::{Access, ActError, Database, Row, StoreError, WriteTx},
    terms::{ActId, RuleBroken},
};
use koseki_proto::koseki::admin::v1::{NonProvisionRecord as RecordMessage, NonProvisionScope};

use super::{lookups, suppression};
use crate::non_provision::{Named, NonProvisionRecord, Scope};

fn place<'a>(column: &'static str, act_id: &'a [u8; 16]) -> Place<'a> {
    Place {
        column,
        row: act_id,
        revision: 0,
    }
}

const AUTHORITY: &str = "non_provision.authority";
const DOCUMENT_NUMBER: &str = "non_provision.document_number";

/// Whom and what a scope names. One about somebody who is not stored would forbid nothing and look as if it did.
async fn resolve(
    tx: &mut WriteTx,
    keys: &Keyring,
    scope: &Scope,
) -> Result<(Option<Lookup>, Option<Lookup>), ActError> {
    let person = match scope {
        Scope::Register(_) => None,
        Scope::Person(person) | Scope::RequesterAgainstRegister(person, _) => {
            let person = lookups::person(keys, person);
            let known = tx
                .one(
                    "SELECT count(*) FROM person WHERE person = {person}",
                    &[("person", (&person).into())],
                )
                .await?;
            if known.int(0)? == 0 {
                return Err(ActError::UnknownReference);
            }
            Some(person)
        }
        Scope::MemberAgainstRegister(reference, register) => {
            let reference = lookups::member(keys, register.municipality_code.as_str(), reference);
            let row = tx
                .optional(
                    "SELECT person.person FROM person_member JOIN person ON person.id = person_member.person_id \
                     WHERE person_member.reference = {reference}",
                    &[("reference", (&reference).into())],
                )
                .await?;
            Some(row.ok_or(ActError::UnknownReference)?.array(0)?)
        }
    };
    let register = scope.register().map(|register| lookups::register(keys, register));
    if let Some(register) = &register {
        let known = tx
            .one(
                "SELECT count(*) FROM register_copy WHERE key = {key}",
                &[("key", register.into())],
            )
            .await?;
        if known.int(0)? == 0 {
            return Err(ActError::UnknownReference);
        }
    }
    Ok((person, register))
}

pub(super) async fn record(
    database: &Database,
    record: NonProvisionRecord,
    actor: &PeerIdentity,
    now: Timestamp,
) -> Result<Epoch, ActError> {
    let keys = &database.keys;
    let mut tx = database.begin(Access::Guard).await?;
    // Under a key: a bare digest would let a guess be confirmed.
    let content = keys.lookup.lookup("act", &[&record.content]);
    if let Some(epoch) = tx.done_before(record.act_id, &content).await? {
        // It was done, and ended since: to say that it is in force would be untrue.
        if !stands(&mut tx, record.act_id, now).await? {
            return Err(ActError::IdUsed);
        }
        tx.commit_again().await?;
        return Ok(epoch);
    }
    let (person, register) = resolve(&mut tx, keys, &record.scope).await?;
    let id = record.act_id.as_bytes();
    let seal = |column, value: &str| {
        keys.sealer
            .seal(place(column, id), value.as_bytes())
            .map_err(StoreError::from)
    };
    tx.advance_epoch().await?;
    let params = [
        ("id", id.into()),
        ("person", person.as_ref().into()),
        ("register", register.as_ref().into()),
        (
            "from",
            record
                .valid_from
                .filter(|from| *from > now)
                .map(Timestamp::unix_ms)
                .into(),
        ),
        ("until", record.valid_until.map(Timestamp::unix_ms).into()),
        ("authority", seal(AUTHORITY, &record.authority)?.into()),
        ("document", seal(DOCUMENT_NUMBER, &record.document_number)?.into()),
        ("now", now.unix_ms().into()),
        ("actor", actor.to_string().into()),
    ];
    tx.execute(
        "INSERT INTO non_provision (act_id, person, register, valid_from, valid_until, authority, document_number, \
                                    recorded_at, recorded_by) \
         VALUES ({id}, {person}, {register}, {from}, {until}, {authority}, {document}, {now}, {actor})",
        &params,
    )
    .await?;
    concerned(&mut tx, person, register, now).await?;
    tx.remember_act(id, &content).await?;
    tx.note_closing(record.act_id, "RECORD_NON_PROVISION", actor, now)
        .await?;
    let entry = GuardActEntry {
        act_id: Some(record.act_id),
        subject: person.map(|person| keys.pseudonym.pseudonym("subject", &person)),
        register: register.map(|register| keys.pseudonym.pseudonym("subject", &register)),
        validity: (record.valid_from, record.valid_until),
        ..GuardActEntry::new("RECORD_NON_PROVISION", actor)
    };
    Ok(tx.commit(vec![entry.to_entry()], now).await?.epoch())
}

/// Looks at those again whom a record concerns: towards one requester it concerns nobody else.
async fn concerned(
    tx: &mut WriteTx,
    person: Option<Lookup>,
    register: Option<Lookup>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let register = register.filter(|_| person.is_none());
    suppression::look_again(tx, person.as_slice(), register.as_slice(), now).await
}

/// Whether a record has neither been released nor ended by its time.
async fn stands(tx: &mut WriteTx, record: ActId, now: Timestamp) -> Result<bool, StoreError> {
    let row = tx
        .one(
            "SELECT count(*) FROM non_provision WHERE act_id = {id} AND released_at IS NULL \
             AND (valid_until IS NULL OR valid_until > {now})",
            &[("id", record.as_bytes().into()), ("now", now.unix_ms().into())],
        )
        .await?;
    Ok(row.int(0)? > 0)
}

fn pseudonym(keys: &Keyring, person: Option<Lookup>, register: Option<Lookup>) -> Option<Pseudonym> {
    person
        .or(register)
        .map(|subject| keys.pseudonym.pseudonym("subject", &subject))
}

/// Ends a record, at once or (`until`) earlier than was recorded; whom it was about.
pub(super) async fn end(
    tx: &mut WriteTx,
    keys: &Keyring,
    record: ActId,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Pseudonym>, ActError> {
    let id = ("id", record.as_bytes().into());
    let row = tx
        .optional(
            "SELECT person, register, valid_until, released_at FROM non_provision WHERE act_id = {id}",
            std::slice::from_ref(&id),
        )
        .await?
        .ok_or(ActError::UnknownReference)?;
    let ended =
        row.optional_int(3)?.is_some() || row.optional_int(2)?.is_some_and(|until| until <= now.unix_ms());
    if ended {
        return Err(ActError::NotApplicable);
    }
    match until {
        None => {
            let params = [id, ("now", now.unix_ms().into())];
            tx.execute(
                "UPDATE non_provision SET released_at = {now} WHERE act_id = {id}",
                &params,
            )
            .await?;
        }
        Some(until) => {
            if until <= now
                || row
                    .optional_int(2)?
                    .is_some_and(|recorded| recorded <= until.unix_ms())
            {
                let rule = RuleBroken("later than now and earlier than what is recorded");
                return Err(ActError::Malformed("act.shorten_non_provision.valid_until", rule));
            }
            let params = [id, ("until", until.unix_ms().into())];
            tx.execute(
                "UPDATE non_provision SET valid_until = {until} WHERE act_id = {id}",
                &params,
            )
            .await?;
        }
    }
    let (person, register) = (row.optional_array(0)?, row.optional_array(1)?);
    concerned(tx, person, register, now).await?;
    Ok(pseudonym(keys, person, register))
}

pub(super) async fn list(
    database: &Database,
    named: Named,
    reader: &PeerIdentity,
    now: Timestamp,
) -> Result<Vec<RecordMessage>, StoreError> {
    let keys = &database.keys;
    let person = named
        .person
        .as_deref()
        .map(|person| lookups::person(keys, person));
    let register = named
        .register
        .as_ref()
        .map(|register| lookups::register(keys, register));
    let mut tx = database.begin(Access::Ordinary).await?;
    let params = [
        ("person", person.as_ref().into()),
        ("register", register.as_ref().into()),
        ("any_person", person.is_none().into()),
        ("any_register", register.is_none().into()),
    ];
    let rows = tx
        .all(
            "SELECT act_id, person, register, valid_from, valid_until, authority, document_number, recorded_at, \
                    recorded_by, released_at \
             FROM non_provision WHERE ({any_person} OR person = {person}) AND ({any_register} OR register = {register}) \
             ORDER BY id DESC LIMIT 256",
            &params,
        )
        .await?;
    let records = rows
        .iter()
        .map(|row| message(keys, row))
        .collect::<Result<_, _>>()?;
    // Who is protected is told to somebody: that is recorded before it is told.
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let subject = pseudonym(keys, person, register);
    let _ = tx
        .commit(
            vec![ordinary_act("LIST_NON_PROVISION", reader, count, subject, "")],
            now,
        )
        .await?;
    Ok(records)
}

fn message(keys: &Keyring, row: &Row) -> Result<RecordMessage, StoreError> {
    let id: [u8; 16] = row.array(0)?;
    let moment = |at| {
        let ms = row.optional_int(at)?;
        Ok::<_, StoreError>(ms.map(|ms| Timestamp::from_unix_ms(ms).to_proto()))
    };
    let open = |column, at| {
        let opened = keys.sealer.open(place(column, &id), row.bytes(at)?)?;
        String::from_utf8(opened.to_vec()).map_err(|_| StoreError::Unreadable("a sealed text"))
    };
    let scope = match (row.optional_bytes(1)?, row.optional_bytes(2)?) {
        (Some(_), None) => NonProvisionScope::Person,
        (Some(_), Some(_)) => NonProvisionScope::RequesterAgainstRegister,
        (None, _) => NonProvisionScope::Register,
    };
    Ok(RecordMessage {
        record_id: ActId::from_bytes(id).to_string(),
        scope: scope.into(),
        valid_from: moment(3)?,
        valid_until: moment(4)?,
        authority: open(AUTHORITY, 5)?,
        document_number: open(DOCUMENT_NUMBER, 6)?,
        recorded_at: moment(7)?,
        recorded_by: row.text(8)?.to_owned(),
        released_at: moment(9)?,
    })
}

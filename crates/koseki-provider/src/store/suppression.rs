//! Which linkages are stopped altogether, kept for the suppression feed (docs/decisions/suppression-feed.md): written in the
//! transaction that changes a record, a membership or a linkage, so that every instance serves the same.
//!
//! A linkage that has not been revoked is stopped altogether when a record in force
//! - names its person, and no register: everything is refused to them; or
//! - names a *current* register in which the person is entered and from which they have not been removed, towards everybody or
//!   towards this person.
//!
//! Every procedure specifies the current register, so each of these refuses every request of the linkage: with one current
//! register since that one is specified and forbidden, with several since then none is specified. A record against a closed
//! register (除籍, 改製原戸籍) refuses only what asks for it, and one towards another requester nothing: neither stops a
//! linkage altogether, and the release transaction alone refuses for them. It also refuses for all that is here: the feed
//! narrows what goes over the line, it decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    clock::Timestamp,
    keyring::Lookup,
    sealing::Place,
    store::{Access, Column, Database, Row, StoreError, Value, WriteTx, table},
    terms::LinkageHandle,
};

use super::current_registers;

/// Linkages that one sequence number changes at most.
const STEP: usize = 1_000;
/// Sequence numbers that are read together.
const STEPS: u64 = 4;
/// Records that are taken in together when they begin or end by their time.
const TAKEN_IN: i64 = 256;
/// Linkages that are read together.
const PAGE: i64 = 8_192;

/// Records that stand by themselves at a moment: neither released, nor before or after their time.
const STOPPED: &str = "\
    WITH asked AS ( \
        SELECT id, person FROM person WHERE id IN (SELECT value FROM {persons}) \
    ), entered AS ( \
        SELECT asked.id AS person_id, asked.person AS person, register_copy.key AS key FROM asked \
        JOIN person_member ON person_member.person_id = asked.id \
        JOIN member ON member.reference = person_member.reference AND NOT member.removed \
        JOIN register_copy ON register_copy.id = member.register_id AND register_copy.kind = 'current' \
    ), standing AS ( \
        SELECT person, register FROM non_provision WHERE released_at IS NULL \
          AND (valid_from IS NULL OR valid_from <= {now}) AND (valid_until IS NULL OR valid_until > {now}) \
          AND id IN (SELECT id FROM non_provision WHERE person IN (SELECT person FROM asked) \
                     UNION SELECT id FROM non_provision WHERE register IN (SELECT key FROM entered)) \
    ), stopped AS ( \
        SELECT asked.id AS person_id, {nobody} AS register FROM asked \
        JOIN standing ON standing.person = asked.person WHERE standing.register IS NULL \
        UNION SELECT entered.person_id, entered.key FROM entered \
        JOIN standing ON standing.register = entered.key \
        WHERE standing.person IS NULL OR standing.person = entered.person \
    ) \
    SELECT linkage.handle, stopped.register, coalesce(suppression.standing, false), suppression.register \
    FROM linkage JOIN asked ON asked.id = linkage.person_id \
    LEFT JOIN stopped ON stopped.person_id = linkage.person_id AND linkage.state <> 'REVOKED' \
    LEFT JOIN suppression ON suppression.handle = linkage.handle \
    WHERE stopped.person_id IS NOT NULL OR suppression.standing";

/// By which record a linkage is stopped: that of a register, or, empty, one about the person.
type Cause = Vec<u8>;

/// A linkage, as it is and as it was written down last.
#[derive(Default)]
struct Linkage {
    causes: BTreeSet<Cause>,
    known: Option<Cause>,
}

/// Looks at persons and registers again that something was changed about, in the transaction that changes it. Of a register,
/// at those who are entered in it now, and those whom its record has stopped.
pub(super) async fn look_again(
    tx: &mut WriteTx,
    persons: &[Lookup],
    registers: &[Lookup],
    now: Timestamp,
) -> Result<(), StoreError> {
    if persons.is_empty() && registers.is_empty() {
        return Ok(());
    }
    current_registers::one_at_a_time(tx).await?;
    let params = [
        ("persons", Value::keys(persons.iter().map(Lookup::as_slice))),
        ("registers", Value::keys(registers.iter().map(Lookup::as_slice))),
    ];
    let rows = tx
        .all(
            "SELECT id FROM person WHERE person IN (SELECT value FROM {persons}) \
             UNION SELECT person_member.person_id FROM register_copy \
             JOIN member ON member.register_id = register_copy.id \
             JOIN person_member ON person_member.reference = member.reference \
             WHERE register_copy.key IN (SELECT value FROM {registers}) \
             UNION SELECT linkage.person_id FROM suppression \
             JOIN linkage ON linkage.handle = suppression.handle \
             WHERE suppression.standing AND suppression.register IN (SELECT value FROM {registers})",
            &params,
        )
        .await?;
    let ids = rows.iter().map(|row| row.int(0)).collect::<Result<Vec<_>, _>>()?;
    // Instances' clocks differ: what one has let begin or end by its time, another does not take back by its own. The moment
    // after those that are wholly taken in may be taken in half.
    let head = tx.one("SELECT looked_until FROM suppression_head", &[]).await?;
    let moment = now.unix_ms().max(head.int(0)?.saturating_add(1));
    for ids in ids.chunks(STEP) {
        let linkages = read(tx, ids, moment).await?;
        write(tx, linkages).await?;
    }
    Ok(())
}

/// Copies of these registers were stored: only those against which there are records matter, and they are few.
pub(super) async fn copies_stored(
    tx: &mut WriteTx,
    registers: &[Lookup],
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows = tx
        .all(
            "SELECT DISTINCT register FROM non_provision \
             WHERE released_at IS NULL AND register IN (SELECT value FROM {registers})",
            &[("registers", Value::keys(registers.iter().map(Lookup::as_slice)))],
        )
        .await?;
    let recorded = rows
        .iter()
        .map(|row| row.array(0))
        .collect::<Result<Vec<_>, _>>()?;
    look_again(tx, &[], &recorded, now).await
}

async fn read(
    tx: &mut WriteTx,
    persons: &[i64],
    moment: i64,
) -> Result<BTreeMap<Lookup, Linkage>, StoreError> {
    let params = [
        ("persons", Value::numbers(persons.iter().copied())),
        ("now", moment.into()),
        ("nobody", Vec::new().into()),
    ];
    let mut linkages: BTreeMap<Lookup, Linkage> = BTreeMap::new();
    for row in tx.all(STOPPED, &params).await? {
        let linkage = linkages.entry(row.array(0)?).or_default();
        linkage.causes.extend(row.optional_bytes(1)?.map(<[u8]>::to_vec));
        if row.bool(2)? {
            linkage.known = row.optional_bytes(3)?.map(<[u8]>::to_vec);
        }
    }
    Ok(linkages)
}

/// Writes down what has changed, under sequence numbers of its own. Where another record stops a linkage instead, the linkage
/// itself has not changed.
async fn write(tx: &mut WriteTx, linkages: BTreeMap<Lookup, Linkage>) -> Result<(), StoreError> {
    let (mut changed, mut moved) = (Vec::new(), Vec::new());
    for (handle, Linkage { causes, known }) in linkages {
        match (causes.first(), known) {
            (Some(cause), None) => changed.push((handle, Some(cause.clone()))),
            (None, Some(_)) => changed.push((handle, None)),
            (Some(cause), Some(known)) if !causes.contains(&known) => moved.push((handle, cause.clone())),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    for step in changed.chunks(STEP) {
        // The row is locked until the commit: numbers become visible in their order.
        let row = tx
            .one(
                "UPDATE suppression_head SET sequence = sequence + 1 RETURNING sequence",
                &[],
            )
            .await?;
        let rows = table([
            (
                "handle",
                Column::Bytes(step.iter().map(|(handle, _)| handle.to_vec()).collect()),
            ),
            (
                "register",
                Column::Bytes(
                    step.iter()
                        .map(|(_, cause)| cause.clone().unwrap_or_default())
                        .collect(),
                ),
            ),
            (
                "standing",
                Column::Bool(step.iter().map(|(_, cause)| cause.is_some()).collect()),
            ),
        ]);
        tx.execute(
            "INSERT INTO suppression (handle, register, standing, sequence) \
             SELECT handle, register, standing, {sequence} FROM {rows} WHERE true \
             ON CONFLICT (handle) DO UPDATE SET register = excluded.register, standing = excluded.standing, \
                sequence = excluded.sequence",
            &[("rows", rows), ("sequence", row.int(0)?.into())],
        )
        .await?;
    }
    for (handle, cause) in moved {
        tx.execute(
            "UPDATE suppression SET register = {cause} WHERE handle = {handle}",
            &[("handle", (&handle).into()), ("cause", cause.into())],
        )
        .await?;
    }
    Ok(())
}

/// How far the feed has come.
pub(crate) struct Head {
    /// Number of the last change.
    pub(crate) sequence: u64,
    /// Whether records have begun or ended by their time since anybody looked.
    pub(crate) is_due: bool,
}

/// How far the feed has come, at a moment.
pub(crate) async fn head(database: &Database, now: Timestamp) -> Result<Head, StoreError> {
    let mut reader = database.reader().await?;
    let row = reader
        .connection()
        .one(
            "SELECT sequence, EXISTS (SELECT 1 FROM non_provision WHERE released_at IS NULL \
                AND valid_from > looked_until AND valid_from <= {now}) \
                OR EXISTS (SELECT 1 FROM non_provision WHERE released_at IS NULL \
                AND valid_until > looked_until AND valid_until <= {now}) \
             FROM suppression_head",
            &[("now", now.unix_ms().into())],
        )
        .await?;
    Ok(Head {
        sequence: row.int(0)?.unsigned_abs(),
        is_due: row.bool(1)?,
    })
}

/// Takes records in that have begun or ended by their time: nobody acted, so nobody else does it. Thousands may end at one
/// midnight, and acts wait for each step: so few are taken at a time.
///
/// Nothing is recorded, so the gate and the log's head stay free. What acts have written and not committed yet is not seen; they
/// look at it themselves, behind the lock that each step has. Another instance may do the same at the same time: it finds
/// what was taken in as it should be.
pub(crate) async fn take_in_time(database: &Database, now: Timestamp) -> Result<(), StoreError> {
    let mut after = Some(Event::default());
    while let Some(event) = after {
        after = take_in_some(database, event, now).await?;
    }
    Ok(())
}

/// A record begins or ends by its time. The order is that of moments, then of records.
#[derive(Debug, Clone, Copy, Default)]
struct Event {
    moment: i64,
    record: i64,
}

/// Takes a few in that come after the last one that was; the last of them, when there may be more.
async fn take_in_some(
    database: &Database,
    after: Event,
    now: Timestamp,
) -> Result<Option<Event>, StoreError> {
    let mut tx = database.begin(Access::Ungated).await?;
    current_registers::one_at_a_time(&mut tx).await?;
    let params = [
        ("now", now.unix_ms().into()),
        ("moment", after.moment.into()),
        ("record", after.record.into()),
        ("most", TAKEN_IN.into()),
    ];
    let rows = tx
        .all(
            "SELECT moment, id, person, register FROM ( \
                SELECT valid_from AS moment, id, person, register FROM non_provision, suppression_head \
                WHERE released_at IS NULL AND valid_from > looked_until AND valid_from <= {now} \
                UNION ALL SELECT valid_until, id, person, register FROM non_provision, suppression_head \
                WHERE released_at IS NULL AND valid_until > looked_until AND valid_until <= {now} \
             ) AS due WHERE moment > {moment} OR (moment = {moment} AND id > {record}) \
             ORDER BY moment, id LIMIT {most}",
            &params,
        )
        .await?;
    let (mut persons, mut registers) = (Vec::new(), Vec::new());
    for row in &rows {
        match (row.optional_array(2)?, row.optional_array(3)?) {
            // Towards one requester: nobody else is concerned.
            (Some(person), _) => persons.push(person),
            (None, Some(register)) => registers.push(register),
            (None, None) => {}
        }
    }
    let last = match rows.last() {
        Some(row) if rows.len() >= usize::try_from(TAKEN_IN).unwrap_or(usize::MAX) => Some(Event {
            moment: row.int(0)?,
            record: row.int(1)?,
        }),
        _ => None,
    };
    // Of the last one's moment there may be more: should this process end now, it is begun anew.
    let whole = last.map_or(now.unix_ms(), |last| last.moment.saturating_sub(1));
    tx.execute(
        "UPDATE suppression_head SET looked_until = {whole} WHERE looked_until < {whole}",
        &[("whole", whole.into())],
    )
    .await?;
    look_again(&mut tx, &persons, &registers, now).await?;
    tx.commit_unrecorded().await?;
    Ok(last)
}

/// Linkages that are stopped, in the order of what they are found by, after the last one that was read.
pub(crate) async fn standing(
    database: &Database,
    after: Option<Lookup>,
) -> Result<Vec<(Lookup, LinkageHandle)>, StoreError> {
    let after = after.map_or_else(Vec::new, |after| after.to_vec());
    let mut reader = database.reader().await?;
    let rows = reader
        .connection()
        .all(
            "SELECT suppression.handle, linkage.sealed_handle FROM suppression \
             JOIN linkage ON linkage.handle = suppression.handle \
             WHERE suppression.standing AND suppression.handle > {after} \
             ORDER BY suppression.handle LIMIT {page}",
            &[("after", after.into()), ("page", PAGE.into())],
        )
        .await?;
    rows.iter().map(|row| open(database, row)).collect()
}

/// A few of the changes after a number: up to which number they are, and the linkages that are stopped or not by then.
pub(crate) async fn changes(
    database: &Database,
    after: u64,
    head: u64,
) -> Result<(u64, Vec<(LinkageHandle, bool)>), StoreError> {
    let until = head.min(after + STEPS);
    let number = |sequence: u64| i64::try_from(sequence).unwrap_or(i64::MAX);
    let mut reader = database.reader().await?;
    let rows = reader
        .connection()
        .all(
            "SELECT suppression.handle, linkage.sealed_handle, suppression.standing FROM suppression \
             JOIN linkage ON linkage.handle = suppression.handle \
             WHERE suppression.sequence > {after} AND suppression.sequence <= {until}",
            &[("after", number(after).into()), ("until", number(until).into())],
        )
        .await?;
    let change = |row: &Row| Ok::<_, StoreError>((open(database, row)?.1, row.bool(2)?));
    Ok((until, rows.iter().map(change).collect::<Result<_, _>>()?))
}

fn open(database: &Database, row: &Row) -> Result<(Lookup, LinkageHandle), StoreError> {
    let handle: Lookup = row.array(0)?;
    let place = Place {
        column: "linkage.sealed_handle",
        row: &handle,
        revision: 0,
    };
    let opened = database.keys.sealer.open(place, row.bytes(1)?)?;
    let opened: [u8; 32] = opened
        .as_slice()
        .try_into()
        .map_err(|_| StoreError::Unreadable("a linkage's handle"))?;
    Ok((handle, LinkageHandle::from_bytes(opened)))
}

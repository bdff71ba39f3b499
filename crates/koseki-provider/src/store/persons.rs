//! Storing persons and linkages: what a batch touches is read at once, its lines are judged one after the other on what was
//! read and what the lines above changed, and what came of it is written at once.

mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use common::{
    approval::Opening,
    clock::Timestamp,
    digest,
    identity::PeerIdentity,
    keyring::{Keyring, Lookup, Pseudonym},
    lines::{LineFault, LoadStart},
    sealing::Place,
    store::{
        ActError, Change, Database, Forbids, Load, LoadEnd, ReplacedCards, StoreError, Value, WriteTx,
        check_changes, check_rotates,
    },
    terms::{LinkageCode, LinkageHandle, LinkageState},
};
use koseki_proto::koseki::common::v1::LineReason;

use super::{Loaded, current_registers, lookups, suppression};
use crate::persons::PersonLine;

pub(super) async fn store(
    database: &Database,
    start: LoadStart,
    lines: &[PersonLine],
    operator: &PeerIdentity,
    now: Timestamp,
) -> Result<Loaded, StoreError> {
    let keys = &database.keys;
    for access in Load::ACCESSES {
        let (mut load, mut tx) = Load::begin(database, access, start, operator).await?;
        let mut batch = Batch::read(&mut tx, keys, lines, now).await?;
        let mut outcomes = Vec::with_capacity(lines.len());
        for line in lines {
            outcomes.push(batch.judge(line).map(|change| load.count(change)));
        }
        if !start.dry_run {
            batch.write(&mut tx).await?;
            let references = batch.written_references();
            load.add(current_registers::check(&mut tx, keys, references, operator, now).await?);
            suppression::look_again(&mut tx, &batch.written_persons(), &[], now).await?;
        }
        if let LoadEnd::Stored { forbids, epoch } = load.commit(tx, now).await? {
            return Ok(Loaded {
                outcomes,
                forbids,
                epoch,
            });
        }
    }
    Err(StoreError::Unreadable("a load that never has the gate"))
}

#[derive(Clone)]
struct Person {
    content: [u8; 32],
    references: Vec<Lookup>,
    written: bool,
}

#[derive(Clone)]
struct Linkage {
    sealed_handle: Vec<u8>,
    person: Lookup,
    card_key: Lookup,
    state: LinkageState,
    confirmed_at: Timestamp,
    written: bool,
}

/// What a batch touches: as it is stored, and as the lines so far leave it.
struct Batch<'a> {
    keys: &'a Keyring,
    now: Timestamp,
    persons: BTreeMap<Lookup, Person>,
    /// Whose a reference is.
    owners: HashMap<Lookup, Lookup>,
    linkages: BTreeMap<Lookup, Linkage>,
    /// Cards that were replaced by others.
    replaced: ReplacedCards,
    /// Persons whom a non-provision record names.
    recorded: HashSet<Lookup>,
    /// Persons one of whose linkages is suspended.
    suspended: HashSet<Lookup>,
    /// What a change closes: proposals to open it are void.
    closed: Vec<Lookup>,
}

impl<'a> Batch<'a> {
    async fn read(
        tx: &mut WriteTx,
        keys: &'a Keyring,
        lines: &[PersonLine],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let (mut persons, mut references, mut handles) = (HashSet::new(), HashSet::new(), HashSet::new());
        let (mut cards, mut new_cards) = (HashSet::new(), HashSet::new());
        for line in lines {
            match line {
                PersonLine::Person { person_id, members } => {
                    persons.insert(lookups::person(keys, person_id));
                    references.extend(member_lookups(keys, members));
                }
                PersonLine::Linkage {
                    code,
                    person_id,
                    card_key_sha256,
                    ..
                } => {
                    persons.insert(lookups::person(keys, person_id));
                    handles.insert(lookups::handle(keys, &code.handle()));
                    cards.insert(lookups::card_key(&keys.lookup, card_key_sha256));
                }
                PersonLine::Confirm { code, .. } => {
                    handles.insert(lookups::handle(keys, &code.handle()));
                }
                PersonLine::Rotate {
                    code,
                    new_code,
                    card_key_sha256,
                } => {
                    handles.insert(lookups::handle(keys, &code.handle()));
                    handles.insert(lookups::handle(keys, &new_code.handle()));
                    cards.insert(lookups::card_key(&keys.lookup, card_key_sha256));
                }
                PersonLine::ReplaceCard {
                    code,
                    card_key_sha256,
                    new_card_key_sha256,
                } => {
                    handles.insert(lookups::handle(keys, &code.handle()));
                    cards.insert(lookups::card_key(&keys.lookup, card_key_sha256));
                    new_cards.insert(lookups::card_key(&keys.lookup, new_card_key_sha256));
                }
            }
        }
        cards.extend(&new_cards);
        let mut batch = Self {
            keys,
            now,
            persons: BTreeMap::new(),
            owners: HashMap::new(),
            linkages: BTreeMap::new(),
            replaced: ReplacedCards::read(tx, &cards).await?,
            recorded: HashSet::new(),
            suspended: HashSet::new(),
            closed: Vec::new(),
        };
        batch.read_linkages(tx, &handles, &new_cards).await?;
        batch.read_persons(tx, &persons, &references).await?;
        batch.read_closings(tx).await?;
        Ok(batch)
    }

    /// Which of the persons stand under something that takes two persons to end.
    async fn read_closings(&mut self, tx: &mut WriteTx) -> Result<(), StoreError> {
        if self.persons.is_empty() {
            return Ok(());
        }
        let params = [
            ("persons", Value::keys(self.persons.keys().map(Lookup::as_slice))),
            ("now", self.now.unix_ms().into()),
            ("yes", true.into()),
            ("no", false.into()),
        ];
        let rows = tx
            .all(
                "SELECT person, {yes} AS recorded FROM non_provision \
                 WHERE released_at IS NULL AND (valid_until IS NULL OR valid_until > {now}) \
                   AND person IN (SELECT value FROM {persons}) \
                 UNION SELECT person, {no} FROM linkage \
                 WHERE state = 'SUSPENDED' AND person IN (SELECT value FROM {persons})",
                &params,
            )
            .await?;
        for row in rows {
            let of = if row.bool(1)? {
                &mut self.recorded
            } else {
                &mut self.suspended
            };
            of.insert(row.array(0)?);
        }
        Ok(())
    }

    /// The linkages of the lines, and those that the cards are bound to which are to replace others.
    async fn read_linkages(
        &mut self,
        tx: &mut WriteTx,
        handles: &HashSet<Lookup>,
        new_cards: &HashSet<Lookup>,
    ) -> Result<(), StoreError> {
        if handles.is_empty() {
            return Ok(());
        }
        let rows = tx
            .all(
                "SELECT handle, sealed_handle, person, card_key, state, confirmed_at FROM linkage \
                 WHERE handle IN ( \
                    SELECT value FROM {handles} UNION \
                    SELECT handle FROM linkage WHERE state <> 'REVOKED' AND card_key IN (SELECT value FROM {cards}))",
                &[
                    ("handles", Value::keys(handles.iter().map(Lookup::as_slice))),
                    ("cards", Value::keys(new_cards.iter().map(Lookup::as_slice))),
                ],
            )
            .await?;
        for row in rows {
            let linkage = Linkage {
                sealed_handle: row.bytes(1)?.to_vec(),
                person: row.array(2)?,
                card_key: row.array(3)?,
                state: LinkageState::parse(row.text(4)?)
                    .map_err(|_| StoreError::Unreadable("a linkage's state"))?,
                confirmed_at: Timestamp::from_unix_ms(row.int(5)?),
                written: false,
            };
            self.linkages.insert(row.array(0)?, linkage);
        }
        Ok(())
    }

    /// The persons of the lines, and those who have one of the lines' references.
    async fn read_persons(
        &mut self,
        tx: &mut WriteTx,
        persons: &HashSet<Lookup>,
        references: &HashSet<Lookup>,
    ) -> Result<(), StoreError> {
        let params = [
            ("persons", Value::keys(persons.iter().map(Lookup::as_slice))),
            (
                "member_references",
                Value::keys(references.iter().map(Lookup::as_slice)),
            ),
        ];
        let rows = tx
            .all(
                "SELECT person.person, person.content, person_member.reference \
                 FROM person LEFT JOIN person_member ON person_member.person_id = person.id \
                 WHERE person.id IN ( \
                    SELECT id FROM person WHERE person IN (SELECT value FROM {persons}) \
                    UNION SELECT person_id FROM person_member WHERE reference IN (SELECT value FROM {member_references}))",
                &params,
            )
            .await?;
        for row in rows {
            let lookup: Lookup = row.array(0)?;
            let content = row.array(1)?;
            let person = self.persons.entry(lookup).or_insert(Person {
                content,
                references: Vec::new(),
                written: false,
            });
            if let Some(reference) = row.optional_array(2)? {
                person.references.push(reference);
                self.owners.insert(reference, lookup);
            }
        }
        Ok(())
    }

    fn judge(&mut self, line: &PersonLine) -> Result<Change, LineFault> {
        match line {
            PersonLine::Person { person_id, members } => self.person(person_id, members),
            PersonLine::Linkage {
                code,
                person_id,
                card_key_sha256,
                state,
            } => self.linkage(code, person_id, card_key_sha256, *state),
            PersonLine::Confirm { code, confirmed_at } => self.confirm(code, *confirmed_at),
            PersonLine::Rotate {
                code,
                new_code,
                card_key_sha256,
            } => self.rotate(code, new_code, card_key_sha256),
            PersonLine::ReplaceCard {
                code,
                card_key_sha256,
                new_card_key_sha256,
            } => self.replace_card(code, card_key_sha256, new_card_key_sha256),
        }
    }

    fn person(
        &mut self,
        person_id: &str,
        members: &[(common::terms::MunicipalityCode, String)],
    ) -> Result<Change, LineFault> {
        let lookup = lookups::person(self.keys, person_id);
        let references: Vec<Lookup> = member_lookups(self.keys, members).collect();
        let parts: Vec<&[u8]> = references.iter().map(Lookup::as_slice).collect();
        let content = digest::sha256(&parts);
        let known = self.persons.get(&lookup);
        if known.is_some_and(|person| person.content == content) {
            return Ok(Change::Nothing);
        }
        let taken = |reference| self.owners.get(reference).is_some_and(|owner| *owner != lookup);
        if references.iter().any(taken) {
            let rule = "a reference belongs to one person at most";
            return Err(LineFault::new(LineReason::Duplicate, "members", rule));
        }
        // Whoever were entered under another person's id would be answered as if nothing stood against them.
        let loses = known.is_some_and(|person| {
            let lost = |reference| !references.contains(reference);
            person.references.iter().any(lost)
        });
        if loses && (self.recorded.contains(&lookup) || self.suspended.contains(&lookup)) {
            let rule = "none is taken away while a non-provision record names the person or a linkage of theirs is suspended";
            return Err(LineFault::new(LineReason::NeedsTwoPersons, "members", rule));
        }
        let known = known.is_some();
        for reference in self
            .persons
            .get(&lookup)
            .iter()
            .flat_map(|person| &person.references)
        {
            self.owners.remove(reference);
        }
        self.owners
            .extend(references.iter().map(|reference| (*reference, lookup)));
        let person = Person {
            content,
            references,
            written: true,
        };
        self.persons.insert(lookup, person);
        // Other registers may be specified from now on, or none.
        Ok(self.change(known, &lookup))
    }

    fn linkage(
        &mut self,
        code: &LinkageCode,
        person_id: &str,
        card_key_sha256: &[u8; 32],
        state: LinkageState,
    ) -> Result<Change, LineFault> {
        let person = lookups::person(self.keys, person_id);
        if !self.persons.contains_key(&person) {
            let rule = "a person that is loaded";
            return Err(LineFault::new(LineReason::UnknownReference, "person_id", rule));
        }
        let (handle, card_key) = (
            code.handle(),
            lookups::card_key(&self.keys.lookup, card_key_sha256),
        );
        let lookup = lookups::handle(self.keys, &handle);
        let Some(known) = self.linkages.get_mut(&lookup) else {
            let opens = matches!(state, LinkageState::Active | LinkageState::Pending);
            if opens && self.suspended.contains(&person) {
                let rule = "no other linkage while one of the person's is suspended";
                return Err(LineFault::new(LineReason::NeedsTwoPersons, "state", rule));
            }
            self.replaced.check_binds(&card_key, "card_key_sha256")?;
            self.add_linkage(&handle, person, card_key, state)?;
            self.closes(state, person, card_key_sha256);
            return Ok(Change::Added(None));
        };
        if known.person != person {
            let rule = "one person for a code, for ever";
            return Err(LineFault::new(LineReason::Duplicate, "linkage_code", rule));
        }
        // A line of before a replacement is stored already.
        if known.state == state && known.card_key == self.replaced.current(card_key) {
            return Ok(Change::Nothing);
        }
        check_changes(known.state, state)?;
        self.replaced.check_binds(&card_key, "card_key_sha256")?;
        known.state = state;
        known.card_key = card_key;
        known.confirmed_at = self.now;
        known.written = true;
        self.closes(state, person, card_key_sha256);
        Ok(self.change(true, &person))
    }

    /// What a linkage's new state closes.
    fn closes(&mut self, state: LinkageState, person: Lookup, card_key_sha256: &[u8; 32]) {
        if state == LinkageState::Suspended {
            self.suspended.insert(person);
        }
        if state != LinkageState::Active {
            self.closed
                .push(Opening::ReactivateLinkage(*card_key_sha256).target(&self.keys.lookup));
        }
    }

    fn add_linkage(
        &mut self,
        handle: &LinkageHandle,
        person: Lookup,
        card_key: Lookup,
        state: LinkageState,
    ) -> Result<(), LineFault> {
        let lookup = lookups::handle(self.keys, handle);
        let place = Place {
            column: "linkage.sealed_handle",
            row: &lookup,
            revision: 0,
        };
        let sealed = self.keys.sealer.seal(place, handle.expose());
        let failed = |_| LineFault::new(LineReason::NotStored, "", "send the line again");
        let linkage = Linkage {
            sealed_handle: sealed.map_err(failed)?,
            person,
            card_key,
            state,
            confirmed_at: self.now,
            written: true,
        };
        self.linkages.insert(lookup, linkage);
        Ok(())
    }

    fn confirm(&mut self, code: &LinkageCode, confirmed_at: Timestamp) -> Result<Change, LineFault> {
        let lookup = lookups::handle(self.keys, &code.handle());
        if confirmed_at > self.now {
            let rule = "a day that has begun";
            return Err(LineFault::new(LineReason::InvalidField, "confirmed_on", rule));
        }
        let known = self.linkages.get_mut(&lookup).ok_or_else(unknown_code)?;
        if known.state == LinkageState::Revoked {
            let rule = "a revoked linkage stays revoked";
            return Err(LineFault::new(LineReason::InvalidField, "linkage_code", rule));
        }
        if confirmed_at <= known.confirmed_at {
            return Ok(Change::Nothing);
        }
        known.confirmed_at = confirmed_at;
        known.written = true;
        Ok(Change::Added(None))
    }

    fn rotate(
        &mut self,
        code: &LinkageCode,
        new_code: &LinkageCode,
        card_key_sha256: &[u8; 32],
    ) -> Result<Change, LineFault> {
        let card_key = lookups::card_key(&self.keys.lookup, card_key_sha256);
        let old = self
            .linkages
            .get(&lookups::handle(self.keys, &code.handle()))
            .cloned()
            .ok_or_else(unknown_code)?;
        if let Some(new) = self.linkages.get(&lookups::handle(self.keys, &new_code.handle())) {
            let done = new.person == old.person
                && new.card_key == self.replaced.current(card_key)
                && old.state == LinkageState::Revoked;
            let rule = "a code that was never used";
            return match done {
                true => Ok(Change::Nothing),
                false => Err(LineFault::new(LineReason::Duplicate, "new_linkage_code", rule)),
            };
        }
        check_rotates(old.state)?;
        self.replaced.check_binds(&card_key, "card_key_sha256")?;
        self.add_linkage(&new_code.handle(), old.person, card_key, LinkageState::Active)?;
        if let Some(old) = self.linkages.get_mut(&lookups::handle(self.keys, &code.handle())) {
            old.state = LinkageState::Revoked;
            old.written = true;
        }
        Ok(self.change(true, &old.person))
    }

    fn replace_card(
        &mut self,
        code: &LinkageCode,
        card_key_sha256: &[u8; 32],
        new_card_key_sha256: &[u8; 32],
    ) -> Result<Change, LineFault> {
        let lookup = lookups::handle(self.keys, &code.handle());
        let old = lookups::card_key(&self.keys.lookup, card_key_sha256);
        let new = lookups::card_key(&self.keys.lookup, new_card_key_sha256);
        let known = self.linkages.get(&lookup).ok_or_else(unknown_code)?;
        if !self.replaced.is_to_be_done(known.card_key, old, new)? {
            return Ok(Change::Nothing);
        }
        check_rotates(known.state)?;
        let bound = |other: &Linkage| other.card_key == new && other.state != LinkageState::Revoked;
        if self.linkages.values().any(bound) {
            let rule = "a card that no other linkage is bound to";
            return Err(LineFault::new(LineReason::Duplicate, "new_card_key_sha256", rule));
        }
        let person = known.person;
        if let Some(linkage) = self.linkages.get_mut(&lookup) {
            linkage.card_key = new;
            linkage.confirmed_at = self.now;
            linkage.written = true;
        }
        self.replaced.replace(old, new);
        Ok(self.change(true, &person))
    }

    /// What a change about a person means: what was known before may have allowed more.
    fn change(&self, known: bool, person: &Lookup) -> Change {
        if known {
            Change::Forbids(Forbids {
                subject: self.keys.pseudonym.pseudonym("subject", person),
                cards: (None, None),
            })
        } else {
            Change::Added(None)
        }
    }

    async fn write(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        for target in &self.closed {
            tx.void_proposals(target).await?;
        }
        let persons: Vec<(&Lookup, &Person)> =
            self.persons.iter().filter(|(_, person)| person.written).collect();
        if !persons.is_empty() {
            write::persons(tx, &persons).await?;
        }
        let linkages: Vec<(&Lookup, &Linkage)> = self
            .linkages
            .iter()
            .filter(|(_, linkage)| linkage.written)
            .collect();
        if !linkages.is_empty() {
            write::linkages(tx, &linkages).await?;
        }
        self.replaced.write(tx).await
    }

    /// Persons who were written, and those of linkages that were.
    fn written_persons(&self) -> Vec<Lookup> {
        let persons = self.persons.iter().filter(|(_, person)| person.written);
        let linkages = self.linkages.values().filter(|linkage| linkage.written);
        let all: BTreeSet<Lookup> = persons
            .map(|(person, _)| *person)
            .chain(linkages.map(|linkage| linkage.person))
            .collect();
        all.into_iter().collect()
    }

    fn written_references(&self) -> Vec<Lookup> {
        let written = self.persons.values().filter(|person| person.written);
        written
            .flat_map(|person| person.references.iter().copied())
            .collect()
    }
}

fn unknown_code() -> LineFault {
    LineFault::new(
        LineReason::UnknownReference,
        "linkage_code",
        "a code that is loaded",
    )
}

fn member_lookups<'a>(
    keys: &'a Keyring,
    members: &'a [(common::terms::MunicipalityCode, String)],
) -> impl Iterator<Item = Lookup> + 'a {
    members
        .iter()
        .map(|(code, reference)| lookups::member(keys, code.as_str(), reference))
}

/// Makes the suspended linkage of a card active again.
pub(super) async fn reactivate(
    tx: &mut WriteTx,
    keys: &Keyring,
    card_key_sha256: &[u8; 32],
) -> Result<Option<Pseudonym>, ActError> {
    let card_key = lookups::card_key(&keys.lookup, card_key_sha256);
    let rows = tx
        .all(
            "SELECT person FROM linkage WHERE card_key = {card_key} AND state = 'SUSPENDED'",
            &[("card_key", (&card_key).into())],
        )
        .await?;
    let [row] = rows.as_slice() else {
        return Err(ActError::NotApplicable);
    };
    tx.execute(
        "UPDATE linkage SET state = 'ACTIVE' WHERE card_key = {card_key} AND state = 'SUSPENDED'",
        &[("card_key", (&card_key).into())],
    )
    .await?;
    let person: Lookup = row.array(0)?;
    Ok(Some(keys.pseudonym.pseudonym("subject", &person)))
}

//! Persons, their registers and linkages on both sides, and non-provision records with their suppressions: written as rows,
//! since loading is not what is measured here (`cargo xtask soak ingest`). What is sealed in production is really sealed.
//!
//! The labels and places are the services' own. Were one of them wrong, nobody would be found, and the bench would fail.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use common::{
    clock::Timestamp,
    keyring::{Keyring, Lookup},
    sealing::Place,
    store::{Column, Connection, table},
    terms::LinkageCode,
};
use devkit::registers::{Families, MUNICIPALITIES, Register};

/// Persons entered in one register.
const HOUSEHOLD: usize = 4;
/// Each household's current register, and the one before its revision.
const REGISTERS: usize = 2;
/// Generated copies that registers are made from; each differs from all others by its domicile.
const MODELS: usize = 1_000;
/// Households in one transaction.
const CHUNK: usize = 1_000;
/// Suppressions that one sequence number of the feed changes: as many as the provider's own.
const STEP: usize = 1_000;
/// One person in so many is suppressed: the last ones.
const SUPPRESSED_OF: usize = 10;

/// Who there is: all of it follows from the seed and the number, and from the cards.
pub(crate) struct Population {
    seed: u64,
    /// Persons, the suppressed ones included.
    pub(crate) persons: usize,
    /// Those of the persons who are not suppressed: the first ones.
    pub(crate) provided: usize,
    models: Vec<Register>,
    cards: HashMap<usize, [u8; 32]>,
    now: Timestamp,
}

/// What must come back for a person.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) registered_domicile: String,
    pub(crate) first_entered_person: String,
    pub(crate) municipality_code: String,
}

impl Population {
    /// `cards`: SHA-256 of the public keys of the persons' cards; whoever is not in it has a card that nobody holds.
    pub(crate) fn new(
        seed: u64,
        persons: usize,
        cards: HashMap<usize, [u8; 32]>,
        now: Timestamp,
    ) -> Result<Self> {
        let mut models = Vec::with_capacity(MODELS);
        for family in Families::new(seed, MODELS) {
            for copy in family?.copies {
                models.push(serde_json::from_str(&copy.line)?);
            }
        }
        Ok(Self {
            seed,
            persons,
            provided: persons - persons / SUPPRESSED_OF,
            models,
            cards,
            now,
        })
    }

    /// What must come back for a person.
    pub(crate) fn expected(&self, person: usize) -> Result<Expected> {
        let register = self.register(person / HOUSEHOLD, 0)?;
        Ok(Expected {
            registered_domicile: register.registered_domicile,
            first_entered_person: register.first_entered_person,
            municipality_code: municipality(person / HOUSEHOLD).to_owned(),
        })
    }

    /// Whether somebody holds the person's card, and so may ask.
    pub(crate) fn has_card(&self, person: usize) -> bool {
        self.cards.contains_key(&person)
    }

    /// How the registry side names a person.
    pub(crate) fn person_id(person: usize) -> String {
        format!("person-{person}")
    }

    /// The n-th register of a household; the first is the current one.
    fn register(&self, household: usize, number: usize) -> Result<Register> {
        let model = self
            .models
            .get((household * REGISTERS + number) % self.models.len().max(1));
        let mut register = model.context("there is no generated copy")?.clone();
        register.registered_domicile = format!(
            "{}{}番地",
            register.registered_domicile,
            household * REGISTERS + number
        );
        Ok(register)
    }

    fn code(&self, person: usize) -> Result<LinkageCode> {
        let (seed, person) = (self.seed.to_be_bytes(), person.to_be_bytes());
        Ok(LinkageCode::parse(&common::digest::sha256(&[&seed, &person]))?)
    }

    fn card_key(&self, keys: &Keyring, person: usize) -> Lookup {
        let nobody_holds = || common::digest::sha256(&[b"no card", &person.to_be_bytes()]);
        let sha256 = self.cards.get(&person).copied().unwrap_or_else(nobody_holds);
        keys.lookup.lookup("card-key", &[&sha256])
    }

    /// Writes the registry side's rows. Ids are counted from 1 in an empty database.
    pub(crate) async fn load_provider(&self, mut connection: Connection<'_>, keys: &Keyring) -> Result<()> {
        let households: Vec<usize> = (0..self.persons / HOUSEHOLD).collect();
        for chunk in households.chunks(CHUNK) {
            connection.execute("BEGIN", &[]).await?;
            self.load_registers(&mut connection, keys, chunk).await?;
            self.load_persons(&mut connection, keys, chunk).await?;
            connection.execute("COMMIT", &[]).await?;
        }
        self.load_suppressions(&mut connection, keys).await
    }

    async fn load_registers(
        &self,
        connection: &mut Connection<'_>,
        keys: &Keyring,
        households: &[usize],
    ) -> Result<()> {
        let mut copies = Copies::default();
        let (mut ids, mut references, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for household in households {
            for number in 0..REGISTERS {
                copies.add(&self.register(*household, number)?, *household, number, keys)?;
                for position in 0..HOUSEHOLD {
                    ids.push(i64::try_from(household * REGISTERS + number + 1).ok());
                    references.push(reference(keys, household * HOUSEHOLD + position).to_vec());
                    positions.push(i64::try_from(position).ok());
                }
            }
        }
        let copies = table([
            ("key", Column::Bytes(copies.keys)),
            ("code", Column::Text(copies.codes)),
            ("kind", Column::Text(copies.kinds)),
            ("body", Column::Bytes(copies.bodies)),
        ]);
        connection
            .execute(
                "INSERT INTO register_copy \
                    (key, municipality_code, kind, medium, in_motion, revision, digest, received_at, body) \
                 SELECT key, code, kind, 'text', {no}, 1, key, {now}, body FROM {copies} ORDER BY at",
                &[
                    ("copies", copies),
                    ("no", false.into()),
                    ("now", self.now.unix_ms().into()),
                ],
            )
            .await?;
        let members = table([
            ("register_id", Column::Int(ids)),
            ("reference", Column::Bytes(references)),
            ("position", Column::Int(positions)),
        ]);
        connection
            .execute(
                "INSERT INTO member (register_id, reference, removed, position) \
                 SELECT register_id, reference, {no}, position FROM {members}",
                &[("members", members), ("no", false.into())],
            )
            .await?;
        Ok(())
    }

    async fn load_persons(
        &self,
        connection: &mut Connection<'_>,
        keys: &Keyring,
        households: &[usize],
    ) -> Result<()> {
        let persons: Vec<usize> = households
            .iter()
            .flat_map(|household| (0..HOUSEHOLD).map(move |at| household * HOUSEHOLD + at))
            .collect();
        let (mut handles, mut sealed) = (Vec::new(), Vec::new());
        for person in &persons {
            let handle = self.code(*person)?.handle();
            let lookup = handle_lookup(keys, &handle);
            sealed.push(seal(keys, "linkage.sealed_handle", &lookup, handle.expose())?);
            handles.push(lookup.to_vec());
        }
        let bytes = |of: &dyn Fn(usize) -> Lookup| {
            Column::Bytes(persons.iter().map(|person| of(*person).to_vec()).collect())
        };
        let rows = table([
            (
                "id",
                Column::Int(
                    persons
                        .iter()
                        .map(|person| i64::try_from(person + 1).ok())
                        .collect(),
                ),
            ),
            ("person", bytes(&|person| person_lookup(keys, person))),
            ("reference", bytes(&|person| reference(keys, person))),
            ("card_key", bytes(&|person| self.card_key(keys, person))),
            ("handle", Column::Bytes(handles)),
            ("sealed", Column::Bytes(sealed)),
        ]);
        for sql in [
            "INSERT INTO person (person, content) SELECT person, person FROM {rows} ORDER BY at",
            "INSERT INTO person_member (reference, person_id) SELECT reference, id FROM {rows}",
            "INSERT INTO linkage (handle, sealed_handle, person_id, person, card_key, state, confirmed_at) \
             SELECT handle, sealed, id, person, card_key, 'ACTIVE', {now} FROM {rows}",
        ] {
            let params = [("rows", rows.clone()), ("now", self.now.unix_ms().into())];
            connection.execute(sql, &params).await?;
        }
        Ok(())
    }

    /// The last persons are suppressed altogether, each by a record about the person.
    async fn load_suppressions(&self, connection: &mut Connection<'_>, keys: &Keyring) -> Result<()> {
        let persons: Vec<usize> = (self.provided..self.persons).collect();
        for (step, chunk) in persons.chunks(STEP).enumerate() {
            let (mut handles, mut authorities) = (Vec::new(), Vec::new());
            for person in chunk {
                let id = person_lookup(keys, *person);
                handles.push(handle_lookup(keys, &self.code(*person)?.handle()).to_vec());
                authorities.push(seal(
                    keys,
                    "non_provision.authority",
                    &id,
                    "authority".as_bytes(),
                )?);
            }
            let rows = table([
                (
                    "person",
                    Column::Bytes(
                        chunk
                            .iter()
                            .map(|person| person_lookup(keys, *person).to_vec())
                            .collect(),
                    ),
                ),
                ("handle", Column::Bytes(handles)),
                ("authority", Column::Bytes(authorities)),
            ]);
            let sequence = i64::try_from(step + 1)?;
            for sql in [
                "INSERT INTO non_provision (act_id, person, authority, document_number, recorded_at, recorded_by) \
                 SELECT person, person, authority, authority, {now}, 'operator/alice' FROM {rows}",
                "INSERT INTO suppression (handle, register, standing, sequence) \
                 SELECT handle, {nobody}, {yes}, {sequence} FROM {rows}",
                "UPDATE suppression_head SET sequence = {sequence}",
            ] {
                let params = [
                    ("rows", rows.clone()),
                    ("now", self.now.unix_ms().into()),
                    ("nobody", Vec::new().into()),
                    ("yes", true.into()),
                    ("sequence", sequence.into()),
                ];
                connection.execute(sql, &params).await?;
            }
        }
        Ok(())
    }

    /// Writes the portal side's linkages.
    pub(crate) async fn load_gateway(&self, mut connection: Connection<'_>, keys: &Keyring) -> Result<()> {
        let persons: Vec<usize> = (0..self.persons).collect();
        for chunk in persons.chunks(CHUNK * HOUSEHOLD) {
            let (mut codes, mut sealed, mut cards) = (Vec::new(), Vec::new(), Vec::new());
            for person in chunk {
                let code = self.code(*person)?;
                let lookup = keys.lookup.lookup("linkage-code", &[code.expose()]);
                sealed.push(seal(keys, "linkage.sealed_code", &lookup, code.expose())?);
                codes.push(lookup.to_vec());
                cards.push(self.card_key(keys, *person).to_vec());
            }
            let rows = table([
                ("code", Column::Bytes(codes)),
                ("sealed", Column::Bytes(sealed)),
                ("card_key", Column::Bytes(cards)),
            ]);
            connection
                .execute(
                    "INSERT INTO linkage (code, sealed_code, card_key, state, confirmed_at) \
                     SELECT code, sealed, card_key, 'ACTIVE', {now} FROM {rows}",
                    &[("rows", rows), ("now", self.now.unix_ms().into())],
                )
                .await?;
        }
        Ok(())
    }
}

/// Columns of `register_copy`.
#[derive(Default)]
struct Copies {
    keys: Vec<Vec<u8>>,
    codes: Vec<String>,
    kinds: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

impl Copies {
    fn add(&mut self, register: &Register, household: usize, number: usize, keys: &Keyring) -> Result<()> {
        let key = keys
            .lookup
            .lookup("register", &[&household.to_be_bytes(), &number.to_be_bytes()]);
        let place = Place {
            column: "register_copy.body",
            row: &key,
            revision: 1,
        };
        let body = keys.sealer.seal(place, register.to_line()?.as_bytes())?;
        self.keys.push(key.to_vec());
        self.codes.push(municipality(household).to_owned());
        self.kinds
            .push(if number == 0 { "current" } else { "pre_revision" }.to_owned());
        self.bodies.push(body);
        Ok(())
    }
}

fn municipality(household: usize) -> &'static str {
    let at = household % MUNICIPALITIES.len();
    MUNICIPALITIES
        .get(at)
        .map_or("", |municipality| municipality.code)
}

fn person_lookup(keys: &Keyring, person: usize) -> Lookup {
    keys.lookup
        .lookup("person", &[Population::person_id(person).as_bytes()])
}

fn reference(keys: &Keyring, person: usize) -> Lookup {
    keys.lookup.lookup("member", &[&person.to_be_bytes()])
}

fn handle_lookup(keys: &Keyring, handle: &common::terms::LinkageHandle) -> Lookup {
    keys.lookup.lookup("linkage", &[handle.expose()])
}

fn seal(keys: &Keyring, column: &'static str, row: &Lookup, value: &[u8]) -> Result<Vec<u8>> {
    let place = Place {
        column,
        row,
        revision: 0,
    };
    Ok(keys.sealer.seal(place, value)?)
}

//! Persons, their linkages and registers, as rows of the right shape: made here and not sent, since loading them is not
//! what is measured. Bodies are generated copies, really sealed.

use common::{
    keyring::{Keyring, Lookup},
    sealing::Place,
    store::{Column, Connection, table},
    terms::LinkageCode,
};
use devkit::registers::{Families, MUNICIPALITIES};

/// Persons entered in one register.
const HOUSEHOLD: usize = 4;
/// Each household's current register, and the one before its revision.
pub(crate) const REGISTERS: usize = 2;
/// Different bodies.
const BODIES: usize = 1_000;
/// Households in one transaction.
const CHUNK: usize = 1_000;

/// Who is in a database: all of it follows from the seed and the number.
pub(crate) struct Population {
    seed: u64,
    pub(crate) persons: usize,
    bodies: Vec<Vec<u8>>,
}

impl Population {
    pub(crate) fn new(seed: u64, persons: usize) -> Self {
        let copies = Families::new(seed, BODIES).flat_map(|family| family.unwrap().copies);
        Self {
            seed,
            persons,
            bodies: copies.map(|copy| copy.line.into_bytes()).collect(),
        }
    }

    /// A person's linkage code.
    pub(crate) fn code(&self, person: usize) -> LinkageCode {
        let (seed, person) = (self.seed.to_be_bytes(), person.to_be_bytes());
        LinkageCode::parse(&common::digest::sha256(&[&seed, &person])).unwrap()
    }

    /// What a person is found by.
    pub(crate) fn person(keys: &Keyring, person: usize) -> Lookup {
        keys.lookup.lookup("person", &[&person.to_be_bytes()])
    }

    /// The body of a register: the n-th of a household.
    pub(crate) fn body(&self, household: usize, register: usize) -> &[u8] {
        &self.bodies[(household * REGISTERS + register) % BODIES]
    }

    /// The body of a person's register.
    pub(crate) fn body_of(&self, person: usize, register: usize) -> &[u8] {
        self.body(person / HOUSEHOLD, register)
    }

    fn register(keys: &Keyring, household: usize, register: usize) -> Lookup {
        let number = [household.to_be_bytes(), register.to_be_bytes()].concat();
        keys.lookup.lookup("register", &[&number])
    }

    fn reference(keys: &Keyring, person: usize) -> Lookup {
        keys.lookup.lookup("member", &[&person.to_be_bytes()])
    }

    /// Writes all rows. Ids are counted from 1 in an empty database.
    pub(crate) async fn load(&self, mut connection: Connection<'_>, keys: &Keyring) {
        let households: Vec<usize> = (0..self.persons / HOUSEHOLD).collect();
        for chunk in households.chunks(CHUNK) {
            connection.execute("BEGIN", &[]).await.unwrap();
            self.load_registers(&mut connection, keys, chunk).await;
            self.load_persons(&mut connection, keys, chunk).await;
            connection.execute("COMMIT", &[]).await.unwrap();
        }
    }

    async fn load_registers(&self, connection: &mut Connection<'_>, keys: &Keyring, households: &[usize]) {
        let registers: Vec<(usize, usize)> = households
            .iter()
            .flat_map(|household| (0..REGISTERS).map(|register| (*household, register)))
            .collect();
        let sealed = |(household, register): &(usize, usize)| {
            let key = Self::register(keys, *household, *register);
            let place = Place {
                column: "register_copy.body",
                row: &key,
                revision: 1,
            };
            keys.sealer.seal(place, self.body(*household, *register)).unwrap()
        };
        let of_bytes =
            |of: &dyn Fn(&(usize, usize)) -> Vec<u8>| Column::Bytes(registers.iter().map(of).collect());
        let of_text = |of: &dyn Fn(&(usize, usize)) -> &'static str| {
            Column::Text(registers.iter().map(|register| of(register).to_owned()).collect())
        };
        let copies = table([
            (
                "key",
                of_bytes(&|(household, register)| Self::register(keys, *household, *register).to_vec()),
            ),
            (
                "code",
                of_text(&|(household, _)| MUNICIPALITIES[household % MUNICIPALITIES.len()].code),
            ),
            (
                "kind",
                of_text(&|(_, register)| ["current", "pre_revision"][*register]),
            ),
            ("body", of_bytes(&sealed)),
        ]);
        connection
            .execute(
                "INSERT INTO register_copy \
                    (key, municipality_code, kind, medium, in_motion, revision, digest, received_at, body) \
                 SELECT key, code, kind, 'text', {no}, 1, key, 0, body FROM {copies} ORDER BY at",
                &[("copies", copies), ("no", false.into())],
            )
            .await
            .unwrap();
        let (mut ids, mut references, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for (household, register) in &registers {
            for position in 0..HOUSEHOLD {
                ids.push(i64::try_from(household * REGISTERS + register + 1).ok());
                references.push(Self::reference(keys, household * HOUSEHOLD + position).to_vec());
                positions.push(i64::try_from(position).ok());
            }
        }
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
            .await
            .unwrap();
    }

    async fn load_persons(&self, connection: &mut Connection<'_>, keys: &Keyring, households: &[usize]) {
        let persons = || {
            households
                .iter()
                .flat_map(|household| (0..HOUSEHOLD).map(move |at| household * HOUSEHOLD + at))
        };
        let bytes = |of: &dyn Fn(usize) -> Vec<u8>| Column::Bytes(persons().map(of).collect());
        let rows = table([
            (
                "id",
                Column::Int(persons().map(|person| i64::try_from(person + 1).ok()).collect()),
            ),
            ("person", bytes(&|person| Self::person(keys, person).to_vec())),
            (
                "reference",
                bytes(&|person| Self::reference(keys, person).to_vec()),
            ),
            (
                "handle",
                bytes(&|person| {
                    keys.lookup
                        .lookup("linkage", &[self.code(person).handle().expose()])
                        .to_vec()
                }),
            ),
        ]);
        for sql in [
            "INSERT INTO person (person, content) SELECT person, person FROM {rows} ORDER BY at",
            "INSERT INTO person_member (reference, person_id) SELECT reference, id FROM {rows}",
            "INSERT INTO linkage (handle, sealed_handle, person_id, person, card_key, state, confirmed_at) \
             SELECT handle, handle, id, person, person, 'ACTIVE', 0 FROM {rows}",
        ] {
            connection.execute(sql, &[("rows", rows.clone())]).await.unwrap();
        }
    }
}

//! The store on SQLite: the one writer connection is the gate.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use common::{
    clock::Timestamp,
    evidence::{Committed, Epoch, GuardActEntry},
    identity::PeerIdentity,
    keyring::{Keyring, Lookup},
    lines::Outcome,
    sealing::Place,
    store::{ActError, Database, OpenError, SideStore, StoreError, WriteTx, hex_array, migration},
    suspension::Suspensions,
    terms::{LinkageHandle, RegisterKind, RequestId},
};
use koseki_proto::koseki::evidence::v1::Entry;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{ItemFacts, LinkageFacts, Loaded, ProviderStore, ReleaseTx, Sequence, load};
use crate::{
    non_provision::{NonProvisionRecord, RecordFacts},
    persons::PersonLine,
    register::{Medium, RegisterCopy, RegisterFacts, RegisterKey},
};

/// The provider's SQLite store.
pub struct SqliteStore {
    database: Database,
    keys: Arc<Keyring>,
}

impl SqliteStore {
    /// Opens or makes the store.
    pub async fn open(path: &Path, log: &str, keys: Arc<Keyring>) -> Result<Self, OpenError> {
        let migrations = vec![migration(
            1001,
            "register",
            include_str!("../../migrations/1001_register.sql"),
        )];
        Ok(Self {
            database: Database::open(path, log, &keys.lookup, migrations).await?,
            keys,
        })
    }
}

/// What a linkage is found by.
pub(super) fn handle_lookup(keys: &Keyring, handle: &LinkageHandle) -> Lookup {
    keys.lookup.lookup("linkage", &[handle.expose()])
}

/// What a person is found by.
pub(super) fn person_lookup(keys: &Keyring, person_id: &str) -> Lookup {
    keys.lookup.lookup("person", &[person_id.as_bytes()])
}

/// What a register is found by.
pub(super) fn register_lookup(keys: &Keyring, key: &RegisterKey) -> Lookup {
    keys.lookup.lookup(
        "register",
        &[
            key.municipality_code.as_str().as_bytes(),
            key.local_number.as_bytes(),
        ],
    )
}

/// What a member is found by: a reference means something within its municipality only.
pub(super) fn member_lookup(keys: &Keyring, municipality_code: &str, reference: &str) -> Lookup {
    keys.lookup
        .lookup("member", &[municipality_code.as_bytes(), reference.as_bytes()])
}

/// Where a copy's body is sealed.
pub(super) fn body_place(key: &Lookup, revision: u64) -> Place<'_> {
    Place {
        column: "register_copy.body",
        row: key,
        revision,
    }
}

pub(super) fn lookup_column(row: &SqliteRow, at: usize) -> Result<Lookup, StoreError> {
    row.try_get::<&[u8], _>(at)?
        .try_into()
        .map_err(|_| StoreError::Unreadable("an HMAC"))
}

#[async_trait]
impl ProviderStore for SqliteStore {
    fn side(&self) -> &dyn SideStore {
        &self.database
    }

    fn log(&self) -> &str {
        self.database.log()
    }

    async fn enter(&self) -> Result<Box<dyn ReleaseTx>, StoreError> {
        Ok(Box::new(SqliteRelease {
            tx: self.database.begin().await?,
            keys: self.keys.clone(),
        }))
    }

    async fn highest_sequence(&self, gateway: &str) -> Result<u64, StoreError> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT highest FROM eligibility_window WHERE gateway = ?1")
            .bind(gateway)
            .fetch_optional(&mut *self.database.reader().await?)
            .await?;
        Ok(row.map_or(0, |(highest,)| highest.unsigned_abs()))
    }

    async fn store_copies(
        &self,
        copies: Vec<RegisterCopy>,
        sender: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        load::copies(
            self.database.begin_ordinary().await?,
            &self.keys,
            copies,
            sender,
            now,
        )
        .await
    }

    async fn store_persons(
        &self,
        lines: Vec<PersonLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Loaded, StoreError> {
        load::persons(self.database.begin().await?, &self.keys, lines, operator, now).await
    }

    async fn record_non_provision(
        &self,
        record: NonProvisionRecord,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        let mut tx = self.database.begin().await?;
        // Under a key: a bare digest would let a guess be confirmed.
        let content = self.keys.lookup.lookup("act", &[&record.content]);
        if let Some(epoch) = tx.done_before(record.act_id, &content).await? {
            return Ok(epoch);
        }
        let person = record
            .scope
            .person()
            .map(|person| person_lookup(&self.keys, person));
        let register = record
            .scope
            .register()
            .map(|register| register_lookup(&self.keys, register));
        // A record about somebody who is not stored would forbid nothing and look as if it did.
        for (statement, lookup) in [
            ("SELECT count(*) FROM person WHERE person = ?1", &person),
            ("SELECT count(*) FROM register_copy WHERE key = ?1", &register),
        ] {
            let Some(lookup) = lookup else { continue };
            let (count,): (i64,) = sqlx::query_as(statement)
                .bind(lookup.as_slice())
                .fetch_one(tx.connection())
                .await?;
            if count == 0 {
                return Err(ActError::UnknownReference);
            }
        }
        let seal = |column, value: &str| {
            let place = Place {
                column,
                row: record.act_id.as_bytes(),
                revision: 0,
            };
            self.keys
                .sealer
                .seal(place, value.as_bytes())
                .map_err(StoreError::from)
        };
        tx.advance_epoch().await?;
        sqlx::query(
            "INSERT INTO non_provision (act_id, person, register, valid_from, valid_until, authority, document_number) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(record.act_id.as_bytes().as_slice())
        .bind(person.as_ref().map(Lookup::as_slice))
        .bind(register.as_ref().map(Lookup::as_slice))
        .bind(record.valid_from.filter(|from| *from > now).map(Timestamp::unix_ms))
        .bind(record.valid_until.map(Timestamp::unix_ms))
        .bind(seal("non_provision.authority", &record.authority)?)
        .bind(seal("non_provision.document_number", &record.document_number)?)
        .execute(tx.connection())
        .await?;
        tx.remember_act(record.act_id.as_bytes(), &content).await?;
        let subject = person
            .or(register)
            .map(|subject| self.keys.pseudonym.pseudonym("subject", &subject));
        let entry = GuardActEntry {
            act_id: Some(record.act_id),
            act: "RECORD_NON_PROVISION",
            actor: operator,
            kind: None,
            subject,
            reason: "",
        };
        Ok(tx.commit(vec![entry.to_entry()], now).await?.epoch())
    }
}

struct SqliteRelease {
    tx: WriteTx,
    keys: Arc<Keyring>,
}

#[async_trait]
impl ReleaseTx for SqliteRelease {
    async fn use_sequences(&mut self, sequences: &[Sequence]) -> Result<Vec<bool>, StoreError> {
        let mut fresh = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let number =
                i64::try_from(sequence.number).map_err(|_| StoreError::Unreadable("a sequence number"))?;
            let row: Option<(i64, i64)> =
                sqlx::query_as("SELECT highest, below FROM eligibility_window WHERE gateway = ?1")
                    .bind(&sequence.gateway)
                    .fetch_optional(self.tx.connection())
                    .await?;
            let Some(window) = Window::of(row).used(number) else {
                fresh.push(false);
                continue;
            };
            sqlx::query(
                "INSERT INTO eligibility_window (gateway, highest, below) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (gateway) DO UPDATE SET highest = excluded.highest, below = excluded.below",
            )
            .bind(&sequence.gateway)
            .bind(window.highest)
            .bind(window.below)
            .execute(self.tx.connection())
            .await?;
            fresh.push(true);
        }
        Ok(fresh)
    }

    async fn use_request_ids(
        &mut self,
        ids: &[RequestId],
        now: Timestamp,
    ) -> Result<HashSet<[u8; 16]>, StoreError> {
        self.tx.use_request_ids(ids, now).await
    }

    async fn suspensions(&mut self) -> Result<Suspensions, StoreError> {
        self.tx.suspensions().await
    }

    async fn read(
        &mut self,
        handles: &[LinkageHandle],
        now: Timestamp,
    ) -> Result<Vec<ItemFacts>, StoreError> {
        let lookups: Vec<Lookup> = handles
            .iter()
            .map(|handle| handle_lookup(&self.keys, handle))
            .collect();
        let mut items: Vec<ItemFacts> = lookups.iter().map(|_| ItemFacts::default()).collect();
        // Two items of a batch may be one person's.
        let mut of_person: HashMap<i64, Vec<usize>> = HashMap::new();

        let rows = sqlx::query(
            "SELECT j.key, linkage.state = 'ACTIVE', person.id, person.person FROM json_each(?1) AS j \
             JOIN linkage ON linkage.handle = unhex(j.value) JOIN person ON person.id = linkage.person_id",
        )
        .bind(hex_array(lookups.iter().map(Lookup::as_slice)))
        .fetch_all(self.tx.connection())
        .await?;
        for row in rows {
            let at = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
            let item = items
                .get_mut(at)
                .ok_or(StoreError::Unreadable("a batch's order"))?;
            item.linkage = Some(LinkageFacts {
                active: row.try_get(1)?,
                person: lookup_column(&row, 3)?,
            });
            of_person.entry(row.try_get(2)?).or_default().push(at);
        }

        let persons = serde_json::Value::from(of_person.keys().copied().collect::<Vec<_>>()).to_string();
        let rows = sqlx::query(
            "SELECT person_member.person_id, register_copy.key, kind, medium, in_motion, member.removed, \
                    municipality_code, revision, received_at, body, member.position \
             FROM json_each(?1) AS j JOIN person_member ON person_member.person_id = j.value \
             JOIN member ON member.reference = person_member.reference \
             JOIN register_copy ON register_copy.id = member.register_id ORDER BY register_copy.id",
        )
        .bind(persons)
        .fetch_all(self.tx.connection())
        .await?;
        for row in rows {
            for at in of_person.get(&row.try_get(0)?).into_iter().flatten() {
                let facts = self.register_facts(&row)?;
                items
                    .get_mut(*at)
                    .ok_or(StoreError::Unreadable("a batch's order"))?
                    .registers
                    .push(facts);
            }
        }

        self.read_non_provision(&mut items, now).await?;
        Ok(items)
    }

    async fn commit(self: Box<Self>, entries: Vec<Entry>, now: Timestamp) -> Result<Committed, StoreError> {
        self.tx.commit(entries, now).await
    }
}

impl SqliteRelease {
    fn register_facts(&self, row: &SqliteRow) -> Result<RegisterFacts, StoreError> {
        let key = lookup_column(row, 1)?;
        let revision = row.try_get::<i64, _>(7)?.unsigned_abs();
        let body: &[u8] = row.try_get(9)?;
        Ok(RegisterFacts {
            key,
            kind: match row.try_get(2)? {
                "current" => RegisterKind::Current,
                "removed" => RegisterKind::Removed,
                "pre_revision" => RegisterKind::PreRevision,
                _ => return Err(StoreError::Unreadable("a register's kind")),
            },
            medium: match row.try_get(3)? {
                "text" => Medium::Text,
                "image" => Medium::Image,
                "paper" => Medium::Paper,
                _ => return Err(StoreError::Unreadable("a register's medium")),
            },
            in_motion: row.try_get(4)?,
            removed: row.try_get(5)?,
            position: usize::try_from(row.try_get::<i64, _>(10)?)
                .map_err(|_| StoreError::Unreadable("a member's position"))?,
            municipality_code: row.try_get(6)?,
            revision,
            received_at: Timestamp::from_unix_ms(row.try_get(8)?),
            // One copy that does not open must not touch the neighbours of its item.
            body: self.keys.sealer.open(body_place(&key, revision), body).ok(),
        })
    }

    async fn read_non_provision(
        &mut self,
        items: &mut [ItemFacts],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let persons = hex_array(
            items
                .iter()
                .filter_map(|item| item.linkage.as_ref())
                .map(|linkage| linkage.person.as_slice()),
        );
        let registers = hex_array(
            items
                .iter()
                .flat_map(|item| &item.registers)
                .map(|register| register.key.as_slice()),
        );
        let rows = sqlx::query(
            "SELECT person, register FROM non_provision \
             WHERE (valid_from IS NULL OR valid_from <= ?3) AND (valid_until IS NULL OR valid_until > ?3) AND id IN ( \
                SELECT id FROM non_provision WHERE person IN (SELECT unhex(value) FROM json_each(?1)) \
                UNION SELECT id FROM non_provision WHERE register IN (SELECT unhex(value) FROM json_each(?2)))",
        )
        .bind(persons)
        .bind(registers)
        .bind(now.unix_ms())
        .fetch_all(self.tx.connection())
        .await?;
        let column = |row: &SqliteRow, at| -> Result<Option<Lookup>, StoreError> {
            let value: Option<&[u8]> = row.try_get(at)?;
            value
                .map(|bytes| bytes.try_into().map_err(|_| StoreError::Unreadable("an HMAC")))
                .transpose()
        };
        for row in rows {
            let (person, register) = (column(&row, 0)?, column(&row, 1)?);
            for item in items.iter_mut() {
                let names_person =
                    person.is_some() && item.linkage.as_ref().map(|linkage| linkage.person) == person;
                let names_register = item.registers.iter().any(|held| Some(held.key) == register);
                if names_person || names_register {
                    item.non_provision.push(RecordFacts { person, register });
                }
            }
        }
        Ok(())
    }
}

/// The sequence numbers that a gateway has used: the highest, and a bit for each of the 62 below it. What lies lower
/// counts as used.
struct Window {
    highest: i64,
    below: i64,
}

impl Window {
    const BITS: i64 = 62;

    fn of(row: Option<(i64, i64)>) -> Self {
        row.map_or(Self { highest: 0, below: 0 }, |(highest, below)| Self {
            highest,
            below,
        })
    }

    /// The window after `number` is used; `None` when it was used before.
    fn used(self, number: i64) -> Option<Self> {
        let ahead = number - self.highest;
        if ahead > 0 {
            // The old highest becomes the bit `ahead - 1`; what falls off the end counts as used from now on.
            let shifted = if ahead > Self::BITS {
                0
            } else {
                (self.below << ahead) | (1 << (ahead - 1))
            };
            return Some(Self {
                highest: number,
                below: shifted & ((1 << Self::BITS) - 1),
            });
        }
        let bit = -ahead - 1;
        if !(0..Self::BITS).contains(&bit) || self.below & (1 << bit) != 0 {
            return None;
        }
        Some(Self {
            below: self.below | (1 << bit),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_number_is_used_once() {
        let mut window = Window::of(None);
        let mut used = HashSet::new();
        // A fixed walk with steps ahead, back and far ahead.
        let mut state = 7_u64;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let step = i64::try_from((state >> 33) % 90).unwrap() - 70;
            let number = (window.highest + step).max(1);
            let fresh = Window { ..window }.used(number);
            if let Some(next) = fresh {
                assert!(used.insert(number), "{number} twice");
                window = next;
            } else {
                assert!(
                    used.contains(&number) || number < window.highest - Window::BITS,
                    "{number} refused"
                );
            }
        }
        assert!(used.len() > 1_000);
        assert!(Window { ..window }.used(window.highest).is_none());
    }
}

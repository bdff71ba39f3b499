//! Reading the audit log that this process writes: its head, and proofs from the hashes that stand beside its bundles.

use std::{cell::RefCell, collections::HashMap};

use koseki_proto::koseki::evidence::v1::Bundle;
use prost::Message as _;
use tlog_tiles::tlog::{
    EMPTY_HASH, Error as TreeError, Hash, HashReader, prove_record, prove_tree, split_stored_hash_index,
    stored_hash_index, tree_hash,
};

use super::{
    Access, Database, StoreError,
    query::{Connection, Row, Value},
};
use crate::{
    clock::Timestamp,
    evidence::{Frontier, HASH_BYTES, NewEntry, ordinary_act},
    identity::PeerIdentity,
};

const TREE: StoreError = StoreError::Unreadable("the hashes of the log");

/// The newest checkpoints of a log, as they are stored: signed notes.
pub struct StoredCheckpoint {
    /// Size of the newest that the other side has countersigned; 0 when there is none.
    pub witnessed_size: u64,
    /// It; empty when there is none.
    pub witnessed_note: String,
}

/// How far this side has countersigned a log of the other side.
pub struct Witnessed {
    /// Size.
    pub size: u64,
    /// Root then.
    pub root: [u8; HASH_BYTES],
    /// The checkpoint, signed and countersigned.
    pub note: String,
    /// It is closed: nothing of it is countersigned any more.
    pub closed: bool,
}

impl Database {
    /// The tree of the log that this process writes, as it is committed. It does not wait for a commit in doubt, and need not:
    /// what is read here is durable (the session commits synchronously), and whatever becomes of that commit goes on from it. A
    /// checkpoint leaves after a commit of its own ([`Self::store_checkpoint`]), which a synchronous standby has as well.
    pub async fn tree(&self) -> Result<Frontier, StoreError> {
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .one(
                "SELECT generation, size, frontier FROM log_head WHERE log = {log}",
                &[("log", self.log().into())],
            )
            .await?;
        if row.int(0)? != self.generation() {
            return Err(StoreError::Fenced);
        }
        Frontier::read(row.int(1)?.unsigned_abs(), row.bytes(2)?)
            .ok_or(StoreError::Unreadable("the frontier of the log"))
    }

    /// Records the opening of a log that has nothing in it yet.
    pub(super) async fn open_log(&self, own: &PeerIdentity, now: Timestamp) -> Result<(), StoreError> {
        if self.tree().await?.size() == 0 {
            let tx = self.begin(Access::Ordinary).await?;
            let _ = tx
                .commit(vec![ordinary_act("OPEN_LOG", own, 0, None, self.log())], now)
                .await?;
        }
        Ok(())
    }

    /// That the log at `size` goes on from what it was at `old_size`, which is neither 0 nor more.
    pub async fn prove_consistency(&self, old_size: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.hashed(self.log(), |reader| prove_tree(size, old_size, reader))
            .await
    }

    /// For each of these indexes, that its entry is in a log of this database at this size, which is above them all.
    pub async fn prove_inclusion(
        &self,
        log: &str,
        indexes: &[u64],
        size: u64,
    ) -> Result<Vec<Vec<Hash>>, StoreError> {
        let prove = |reader: &Held| {
            indexes
                .iter()
                .map(|index| prove_record(size, *index, reader))
                .collect()
        };
        self.hashed(log, prove).await
    }

    /// Root of the log that this process writes, as it was at an earlier size.
    pub async fn root_at(&self, size: u64) -> Result<[u8; HASH_BYTES], StoreError> {
        if size == 0 {
            return Ok(EMPTY_HASH.0);
        }
        let root = self.hashed(self.log(), |reader| tree_hash(size, reader)).await?;
        Ok(root.0)
    }

    /// Computes over the hashes of a log: once to know which it takes, and once with them.
    async fn hashed<T>(
        &self,
        log: &str,
        compute: impl Fn(&Held) -> Result<T, TreeError>,
    ) -> Result<T, StoreError> {
        let mut held = Held::default();
        compute(&held).map_err(|_| TREE)?;
        let mut wanted = held.wanted.take();
        wanted.sort_unstable();
        wanted.dedup();
        if !wanted.is_empty() {
            let mut reader = self.reader().await?;
            held.hashes = hashes(&mut reader.connection(), log, &wanted).await?;
            if held.hashes.len() < wanted.len() {
                return Err(TREE);
            }
        }
        compute(&held).map_err(|_| TREE)
    }

    /// Bundles of the log that this process writes, from a number on and in order, each with its number; without its body when that
    /// was archived.
    pub async fn bundles(&self, from: u64, limit: i64) -> Result<Vec<(u64, Option<Bundle>)>, StoreError> {
        let mut reader = self.reader().await?;
        let rows = reader
            .connection()
            .all(
                "SELECT number, body FROM bundle WHERE log = {log} AND number >= {from} ORDER BY number LIMIT {limit}",
                &[
                    ("log", self.log().into()),
                    ("from", i64::try_from(from).unwrap_or(i64::MAX).into()),
                    ("limit", limit.into()),
                ],
            )
            .await?;
        let bundle = |body| Bundle::decode(body).map_err(|_| StoreError::Unreadable("a bundle"));
        rows.iter()
            .map(|row| {
                let bundle = row.optional_bytes(1)?.map(bundle).transpose()?;
                Ok((row.int(0)?.unsigned_abs(), bundle))
            })
            .collect()
    }

    /// The newest checkpoint that the other side has countersigned of a log of this database.
    pub async fn stored_checkpoint(&self, log: &str) -> Result<StoredCheckpoint, StoreError> {
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .optional(
                "SELECT witnessed_size, witnessed_note FROM log_checkpoint WHERE log = {log}",
                &[("log", log.into())],
            )
            .await?;
        Ok(match row {
            Some(row) => StoredCheckpoint {
                witnessed_size: row.int(0)?.unsigned_abs(),
                witnessed_note: row.text(1)?.to_owned(),
            },
            None => StoredCheckpoint {
                witnessed_size: 0,
                witnessed_note: String::new(),
            },
        })
    }

    /// Stores a newer checkpoint of the log that this process writes.
    pub async fn store_checkpoint(&self, size: u64, note: &str) -> Result<(), StoreError> {
        self.upsert(
            "INSERT INTO log_checkpoint (log, size, note, witnessed_size, witnessed_note) \
             VALUES ({log}, {size}, {note}, 0, '') \
             ON CONFLICT (log) DO UPDATE SET size = excluded.size, note = excluded.note \
             WHERE log_checkpoint.size <= excluded.size",
            size,
            note,
        )
        .await
    }

    /// Stores a newer one that the other side has countersigned.
    pub async fn store_witnessed(&self, size: u64, note: &str) -> Result<(), StoreError> {
        self.upsert(
            "INSERT INTO log_checkpoint (log, size, note, witnessed_size, witnessed_note) \
             VALUES ({log}, {size}, {note}, {size}, {note}) \
             ON CONFLICT (log) DO UPDATE SET witnessed_size = excluded.size, witnessed_note = excluded.note \
             WHERE log_checkpoint.witnessed_size <= excluded.size",
            size,
            note,
        )
        .await
    }

    async fn upsert(&self, sql: &'static str, size: u64, note: &str) -> Result<(), StoreError> {
        let size = i64::try_from(size).map_err(|_| TREE)?;
        let params = [
            ("log", self.log().into()),
            ("size", size.into()),
            ("note", note.into()),
        ];
        self.once(Access::Ungated, sql, &params).await?;
        Ok(())
    }

    /// How far this side has countersigned a log of the other side; `None` when it never has.
    pub async fn witnessed(&self, origin: &str) -> Result<Option<Witnessed>, StoreError> {
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .optional(
                "SELECT size, root, note, closed FROM witnessed_log WHERE origin = {origin}",
                &[("origin", origin.into())],
            )
            .await?;
        row.map(|row| {
            Ok(Witnessed {
                size: row.int(0)?.unsigned_abs(),
                root: row.array(1)?,
                note: row.text(2)?.to_owned(),
                closed: row.bool(3)?,
            })
        })
        .transpose()
    }

    /// Goes on from what was countersigned before, unless somebody else has meanwhile, or it was closed: true when it did. Nothing
    /// is countersigned before this has returned. `opened` is the entry of the first time.
    pub async fn advance_witnessed(
        &self,
        origin: &str,
        before: Option<&Witnessed>,
        after: &Witnessed,
        opened: Option<NewEntry>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let size = |size: u64| i64::try_from(size).map_err(|_| TREE);
        let params = [
            ("origin", origin.into()),
            ("size", size(after.size)?.into()),
            ("root", (&after.root).into()),
            ("note", after.note.as_str().into()),
            ("no", false.into()),
            ("old_size", size(before.map_or(0, |before| before.size))?.into()),
            (
                "old_root",
                (&before.map_or([0; HASH_BYTES], |before| before.root)).into(),
            ),
        ];
        let sql = if before.is_some() {
            "UPDATE witnessed_log SET size = {size}, root = {root}, note = {note} \
             WHERE origin = {origin} AND size = {old_size} AND root = {old_root} AND NOT closed RETURNING 1"
        } else {
            "INSERT INTO witnessed_log (origin, size, root, note, closed) \
             VALUES ({origin}, {size}, {root}, {note}, {no}) ON CONFLICT DO NOTHING RETURNING 1"
        };
        let Some(entry) = opened else {
            return Ok(self.once(Access::Ungated, sql, &params).await?.len() == 1);
        };
        let mut tx = self.begin(Access::Ordinary).await?;
        if tx.all(sql, &params).await?.is_empty() {
            return Ok(false);
        }
        let _ = tx.commit(vec![entry], now).await?;
        Ok(true)
    }
}

/// Hashes by their stored index; what it does not hold it notes and gives as nothing.
#[derive(Default)]
struct Held {
    hashes: HashMap<u64, Hash>,
    wanted: RefCell<Vec<u64>>,
}

impl HashReader for Held {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, TreeError> {
        if self.hashes.is_empty() {
            self.wanted.borrow_mut().extend(indexes);
            return Ok(vec![EMPTY_HASH; indexes.len()]);
        }
        let held = |index| self.hashes.get(index).copied().ok_or(TreeError::IndexesNotInTree);
        indexes.iter().map(held).collect()
    }
}

/// Reads hashes, each from its place beside the bundle of the entry that it was completed with: two statements, whatever is
/// wanted.
pub(super) async fn hashes(
    connection: &mut Connection<'_>,
    log: &str,
    wanted: &[u64],
) -> Result<HashMap<u64, Hash>, StoreError> {
    let number = |number: u64| i64::try_from(number).map(Some).map_err(|_| TREE);
    let entry = |index: &u64| {
        let (level, place) = split_stored_hash_index(*index);
        number(((place + 1) << level) - 1)
    };
    let entries = wanted.iter().map(entry).collect::<Result<_, _>>()?;
    let entries = super::table([("entry", super::Column::Int(entries))]);
    let rows = connection
        .all(
            "SELECT (SELECT max(first_index) FROM bundle WHERE log = {log} AND first_index <= entry) \
             FROM {entries} ORDER BY at",
            &[("log", Value::from(log)), ("entries", entries)],
        )
        .await?;
    let (mut firsts, mut places) = (Vec::new(), Vec::new());
    for (row, index) in rows.iter().zip(wanted) {
        let first = row.optional_int(0)?.ok_or(TREE)?;
        let place = index.checked_sub(stored_hash_index(0, first.unsigned_abs()));
        firsts.push(Some(first));
        places.push(number(place.ok_or(TREE)? * HASH_BYTES as u64 + 1)?);
    }
    let places = super::table([
        ("first", super::Column::Int(firsts)),
        ("place", super::Column::Int(places)),
    ]);
    let rows = connection
        .all(
            // One by one, by their key: joined, all bundles might be gone through.
            "SELECT (SELECT substr(hashes, CAST(place AS INTEGER), 32) FROM bundle WHERE log = {log} AND first_index = first) \
             FROM {places} ORDER BY at",
            &[("log", Value::from(log)), ("places", places)],
        )
        .await?;
    let hash = |(row, index): (&Row, &u64)| Ok((*index, Hash(row.optional_array(0)?.ok_or(TREE)?)));
    rows.iter().zip(wanted).map(hash).collect()
}

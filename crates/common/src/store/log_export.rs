//! Reading the logs for export: how far each goes, its bundles in order, and what the tree is made of before them.

use koseki_proto::koseki::evidence::v1::ExportedBundle;
use tlog_tiles::tlog::stored_hash_index;

use super::{Database, StoreError, log::hashes};
use crate::evidence::HASH_BYTES;

/// A log as it is at a moment.
pub struct LogFacts {
    /// Its name.
    pub log: String,
    /// How many entries it has.
    pub size: u64,
    /// How many bundles they are in.
    pub bundles: u64,
    /// Its newest checkpoint; empty when there is none.
    pub checkpoint: String,
    /// Its newest countersigned checkpoint; empty when there is none.
    pub countersigned: String,
    /// Of which size that is; 0 when there is none.
    pub countersigned_size: u64,
}

/// Where a range of bundles begins.
pub struct RangeStart {
    /// Index of its first entry.
    pub first_index: u64,
    /// Roots of the complete subtrees of the entries before, the largest first.
    pub frontier: Vec<Vec<u8>>,
}

/// Logs that are told of at most.
const MAX_LOGS: i64 = 64;

impl Database {
    /// The logs that are written here, by name.
    pub async fn logs(&self) -> Result<Vec<LogFacts>, StoreError> {
        let mut reader = self.reader().await?;
        let rows = reader
            .connection()
            .all(
                "SELECT log_head.log, log_head.size, log_head.bundles, log_checkpoint.note, log_checkpoint.witnessed_note, \
                        COALESCE(log_checkpoint.witnessed_size, 0) \
                 FROM log_head LEFT JOIN log_checkpoint ON log_checkpoint.log = log_head.log \
                 ORDER BY log_head.log LIMIT {limit}",
                &[("limit", MAX_LOGS.into())],
            )
            .await?;
        let facts = |row: &super::Row| {
            Ok(LogFacts {
                log: row.text(0)?.to_owned(),
                size: row.int(1)?.unsigned_abs(),
                bundles: row.int(2)?.unsigned_abs(),
                checkpoint: row.optional_text(3)?.unwrap_or_default().to_owned(),
                countersigned: row.optional_text(4)?.unwrap_or_default().to_owned(),
                countersigned_size: row.int(5)?.unsigned_abs(),
            })
        };
        rows.iter().map(facts).collect()
    }

    /// The newest of the other side's checkpoints that this side has countersigned.
    pub async fn witnessed_notes(&self) -> Result<Vec<String>, StoreError> {
        let mut reader = self.reader().await?;
        let rows = reader
            .connection()
            .all(
                "SELECT note FROM witnessed_log ORDER BY origin LIMIT {limit}",
                &[("limit", MAX_LOGS.into())],
            )
            .await?;
        rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }

    /// How many bundles hold the first `size` entries of a log.
    pub async fn bundles_of(&self, log: &str, size: u64) -> Result<u64, StoreError> {
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .optional(
                "SELECT number FROM bundle WHERE log = {log} AND first_index < {size} ORDER BY first_index DESC LIMIT 1",
                &[("log", log.into()), ("size", number(size)?.into())],
            )
            .await?;
        Ok(match row {
            Some(row) => row.int(0)?.unsigned_abs() + 1,
            None => 0,
        })
    }

    /// Where a bundle begins. `end`: how many entries the log has, for the bundle that is to come next.
    pub async fn range_start(&self, log: &str, bundle: u64, end: u64) -> Result<RangeStart, StoreError> {
        let mut reader = self.reader().await?;
        let mut connection = reader.connection();
        let row = connection
            .optional(
                "SELECT first_index FROM bundle WHERE log = {log} AND number = {number}",
                &[("log", log.into()), ("number", number(bundle)?.into())],
            )
            .await?;
        let first_index = match row {
            Some(row) => row.int(0)?.unsigned_abs(),
            None => end,
        };
        let mut wanted = Vec::new();
        let mut before = 0;
        for level in (0..u64::BITS).rev().filter(|level| first_index >> level & 1 == 1) {
            before += 1_u64 << level;
            let subtree = u8::try_from(level).map_err(|_| NO_HASH)?;
            wanted.push(stored_hash_index(subtree, (before >> level) - 1));
        }
        let hashes = hashes(&mut connection, log, &wanted).await?;
        let frontier = wanted
            .iter()
            .map(|index| Ok(hashes.get(index).ok_or(NO_HASH)?.0.to_vec()))
            .collect::<Result<_, StoreError>>()?;
        Ok(RangeStart {
            first_index,
            frontier,
        })
    }

    /// The next bundles of a log, from one number to before another; `most` of them at most.
    pub async fn exported_bundles(
        &self,
        log: &str,
        from: u64,
        to: u64,
        most: u32,
    ) -> Result<Vec<ExportedBundle>, StoreError> {
        let mut reader = self.reader().await?;
        let params = [
            ("log", log.into()),
            ("from", number(from)?.into()),
            ("to", number(to)?.into()),
            ("most", i64::from(most).into()),
        ];
        let rows = reader
            .connection()
            .all(
                "SELECT number, first_index, body, CASE WHEN body IS NULL THEN hashes END FROM bundle \
                 WHERE log = {log} AND number >= {from} AND number < {to} ORDER BY number LIMIT {most}",
                &params,
            )
            .await?;
        let exported = |row: &super::Row| {
            let leaf_hashes = match row.optional_bytes(3)? {
                Some(hashes) => leaf_hashes(row.int(1)?.unsigned_abs(), hashes)?,
                None => Vec::new(),
            };
            Ok(ExportedBundle {
                number: row.int(0)?.unsigned_abs(),
                body: row.optional_bytes(2)?.unwrap_or_default().to_vec(),
                leaf_hashes,
            })
        };
        rows.iter().map(exported).collect()
    }
}

const NO_HASH: StoreError = StoreError::Unreadable("the hashes of the log");

fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Unreadable("a place in the log"))
}

/// The leaves' own hashes among those that stand with a bundle.
fn leaf_hashes(first_index: u64, hashes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let (mut rest, mut index, mut leaves) = (hashes, first_index, Vec::new());
    while let Some((leaf, _)) = rest.split_first_chunk::<HASH_BYTES>() {
        leaves.extend_from_slice(leaf);
        let with = (1 + usize::try_from(index.trailing_ones()).map_err(|_| NO_HASH)?) * HASH_BYTES;
        rest = rest.get(with..).ok_or(NO_HASH)?;
        index += 1;
    }
    Ok(leaves)
}

//! The index of the audit log by account: the requesters' own records. It is made from the bundles of every log in the
//! database, whichever instance wrote them, and holds nothing that they do not: emptied, it is made anew.

use common::{
    clock::Timestamp,
    digest,
    store::{Access, Column, Database, Row, StoreError, table},
};
use koseki_proto::koseki::evidence::v1::{
    Bundle, Provision, Public, Restricted, public::Event, restricted::Detail,
};
use prost::Message as _;

use super::acts::account_pseudonym;
use crate::own_records::{Record, RecordPlace};

/// Bundles of one log that are taken in by one transaction.
const BUNDLES: i64 = 32;
const RULE: StoreError = StoreError::Unreadable("a bundle");
/// What stands before a frontend's name in an entry.
const FRONTEND: &str = "portal-frontend/";

pub(super) async fn list(
    database: &Database,
    account: i64,
    behind: Option<&RecordPlace>,
    limit: i64,
) -> Result<Vec<Record>, StoreError> {
    let (at, log, entry_index) = match behind {
        Some(place) => (place.at.unix_ms(), place.log.as_str(), place.entry_index),
        None => (i64::MAX, "", 0),
    };
    let params = [
        (
            "account",
            account_pseudonym(&database.keys, account).as_slice().into(),
        ),
        ("at", at.into()),
        ("log", log.into()),
        ("entry_index", entry_index.into()),
        ("limit", limit.into()),
    ];
    let mut reader = database.reader().await?;
    let rows = reader
        .connection()
        .all(
            "SELECT at, log, entry_index, frontend, public_part, commitment \
             FROM provision_record \
             WHERE account = {account} AND (at, log, entry_index) < ({at}, {log}, {entry_index}) \
             ORDER BY at DESC, log DESC, entry_index DESC LIMIT {limit}",
            &params,
        )
        .await?;
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let public_part = row.bytes(4)?;
    let provision = provision(public_part)?.ok_or(RULE)?;
    Ok(Record {
        place: RecordPlace {
            at: Timestamp::from_unix_ms(row.int(0)?),
            log: row.text(1)?.to_owned(),
            entry_index: row.int(2)?,
        },
        kind: provision.kind,
        outcome: provision.outcome(),
        items: provision.items().collect(),
        request_id: provision.request_id,
        procedure: provision.procedure,
        reason: provision.reason,
        frontend: row.text(3)?.to_owned(),
        public_part: public_part.to_vec(),
        commitment: row.bytes(5)?.to_vec(),
    })
}

/// The request that an entry is about, if it is about one.
fn provision(public_part: &[u8]) -> Result<Option<Provision>, StoreError> {
    let public = Public::decode(public_part).map_err(|_| RULE)?;
    Ok(match public.event {
        Some(Event::Provision(provision)) => Some(provision),
        _ => None,
    })
}

/// A log that has more bundles than the index.
struct Behind {
    log: String,
    indexed: i64,
    head: i64,
}

pub(super) async fn index(database: &Database) -> Result<bool, StoreError> {
    let mut reader = database.reader().await?;
    let rows = reader
        .connection()
        .all(
            "SELECT log_head.log, COALESCE(indexed_log.bundles, 0), log_head.bundles FROM log_head \
             LEFT JOIN indexed_log ON indexed_log.log = log_head.log \
             WHERE log_head.bundles > COALESCE(indexed_log.bundles, 0) ORDER BY log_head.log",
            &[],
        )
        .await?;
    drop(reader);
    let mut caught_up = true;
    for row in &rows {
        let behind = Behind {
            log: row.text(0)?.to_owned(),
            indexed: row.int(1)?,
            head: row.int(2)?,
        };
        caught_up &= take_in(database, &behind).await? >= behind.head;
    }
    Ok(caught_up)
}

/// Takes the next bundles of a log in; how many of its bundles the index has then.
async fn take_in(database: &Database, behind: &Behind) -> Result<i64, StoreError> {
    let params = [
        ("log", behind.log.as_str().into()),
        ("indexed", behind.indexed.into()),
        ("limit", BUNDLES.into()),
    ];
    let mut reader = database.reader().await?;
    let bundles = reader
        .connection()
        .all(
            "SELECT number, body FROM bundle WHERE log = {log} AND number >= {indexed} AND body IS NOT NULL \
             ORDER BY number LIMIT {limit}",
            &params,
        )
        .await?;
    drop(reader);
    let mut rows = Rows::default();
    for row in &bundles {
        let bundle = Bundle::decode(row.bytes(1)?).map_err(|_| RULE)?;
        rows.add(bundle)?;
    }
    // Bundles whose time is over are not there any more.
    let next = match bundles.last() {
        Some(last) => last.int(0)? + 1,
        None => behind.head,
    };

    let mut tx = database.begin(Access::Ungated).await?;
    let params = [
        ("log", behind.log.as_str().into()),
        ("indexed", behind.indexed.into()),
        ("next", next.into()),
    ];
    tx.execute(
        "INSERT INTO indexed_log (log, bundles) VALUES ({log}, 0) ON CONFLICT DO NOTHING",
        &params,
    )
    .await?;
    // Several instances do this: whoever moves the row first takes these bundles in.
    let moved = tx
        .execute(
            "UPDATE indexed_log SET bundles = {next} WHERE log = {log} AND bundles = {indexed}",
            &params,
        )
        .await?;
    if moved == 0 {
        let row = tx
            .one("SELECT bundles FROM indexed_log WHERE log = {log}", &params)
            .await?;
        return row.int(0);
    }
    rows.insert(&mut tx, &behind.log).await?;
    tx.commit_unrecorded().await?;
    Ok(next)
}

/// Rows of one log, by columns. What the public part says is not written beside it.
#[derive(Default)]
struct Rows {
    entry_index: Vec<Option<i64>>,
    account: Vec<Vec<u8>>,
    at: Vec<Option<i64>>,
    frontend: Vec<String>,
    public_part: Vec<Vec<u8>>,
    commitment: Vec<Vec<u8>>,
}

impl Rows {
    fn add(&mut self, bundle: Bundle) -> Result<(), StoreError> {
        let at = bundle.at.as_ref().and_then(Timestamp::from_proto).ok_or(RULE)?;
        let first = i64::try_from(bundle.first_index).map_err(|_| RULE)?;
        for (index, entry) in (first..).zip(bundle.entries) {
            if provision(&entry.public)?.is_none() {
                continue;
            }
            let restricted = Restricted::decode(entry.restricted.as_slice()).map_err(|_| RULE)?;
            let Some(Detail::Provision(detail)) = restricted.detail else {
                return Err(RULE);
            };
            // Whoever asked without a session has no account.
            if detail.subject_pseudonym.is_empty() {
                continue;
            }
            let frontend = detail.peer.strip_prefix(FRONTEND).unwrap_or(&detail.peer);
            self.frontend.push(frontend.to_owned());
            self.entry_index.push(Some(index));
            self.account.push(detail.subject_pseudonym);
            self.at.push(Some(at.unix_ms()));
            self.commitment
                .push(digest::sha256(&[&entry.salt, &entry.restricted]).to_vec());
            self.public_part.push(entry.public);
        }
        Ok(())
    }

    async fn insert(self, tx: &mut common::store::WriteTx, log: &str) -> Result<(), StoreError> {
        if self.entry_index.is_empty() {
            return Ok(());
        }
        let rows = table([
            ("entry_index", Column::Int(self.entry_index)),
            ("account", Column::Bytes(self.account)),
            ("decided_at", Column::Int(self.at)),
            ("frontend", Column::Text(self.frontend)),
            ("public_part", Column::Bytes(self.public_part)),
            ("commitment", Column::Bytes(self.commitment)),
        ]);
        tx.execute(
            "INSERT INTO provision_record (log, entry_index, account, at, frontend, public_part, commitment) \
             SELECT {log}, entry_index, account, decided_at, frontend, public_part, commitment FROM {rows}",
            &[("log", log.into()), ("rows", rows)],
        )
        .await?;
        Ok(())
    }
}

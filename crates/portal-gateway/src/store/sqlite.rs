//! The store on SQLite: the one writer connection is the gate.

use std::{collections::HashSet, path::Path, sync::Arc};

use async_trait::async_trait;
use common::{
    card::Card,
    clock::Timestamp,
    evidence::{Committed, Epoch},
    identity::PeerIdentity,
    keyring::{Keyring, Lookup},
    lines::Outcome,
    sealing::Place,
    store::{
        ActError, Database, OpenError, SideStore, StoreError, WriteTx, hex_array, migration, suspensions,
    },
    suspension::Suspensions,
    terms::{ActId, LinkageCode, RequestId},
};
use koseki_proto::koseki::evidence::v1::Entry;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Block, Challenge, GatewayStore, NewConsent, ReleaseTx, RequesterError, SessionBounds, acts};
use crate::{
    conditions::{ConsentFacts, Guards, LinkageFacts, SessionFacts},
    linkage::LinkageLine,
    provision::Asked,
};

/// The gateway's SQLite store.
pub struct SqliteStore {
    pub(super) database: Database,
    pub(super) keys: Arc<Keyring>,
}

impl SqliteStore {
    /// Opens or makes the store.
    pub async fn open(path: &Path, log: &str, keys: Arc<Keyring>) -> Result<Self, OpenError> {
        let migrations = vec![migration(
            1001,
            "portal",
            include_str!("../../migrations/1001_portal.sql"),
        )];
        Ok(Self {
            database: Database::open(path, log, &keys.lookup, migrations).await?,
            keys,
        })
    }
}

/// What a card's key is found by.
pub(super) fn card_key_lookup(keys: &Keyring, card_key_sha256: &[u8; 32]) -> Lookup {
    keys.lookup.lookup("card-key", &[card_key_sha256])
}

/// Where a session's serial number is sealed.
pub(super) fn serial_place(token: &[u8]) -> Place<'_> {
    Place {
        column: "session.sealed_serial",
        row: token,
        revision: 0,
    }
}

/// Where a linkage's code is sealed.
pub(super) fn code_place(code: &[u8]) -> Place<'_> {
    Place {
        column: "linkage.sealed_code",
        row: code,
        revision: 0,
    }
}

fn bytes<const N: usize>(row: &SqliteRow, at: usize) -> Result<[u8; N], StoreError> {
    row.try_get::<&[u8], _>(at)?
        .try_into()
        .map_err(|_| StoreError::Unreadable("a fixed number of bytes"))
}

fn moment(row: &SqliteRow, at: usize) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_unix_ms(row.try_get(at)?))
}

/// Two statements for a whole batch; behind the gate or before it, the same.
async fn read(
    connection: &mut SqliteConnection,
    keys: &Keyring,
    asked: &[Asked],
) -> Result<(Suspensions, Vec<Guards>), StoreError> {
    let suspensions = suspensions(connection).await?;
    let mut guards: Vec<Guards> = asked.iter().map(|_| Guards::default()).collect();
    let rows = sqlx::query(
        "SELECT j.key, session.token, account_id, frontend, card_issuer, sealed_serial, card_expires, logged_in_at, \
                last_used_at, ended, linkage.code, linkage.sealed_code, linkage.state = 'ACTIVE', \
                block.card_key IS NOT NULL \
         FROM json_each(?1) AS j JOIN session ON session.token = unhex(j.value) \
         LEFT JOIN linkage ON linkage.card_key = session.card_key AND linkage.state <> 'REVOKED' \
         LEFT JOIN block ON block.card_key = session.card_key",
    )
    .bind(hex_array(asked.iter().map(|asked| asked.session.as_slice())))
    .fetch_all(&mut *connection)
    .await?;
    let mut wanted = Vec::new();
    for row in &rows {
        let at = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        let (guard, asked) = guards
            .get_mut(at)
            .zip(asked.get(at))
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        let session = session(row, keys)?;
        wanted.push(serde_json::json!([
            at,
            session.account,
            i32::from(asked.kind.to_proto())
        ]));
        guard.session = Some(session);
        guard.linkage = linkage(row, keys)?;
        guard.blocked = row.try_get(13)?;
    }
    let rows = sqlx::query(
        "SELECT j.value ->> 0, consent.id, text_sha256, given_at, expires_at, one_time FROM json_each(?1) AS j \
         JOIN consent ON account_id = j.value ->> 1 AND kind = j.value ->> 2 AND state = 'GIVEN' \
         ORDER BY given_at, consent.id",
    )
    .bind(serde_json::Value::from(wanted).to_string())
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        let at = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        let guard = guards
            .get_mut(at)
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        guard.consents.push(ConsentFacts {
            id: ActId::from_bytes(bytes(row, 1)?),
            text_sha256: bytes(row, 2)?,
            given_at: moment(row, 3)?,
            expires_at: moment(row, 4)?,
            one_time: row.try_get(5)?,
        });
    }
    Ok((suspensions, guards))
}

fn session(row: &SqliteRow, keys: &Keyring) -> Result<SessionFacts, StoreError> {
    let token: &[u8] = row.try_get(1)?;
    let serial = keys.sealer.open(serial_place(token), row.try_get(5)?);
    Ok(SessionFacts {
        account: row.try_get(2)?,
        frontend: row.try_get(3)?,
        card_issuer: bytes(row, 4)?,
        card_serial: serial.ok().map(|serial| serial.to_vec()),
        card_expires: moment(row, 6)?,
        logged_in_at: moment(row, 7)?,
        last_used_at: moment(row, 8)?,
        ended: row.try_get(9)?,
    })
}

fn linkage(row: &SqliteRow, keys: &Keyring) -> Result<Option<LinkageFacts>, StoreError> {
    let Some(code) = row.try_get::<Option<&[u8]>, _>(10)? else {
        return Ok(None);
    };
    let opened = keys.sealer.open(code_place(code), row.try_get(11)?).ok();
    let code = opened.and_then(|opened| LinkageCode::parse(&opened).ok());
    Ok(Some(LinkageFacts {
        active: row.try_get(12)?,
        code,
    }))
}

#[async_trait]
impl GatewayStore for SqliteStore {
    fn side(&self) -> &dyn SideStore {
        &self.database
    }

    async fn read(&self, asked: &[Asked]) -> Result<(Suspensions, Vec<Guards>), StoreError> {
        read(&mut *self.database.reader().await?, &self.keys, asked).await
    }

    async fn enter(&self) -> Result<Box<dyn ReleaseTx>, StoreError> {
        Ok(Box::new(SqliteRelease {
            tx: self.database.begin().await?,
            keys: self.keys.clone(),
        }))
    }

    async fn add_challenge(&self, challenge: Challenge) -> Result<(), StoreError> {
        let mut tx = self.database.begin_ordinary().await?;
        sqlx::query("INSERT INTO challenge (id, frontend, text, expires_at) VALUES (?1, ?2, ?3, ?4)")
            .bind(challenge.id.as_slice())
            .bind(challenge.frontend)
            .bind(challenge.text)
            .bind(challenge.expires_at.unix_ms())
            .execute(tx.connection())
            .await?;
        tx.commit_unrecorded().await
    }

    async fn take_challenge(
        &self,
        id: &[u8],
        frontend: &str,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut tx = self.database.begin_ordinary().await?;
        let row: Option<(Vec<u8>, i64)> = sqlx::query_as(
            "DELETE FROM challenge WHERE id = ?1 AND frontend = ?2 RETURNING text, expires_at",
        )
        .bind(id)
        .bind(frontend)
        .fetch_optional(tx.connection())
        .await?;
        tx.commit_unrecorded().await?;
        Ok(row
            .filter(|(_, expires_at)| now.unix_ms() <= *expires_at)
            .map(|(text, _)| text))
    }

    async fn open_session(
        &self,
        token_sha256: [u8; 32],
        card: &Card,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        acts::open_session(self, token_sha256, card, frontend, now).await
    }

    async fn end_session(
        &self,
        token_sha256: [u8; 32],
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        acts::end_session(self, token_sha256, frontend, now).await
    }

    async fn grant_consent(
        &self,
        token_sha256: [u8; 32],
        consent: NewConsent,
        bounds: SessionBounds,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), RequesterError> {
        acts::grant_consent(self, token_sha256, consent, bounds, frontend, now).await
    }

    async fn withdraw_consent(
        &self,
        token_sha256: [u8; 32],
        consent: ActId,
        bounds: SessionBounds,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), RequesterError> {
        acts::withdraw_consent(self, token_sha256, consent, bounds, frontend, now).await
    }

    async fn store_linkages(
        &self,
        lines: Vec<LinkageLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        acts::store_linkages(self, lines, operator, now).await
    }

    async fn set_block(
        &self,
        block: Block,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        acts::set_block(self, block, operator, now).await
    }

    async fn forget_challenges(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.database.begin_ordinary().await?;
        let done = sqlx::query(
            "DELETE FROM challenge WHERE id IN \
             (SELECT id FROM challenge WHERE expires_at < ?1 ORDER BY expires_at LIMIT 1000)",
        )
        .bind(now.unix_ms())
        .execute(tx.connection())
        .await?;
        tx.commit_unrecorded().await?;
        Ok(done.rows_affected())
    }
}

struct SqliteRelease {
    tx: WriteTx,
    keys: Arc<Keyring>,
}

#[async_trait]
impl ReleaseTx for SqliteRelease {
    async fn use_request_ids(
        &mut self,
        asked: &[Asked],
        now: Timestamp,
    ) -> Result<HashSet<[u8; 16]>, StoreError> {
        let ids: Vec<RequestId> = asked.iter().map(|asked| asked.request_id).collect();
        self.tx.use_request_ids(&ids, now).await
    }

    async fn read(&mut self, asked: &[Asked]) -> Result<(Suspensions, Vec<Guards>), StoreError> {
        read(self.tx.connection(), &self.keys, asked).await
    }

    async fn spend(&mut self, consents: Vec<[u8; 16]>) -> Result<HashSet<[u8; 16]>, StoreError> {
        if consents.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = sqlx::query(
            "UPDATE consent SET state = 'SPENT' WHERE state = 'GIVEN' AND one_time = 1 \
             AND id IN (SELECT unhex(value) FROM json_each(?1)) RETURNING id",
        )
        .bind(hex_array(consents.iter().map(<[u8; 16]>::as_slice)))
        .fetch_all(self.tx.connection())
        .await?;
        rows.iter().map(|row| bytes(row, 0)).collect()
    }

    async fn touch(&mut self, sessions: Vec<[u8; 32]>, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE session SET last_used_at = ?1 WHERE ended = 0 \
             AND token IN (SELECT unhex(value) FROM json_each(?2))",
        )
        .bind(now.unix_ms())
        .bind(hex_array(sessions.iter().map(<[u8; 32]>::as_slice)))
        .execute(self.tx.connection())
        .await?;
        Ok(())
    }

    async fn commit(self: Box<Self>, entries: Vec<Entry>, now: Timestamp) -> Result<Committed, StoreError> {
        self.tx.commit(entries, now).await
    }
}

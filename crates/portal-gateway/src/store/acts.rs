//! What requesters and operators do: sessions, consents, linkages, blocks. Each is one transaction with its entry; an act
//! that forbids releases makes a new epoch.

use common::{
    card::Card,
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry, ordinary_act},
    identity::PeerIdentity,
    keyring::Pseudonym,
    lines::{LineFault, Outcome},
    store::{ActError, Change, Load, StoreError, WriteTx},
    terms::ActId,
};
use koseki_proto::koseki::common::v1::LineReason;

use super::{
    Block, NewConsent, RequesterError, SessionBounds,
    sqlite::{SqliteStore, card_key_lookup, code_place, serial_place},
};
use crate::{conditions::ConsentFacts, linkage::LinkageLine};

impl SqliteStore {
    fn account_pseudonym(&self, account: i64) -> Pseudonym {
        self.keys.pseudonym.pseudonym("account", &account.to_be_bytes())
    }
}

pub(super) async fn open_session(
    store: &SqliteStore,
    token_sha256: [u8; 32],
    card: &Card,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut tx = store.database.begin_ordinary().await?;
    let certificate = store.keys.lookup.lookup("card", &[&card.id]);
    let known: Option<(i64,)> = sqlx::query_as("SELECT account_id FROM card WHERE card = ?1")
        .bind(certificate.as_slice())
        .fetch_optional(tx.connection())
        .await?;
    let account = match known {
        Some((account,)) => account,
        None => {
            let (account,): (i64,) = sqlx::query_as("INSERT INTO account (made_at) VALUES (?1) RETURNING id")
                .bind(now.unix_ms())
                .fetch_one(tx.connection())
                .await?;
            sqlx::query("INSERT INTO card (card, account_id) VALUES (?1, ?2)")
                .bind(certificate.as_slice())
                .bind(account)
                .execute(tx.connection())
                .await?;
            account
        }
    };
    sqlx::query(
        "INSERT INTO session (token, account_id, frontend, card_key, card_issuer, sealed_serial, card_expires, \
                              logged_in_at, last_used_at, ended) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 0)",
    )
    .bind(token_sha256.as_slice())
    .bind(account)
    .bind(frontend.name())
    .bind(card_key_lookup(&store.keys, &card.public_key_sha256).as_slice())
    .bind(card.issuer.as_slice())
    .bind(store.keys.sealer.seal(serial_place(&token_sha256), &card.serial)?)
    .bind(card.not_after.unix_ms())
    .bind(now.unix_ms())
    .execute(tx.connection())
    .await?;
    let entry = ordinary_act("LOGIN", frontend, 0, Some(store.account_pseudonym(account)), "");
    let _ = tx.commit(vec![entry], now).await?;
    Ok(())
}

pub(super) async fn end_session(
    store: &SqliteStore,
    token_sha256: [u8; 32],
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut tx = store.database.begin().await?;
    let row: Option<(i64, bool)> =
        sqlx::query_as("SELECT account_id, ended FROM session WHERE token = ?1 AND frontend = ?2")
            .bind(token_sha256.as_slice())
            .bind(frontend.name())
            .fetch_optional(tx.connection())
            .await?;
    let account = match row {
        None => return Ok(false),
        Some((_, true)) => return Ok(true),
        Some((account, false)) => account,
    };
    sqlx::query("UPDATE session SET ended = 1 WHERE token = ?1")
        .bind(token_sha256.as_slice())
        .execute(tx.connection())
        .await?;
    tx.advance_epoch().await?;
    let entry = requester_guard("LOGOUT", frontend, store.account_pseudonym(account));
    let _ = tx.commit(vec![entry.to_entry()], now).await?;
    Ok(true)
}

/// Consents of one requester to one kind that hold at the same time.
const MAX_CONSENTS: i64 = 256;

pub(super) async fn grant_consent(
    store: &SqliteStore,
    token_sha256: [u8; 32],
    new: NewConsent,
    bounds: SessionBounds,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<(), RequesterError> {
    let mut tx = store.database.begin_ordinary().await?;
    let account = account_of(&mut tx, token_sha256, bounds, frontend, now).await?;
    let (held,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM consent WHERE account_id = ?1 AND kind = ?2 AND state = 'GIVEN' AND expires_at >= ?3",
    )
    .bind(account)
    .bind(i32::from(new.kind.to_proto()))
    .bind(now.unix_ms())
    .fetch_one(tx.connection())
    .await?;
    if held >= MAX_CONSENTS {
        return Err(RequesterError::TooManyConsents);
    }
    let ConsentFacts {
        id,
        text_sha256,
        given_at,
        expires_at,
        one_time,
    } = new.consent;
    sqlx::query(
        "INSERT INTO consent (id, account_id, kind, text_sha256, given_at, expires_at, one_time, state) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'GIVEN')",
    )
    .bind(id.as_bytes().as_slice())
    .bind(account)
    .bind(i32::from(new.kind.to_proto()))
    .bind(text_sha256.as_slice())
    .bind(given_at.unix_ms())
    .bind(expires_at.unix_ms())
    .bind(one_time)
    .execute(tx.connection())
    .await?;
    let pseudonym = store.account_pseudonym(account);
    let entry = ordinary_act("GRANT_CONSENT", frontend, 0, Some(pseudonym), &id.to_string());
    let _ = tx.commit(vec![entry], now).await?;
    Ok(())
}

pub(super) async fn withdraw_consent(
    store: &SqliteStore,
    token_sha256: [u8; 32],
    consent: ActId,
    bounds: SessionBounds,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<(), RequesterError> {
    let mut tx = store.database.begin().await?;
    let account = account_of(&mut tx, token_sha256, bounds, frontend, now).await?;
    let state: Option<(String,)> =
        sqlx::query_as("SELECT state FROM consent WHERE id = ?1 AND account_id = ?2")
            .bind(consent.as_bytes().as_slice())
            .bind(account)
            .fetch_optional(tx.connection())
            .await?;
    match state {
        None => return Err(RequesterError::Consent),
        // Spent or withdrawn already: nothing is answered on it any more.
        Some((state,)) if state != "GIVEN" => return Ok(()),
        Some(_) => {}
    }
    sqlx::query("UPDATE consent SET state = 'WITHDRAWN' WHERE id = ?1")
        .bind(consent.as_bytes().as_slice())
        .execute(tx.connection())
        .await?;
    tx.advance_epoch().await?;
    let mut entry = requester_guard("WITHDRAW_CONSENT", frontend, store.account_pseudonym(account));
    entry.act_id = Some(consent);
    let _ = tx.commit(vec![entry.to_entry()], now).await?;
    Ok(())
}

fn requester_guard<'a>(
    act: &'static str,
    frontend: &'a PeerIdentity,
    subject: Pseudonym,
) -> GuardActEntry<'a> {
    GuardActEntry {
        act_id: None,
        act,
        actor: frontend,
        kind: None,
        subject: Some(subject),
        reason: "",
    }
}

/// The account of an open session; the session counts as used now.
async fn account_of(
    tx: &mut WriteTx,
    token_sha256: [u8; 32],
    bounds: SessionBounds,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<i64, RequesterError> {
    let ms = |bound: std::time::Duration| i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
    let row: Option<(i64,)> = sqlx::query_as(
        "UPDATE session SET last_used_at = ?1 WHERE token = ?2 AND frontend = ?3 AND ended = 0 \
         AND logged_in_at >= ?4 AND last_used_at >= ?5 RETURNING account_id",
    )
    .bind(now.unix_ms())
    .bind(token_sha256.as_slice())
    .bind(frontend.name())
    .bind(now.unix_ms().saturating_sub(ms(bounds.absolute)))
    .bind(now.unix_ms().saturating_sub(ms(bounds.idle)))
    .fetch_optional(tx.connection())
    .await?;
    row.map(|(account,)| account).ok_or(RequesterError::Session)
}

pub(super) async fn store_linkages(
    store: &SqliteStore,
    lines: Vec<LinkageLine>,
    operator: &PeerIdentity,
    now: Timestamp,
) -> Result<Vec<Outcome>, StoreError> {
    let mut tx = store.database.begin().await?;
    let mut outcomes = Vec::with_capacity(lines.len());
    let mut load = Load::new(operator);
    for line in &lines {
        let change = store_linkage(store, &mut tx, line).await?;
        outcomes.push(change.map(|change| load.count(change)));
    }
    load.commit(tx, now).await?;
    Ok(outcomes)
}

async fn store_linkage(
    store: &SqliteStore,
    tx: &mut WriteTx,
    line: &LinkageLine,
) -> Result<Result<Change, LineFault>, StoreError> {
    let code = store.keys.lookup.lookup("linkage-code", &[line.code.expose()]);
    let card_key = card_key_lookup(&store.keys, &line.card_key_sha256);
    let known: Option<(Vec<u8>, String)> =
        sqlx::query_as("SELECT card_key, state FROM linkage WHERE code = ?1")
            .bind(code.as_slice())
            .fetch_optional(tx.connection())
            .await?;
    if let Some((known_key, state)) = &known {
        if *known_key == card_key && *state == line.state.as_str() {
            return Ok(Ok(Change::Nothing));
        }
        if state == "REVOKED" {
            return Ok(Err(LineFault::new(
                LineReason::InvalidField,
                "state",
                "a revoked linkage stays revoked",
            )));
        }
    }
    let taken: Option<(i64,)> =
        sqlx::query_as("SELECT 1 FROM linkage WHERE card_key = ?1 AND state <> 'REVOKED' AND code <> ?2")
            .bind(card_key.as_slice())
            .bind(code.as_slice())
            .fetch_optional(tx.connection())
            .await?;
    if taken.is_some() && line.state != common::terms::LinkageState::Revoked {
        let rule = "a card has one linkage that is not revoked at most";
        return Ok(Err(LineFault::new(
            LineReason::Duplicate,
            "card_key_sha256",
            rule,
        )));
    }
    sqlx::query(
        "INSERT INTO linkage (code, sealed_code, card_key, state) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (code) DO UPDATE SET card_key = excluded.card_key, state = excluded.state",
    )
    .bind(code.as_slice())
    .bind(store.keys.sealer.seal(code_place(&code), line.code.expose())?)
    .bind(card_key.as_slice())
    .bind(line.state.as_str())
    .execute(tx.connection())
    .await?;
    Ok(Ok(match known {
        Some(_) => Change::Forbids(store.keys.pseudonym.pseudonym("card-key", &card_key)),
        None => Change::Added,
    }))
}

pub(super) async fn set_block(
    store: &SqliteStore,
    block: Block,
    operator: &PeerIdentity,
    now: Timestamp,
) -> Result<Epoch, ActError> {
    let mut tx = store.database.begin().await?;
    // Under a key: a bare digest would let a guess be confirmed.
    let content = store
        .keys
        .lookup
        .lookup("act", &[&block.card_key_sha256, block.reason.as_bytes()]);
    if let Some(epoch) = tx.done_before(block.act_id, &content).await? {
        return Ok(epoch);
    }
    let card_key = card_key_lookup(&store.keys, &block.card_key_sha256);
    // A block on a card that nobody knows would forbid nothing and look as if it did.
    let (known,): (bool,) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM linkage WHERE card_key = ?1) OR EXISTS (SELECT 1 FROM session WHERE card_key = ?1)",
    )
    .bind(card_key.as_slice())
    .fetch_one(tx.connection())
    .await?;
    if !known {
        return Err(ActError::UnknownReference);
    }
    tx.advance_epoch().await?;
    sqlx::query("INSERT INTO block (card_key, since) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
        .bind(card_key.as_slice())
        .bind(now.unix_ms())
        .execute(tx.connection())
        .await?;
    tx.remember_act(block.act_id.as_bytes(), &content).await?;
    let entry = GuardActEntry {
        act_id: Some(block.act_id),
        act: "SET_BLOCK",
        actor: operator,
        kind: None,
        subject: Some(store.keys.pseudonym.pseudonym("card-key", &card_key)),
        reason: &block.reason,
    };
    Ok(tx.commit(vec![entry.to_entry()], now).await?.epoch())
}

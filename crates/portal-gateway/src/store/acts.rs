//! What operators do about cards, and what becomes of sessions. An act that forbids releases makes a new epoch.

use common::{
    approval::Opening,
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry, ordinary_act},
    identity::PeerIdentity,
    keyring::{Keyring, Pseudonym, PseudonymKey},
    store::{Access, ActError, Connection, Database, StoreError, Value, WriteTx},
};

use super::{Block, RequesterError, SessionBounds, UsedSession, cards as bound_cards, lookups};

pub(super) fn account_pseudonym(keys: &Keyring, account: i64) -> Pseudonym {
    keys.pseudonym.pseudonym("account", &account.to_be_bytes())
}

/// Ends sessions whose card does not count any more, which forbids nothing that was not forbidden before.
pub(super) async fn end_sessions(
    database: &Database,
    tokens: &[[u8; 32]],
    own: &PeerIdentity,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut tx = database.begin(Access::Ordinary).await?;
    let ended = end_tokens(&mut tx, tokens).await?;
    if ended > 0 {
        let entry = ordinary_act("END_SESSIONS", own, ended, None, "");
        let _ = tx.commit(vec![entry], now).await?;
    }
    Ok(ended)
}

/// Ends the sessions of these tokens; how many it were. Several instances write: each locks its rows in one order.
pub(super) async fn end_tokens(tx: &mut WriteTx, tokens: &[[u8; 32]]) -> Result<u64, StoreError> {
    let params = [
        ("yes", true.into()),
        ("sessions", Value::keys(tokens.iter().map(<[u8; 32]>::as_slice))),
    ];
    let sql = match tx.connection() {
        Connection::Sqlite(_) => {
            "UPDATE session SET ended = {yes} WHERE NOT ended AND token IN (SELECT value FROM {sessions})"
        }
        Connection::Postgres(_) => {
            "UPDATE session SET ended = {yes} WHERE NOT ended \
             AND token IN (SELECT token FROM session WHERE token IN (SELECT value FROM {sessions}) \
                           ORDER BY token FOR NO KEY UPDATE)"
        }
    };
    tx.execute(sql, &params).await
}

/// Marks sessions as used now and ends others, by the hashes of their tokens. Two statements, and several instances that do so: all
/// rows are locked in one order before, so that no two wait for each other.
pub(super) async fn mark_and_end(
    tx: &mut WriteTx,
    marked: &[[u8; 32]],
    ended: &[[u8; 32]],
    now: Timestamp,
) -> Result<(), StoreError> {
    if !marked.is_empty() && !ended.is_empty() && matches!(tx.connection(), Connection::Postgres(_)) {
        let all = marked.iter().chain(ended).map(<[u8; 32]>::as_slice);
        tx.all(
            "SELECT 1 FROM session WHERE token IN (SELECT value FROM {sessions}) ORDER BY token FOR NO KEY UPDATE",
            &[("sessions", Value::keys(all))],
        )
        .await?;
    }
    if !marked.is_empty() {
        mark(tx, marked.iter(), now).await?;
    }
    if !ended.is_empty() {
        end_tokens(tx, ended).await?;
    }
    Ok(())
}

/// Marks open sessions, by the hashes of their tokens, as used now. Only forward: another instance may have used one later. Several
/// instances write: each locks its rows in one order.
pub(super) async fn mark(
    tx: &mut WriteTx,
    tokens: impl Iterator<Item = &[u8; 32]>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let params = [
        ("sessions", Value::keys(tokens.map(<[u8; 32]>::as_slice))),
        ("now", now.unix_ms().into()),
    ];
    let sql = match tx.connection() {
        Connection::Sqlite(_) => {
            "UPDATE session SET last_used_at = {now} WHERE NOT ended AND last_used_at < {now} \
             AND token IN (SELECT value FROM {sessions})"
        }
        Connection::Postgres(_) => {
            "UPDATE session SET last_used_at = {now} WHERE NOT ended AND last_used_at < {now} \
             AND token IN (SELECT token FROM session WHERE token IN (SELECT value FROM {sessions}) \
                           ORDER BY token FOR NO KEY UPDATE)"
        }
    };
    tx.execute(sql, &params).await?;
    Ok(())
}

/// What stands for a session in the audit log.
pub(super) fn session_pseudonym(key: &PseudonymKey, token_sha256: &[u8; 32]) -> Pseudonym {
    key.pseudonym("session", token_sha256)
}

/// The account of an open session, and the card that opened it; the session counts as used now.
const USE_SESSION: &str = "UPDATE session SET last_used_at = {now} \
    WHERE token = {token} AND frontend = {frontend} AND NOT ended AND logged_in_at >= {since} \
      AND last_used_at >= {used_since} \
    RETURNING account_id, card_key";

/// Who has an open session; it counts as used now.
pub(super) async fn use_session(
    database: &Database,
    token_sha256: [u8; 32],
    bounds: SessionBounds,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<UsedSession, RequesterError> {
    let mut tx = database.begin(Access::Ungated).await?;
    let params = [
        ("now", now.unix_ms().into()),
        ("token", (&token_sha256).into()),
        ("frontend", frontend.name().into()),
        ("since", now.before(bounds.absolute).unix_ms().into()),
        ("used_since", now.before(bounds.idle).unix_ms().into()),
    ];
    let row = tx.optional(USE_SESSION, &params).await?;
    let row = row.ok_or(RequesterError::Session)?;
    let blocked = tx
        .one(
            "SELECT EXISTS (SELECT 1 FROM block WHERE card_key = {card})",
            &[("card", row.bytes(1)?.into())],
        )
        .await?
        .bool(0)?;
    tx.commit_unrecorded().await?;
    Ok(UsedSession {
        account: row.int(0)?,
        blocked,
    })
}

pub(super) async fn set_block(
    database: &Database,
    block: Block,
    operator: &PeerIdentity,
    now: Timestamp,
) -> Result<Epoch, ActError> {
    let mut tx = database.begin(Access::Guard).await?;
    // Under a key: a bare digest would let a guess be confirmed.
    let content = database
        .keys
        .lookup
        .lookup("act", &[&block.card_key_sha256, block.reason.as_bytes()]);
    let card_key = lookups::card_key(&database.keys, &block.card_key_sha256);
    if let Some(epoch) = tx.done_before(block.act_id, &content).await? {
        let row = tx
            .one(
                "SELECT count(*) FROM block WHERE card_key = {card}",
                &[("card", (&card_key).into())],
            )
            .await?;
        // It was done, and lifted since: to say that it is in force would be untrue.
        if row.int(0)? == 0 {
            return Err(ActError::IdUsed);
        }
        tx.commit_again().await?;
        return Ok(epoch);
    }
    // A block on a card that nobody knows would forbid nothing and look as if it did.
    let known = tx
        .one(
            "SELECT EXISTS (SELECT 1 FROM linkage WHERE card_key = {card}) \
                 OR EXISTS (SELECT 1 FROM card WHERE card_key = {card})",
            &[("card", (&card_key).into())],
        )
        .await?
        .bool(0)?;
    if !known {
        return Err(ActError::UnknownReference);
    }
    tx.advance_epoch().await?;
    tx.execute(
        "INSERT INTO block (card_key, since) VALUES ({card}, {now}) ON CONFLICT DO NOTHING",
        &[("card", (&card_key).into()), ("now", now.unix_ms().into())],
    )
    .await?;
    bound_cards::end_sessions(&mut tx, &[&card_key]).await?;
    let target = Opening::LiftBlock(block.card_key_sha256).target(&database.keys.lookup);
    tx.void_proposals(&target).await?;
    tx.note_closing(block.act_id, "SET_BLOCK", operator, now).await?;
    tx.remember_act(block.act_id.as_bytes(), &content).await?;
    let entry = GuardActEntry {
        act_id: Some(block.act_id),
        subject: Some(database.keys.pseudonym.pseudonym("card-key", &card_key)),
        reason: &block.reason,
        ..GuardActEntry::new("SET_BLOCK", operator)
    };
    Ok(tx.commit(vec![entry.to_entry()], now).await?.epoch())
}

/// Lifts the block of a card.
pub(super) async fn lift_block(
    tx: &mut WriteTx,
    keys: &Keyring,
    card_key_sha256: &[u8; 32],
) -> Result<Option<Pseudonym>, ActError> {
    let card_key = lookups::card_key(keys, card_key_sha256);
    let lifted = tx
        .execute(
            "DELETE FROM block WHERE card_key = {card}",
            &[("card", (&card_key).into())],
        )
        .await?;
    match lifted {
        0 => Err(ActError::NotApplicable),
        _ => Ok(Some(keys.pseudonym.pseudonym("card-key", &card_key))),
    }
}

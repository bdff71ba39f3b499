//! What requesters and operators do: sessions, consents, blocks. Each is one transaction with its entry; an act
//! that forbids releases makes a new epoch.

use common::{
    approval::Opening,
    card::Card,
    cards::Cards,
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry, of_call, ordinary_act},
    identity::PeerIdentity,
    keyring::{Keyring, Pseudonym, PseudonymKey},
    login_proof,
    store::{Access, ActError, Connection, Database, StoreError, Value, WriteTx},
};
use koseki_proto::koseki::linkage::v1::LoginProof;
use prost::Message as _;

use super::{
    Block, NewConsent, NotOpened, RequesterError, SessionBounds, UsedSession, cards as bound_cards, lookups,
    lookups::{card_place, proof_place},
};
use crate::{
    call::PortalCall,
    conditions::{ConsentFacts, HeldCard},
};

pub(super) fn account_pseudonym(keys: &Keyring, account: i64) -> Pseudonym {
    keys.pseudonym.pseudonym("account", &account.to_be_bytes())
}

pub(super) async fn open_session(
    database: &Database,
    token_sha256: [u8; 32],
    (card, cards): (&Card, &Cards),
    proof: &LoginProof,
    call: &PortalCall,
    now: Timestamp,
) -> Result<(), NotOpened> {
    let mut tx = database.begin(Access::Ordinary).await?;
    if !is_new(&mut tx, call).await? {
        return Err(NotOpened::RequestIdUsed);
    }
    // Behind the gate: whoever takes a newer list and ends the sessions of what it revokes finds this one, or this one sees
    // that list.
    let lists = cards.behind_gate(tx.list_numbers()?);
    cards.check(&lists, &card.issuer, &card.serial, card.not_after)?;
    let card_key = lookups::card_key(&database.keys, &card.public_key_sha256);
    let account = bound_cards::account(&mut tx, &card_key, now).await?;
    let params = [
        ("token", (&token_sha256).into()),
        ("account", account.into()),
        ("frontend", call.frontend.name().into()),
        ("card_key", (&card_key).into()),
        ("issuer", card.issuer.as_slice().into()),
        (
            "card",
            database
                .keys
                .sealer
                .seal(card_place(&token_sha256), &HeldCard::of(card).to_bytes())
                .map_err(StoreError::from)?
                .into(),
        ),
        ("proof_sha256", (&login_proof::sha256(proof)).into()),
        (
            "proof",
            database
                .keys
                .sealer
                .seal(proof_place(&token_sha256), &proof.encode_to_vec())
                .map_err(StoreError::from)?
                .into(),
        ),
        ("now", now.unix_ms().into()),
        ("ended", false.into()),
    ];
    tx.execute(
        "INSERT INTO session (token, account_id, frontend, card_key, card_issuer, sealed_card, \
                              proof_sha256, sealed_proof, logged_in_at, last_used_at, ended, closed) \
         VALUES ({token}, {account}, {frontend}, {card_key}, {issuer}, {card}, {proof_sha256}, {proof}, {now}, \
                 {now}, {ended}, {ended})",
        &params,
    )
    .await?;
    end_oldest_sessions(&mut tx, account).await?;
    let entry = ordinary_act(
        "LOGIN",
        &call.frontend,
        0,
        Some(account_pseudonym(&database.keys, account)),
        "",
    );
    let _ = tx.commit(vec![of_call(entry, call.request_id)], now).await?;
    Ok(())
}

/// Uses up the id of a call; whether it was new.
async fn is_new(tx: &mut WriteTx, call: &PortalCall) -> Result<bool, StoreError> {
    Ok(!tx.use_request_ids(&[call.request_id]).await?.is_empty())
}

/// Sessions of an account that are open at the same time: what one more login ends is the oldest, since a requester could
/// not end a session whose token is lost.
const MAX_SESSIONS: i64 = 16;

/// Ends the oldest sessions of an account that has too many.
async fn end_oldest_sessions(tx: &mut WriteTx, account: i64) -> Result<(), StoreError> {
    let rows = tx
        .all(
            "SELECT token FROM session WHERE account_id = {account} AND NOT ended \
             ORDER BY logged_in_at DESC, token LIMIT 1000 OFFSET {most}",
            &[("account", account.into()), ("most", MAX_SESSIONS.into())],
        )
        .await?;
    if !rows.is_empty() {
        let tokens: Vec<[u8; 32]> = rows.iter().map(|row| row.array(0)).collect::<Result<_, _>>()?;
        end_tokens(tx, &tokens).await?;
    }
    Ok(())
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

/// Consents of one requester to one kind that hold at the same time.
const MAX_CONSENTS: i64 = 256;

pub(super) async fn grant_consent(
    database: &Database,
    token_sha256: [u8; 32],
    new: NewConsent,
    bounds: SessionBounds,
    call: &PortalCall,
    now: Timestamp,
) -> Result<i64, RequesterError> {
    let mut tx = database.begin(Access::Ordinary).await?;
    let account = account_of(&mut tx, token_sha256, bounds, &call.frontend, now).await?;
    if !is_new(&mut tx, call).await? {
        return Err(RequesterError::RequestIdUsed);
    }
    let kind = i32::from(new.kind.to_proto());
    let params = [
        ("account", account.into()),
        ("kind", kind.into()),
        ("now", now.unix_ms().into()),
    ];
    let held = tx
        .one(
            "SELECT count(*) FROM consent WHERE account_id = {account} AND kind = {kind} AND state = 'GIVEN' \
             AND expires_at >= {now}",
            &params,
        )
        .await?
        .int(0)?;
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
    let params = [
        ("id", id.as_bytes().into()),
        ("account", account.into()),
        ("kind", kind.into()),
        ("text", (&text_sha256).into()),
        ("language", new.language.into()),
        ("given", given_at.unix_ms().into()),
        ("expires", expires_at.unix_ms().into()),
        ("one_time", one_time.into()),
    ];
    tx.execute(
        "INSERT INTO consent (id, account_id, kind, text_sha256, language, given_at, expires_at, one_time, state) \
         VALUES ({id}, {account}, {kind}, {text}, {language}, {given}, {expires}, {one_time}, 'GIVEN')",
        &params,
    )
    .await?;
    let pseudonym = account_pseudonym(&database.keys, account);
    let entry = ordinary_act(
        "GRANT_CONSENT",
        &call.frontend,
        0,
        Some(pseudonym),
        &id.to_string(),
    );
    let _ = tx.commit(vec![of_call(entry, call.request_id)], now).await?;
    Ok(account)
}

/// What stands for a session in the audit log.
pub(super) fn session_pseudonym(key: &PseudonymKey, token_sha256: &[u8; 32]) -> Pseudonym {
    key.pseudonym("session", token_sha256)
}

macro_rules! is_open {
    () => {
        "token = {token} AND frontend = {frontend} AND NOT ended AND logged_in_at >= {since} \
         AND last_used_at >= {used_since}"
    };
}

/// The account of an open session; the session counts as used now.
const USE_SESSION: &str = concat!(
    "UPDATE session SET last_used_at = {now} WHERE ",
    is_open!(),
    " RETURNING account_id"
);

/// The same, with the card that opened it.
const USE_SESSION_OF_CARD: &str = concat!(
    "UPDATE session SET last_used_at = {now} WHERE ",
    is_open!(),
    " RETURNING account_id, card_key"
);

fn session_params(
    token_sha256: &[u8; 32],
    bounds: SessionBounds,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> [(&'static str, Value); 5] {
    let ms = |bound: std::time::Duration| i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
    [
        ("now", now.unix_ms().into()),
        ("token", token_sha256.into()),
        ("frontend", frontend.name().into()),
        ("since", now.unix_ms().saturating_sub(ms(bounds.absolute)).into()),
        ("used_since", now.unix_ms().saturating_sub(ms(bounds.idle)).into()),
    ]
}

/// The account of an open session; the session counts as used now.
async fn account_of(
    tx: &mut WriteTx,
    token_sha256: [u8; 32],
    bounds: SessionBounds,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<i64, RequesterError> {
    let params = session_params(&token_sha256, bounds, frontend, now);
    let row = tx.optional(USE_SESSION, &params).await?;
    Ok(row.ok_or(RequesterError::Session)?.int(0)?)
}

/// Who has an open session; it counts as used now.
pub(super) async fn use_session(
    database: &Database,
    token_sha256: [u8; 32],
    bounds: SessionBounds,
    frontend: &PeerIdentity,
    now: Timestamp,
) -> Result<UsedSession, RequesterError> {
    let mut tx = database.begin(Access::Ungated).await?;
    let params = session_params(&token_sha256, bounds, frontend, now);
    let row = tx.optional(USE_SESSION_OF_CARD, &params).await?;
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

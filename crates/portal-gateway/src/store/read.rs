//! Everything that could forbid the requests of a batch: before the gate and behind it, the same two statements. Before
//! it they bring the login proofs, too, that the registry side has not had.

use common::{
    clock::Timestamp,
    keyring::Keyring,
    store::{Column, Connection, GateFacts, Row, StoreError, Value, table},
    terms::{ActId, LinkageCode},
};

use koseki_proto::koseki::linkage::v1::LoginProof;
use prost::Message as _;

use super::{
    GuardsRead, OpenSession,
    lookups::{card_place, code_place, proof_place},
};
use crate::{
    conditions::{ConsentFacts, Guards, HeldCard, KeptProof, LinkageFacts, SessionFacts},
    provision::Asked,
};

/// The first row has what could forbid every release, and the epoch, of the same moment: an act that comes later makes it another
/// one when it is looked at behind the gate.
const READ: &str = "SELECT asked.at, session.token, account_id, frontend, card_issuer, sealed_card, logged_in_at, last_used_at, ended, \
            proof_sha256, CASE WHEN session.token IN (SELECT value FROM {unproven}) THEN sealed_proof END, \
            linkage.code, linkage.sealed_code, linkage.state, linkage.confirmed_at, \
            block.card_key IS NOT NULL, session.card_key, \
            CASE WHEN asked.at = 0 THEN (SELECT facts FROM gate_facts) END \
     FROM {asked} LEFT JOIN session ON session.token = asked.value \
     LEFT JOIN linkage ON linkage.card_key = session.card_key AND linkage.state <> 'REVOKED' \
     LEFT JOIN block ON block.card_key = session.card_key";

pub(super) async fn guards(
    connection: &mut Connection<'_>,
    keys: &Keyring,
    asked: &[Asked],
    unproven: &[[u8; 32]],
) -> Result<GuardsRead, StoreError> {
    let mut guards: Vec<Guards> = asked.iter().map(|_| Guards::default()).collect();
    let tokens = |tokens: &mut dyn Iterator<Item = &[u8; 32]>| Value::keys(tokens.map(<[u8; 32]>::as_slice));
    let params = [
        ("asked", tokens(&mut asked.iter().map(|asked| &asked.session))),
        ("unproven", tokens(&mut unproven.iter())),
    ];
    let rows = connection.all(READ, &params).await?;
    let mut facts = None;
    let (mut accounts, mut kinds, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        if let Some(text) = row.optional_text(17)? {
            facts = Some(GateFacts::parse(text)?);
        }
        let (guard, asked) = guards
            .get_mut(row.place(0)?)
            .zip(asked.get(row.place(0)?))
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        match take(guard, row, keys) {
            Ok(None) => {}
            Ok(Some(account)) => {
                places.push(Some(row.int(0)?));
                accounts.push(Some(account));
                kinds.push(Some(i64::from(i32::from(asked.kind.to_proto()))));
            }
            // A row that cannot be read must not touch the neighbours of its request.
            Err(_) => guard.unreadable = true,
        }
    }
    // By themselves: an account may have many, and beside each the whole session would come again. By an outer join, so that the
    // database begins with what is asked for, and does not go through all consents.
    let wanted = table([
        ("place", Column::Int(places)),
        ("account_id", Column::Int(accounts)),
        ("kind", Column::Int(kinds)),
    ]);
    let rows = connection
        .all(
            "SELECT wanted.place, consent.id, text_sha256, given_at, expires_at, one_time FROM {wanted} \
             LEFT JOIN consent ON consent.account_id = wanted.account_id AND consent.kind = wanted.kind \
                              AND consent.state = 'GIVEN' \
             ORDER BY given_at, consent.id",
            &[("wanted", wanted)],
        )
        .await?;
    for row in &rows {
        let guard = guards
            .get_mut(row.place(0)?)
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        match consent(row) {
            Ok(consent) => guard.consents.extend(consent),
            Err(_) => guard.unreadable = true,
        }
    }
    Ok(GuardsRead {
        facts: facts.ok_or(StoreError::Unreadable("a batch without requests"))?,
        guards,
    })
}

/// What a row says of a request's session, if it has one, of its linkage and its card; the account.
fn take(guard: &mut Guards, row: &Row, keys: &Keyring) -> Result<Option<i64>, StoreError> {
    if row.optional_bytes(1)?.is_none() {
        return Ok(None);
    }
    let session = facts(row, keys)?;
    let account = session.account;
    guard.session = Some(session);
    guard.linkage = linkage(row, keys)?;
    guard.blocked = row.bool(15)?;
    guard.card_key = Some(row.array(16)?);
    Ok(Some(account))
}

fn consent(row: &Row) -> Result<Option<ConsentFacts>, StoreError> {
    let Some(id) = row.optional_array(1)? else {
        return Ok(None);
    };
    Ok(Some(ConsentFacts {
        id: ActId::from_bytes(id),
        text_sha256: row.array(2)?,
        given_at: moment(row, 3)?,
        expires_at: moment(row, 4)?,
        one_time: row.bool(5)?,
    }))
}

/// One session.
pub(super) async fn session(
    connection: &mut Connection<'_>,
    keys: &Keyring,
    token: [u8; 32],
) -> Result<Option<SessionFacts>, StoreError> {
    let row = connection
        .optional(
            "SELECT 0, token, account_id, frontend, card_issuer, sealed_card, logged_in_at, \
                    last_used_at, ended, proof_sha256, CAST(NULL AS BYTEA) FROM session WHERE token = {token}",
            &[("token", (&token).into())],
        )
        .await?;
    row.map(|row| facts(&row, keys)).transpose()
}

/// Sessions that were not ended, of logins since then, behind one of them.
pub(super) async fn open_sessions(
    connection: &mut Connection<'_>,
    keys: &Keyring,
    since: Timestamp,
    after: [u8; 32],
) -> Result<Vec<OpenSession>, StoreError> {
    let rows = connection
        .all(
            "SELECT 0, token, account_id, frontend, card_issuer, sealed_card, logged_in_at, \
                    last_used_at, ended, proof_sha256, CAST(NULL AS BYTEA) FROM session \
             WHERE NOT ended AND (logged_in_at, token) > ({since}, {after}) ORDER BY logged_in_at, token LIMIT 500",
            &[("since", since.unix_ms().into()), ("after", (&after).into())],
        )
        .await?;
    let open = rows.iter().map(|row| {
        Ok(OpenSession {
            token_sha256: row.array(1)?,
            facts: facts(row, keys)?,
        })
    });
    open.collect()
}

fn moment(row: &Row, at: usize) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_unix_ms(row.int(at)?))
}

fn facts(row: &Row, keys: &Keyring) -> Result<SessionFacts, StoreError> {
    let card = keys.sealer.open(card_place(row.bytes(1)?), row.bytes(5)?);
    Ok(SessionFacts {
        account: row.int(2)?,
        frontend: row.text(3)?.to_owned(),
        card_issuer: row.array(4)?,
        card: card.ok().and_then(|opened| HeldCard::from_bytes(&opened)),
        logged_in_at: moment(row, 6)?,
        last_used_at: moment(row, 7)?,
        ended: row.bool(8)?,
        proof_sha256: row.array(9)?,
        proof: match row.optional_bytes(10)? {
            None => KeptProof::NotRead,
            Some(sealed) => keys
                .sealer
                .open(proof_place(row.bytes(1)?), sealed)
                .ok()
                .and_then(|opened| LoginProof::decode(opened.as_slice()).ok())
                .map_or(KeptProof::Unreadable, KeptProof::Read),
        },
    })
}

fn linkage(row: &Row, keys: &Keyring) -> Result<Option<LinkageFacts>, StoreError> {
    let Some(code) = row.optional_bytes(11)? else {
        return Ok(None);
    };
    let opened = keys.sealer.open(code_place(code), row.bytes(12)?).ok();
    let code = opened.and_then(|opened| LinkageCode::parse(&opened).ok());
    Ok(Some(LinkageFacts {
        active: row.text(13)? == "ACTIVE",
        confirmed_at: moment(row, 14)?,
        code,
    }))
}

//! Everything that could forbid the requests of a batch: before the gate and behind it, the same statement. Before it, it brings the
//! login proofs, too, that the registry side has not had.

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
/// one when it is looked at behind the gate. The consents are in one text, since an account may have many, and beside each the whole
/// session would come again.
macro_rules! read {
    ($hex_id:literal, $hex_text:literal) => {
        concat!(
            "SELECT asked.at, session.token, account_id, frontend, card_issuer, sealed_card, logged_in_at, last_used_at, ended, \
                    proof_sha256, CASE WHEN session.token IN (SELECT value FROM {unproven}) THEN sealed_proof END, \
                    linkage.code, linkage.sealed_code, linkage.state, linkage.confirmed_at, \
                    block.card_key IS NOT NULL, session.card_key, \
                    CASE WHEN asked.at = 0 THEN (SELECT facts FROM gate_facts) END, \
                    (SELECT string_agg(",
            $hex_id,
            " || ' ' || ",
            $hex_text,
            " || ' ' || given_at || ' ' || expires_at || ' ' || CASE WHEN one_time THEN 1 ELSE 0 END, ',') \
                     FROM consent WHERE consent.account_id = session.account_id AND consent.kind = asked.kind AND state = 'GIVEN') \
             FROM {asked} LEFT JOIN session ON session.token = asked.session \
             LEFT JOIN linkage ON linkage.card_key = session.card_key AND linkage.state <> 'REVOKED' \
             LEFT JOIN block ON block.card_key = session.card_key"
        )
    };
}

pub(super) async fn guards(
    connection: &mut Connection<'_>,
    keys: &Keyring,
    asked: &[Asked],
    unproven: &[[u8; 32]],
) -> Result<GuardsRead, StoreError> {
    let mut guards: Vec<Guards> = asked.iter().map(|_| Guards::default()).collect();
    let kind = |asked: &Asked| Some(i64::from(i32::from(asked.kind.to_proto())));
    let wanted = table([
        (
            "session",
            Column::Bytes(asked.iter().map(|asked| asked.session.to_vec()).collect()),
        ),
        ("kind", Column::Int(asked.iter().map(kind).collect())),
    ]);
    let params = [
        ("asked", wanted),
        ("unproven", Value::keys(unproven.iter().map(<[u8; 32]>::as_slice))),
    ];
    let sql = match connection {
        Connection::Sqlite(_) => read!("hex(id)", "hex(text_sha256)"),
        Connection::Postgres(_) => read!("encode(id, 'hex')", "encode(text_sha256, 'hex')"),
    };
    let mut facts = None;
    for row in &connection.all(sql, &params).await? {
        if let Some(text) = row.optional_text(17)? {
            facts = Some(GateFacts::parse(text)?);
        }
        let guard = guards
            .get_mut(row.place(0)?)
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        // A row that cannot be read must not touch the neighbours of its request.
        guard.unreadable |= take(guard, row, keys).is_err();
    }
    Ok(GuardsRead {
        facts: facts.ok_or(StoreError::Unreadable("a batch without requests"))?,
        guards,
    })
}

/// What a row says of a request's session, if it has one, of its linkage, its card and its consents.
fn take(guard: &mut Guards, row: &Row, keys: &Keyring) -> Result<(), StoreError> {
    if row.optional_bytes(1)?.is_none() {
        return Ok(());
    }
    guard.session = Some(facts(row, keys)?);
    guard.linkage = linkage(row, keys)?;
    guard.blocked = row.bool(15)?;
    guard.card_key = Some(row.array(16)?);
    let consents = row.optional_text(18)?.into_iter().flat_map(|all| all.split(','));
    guard.consents = consents
        .map(|text| consent(text).ok_or(StoreError::Unreadable("a consent")))
        .collect::<Result<_, _>>()?;
    // The oldest first: sorting them one by one is no work, and sorting in an aggregate is.
    let order = |consent: &ConsentFacts| (consent.given_at, *consent.id.as_bytes());
    guard.consents.sort_by_key(order);
    Ok(())
}

/// Reads a consent as the statement gives it.
fn consent(text: &str) -> Option<ConsentFacts> {
    let mut parts = text.split(' ');
    let bytes = |digits: &str| data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
    let moment = |ms: &str| ms.parse().ok().map(Timestamp::from_unix_ms);
    let consent = ConsentFacts {
        id: ActId::from_bytes(bytes(parts.next()?)?.try_into().ok()?),
        text_sha256: bytes(parts.next()?)?.try_into().ok()?,
        given_at: moment(parts.next()?)?,
        expires_at: moment(parts.next()?)?,
        one_time: match parts.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        },
    };
    parts.next().is_none().then_some(consent)
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

//! What requesters open, several at a time: sessions when they log in, consents that they give. All of a batch have one
//! transaction, and only the writing half of it has the log's head, so that releases hardly wait for them (DESIGN §4).

use std::collections::{HashMap, HashSet};

use common::{
    appended,
    card::RevocationLists,
    cards::Cards,
    clock::Timestamp,
    evidence::{NewEntry, of_call, ordinary_act},
    keyring::{Keyring, Lookup},
    login_proof,
    store::{Access, AtOnce, Column, Connection, Database, GateFacts, StoreError, Value, WriteTx, table},
    terms::RequestId,
};
use prost::Message as _;

use super::{
    NewConsent, NewSession, NotOpened, Opens, RequesterOpening, SessionBounds,
    acts::{account_pseudonym, mark_and_end},
    cards as bound_cards, lookups,
    lookups::{card_place, proof_place},
};
use crate::conditions::{HeldCard, is_to_be_marked};

/// Sessions of an account that are open at the same time: what one more login ends is the oldest, since a requester could
/// not end a session whose token is lost.
const MAX_SESSIONS: i64 = 16;
/// Consents of one requester to one kind that hold at the same time.
const MAX_CONSENTS: i64 = 256;

/// How one of them stands, before anything is written.
enum Standing {
    /// A session for this card; the card's account, when it has one, and how many sessions that has open.
    Session(Lookup, Option<(i64, i64)>),
    /// A consent of this account, which holds so many to the kind already; and whether its session is to be marked as used.
    Consent(i64, i64, bool),
    /// It is not opened.
    Refused(NotOpened),
}

impl Standing {
    fn is_open(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

pub(super) async fn open(
    database: &Database,
    cards: &Cards,
    asked: &[RequesterOpening],
    bounds: SessionBounds,
    now: Timestamp,
) -> Result<Vec<Result<i64, NotOpened>>, StoreError> {
    if database.appends_at_once()
        && let Some(outcomes) = open_at_once(database, cards, asked, bounds, now).await?
    {
        return Ok(outcomes);
    }
    let mut tx = database.begin(Access::Openings).await?;
    // Behind the gate: no session of these is closed, and no card goes over to another account, until this is committed.
    let keys = &database.keys;
    let (mut standings, _) = read(&mut tx.connection(), keys, asked, bounds, now).await?;
    tx.take_head().await?;
    // Behind the gate, too: whoever takes a newer list and ends the sessions of what it revokes finds these, or these see
    // that list.
    let lists = cards.behind_gate(tx.facts()?.list_numbers());
    refuse_cards(&mut standings, asked, cards, &lists);
    refuse_too_many(&mut standings, asked);
    let ids = open_ids(&standings, asked);
    if !ids.is_empty() {
        let fresh = tx.use_request_ids(&ids).await?;
        refuse_used_ids(&mut standings, asked, fresh);
    }
    let unknown = standings.iter().filter_map(|standing| match standing {
        Standing::Session(card_key, None) => Some(*card_key),
        _ => None,
    });
    let accounts = bound_cards::give_accounts(&mut tx, unknown.collect(), now).await?;
    let (opened, outcomes) = decided(keys, asked, standings, &accounts)?;
    if !opened.entries.is_empty() {
        let entries = opened.write(&mut tx, now).await?;
        let _ = tx.commit(entries, now).await?;
    }
    Ok(outcomes)
}

/// Opens them by one statement, as they were read; none when that cannot be done, or something has moved since. The epoch stands for
/// all that is looked at behind the gate otherwise.
async fn open_at_once(
    database: &Database,
    cards: &Cards,
    asked: &[RequesterOpening],
    bounds: SessionBounds,
    now: Timestamp,
) -> Result<Option<Vec<Result<i64, NotOpened>>>, StoreError> {
    const OPEN: &str = concat!(
        "SELECT open_at(",
        appended!(),
        ", {token}, {account}, {frontend}, {card_key}, {issuer}, {card}, {proof_sha256}, {proof}, \
         {consent}, {consent_account}, {kind}, {text}, {language}, {given}, {expires}, {one_time}, {used}, {now})"
    );
    // Whatever is in the way of this read, nothing has been done: the other way tells it, on another connection.
    let Ok(mut reader) = database.admission().await else {
        return Ok(None);
    };
    let read = read(&mut reader.connection(), &database.keys, asked, bounds, now).await;
    let Ok((mut standings, facts)) = read else {
        return Ok(None);
    };
    reader.finish();
    let sessions = asked.iter().map(|asked| asked.token_sha256.to_vec());
    let mut at_once = AtOnce::new(Access::Openings, facts, sessions.collect());
    let lists = cards.behind_gate(at_once.facts().list_numbers());
    refuse_cards(&mut standings, asked, cards, &lists);
    refuse_too_many(&mut standings, asked);
    if standings
        .iter()
        .any(|standing| matches!(standing, Standing::Session(_, None)))
    {
        // A card that has no account yet: its entry names the account that it gets.
        return Ok(None);
    }
    let fresh = at_once.use_request_ids(&open_ids(&standings, asked));
    refuse_used_ids(&mut standings, asked, fresh);
    let (opened, outcomes) = decided(&database.keys, asked, standings, &HashMap::new())?;
    if opened.entries.is_empty() {
        return Ok(Some(outcomes));
    }
    if opened.crowded().next().is_some() {
        return Ok(None);
    }
    let used = Value::array(opened.used.iter().map(<[u8; 32]>::as_slice));
    let columns = opened
        .sessions
        .columns()
        .into_iter()
        .chain(opened.consents.columns());
    let mut params: Vec<_> = columns
        .map(|(name, column)| (name, Value::Array(column)))
        .collect();
    params.extend([("used", used), ("now", now.unix_ms().into())]);
    match at_once
        .commit(database, OPEN, params, (opened.entries, None), now)
        .await
    {
        Ok(_) => Ok(Some(outcomes)),
        Err(StoreError::Moved) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is opened, and what each is told: its account. `accounts` are those of cards that had none.
fn decided(
    keys: &Keyring,
    asked: &[RequesterOpening],
    standings: Vec<Standing>,
    accounts: &HashMap<Lookup, i64>,
) -> Result<(Opened, Vec<Result<i64, NotOpened>>), StoreError> {
    let mut opened = Opened::default();
    let mut outcomes = Vec::with_capacity(asked.len());
    for (asked, standing) in asked.iter().zip(standings) {
        let account = match standing {
            Standing::Refused(refused) => {
                outcomes.push(Err(refused));
                continue;
            }
            Standing::Session(card_key, account) => {
                let account = account.or_else(|| accounts.get(&card_key).map(|account| (*account, 0)));
                let (account, open) = account.ok_or(StoreError::Unreadable("the account of a card"))?;
                *opened.open.entry(account).or_insert(open) += 1;
                account
            }
            Standing::Consent(account, _, marked) => {
                opened.used.extend(marked.then_some(asked.token_sha256));
                account
            }
        };
        opened.take(keys, asked, account)?;
        outcomes.push(Ok(account));
    }
    Ok((opened, outcomes))
}

/// How each of them stands, with the epoch of the moment or of an earlier one. It locks nothing.
async fn read(
    connection: &mut Connection<'_>,
    keys: &Keyring,
    asked: &[RequesterOpening],
    bounds: SessionBounds,
    now: Timestamp,
) -> Result<(Vec<Standing>, GateFacts), StoreError> {
    let mut facts = None;
    let mut standings = Vec::with_capacity(asked.len());
    let (mut login_places, mut cards) = (Vec::new(), Vec::new());
    let (mut consent_places, mut tokens, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for (asked, place) in asked.iter().zip(0..) {
        standings.push(match &asked.opens {
            Opens::Session(new) => {
                let card_key = lookups::card_key(keys, &new.card.public_key_sha256);
                login_places.push(Some(place));
                cards.push(card_key.to_vec());
                Standing::Session(card_key, None)
            }
            Opens::Consent(new) => {
                consent_places.push(Some(place));
                tokens.push(asked.token_sha256.to_vec());
                kinds.push(Some(kind_number(new)));
                Standing::Refused(NotOpened::Session)
            }
        });
    }
    if !cards.is_empty() {
        let wanted = table([
            ("place", Column::Int(login_places)),
            ("card", Column::Bytes(cards)),
        ]);
        let rows = connection
            .all(
                "SELECT place, card.account_id, \
                        (SELECT count(*) FROM session WHERE session.account_id = card.account_id AND NOT ended), \
                        CASE WHEN asked.at = 0 THEN (SELECT facts FROM gate_facts) END \
                 FROM {asked} LEFT JOIN card ON card.card_key = asked.card",
                &[("asked", wanted)],
            )
            .await?;
        for row in &rows {
            if let Some(text) = row.optional_text(3)? {
                facts = Some(GateFacts::parse(text)?);
            }
            let open = row.int(2)?;
            if let Standing::Session(_, account) = at(&mut standings, row.place(0)?)? {
                *account = row.optional_int(1)?.map(|account| (account, open));
            }
        }
    }
    if !tokens.is_empty() {
        let wanted = table([
            ("place", Column::Int(consent_places)),
            ("token", Column::Bytes(tokens)),
            ("kind", Column::Int(kinds)),
        ]);
        let rows = connection
            .all(
                "SELECT place, session.account_id, frontend, ended, logged_in_at, last_used_at, \
                        (SELECT count(*) FROM consent WHERE consent.account_id = session.account_id \
                         AND consent.kind = asked.kind AND state = 'GIVEN' AND expires_at >= {now}), \
                        CASE WHEN asked.at = 0 THEN (SELECT facts FROM gate_facts) END \
                 FROM {asked} LEFT JOIN session ON session.token = asked.token",
                &[("asked", wanted), ("now", now.unix_ms().into())],
            )
            .await?;
        for row in &rows {
            if facts.is_none()
                && let Some(text) = row.optional_text(7)?
            {
                facts = Some(GateFacts::parse(text)?);
            }
            let (place, Some(account)) = (row.place(0)?, row.optional_int(1)?) else {
                continue;
            };
            let frontend = asked.get(place).map(|asked| asked.call.frontend.name());
            if frontend == Some(row.text(2)?) && !row.bool(3)? && bounds.hold(row.int(4)?, row.int(5)?, now) {
                let last_used_at = Timestamp::from_unix_ms(row.int(5)?);
                let marked = is_to_be_marked(last_used_at, bounds.idle, now);
                *at(&mut standings, place)? = Standing::Consent(account, row.int(6)?, marked);
            }
        }
    }
    let facts = facts.ok_or(StoreError::Unreadable("a batch without requests"))?;
    Ok((standings, facts))
}

fn at(standings: &mut [Standing], place: usize) -> Result<&mut Standing, StoreError> {
    standings
        .get_mut(place)
        .ok_or(StoreError::Unreadable("a batch's order"))
}

fn kind_number(new: &NewConsent) -> i64 {
    i32::from(new.kind.to_proto()).into()
}

/// Refuses cards that are revoked, or of which it cannot be told.
fn refuse_cards(
    standings: &mut [Standing],
    asked: &[RequesterOpening],
    cards: &Cards,
    lists: &RevocationLists,
) {
    for (standing, asked) in standings.iter_mut().zip(asked) {
        if let Opens::Session(new) = &asked.opens {
            let NewSession { card, .. } = &**new;
            if let Err(fault) = cards.check(lists, &card.issuer, &card.serial, card.not_after) {
                *standing = Standing::Refused(NotOpened::Card(fault));
            }
        }
    }
}

/// Refuses consents of who holds as many as there can be, those of this batch among them.
fn refuse_too_many(standings: &mut [Standing], asked: &[RequesterOpening]) {
    let mut more = HashMap::new();
    for (standing, asked) in standings.iter_mut().zip(asked) {
        if let (Standing::Consent(account, held, _), Opens::Consent(new)) = (&*standing, &asked.opens) {
            let more: &mut i64 = more.entry((*account, kind_number(new))).or_default();
            if held.saturating_add(*more) >= MAX_CONSENTS {
                *standing = Standing::Refused(NotOpened::TooManyConsents);
            } else {
                *more += 1;
            }
        }
    }
}

/// The request ids of what has not been refused.
fn open_ids(standings: &[Standing], asked: &[RequesterOpening]) -> Vec<RequestId> {
    let open = asked
        .iter()
        .zip(standings)
        .filter(|(_, standing)| standing.is_open());
    open.map(|(asked, _)| asked.call.request_id).collect()
}

/// Refuses what comes under a request id that is not fresh.
fn refuse_used_ids(standings: &mut [Standing], asked: &[RequesterOpening], mut fresh: HashSet<[u8; 16]>) {
    for (standing, asked) in standings.iter_mut().zip(asked) {
        if standing.is_open() && !fresh.remove(asked.call.request_id.as_bytes()) {
            *standing = Standing::Refused(NotOpened::RequestIdUsed);
        }
    }
}

/// What a batch opens, as rows.
#[derive(Default)]
struct Opened {
    sessions: Sessions,
    /// Sessions that accounts have open with the new ones.
    open: HashMap<i64, i64>,
    consents: Consents,
    /// Sessions that are to be marked as used.
    used: HashSet<[u8; 32]>,
    entries: Vec<NewEntry>,
}

#[derive(Default)]
struct Sessions {
    token: Vec<Vec<u8>>,
    account: Vec<Option<i64>>,
    frontend: Vec<String>,
    card_key: Vec<Vec<u8>>,
    issuer: Vec<Vec<u8>>,
    card: Vec<Vec<u8>>,
    proof_sha256: Vec<Vec<u8>>,
    proof: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Consents {
    id: Vec<Vec<u8>>,
    account: Vec<Option<i64>>,
    kind: Vec<Option<i64>>,
    text: Vec<Vec<u8>>,
    language: Vec<String>,
    given: Vec<Option<i64>>,
    expires: Vec<Option<i64>>,
    one_time: Vec<bool>,
}

impl Opened {
    fn take(&mut self, keys: &Keyring, asked: &RequesterOpening, account: i64) -> Result<(), StoreError> {
        let call = &asked.call;
        let subject = Some(account_pseudonym(keys, account));
        let entry = match &asked.opens {
            Opens::Session(new) => {
                self.sessions.take(keys, asked, new, account)?;
                ordinary_act("LOGIN", &call.frontend, 0, subject, "")
            }
            Opens::Consent(new) => {
                self.consents.take(new, account);
                let id = new.consent.id.to_string();
                ordinary_act("GRANT_CONSENT", &call.frontend, 0, subject, &id)
            }
        };
        self.entries.push(of_call(entry, call.request_id));
        Ok(())
    }

    /// Accounts that have too many sessions open with the new ones.
    fn crowded(&self) -> impl Iterator<Item = i64> {
        let crowded = self.open.iter().filter(|(_, open)| **open > MAX_SESSIONS);
        crowded.map(|(account, _)| *account)
    }

    /// Writes all but the entries, which are to be committed.
    async fn write(self, tx: &mut WriteTx, now: Timestamp) -> Result<Vec<NewEntry>, StoreError> {
        let crowded: Vec<i64> = self.crowded().collect();
        if !self.sessions.token.is_empty() {
            self.sessions.write(tx, now).await?;
        }
        if !self.consents.id.is_empty() {
            self.consents.write(tx).await?;
        }
        let ended = match crowded.is_empty() {
            true => Vec::new(),
            false => oldest_sessions(tx, crowded).await?,
        };
        let used: Vec<[u8; 32]> = self.used.into_iter().collect();
        mark_and_end(tx, &used, &ended, now).await?;
        Ok(self.entries)
    }
}

impl Sessions {
    fn take(
        &mut self,
        keys: &Keyring,
        asked: &RequesterOpening,
        new: &NewSession,
        account: i64,
    ) -> Result<(), StoreError> {
        let NewSession { card, proof } = new;
        let token = &asked.token_sha256;
        let held = HeldCard::of(card).to_bytes();
        self.token.push(token.to_vec());
        self.account.push(Some(account));
        self.frontend.push(asked.call.frontend.name().to_owned());
        self.card_key
            .push(lookups::card_key(keys, &card.public_key_sha256).to_vec());
        self.issuer.push(card.issuer.to_vec());
        self.card.push(keys.sealer.seal(card_place(token), &held)?);
        self.proof_sha256.push(login_proof::sha256(proof).to_vec());
        let proof = proof.encode_to_vec();
        self.proof.push(keys.sealer.seal(proof_place(token), &proof)?);
        Ok(())
    }

    fn columns(self) -> [(&'static str, Column); 8] {
        [
            ("token", Column::Bytes(self.token)),
            ("account", Column::Int(self.account)),
            ("frontend", Column::Text(self.frontend)),
            ("card_key", Column::Bytes(self.card_key)),
            ("issuer", Column::Bytes(self.issuer)),
            ("card", Column::Bytes(self.card)),
            ("proof_sha256", Column::Bytes(self.proof_sha256)),
            ("proof", Column::Bytes(self.proof)),
        ]
    }

    async fn write(self, tx: &mut WriteTx, now: Timestamp) -> Result<(), StoreError> {
        let params = [
            ("opened", table(self.columns())),
            ("now", now.unix_ms().into()),
            ("ended", false.into()),
        ];
        tx.execute(
            "INSERT INTO session (token, account_id, frontend, card_key, card_issuer, sealed_card, \
                                  proof_sha256, sealed_proof, logged_in_at, last_used_at, ended, closed) \
             SELECT token, account, frontend, card_key, issuer, card, proof_sha256, proof, {now}, {now}, \
                    {ended}, {ended} FROM {opened}",
            &params,
        )
        .await?;
        Ok(())
    }
}

/// The oldest sessions of accounts that have too many.
async fn oldest_sessions(tx: &mut WriteTx, accounts: Vec<i64>) -> Result<Vec<[u8; 32]>, StoreError> {
    let rows = tx
        .all(
            "SELECT token FROM (SELECT token, row_number() OVER (PARTITION BY account_id \
                                                                 ORDER BY logged_in_at DESC, token) AS place \
                                FROM session WHERE NOT ended \
                                AND account_id IN (SELECT value FROM {accounts})) AS open \
             WHERE place > {most} LIMIT 1000",
            &[
                ("accounts", Value::numbers(accounts)),
                ("most", MAX_SESSIONS.into()),
            ],
        )
        .await?;
    rows.iter().map(|row| row.array(0)).collect()
}

impl Consents {
    fn take(&mut self, new: &NewConsent, account: i64) {
        let consent = &new.consent;
        self.id.push(consent.id.as_bytes().to_vec());
        self.account.push(Some(account));
        self.kind.push(Some(kind_number(new)));
        self.text.push(consent.text_sha256.to_vec());
        self.language.push(new.language.clone());
        self.given.push(Some(consent.given_at.unix_ms()));
        self.expires.push(Some(consent.expires_at.unix_ms()));
        self.one_time.push(consent.one_time);
    }

    fn columns(self) -> [(&'static str, Column); 8] {
        [
            ("consent", Column::Bytes(self.id)),
            ("consent_account", Column::Int(self.account)),
            ("kind", Column::Int(self.kind)),
            ("text", Column::Bytes(self.text)),
            ("language", Column::Text(self.language)),
            ("given", Column::Int(self.given)),
            ("expires", Column::Int(self.expires)),
            ("one_time", Column::Bool(self.one_time)),
        ]
    }

    async fn write(self, tx: &mut WriteTx) -> Result<(), StoreError> {
        tx.execute(
            "INSERT INTO consent (id, account_id, kind, text_sha256, language, given_at, expires_at, one_time, state) \
             SELECT consent, consent_account, kind, text, language, given, expires, one_time, 'GIVEN' FROM {consents}",
            &[("consents", table(self.columns()))],
        )
        .await?;
        Ok(())
    }
}

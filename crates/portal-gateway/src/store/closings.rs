//! What requesters close themselves, several at a time: sessions that they end, consents that they withdraw. All of a batch
//! have the gate together and one epoch, so that however many there are, releases wait for few of them (DESIGN §4).

use std::collections::HashSet;

use common::{
    appended,
    clock::Timestamp,
    evidence::{GuardActEntry, NewEntry, of_call},
    store::{
        Access, AtOnce, ClosingKeys, Column, Connection, Database, GateFacts, StoreError, Value, WriteTx,
        table,
    },
    terms::RequestId,
};

use super::{
    Closing, RequesterClosing, RequesterError, SessionBounds,
    acts::{account_pseudonym, mark, session_pseudonym},
};

/// What is to be done about one.
enum Standing {
    /// It is to be closed, for this account.
    Open(i64),
    /// It is closed already: nothing is to be done.
    Closed,
    /// The requester may not.
    Refused(RequesterError),
}

pub(super) async fn close(
    database: &Database,
    asked: &[RequesterClosing],
    bounds: SessionBounds,
    now: Timestamp,
) -> Result<Vec<Result<(), RequesterError>>, StoreError> {
    // Without the gate first: what closes nothing must not hold releases up, however often it comes. One that was closed beside
    // the gate comes to it once: a release that has read it as open may be on its way to its commit.
    let mut reader = database.admission().await?;
    let (standings, facts) = read(&mut reader.connection(), asked, bounds, now).await?;
    reader.finish();
    if !standings.iter().any(Standing::is_open) {
        return Ok(standings.into_iter().map(Standing::outcome).collect());
    }
    if database.appends_at_once()
        && let Some(outcomes) = close_at_once(database, asked, standings, facts, now).await?
    {
        return Ok(outcomes);
    }
    let mut tx = database.begin(Access::RequestersGuard).await?;
    let (standings, _) = read(&mut tx.connection(), asked, bounds, now).await?;
    let ids = open_ids(asked, &standings);
    if ids.is_empty() {
        return Ok(standings.into_iter().map(Standing::outcome).collect());
    }
    let fresh = tx.use_request_ids(&ids).await?;
    let (closed, outcomes) = decided(database, asked, standings, fresh);
    if closed.entries.is_empty() {
        return Ok(outcomes);
    }
    closed.write(&mut tx, now).await?;
    tx.advance_epoch().await?;
    tx.closes(closed.keys());
    let _ = tx.commit(closed.entries, now).await?;
    Ok(outcomes)
}

/// Closes them by one statement, as they were read; none when something has moved since.
async fn close_at_once(
    database: &Database,
    asked: &[RequesterClosing],
    standings: Vec<Standing>,
    facts: GateFacts,
    now: Timestamp,
) -> Result<Option<Vec<Result<(), RequesterError>>>, StoreError> {
    const CLOSE: &str = concat!(
        "SELECT close_at(",
        appended!(),
        ", {sessions}, {consents}, {used}, {now})"
    );
    let sessions = asked.iter().map(|asked| asked.token_sha256.to_vec());
    let consents = asked.iter().filter_map(RequesterClosing::consent);
    let stands_on = sessions.chain(consents.map(|id| id.as_bytes().to_vec()));
    let mut at_once = AtOnce::new(Access::RequestersGuard, facts, stands_on.collect());
    let fresh = at_once.use_request_ids(&open_ids(asked, &standings));
    let (closed, outcomes) = decided(database, asked, standings, fresh);
    at_once.closes(closed.keys());
    let params = vec![
        (
            "sessions",
            Value::array(closed.sessions.iter().map(<[u8; 32]>::as_slice)),
        ),
        (
            "consents",
            Value::array(closed.consents.iter().map(<[u8; 16]>::as_slice)),
        ),
        ("used", Value::array(closed.used.iter().map(<[u8; 32]>::as_slice))),
        ("now", now.unix_ms().into()),
    ];
    let entries = (closed.entries, None);
    match at_once.commit(database, CLOSE, params, entries, now).await {
        Ok(_) => Ok(Some(outcomes)),
        Err(StoreError::Moved) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The request ids of what is to be closed.
fn open_ids(asked: &[RequesterClosing], standings: &[Standing]) -> Vec<RequestId> {
    let open = asked
        .iter()
        .zip(standings)
        .filter(|(_, standing)| standing.is_open());
    open.map(|(asked, _)| asked.call.request_id).collect()
}

/// What is closed, and what each is told.
fn decided(
    database: &Database,
    asked: &[RequesterClosing],
    standings: Vec<Standing>,
    mut fresh: HashSet<[u8; 16]>,
) -> (Closed, Vec<Result<(), RequesterError>>) {
    let mut closed = Closed::default();
    let mut outcomes = Vec::with_capacity(asked.len());
    for (asked, standing) in asked.iter().zip(standings) {
        outcomes.push(match standing {
            // One that came before it in this batch has ended its session.
            Standing::Open(_)
                if asked.consent().is_some() && closed.sessions.contains(&asked.token_sha256) =>
            {
                Err(RequesterError::Session)
            }
            Standing::Open(_) if !fresh.remove(asked.call.request_id.as_bytes()) => {
                Err(RequesterError::RequestIdUsed)
            }
            Standing::Open(account) => {
                closed.take(database, asked, account);
                Ok(())
            }
            standing => standing.outcome(),
        });
    }
    (closed, outcomes)
}

impl Standing {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    fn outcome(self) -> Result<(), RequesterError> {
        match self {
            Self::Open(_) | Self::Closed => Ok(()),
            Self::Refused(error) => Err(error),
        }
    }
}

/// What a batch closes.
#[derive(Default)]
struct Closed {
    sessions: HashSet<[u8; 32]>,
    consents: HashSet<[u8; 16]>,
    /// Sessions with which consents are withdrawn.
    used: Vec<[u8; 32]>,
    entries: Vec<NewEntry>,
}

impl Closed {
    fn take(&mut self, database: &Database, asked: &RequesterClosing, account: i64) {
        let (act, is_first) = match &asked.closing {
            Closing::Session => ("LOGOUT", self.sessions.insert(asked.token_sha256)),
            Closing::Consent(id) => {
                self.used.push(asked.token_sha256);
                ("WITHDRAW_CONSENT", self.consents.insert(*id.as_bytes()))
            }
        };
        if !is_first {
            return;
        }
        let mut entry = GuardActEntry::new(act, &asked.call.frontend);
        entry.subject = Some(account_pseudonym(&database.keys, account));
        match &asked.closing {
            Closing::Session => {
                entry.session = Some(session_pseudonym(&database.keys.pseudonym, &asked.token_sha256));
            }
            Closing::Consent(id) => entry.consent = Some(*id),
        }
        self.entries
            .push(of_call(entry.to_entry(), asked.call.request_id));
    }

    /// All that is closed.
    fn keys(&self) -> ClosingKeys {
        let sessions = self.sessions.iter().map(|token| token.to_vec());
        sessions
            .chain(self.consents.iter().map(|id| id.to_vec()))
            .collect()
    }

    async fn write(&self, tx: &mut WriteTx, now: Timestamp) -> Result<(), StoreError> {
        let sessions = || Value::keys(self.sessions.iter().map(<[u8; 32]>::as_slice));
        if !self.sessions.is_empty() {
            let params = [("yes", true.into()), ("sessions", sessions())];
            // Several instances write sessions, not all behind the gate: each locks its rows in one order.
            let sql = match tx.connection() {
                Connection::Sqlite(_) => {
                    "UPDATE session SET ended = {yes}, closed = {yes} WHERE token IN (SELECT value FROM {sessions})"
                }
                Connection::Postgres(_) => {
                    "UPDATE session SET ended = {yes}, closed = {yes} WHERE token IN \
                     (SELECT token FROM session WHERE token IN (SELECT value FROM {sessions}) \
                      ORDER BY token FOR NO KEY UPDATE)"
                }
            };
            tx.execute(sql, &params).await?;
        }
        if !self.consents.is_empty() {
            let params = [
                ("now", now.unix_ms().into()),
                (
                    "consents",
                    Value::keys(self.consents.iter().map(<[u8; 16]>::as_slice)),
                ),
            ];
            tx.execute(
                "UPDATE consent SET state = 'WITHDRAWN', withdrawn_at = {now} \
                 WHERE id IN (SELECT value FROM {consents})",
                &params,
            )
            .await?;
            mark(tx, self.used.iter(), now).await?;
        }
        Ok(())
    }
}

/// How each of them stands, with the epoch of the moment.
async fn read(
    connection: &mut Connection<'_>,
    asked: &[RequesterClosing],
    bounds: SessionBounds,
    now: Timestamp,
) -> Result<(Vec<Standing>, GateFacts), StoreError> {
    let mut standings: Vec<Standing> = asked
        .iter()
        .map(|_| Standing::Refused(RequesterError::Session))
        .collect();
    let consent = |asked: &RequesterClosing| {
        let id = asked.consent();
        id.map(|id| id.as_bytes().to_vec()).unwrap_or_default()
    };
    let wanted = table([
        (
            "session",
            Column::Bytes(asked.iter().map(|asked| asked.token_sha256.to_vec()).collect()),
        ),
        ("consent", Column::Bytes(asked.iter().map(consent).collect())),
    ]);
    let rows = connection
        .all(
            "SELECT asked.at, session.account_id, frontend, ended, closed, logged_in_at, last_used_at, \
                    consent.account_id, state, CASE WHEN asked.at = 0 THEN (SELECT facts FROM gate_facts) END \
             FROM {asked} LEFT JOIN session ON session.token = asked.session \
             LEFT JOIN consent ON consent.id = asked.consent",
            &[("asked", wanted)],
        )
        .await?;
    let mut facts = None;
    for row in &rows {
        if let Some(text) = row.optional_text(9)? {
            facts = Some(GateFacts::parse(text)?);
        }
        let at = row.place(0)?;
        let (standing, asked) = standings
            .get_mut(at)
            .zip(asked.get(at))
            .ok_or(StoreError::Unreadable("a batch's order"))?;
        let Some(account) = row.optional_int(1)? else {
            continue;
        };
        if row.text(2)? != asked.call.frontend.name() {
            continue;
        }
        let is_open = !row.bool(3)? && bounds.hold(row.int(5)?, row.int(6)?, now);
        *standing = match asked.closing {
            Closing::Session if row.bool(4)? => Standing::Closed,
            Closing::Session => Standing::Open(account),
            Closing::Consent(_) if !is_open => continue,
            Closing::Consent(_) if row.optional_int(7)? != Some(account) => {
                Standing::Refused(RequesterError::Consent)
            }
            Closing::Consent(_) if row.text(8)? == "GIVEN" => Standing::Open(account),
            // Spent or withdrawn already: nothing is answered on it any more.
            Closing::Consent(_) => Standing::Closed,
        };
    }
    let facts = facts.ok_or(StoreError::Unreadable("a batch without requests"))?;
    Ok((standings, facts))
}

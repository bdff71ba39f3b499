//! What is recorded by one message to PostgreSQL: releases, and what requesters open and close. What it is decided by was read before,
//! with the epoch of that moment; the statement takes the gate, and changes something on the condition that the epoch is still the same.
//! So what was read still stands at the commit, as if it had been read behind the gate. Where it has moved nothing is changed, and it is
//! done the other way, step by step behind the gate.

use std::{collections::HashSet, time::Duration};

use super::{
    Access, Database, StoreError, commit_warning,
    connections::{Held, State},
    gate_facts::GateFacts,
    log_end::NewBundle,
    query::{Connection, Params, Row, Value},
    recent_closings::ClosingKeys,
};
use crate::{
    clock::Timestamp,
    evidence::{Committed, Epoch, NewEntry, Salt},
    terms::RequestId,
};

/// What was decided longer ago than this is decided again, and does not wait for its turn.
const SOON: Duration = Duration::from_millis(250);
/// How a function of the schema says that something that it was to use up is used up already: nothing is changed then.
const USED_UP: &str = "KR001";
/// The key that says it of request ids.
const USED_REQUEST_IDS: &str = "used_request_id_pkey";

/// The first arguments of a function that appends: those of `append_at`, from `epoch` to `ids`.
#[macro_export]
macro_rules! appended {
    () => {
        "{epoch}, {log}, {generation}, {before}, {size}, {frontier}, {number}, {body}, {hashes}, {sealed}, {ids}"
    };
}

/// What is decided by what was read before the gate.
pub struct AtOnce {
    facts: GateFacts,
    access: Access,
    stands_on: ClosingKeys,
    closes: ClosingKeys,
    ids: Vec<RequestId>,
}

impl AtOnce {
    /// A release, what requesters open, or what they close, as `access` says; the last makes the next epoch. `facts` are what could forbid
    /// every release, of the moment at which everything else was read or of an earlier one; `stands_on` is all that it was decided by and
    /// that requesters can close.
    pub fn new(access: Access, facts: GateFacts, stands_on: ClosingKeys) -> Self {
        Self {
            facts,
            access,
            stands_on,
            closes: ClosingKeys::new(),
            ids: Vec::new(),
        }
    }

    /// Says all that this closes.
    pub fn closes(&mut self, closed: ClosingKeys) {
        self.closes = closed;
    }

    /// What could forbid every release.
    pub fn facts(&self) -> &GateFacts {
        &self.facts
    }

    /// Uses request ids up. Whether all had been unused shows at the commit; two that are the same have not.
    pub fn use_request_ids(&mut self, ids: &[RequestId]) -> HashSet<[u8; 16]> {
        self.ids.extend(ids);
        ids.iter().map(|id| *id.as_bytes()).collect()
    }

    /// Appends the entries and commits; the salts of a release's answers, one an entry, are kept beside them, sealed. `function` calls a
    /// function of the schema that takes [`appended!`] and `params`, and tells whether it has changed anything.
    pub async fn commit(
        self,
        database: &Database,
        function: &'static str,
        mut params: Vec<(&'static str, Value)>,
        (entries, salts): (Vec<NewEntry>, Option<&[Salt]>),
        at: Timestamp,
    ) -> Result<Committed, StoreError> {
        let kept = salts.map(|salts| (&database.keys.sealer, salts));
        let ids = self.ids.iter().map(|id| id.as_bytes().as_slice());
        params.push(("ids", Value::array(ids)));
        let connections = database.connections(self.access).ok_or(StoreError::Moved)?;
        let mut held = connections.acquire().await?;
        // One after the other: the next one begins where this one ends.
        let turn = database.turn_to_append(SOON).await;
        let _turn = turn.ok_or(StoreError::Moved)?;
        let recent = database.recent_closings();
        let stands = recent.epoch_after(self.facts.epoch(), &self.stands_on);
        let mut epoch = stands.ok_or(StoreError::Moved)?;
        if self.access.is_exclusive() {
            epoch = Epoch(epoch.0 + 1);
        }
        let end = database.known_end().get().ok_or(StoreError::Moved)?;
        let bundle = NewBundle::new(database.log(), epoch, entries, at)?;
        let placed = bundle.place(end.clone(), database.generation(), kept)?;
        params.extend(placed.columns);
        let rows = committed_at_once(&mut held, function, &params).await;
        let changed = rows.and_then(|rows| match rows.as_slice() {
            [row] => row.bool(0),
            _ => Err(StoreError::Unreadable("a function's answer")),
        });
        if matches!(changed, Ok(false) | Err(StoreError::Moved)) {
            return Err(StoreError::Moved);
        }
        database.health().appended(&changed);
        match changed {
            Ok(_) => {
                database.known_end().moved(placed.end);
                if !self.closes.is_empty() {
                    recent.note(epoch, self.closes);
                }
            }
            Err(_) => database.known_end().forget(),
        }
        changed.map(|_| Committed::new(epoch, end.bundles.unsigned_abs()))
    }
}

/// Runs a statement that commits by itself; its rows, after they are durable.
pub(super) async fn committed_at_once(
    held: &mut Held<sqlx::Postgres>,
    sql: &'static str,
    params: Params<'_>,
) -> Result<Vec<Row>, StoreError> {
    let mut connection = Connection::Postgres(held);
    let (rows, warned) = commit_warning::watch(connection.all(sql, params)).await;
    let rows = rows.map_err(|error| match error {
        StoreError::Failed(error) => failed(error),
        error => error,
    });
    held.is(match &rows {
        Ok(_) => State::Settled,
        Err(StoreError::OutcomeUnknown(_)) => State::Broken,
        // The server has still to say that it is ready.
        Err(_) => State::Unsettled,
    });
    match warned {
        true => Err(StoreError::CommitWarning),
        false => rows,
    }
}

/// What the server calls an error has taken everything back. Whatever else went wrong, the statement may have been committed.
fn failed(error: sqlx::Error) -> StoreError {
    use sqlx::postgres::{PgDatabaseError, PgSeverity};

    let Some(error_of_server) = error.as_database_error() else {
        return StoreError::OutcomeUnknown(error);
    };
    let used_up = error_of_server.code().is_some_and(|code| code == USED_UP)
        || error_of_server.constraint() == Some(USED_REQUEST_IDS);
    if used_up {
        return StoreError::Moved;
    }
    match error_of_server.try_downcast_ref::<PgDatabaseError>() {
        Some(one) if one.severity() == PgSeverity::Error => StoreError::Failed(error),
        _ => StoreError::OutcomeUnknown(error),
    }
}

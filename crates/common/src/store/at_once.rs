//! A release whose whole transaction is one message to PostgreSQL. Everything that could forbid was read before, with the epoch of
//! that moment; the statement takes the gate, and appends on the condition that the epoch is still the same. So what was read still
//! stands at the commit, as if it had been read behind the gate. Where it has moved nothing is changed, and the release is done the
//! other way, step by step behind the gate.

use std::collections::HashSet;

use super::{
    Database, StoreError, commit_warning,
    connections::State,
    gate_facts::GateFacts,
    log_end::{Appended, NewBundle},
    query::{Connection, Value},
};
use crate::{
    clock::Timestamp,
    evidence::{Committed, Epoch, NewEntry, Salt},
    terms::RequestId,
};

/// How a function of the schema says that something that it was to use up is used up already: nothing is changed then.
const USED_UP: &str = "KR001";

/// The first arguments of a function that appends: those of `append_at`, from `epoch` to `ids`.
#[macro_export]
macro_rules! appended {
    () => {
        "{epoch}, {log}, {generation}, {before}, {size}, {frontier}, {number}, {body}, {hashes}, {sealed}, \
         (SELECT array_agg(value) FROM {ids})"
    };
}

/// A release that is decided by what was read before the gate.
pub struct AtOnce {
    facts: GateFacts,
    epoch: Epoch,
    ids: Vec<RequestId>,
}

impl AtOnce {
    /// `facts` are what could forbid every release, of the moment at which everything else was read or of an earlier one. `epoch` is
    /// theirs, or a later one when it is known that no act since then forbids what is to be released.
    pub fn new(facts: GateFacts, epoch: Epoch) -> Self {
        Self {
            facts,
            epoch,
            ids: Vec::new(),
        }
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

    /// Appends the entries, with the salts of the answers, one an entry, sealed beside them, and commits. `function` calls a function
    /// of the schema that takes [`appended!`] and `params`, and tells whether it has changed anything.
    pub async fn commit(
        self,
        database: &Database,
        function: &'static str,
        params: Vec<(&'static str, Value)>,
        (entries, salts): (Vec<NewEntry>, &[Salt]),
        at: Timestamp,
    ) -> Result<Committed, StoreError> {
        let appended = Appended {
            entries,
            kept: Some((&database.keys.sealer, salts)),
            at,
        };
        let committed = self.append(database, function, params, appended).await;
        match &committed {
            Err(StoreError::Moved) => database.known_end().forget(),
            committed => {
                database.health().appended(committed);
                if committed.is_err() {
                    database.known_end().forget();
                }
            }
        }
        committed
    }

    async fn append(
        self,
        database: &Database,
        function: &'static str,
        mut params: Vec<(&'static str, Value)>,
        appended: Appended<'_>,
    ) -> Result<Committed, StoreError> {
        let epoch = i64::try_from(self.epoch.0).map_err(|_| StoreError::Unreadable("an epoch"))?;
        // One after the other: the next one begins where this one ends.
        let _turn = database.turn_to_append().await;
        let end = database.known_end().get().ok_or(StoreError::Moved)?;
        let bundle = NewBundle::new(database.log(), database.generation(), epoch, end, appended)?;
        params.extend(bundle.columns);
        params.push((
            "ids",
            Value::keys(self.ids.iter().map(|id| id.as_bytes().as_slice())),
        ));

        let mut held = database.releases().ok_or(StoreError::Moved)?.acquire().await?;
        let mut connection = Connection::Postgres(&mut held);
        let (told, warned) = commit_warning::watch(connection.one(function, &params)).await;
        let told = match told {
            Ok(row) => row.bool(0),
            Err(StoreError::Failed(error)) => Err(failed(error)),
            Err(error) => Err(error),
        };
        // The whole answer was read: the server has nothing to say any more.
        let is_answer = !matches!(told, Err(StoreError::OutcomeUnknown(_)));
        held.is(if is_answer { State::Settled } else { State::Broken });
        match told? {
            false => Err(StoreError::Moved),
            true if warned => Err(StoreError::CommitWarning),
            true => {
                database.known_end().moved(bundle.end);
                Ok(Committed::new(bundle.epoch, bundle.number))
            }
        }
    }
}

/// What the server calls an error has taken everything back. Whatever else went wrong, the statement may have been committed.
fn failed(error: sqlx::Error) -> StoreError {
    use sqlx::postgres::{PgDatabaseError, PgSeverity};

    let Some(error_of_server) = error.as_database_error() else {
        return StoreError::OutcomeUnknown(error);
    };
    if error_of_server.code().is_some_and(|code| code == USED_UP) {
        return StoreError::Moved;
    }
    match error_of_server.try_downcast_ref::<PgDatabaseError>() {
        Some(one) if one.severity() == PgSeverity::Error => StoreError::Failed(error),
        _ => StoreError::OutcomeUnknown(error),
    }
}

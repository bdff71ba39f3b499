use koseki_proto::koseki::common::v1::LineOutcome;

use super::{StoreError, sqlite::WriteTx};
use crate::{
    clock::Timestamp,
    evidence::{GuardActEntry, ordinary_act},
    identity::PeerIdentity,
    keyring::Pseudonym,
};

/// What a loaded line changed.
pub enum Change {
    /// Nothing: it was stored already.
    Nothing,
    /// It added something.
    Added,
    /// It changed what was stored about somebody: from now on it may forbid what was allowed before.
    Forbids(Pseudonym),
}

/// What a batch of loaded lines changed, for its entries.
pub struct Load<'a> {
    operator: &'a PeerIdentity,
    added: u64,
    forbidding: Vec<Pseudonym>,
}

impl<'a> Load<'a> {
    /// A batch of this operator's.
    pub fn new(operator: &'a PeerIdentity) -> Self {
        Self {
            operator,
            added: 0,
            forbidding: Vec::new(),
        }
    }

    /// Counts a change; what the line's sender is told.
    pub fn count(&mut self, change: Change) -> LineOutcome {
        match change {
            Change::Nothing => return LineOutcome::Unchanged,
            Change::Added => self.added += 1,
            Change::Forbids(subject) => self.forbidding.push(subject),
        }
        LineOutcome::Stored
    }

    /// Commits the batch, if it changed anything: one entry for all that was added, and one for each change that forbids,
    /// under a new epoch. Tells whether anything forbids.
    pub async fn commit(self, mut tx: WriteTx, now: Timestamp) -> Result<bool, StoreError> {
        let mut entries = Vec::with_capacity(self.forbidding.len() + 1);
        if self.added > 0 {
            entries.push(ordinary_act("LOAD_LINKAGES", self.operator, self.added, None, ""));
        }
        for subject in &self.forbidding {
            let entry = GuardActEntry {
                act_id: None,
                act: "CHANGE_LINKAGE",
                actor: self.operator,
                kind: None,
                subject: Some(*subject),
                reason: "",
            };
            entries.push(entry.to_entry());
        }
        let forbids = !self.forbidding.is_empty();
        if forbids {
            tx.advance_epoch().await?;
        }
        if !entries.is_empty() {
            let _ = tx.commit(entries, now).await?;
        }
        Ok(forbids)
    }
}

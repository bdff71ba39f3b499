use koseki_proto::koseki::common::v1::{LineOutcome, LineReason};

use super::{Access, ActError, Database, StoreError, WriteTx, side::CHANGE_LINKAGES};
use crate::{
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry, NewEntry, ordinary_act, with_cards},
    identity::PeerIdentity,
    keyring::Pseudonym,
    lines::{LineFault, LoadStart},
    terms::LinkageState,
};

/// Cards that one entry names at most.
const MAX_CARDS: usize = 64;

/// What a loaded line changed.
pub enum Change {
    /// Nothing: it was stored already.
    Nothing,
    /// It added something; the card that it leads from, when that is an active linkage of the portal side.
    Added(Option<Pseudonym>),
    /// It changed what was stored about somebody: from now on it may forbid what was allowed before.
    Forbids(Forbids),
}

/// What a change forbids.
pub struct Forbids {
    /// Whom it is about.
    pub subject: Pseudonym,
    /// The card that a linkage of the portal side led from so far, and the one that it leads from now, when it is active. Only
    /// there a card has one linkage at most.
    pub cards: (Option<Pseudonym>, Option<Pseudonym>),
}

/// Whether a linkage may be put under another code: that makes it active, so a suspended one needs two persons first.
pub fn check_rotates(state: LinkageState) -> Result<(), LineFault> {
    match state {
        LinkageState::Active | LinkageState::Pending => Ok(()),
        LinkageState::Suspended => {
            let rule = "a suspended linkage is made active by Propose and Approve";
            Err(LineFault::new(LineReason::NeedsTwoPersons, "linkage_code", rule))
        }
        LinkageState::Revoked => {
            let rule = "a revoked linkage stays revoked";
            Err(LineFault::new(LineReason::InvalidField, "linkage_code", rule))
        }
    }
}

/// Whether a line may change a linkage that is known. A suspension takes one person and is ended by two, so no line leads out
/// of it, nor around it; and what holds back without a suspension would be undone by one person again.
pub fn check_changes(known: LinkageState, state: LinkageState) -> Result<(), LineFault> {
    match (known, state) {
        (LinkageState::Revoked, _) => {
            let rule = "a revoked linkage stays revoked";
            Err(LineFault::new(LineReason::InvalidField, "state", rule))
        }
        (LinkageState::Suspended, _) => {
            let rule = "a suspended linkage stays as it is until Propose and Approve make it active";
            Err(LineFault::new(LineReason::NeedsTwoPersons, "state", rule))
        }
        (LinkageState::Active, LinkageState::Pending) => {
            let rule = "an active linkage is suspended or revoked, not made pending";
            Err(LineFault::new(LineReason::InvalidField, "state", rule))
        }
        _ => Ok(()),
    }
}

/// What a batch of loaded lines changed, for its entries.
pub struct Load<'a> {
    start: LoadStart,
    operator: &'a PeerIdentity,
    access: Access,
    added: u64,
    cards: Vec<Pseudonym>,
    forbidding: Vec<Forbids>,
    beside: Vec<NewEntry>,
}

/// How a batch ended.
pub enum LoadEnd {
    /// It is stored.
    Stored {
        /// Whether one of its changes forbids releases.
        forbids: bool,
        /// The side's epoch at its commit: every act up to it is in force.
        epoch: Epoch,
    },
    /// Something forbids, and the transaction does not have the gate alone: nothing is stored, do it again with it.
    NeedsGate,
}

impl<'a> Load<'a> {
    /// How the gate is taken, one after the other: most batches forbid nothing, and releases go on beside them.
    pub const ACCESSES: [Access; 2] = [Access::Load, Access::GuardLoad];

    /// Begins a batch of this operator's.
    pub async fn begin(
        database: &Database,
        access: Access,
        start: LoadStart,
        operator: &'a PeerIdentity,
    ) -> Result<(Self, WriteTx), StoreError> {
        let load = Self {
            start,
            operator,
            access,
            added: 0,
            cards: Vec::new(),
            forbidding: Vec::new(),
            beside: Vec::new(),
        };
        Ok((load, database.begin(access).await?))
    }

    /// Counts a change; what the line's sender is told.
    pub fn count(&mut self, change: Change) -> LineOutcome {
        match change {
            Change::Nothing => return LineOutcome::Unchanged,
            Change::Added(card) => {
                self.added += 1;
                self.cards.extend(card);
            }
            Change::Forbids(forbids) => self.forbidding.push(forbids),
        }
        LineOutcome::Stored
    }

    /// Adds entries of what the batch brought to light.
    pub fn add(&mut self, entries: Vec<NewEntry>) {
        self.beside.extend(entries);
    }

    /// Commits the batch, if it changed anything and is no dry run: one entry for all that was added, and one for each
    /// change that forbids, under a new epoch.
    pub async fn commit(self, mut tx: WriteTx, now: Timestamp) -> Result<LoadEnd, StoreError> {
        let forbids = !self.forbidding.is_empty();
        let epoch = tx.epoch()?;
        if self.start.dry_run {
            return Ok(LoadEnd::Stored {
                forbids: false,
                epoch,
            });
        }
        if forbids && !self.access.is_exclusive() {
            return Ok(LoadEnd::NeedsGate);
        }
        let mut entries = self.beside;
        let id = self.start.load_id;
        let added = |count| ordinary_act("LOAD_LINKAGES", self.operator, count, None, &id.to_string());
        if self.added > 0 {
            let mut counted = self.added;
            // An entry has room for some cards; what was added is counted once.
            let mut cards = self.cards.chunks(MAX_CARDS);
            loop {
                let some = cards.next();
                if counted == 0 && some.is_none() {
                    break;
                }
                let entry = added(std::mem::take(&mut counted));
                entries.push(with_cards(entry, some.unwrap_or_default()));
            }
        }
        for forbids in &self.forbidding {
            let entry = GuardActEntry {
                act_id: Some(id),
                subject: Some(forbids.subject),
                cards: forbids.cards,
                ..GuardActEntry::new("CHANGE_LINKAGE", self.operator)
            };
            entries.push(entry.to_entry());
        }
        if forbids {
            tx.advance_epoch().await?;
            match tx.note_closing(id, CHANGE_LINKAGES, self.operator, now).await {
                Ok(()) => {}
                Err(ActError::Store(error)) => return Err(error),
                // Looked at when the load began; somebody else has used it since.
                Err(_) => return Err(StoreError::Unreadable("a load id that somebody else uses")),
            }
        }
        let epoch = if entries.is_empty() {
            tx.commit_again().await?;
            epoch
        } else {
            tx.commit(entries, now).await?.epoch()
        };
        Ok(LoadEnd::Stored { forbids, epoch })
    }
}

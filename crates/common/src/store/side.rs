use std::time::Duration;

use async_trait::async_trait;

use super::{Access, Database, StoreError, WriteTx};
use crate::{
    approval::Opening,
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry},
    identity::PeerIdentity,
    keyring::{Lookup, Pseudonym},
    policy::Policy,
    refusal::{Reason, Refusal},
    suspension::Suspend,
    terms::{ActId, RequestKind, RuleBroken},
};

/// What a load that forbids something is called among the closings.
pub(super) const CHANGE_LINKAGES: &str = "CHANGE_LINKAGES";

/// An act was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The act's id was used for another act.
    #[error("the act's id was used for another act")]
    IdUsed,
    /// What the act refers to is not stored.
    #[error("what the act refers to is not stored")]
    UnknownReference,
    /// Another person than the first has to do it.
    #[error("another person has to do it")]
    AnotherPersonNeeded,
    /// What is stored is not in the state that the act is for.
    #[error("what is stored is not in the state that the act is for")]
    NotApplicable,
    /// A field breaks its rule.
    #[error("{0}: {1}")]
    Malformed(&'static str, RuleBroken),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ActError> for Refusal {
    fn from(error: ActError) -> Self {
        match error {
            ActError::IdUsed => Reason::ActIdUsed.into(),
            ActError::UnknownReference => Reason::UnknownReference.into(),
            ActError::AnotherPersonNeeded => Reason::AnotherPersonNeeded.into(),
            ActError::NotApplicable => Reason::NotApplicable.into(),
            ActError::Malformed(field, rule) => Refusal::malformed(field, rule),
            ActError::Store(error) => Reason::from(error).into(),
        }
    }
}

/// A side's store, as the mechanisms of both sides see it.
#[async_trait]
pub trait SideStore: Send + Sync {
    /// The database.
    fn database(&self) -> &Database;

    /// Opens something of this side's own, in the transaction that two persons' approval commits: whom it concerns.
    async fn open(
        &self,
        tx: &mut WriteTx,
        opening: &Opening,
        now: Timestamp,
    ) -> Result<Option<Pseudonym>, ActError>;
}

impl WriteTx {
    /// Whether the act was done before: its epoch then. The same id with another content is refused.
    pub async fn done_before(&mut self, id: ActId, content: &[u8; 32]) -> Result<Option<Epoch>, ActError> {
        match self.act(id.as_bytes()).await? {
            Some((stored, epoch)) if stored == *content => Ok(Some(epoch)),
            Some(_) => Err(ActError::IdUsed),
            None => Ok(None),
        }
    }

    /// Notes a closing, which another person has to confirm; one more part of a closing has to be confirmed anew. An id under
    /// which somebody else, or something else, was closed is refused: a confirmation is about one act of one person.
    pub async fn note_closing(
        &mut self,
        id: ActId,
        act: &'static str,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), ActError> {
        let params = [
            ("id", id.as_bytes().into()),
            ("act", act.into()),
            ("actor", actor.to_string().into()),
            ("now", now.unix_ms().into()),
        ];
        let noted = self
            .execute(
                "INSERT INTO closing (act_id, act, actor, at) VALUES ({id}, {act}, {actor}, {now}) \
                 ON CONFLICT (act_id) DO UPDATE SET at = excluded.at, confirmed_by = NULL, confirmed_at = NULL \
                 WHERE closing.act = excluded.act AND closing.actor = excluded.actor",
                &params,
            )
            .await?;
        match noted {
            0 => Err(ActError::IdUsed),
            _ => Ok(()),
        }
    }

    /// Makes proposals to open this void: it is closed anew.
    pub async fn void_proposals(&mut self, target: &Lookup) -> Result<(), StoreError> {
        self.execute(
            "UPDATE proposal SET voided = {yes} WHERE target = {target} AND approved_by IS NULL",
            &[("yes", true.into()), ("target", target.into())],
        )
        .await?;
        Ok(())
    }
}

impl Database {
    /// Whether lines may be loaded under this id: nobody else, and nothing else, was closed under it.
    pub async fn check_load_id(&self, id: ActId, operator: &PeerIdentity) -> Result<(), ActError> {
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .optional(
                "SELECT act, actor FROM closing WHERE act_id = {id}",
                &[("id", id.as_bytes().into())],
            )
            .await?;
        match row {
            Some(row) if row.text(0)? != CHANGE_LINKAGES || row.text(1)? != operator.to_string() => {
                Err(ActError::IdUsed)
            }
            _ => Ok(()),
        }
    }

    /// Suspends provision: in force when this returns.
    pub async fn suspend(
        &self,
        act: Suspend,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        let mut tx = self.begin(Access::Guard).await?;
        let content = act.content();
        let suspended = suspension_epoch(&mut tx, act.kind).await?;
        match tx.done_before(act.act_id, &content).await? {
            Some(epoch) if suspended.is_some() => {
                tx.commit_again().await?;
                return Ok(epoch);
            }
            // It was done, and lifted since: to say that it is in force would be untrue.
            Some(_) => return Err(ActError::IdUsed),
            None => {}
        }
        let epoch = tx.advance_epoch().await?;
        let params = [
            ("kind", kind_number(act.kind).into()),
            ("epoch", i64::try_from(epoch.0).unwrap_or(i64::MAX).into()),
            ("now", now.unix_ms().into()),
        ];
        tx.execute(
            "INSERT INTO suspension (kind, epoch, since) VALUES ({kind}, {epoch}, {now}) ON CONFLICT DO NOTHING",
            &params,
        )
        .await?;
        tx.void_proposals(&Opening::ResumeProvision(act.kind).target(&self.keys.lookup))
            .await?;
        tx.remember_act(act.act_id.as_bytes(), &content).await?;
        tx.note_closing(act.act_id, "SUSPEND_PROVISION", actor, now)
            .await?;
        let entry = GuardActEntry {
            act_id: Some(act.act_id),
            kind: act.kind,
            reason: &act.reason,
            ..GuardActEntry::new("SUSPEND_PROVISION", actor)
        };
        Ok(tx.commit(vec![entry.to_entry()], now).await?.epoch())
    }

    /// Tells every instance which policy is in force: one that still holds an older one releases nothing any more once clocks
    /// cannot differ by as much.
    pub async fn take_policy(
        &self,
        policy: &Policy,
        own: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let moment = policy.effective_at.unix_ms();
        let mut reader = self.reader().await?;
        let known = reader
            .connection()
            .one("SELECT policy_effective_at FROM gate", &[])
            .await?;
        if known.int(0)? >= moment {
            return Ok(());
        }
        let mut tx = self.begin(Access::Guard).await?;
        if !tx.take_policy(policy).await? {
            return Ok(());
        }
        tx.advance_epoch().await?;
        let entry = GuardActEntry {
            reason: &data_encoding::HEXLOWER.encode(&policy.sha256),
            ..GuardActEntry::new("TAKE_POLICY", own)
        };
        let _ = tx.commit(vec![entry.to_entry()], now).await?;
        Ok(())
    }

    /// Closings that nobody has confirmed within the policy's time.
    pub(super) async fn overdue_closings(&self, now: Timestamp, within: Duration) -> Result<u64, StoreError> {
        let mut reader = self.reader().await?;
        let row = reader
            .connection()
            .one(
                "SELECT count(*) FROM closing WHERE confirmed_by IS NULL AND at < {before}",
                &[("before", now.before(within).unix_ms().into())],
            )
            .await?;
        Ok(row.int(0)?.unsigned_abs())
    }

    /// Stops all provision when the database is another one than at the last start: a restored copy may lack what forbids.
    /// Two persons resume it.
    pub async fn suspend_if_moved(&self, own: &PeerIdentity, now: Timestamp) -> Result<(), ActError> {
        if !self.moved() {
            return Ok(());
        }
        let mut tx = self.begin(Access::Guard).await?;
        let epoch = tx.advance_epoch().await?;
        tx.execute(
            "INSERT INTO suspension (kind, epoch, since) VALUES (0, {epoch}, {now}) ON CONFLICT DO NOTHING",
            &[
                ("epoch", i64::try_from(epoch.0).unwrap_or(i64::MAX).into()),
                ("now", now.unix_ms().into()),
            ],
        )
        .await?;
        self.settle(&mut tx).await?;
        let reason = "the database is another one than at the last start";
        let entry = GuardActEntry {
            reason,
            ..GuardActEntry::new("DATABASE_MOVED", own)
        };
        let _ = tx.commit(vec![entry.to_entry()], now).await?;
        tracing::error!("{reason}: provision is suspended until two operators resume it");
        Ok(())
    }
}

/// The epoch of the suspension of a kind, or of all kinds, if there is one.
pub(crate) async fn suspension_epoch(
    tx: &mut WriteTx,
    kind: Option<RequestKind>,
) -> Result<Option<i64>, StoreError> {
    let row = tx
        .optional(
            "SELECT epoch FROM suspension WHERE kind = {kind}",
            &[("kind", kind_number(kind).into())],
        )
        .await?;
    row.map(|row| row.int(0)).transpose()
}

pub(crate) fn kind_number(kind: Option<RequestKind>) -> i32 {
    kind.map_or(0, |kind| kind.to_proto().into())
}

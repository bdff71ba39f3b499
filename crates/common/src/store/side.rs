use async_trait::async_trait;

use super::{
    StoreError,
    sqlite::{self, Database, WriteTx},
};
use crate::{
    clock::{Clock, Timestamp},
    evidence::{Epoch, GuardActEntry, ordinary_act},
    identity::PeerIdentity,
    refusal::{Reason, Refusal},
    suspension::{Resume, ResumeState, Suspend, Suspensions},
    terms::{ActId, RequestId, RequestKind},
};

/// An act was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The act's id was used for another act.
    #[error("the act's id was used for another act")]
    IdUsed,
    /// What the act refers to is not stored.
    #[error("what the act refers to is not stored")]
    UnknownReference,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ActError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<ActError> for Refusal {
    fn from(error: ActError) -> Self {
        match error {
            ActError::IdUsed => Reason::ActIdUsed.into(),
            ActError::UnknownReference => Reason::UnknownReference.into(),
            ActError::Store(error) => Reason::from(error).into(),
        }
    }
}

/// What both sides' stores can do alike.
#[async_trait]
pub trait SideStore: Send + Sync {
    /// Suspends provision: in force when this returns.
    async fn suspend(&self, act: Suspend, actor: &PeerIdentity, now: Timestamp) -> Result<Epoch, ActError>;

    /// Asks to lift a suspension; the second of two different operators lifts it.
    async fn resume(
        &self,
        act: Resume,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<ResumeState, ActError>;

    /// The kinds that are suspended, for telling; a release reads them in its own transaction.
    async fn suspensions(&self) -> Result<Suspensions, StoreError>;

    /// Forgets request ids that no fresh request can carry any more; some at a time, and how many it were.
    async fn forget_request_ids(&self, now: Timestamp) -> Result<u64, StoreError>;
}

/// Forgets used request ids for as long as the service runs, so that the store does not grow without bound.
pub async fn forget_request_ids(store: &dyn SideStore, clock: &dyn Clock) {
    loop {
        match store.forget_request_ids(clock.now()).await {
            // There may be more: go on at once.
            Ok(forgotten) if forgotten > 0 => {}
            Ok(_) => tokio::time::sleep(RequestId::WINDOW / 10).await,
            Err(error) => {
                tracing::warn!(
                    error = crate::telemetry::chain(&error),
                    "used request ids could not be forgotten"
                );
                tokio::time::sleep(RequestId::WINDOW / 10).await;
            }
        }
    }
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
}

#[async_trait]
impl SideStore for Database {
    async fn suspend(&self, act: Suspend, actor: &PeerIdentity, now: Timestamp) -> Result<Epoch, ActError> {
        let mut tx = self.begin().await?;
        let content = act.content();
        let suspended = suspension_epoch(&mut tx, act.kind).await?;
        match tx.done_before(act.act_id, &content).await? {
            Some(epoch) if suspended.is_some() => return Ok(epoch),
            // It was done, and lifted since: to say that it is in force would be untrue.
            Some(_) => return Err(ActError::IdUsed),
            None => {}
        }
        let epoch = tx.advance_epoch().await?;
        sqlx::query("INSERT INTO suspension (kind, epoch, since) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
            .bind(kind_number(act.kind))
            .bind(i64::try_from(epoch.0).unwrap_or(i64::MAX))
            .bind(now.unix_ms())
            .execute(tx.connection())
            .await?;
        // A proposal to open that was made before this is void.
        sqlx::query("DELETE FROM resume_proposal WHERE kind = ?1")
            .bind(kind_number(act.kind))
            .execute(tx.connection())
            .await?;
        tx.remember_act(act.act_id.as_bytes(), &content).await?;
        let entry = GuardActEntry {
            act_id: Some(act.act_id),
            act: "SUSPEND_PROVISION",
            actor,
            kind: act.kind,
            subject: None,
            reason: &act.reason,
        };
        Ok(tx.commit(vec![entry.to_entry()], now).await?.epoch())
    }

    async fn resume(
        &self,
        act: Resume,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<ResumeState, ActError> {
        let mut tx = self.begin().await?;
        let kind = kind_number(act.kind);
        let Some(suspended) = suspension_epoch(&mut tx, act.kind).await? else {
            return Ok(ResumeState::NotSuspended);
        };
        // Bound to this suspension: an act that is sent again must not open a later one.
        let content = act.content(suspended);
        if tx.done_before(act.act_id, &content).await?.is_some() {
            return Ok(ResumeState::Proposed);
        }
        let proposal: Option<(String,)> =
            sqlx::query_as("SELECT proposer FROM resume_proposal WHERE kind = ?1 AND expires_at > ?2")
                .bind(kind)
                .bind(now.unix_ms())
                .fetch_optional(tx.connection())
                .await?;
        let name = actor.to_string();
        match proposal {
            Some((proposer,)) if proposer != name => {
                for statement in [
                    "DELETE FROM suspension WHERE kind = ?1",
                    "DELETE FROM resume_proposal WHERE kind = ?1",
                ] {
                    sqlx::query(statement).bind(kind).execute(tx.connection()).await?;
                }
                tx.remember_act(act.act_id.as_bytes(), &content).await?;
                let entry = GuardActEntry {
                    act_id: Some(act.act_id),
                    act: "RESUME_PROVISION",
                    actor,
                    kind: act.kind,
                    subject: None,
                    reason: "",
                };
                let _ = tx.commit(vec![entry.to_entry()], now).await?;
                Ok(ResumeState::Resumed)
            }
            Some(_) => Ok(ResumeState::Proposed),
            None => {
                sqlx::query(
                    "INSERT INTO resume_proposal (kind, proposer, expires_at) VALUES (?1, ?2, ?3) ON CONFLICT (kind) \
                     DO UPDATE SET proposer = excluded.proposer, expires_at = excluded.expires_at",
                )
                .bind(kind)
                .bind(&name)
                .bind(now.after(Resume::PROPOSAL_HOLDS).unix_ms())
                .execute(tx.connection())
                .await?;
                tx.remember_act(act.act_id.as_bytes(), &content).await?;
                let entry = ordinary_act("PROPOSE_RESUME", actor, 0, None, &act.act_id.to_string());
                let _ = tx.commit(vec![entry], now).await?;
                Ok(ResumeState::Proposed)
            }
        }
    }

    async fn suspensions(&self) -> Result<Suspensions, StoreError> {
        sqlite::suspensions(&mut *self.reader().await?).await
    }

    async fn forget_request_ids(&self, now: Timestamp) -> Result<u64, StoreError> {
        Database::forget_request_ids(self, now).await
    }
}

/// The epoch of the suspension of a kind, or of all kinds, if there is one.
async fn suspension_epoch(tx: &mut WriteTx, kind: Option<RequestKind>) -> Result<Option<i64>, StoreError> {
    let row: Option<(i64,)> = sqlx::query_as("SELECT epoch FROM suspension WHERE kind = ?1")
        .bind(kind_number(kind))
        .fetch_optional(tx.connection())
        .await?;
    Ok(row.map(|(epoch,)| epoch))
}

fn kind_number(kind: Option<RequestKind>) -> i32 {
    kind.map_or(0, |kind| kind.to_proto().into())
}

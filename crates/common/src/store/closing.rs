//! Closing a log, for good: the own one, or at this side one of the other side's.

use super::{Access, ActError, Database, StoreError};
use crate::{
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry, of_operator, ordinary_act},
    identity::PeerIdentity,
    log_closing::{CloseLog, ClosePeerLog},
};

impl Database {
    /// Closes the log that this process writes: in force when this returns. The act is its last entry.
    pub async fn close_log(
        &self,
        act: CloseLog,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        let content = act.content(self.log());
        let mut tx = match self.begin(Access::Guard).await {
            Err(StoreError::Closed) => return self.closed_before(&act, &content).await,
            begun => begun?,
        };
        // Done, and this log is open: it was done to a log that is not there any more.
        if tx.done_before(act.act_id, &content).await?.is_some() {
            return Err(ActError::IdUsed);
        }
        tx.advance_epoch().await?;
        tx.execute(
            "UPDATE log_head SET closed = {yes} WHERE log = {log}",
            &[("yes", true.into()), ("log", self.log().into())],
        )
        .await?;
        tx.remember_act(act.act_id.as_bytes(), &content).await?;
        tx.note_closing(act.act_id, "CLOSE_LOG", actor, now).await?;
        let entry = GuardActEntry {
            act_id: Some(act.act_id),
            reason: &act.reason,
            reference: self.log().to_owned(),
            ..GuardActEntry::new("CLOSE_LOG", actor)
        };
        let epoch = tx.commit(vec![entry.to_entry()], now).await?.epoch();
        self.health().failed(&StoreError::Closed);
        Ok(epoch)
    }

    /// The epoch of the act, when it was this one that has closed the log.
    async fn closed_before(&self, act: &CloseLog, content: &[u8; 32]) -> Result<Epoch, ActError> {
        let mut tx = self.begin(Access::Ungated).await?;
        let epoch = tx.done_before(act.act_id, content).await?;
        let epoch = epoch.ok_or(ActError::NotApplicable)?;
        tx.commit_again().await?;
        Ok(epoch)
    }

    /// Closes a log of the other side, at what was countersigned of it last: in force when this returns.
    pub async fn close_peer_log(
        &self,
        act: ClosePeerLog,
        actor: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        let content = act.content();
        let mut tx = self.begin(Access::Ordinary).await?;
        if let Some(epoch) = tx.done_before(act.act_id, &content).await? {
            tx.commit_again().await?;
            return Ok(epoch);
        }
        let origin = [("origin", act.origin.as_str().into()), ("yes", true.into())];
        let closed = tx
            .optional(
                "UPDATE witnessed_log SET closed = {yes} WHERE origin = {origin} AND NOT closed RETURNING size",
                &origin,
            )
            .await?;
        let Some(closed) = closed else {
            let known = tx
                .optional("SELECT size FROM witnessed_log WHERE origin = {origin}", &origin)
                .await?;
            return Err(match known {
                Some(_) => ActError::NotApplicable,
                None => ActError::UnknownReference,
            });
        };
        tx.remember_act(act.act_id.as_bytes(), &content).await?;
        tx.note_closing(act.act_id, "CLOSE_PEER_LOG", actor, now).await?;
        let reference = format!("{} {}", act.origin, closed.int(0)?);
        let entry = ordinary_act("CLOSE_PEER_LOG", actor, 0, None, &reference);
        let entry = of_operator(entry, act.act_id, &act.reason);
        Ok(tx.commit(vec![entry], now).await?.epoch())
    }
}

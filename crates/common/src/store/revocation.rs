//! The numbers of the revocation lists that a side has taken. They are read with the gate's own row, so that every
//! transaction knows them behind the gate.

use super::{Access, Database, StoreError};
use crate::{card::RevocationList, clock::Timestamp, evidence::GuardActEntry, identity::PeerIdentity};

impl Database {
    /// Records that a newer list counts: from this commit on no instance releases by an older one. A guard act, with an epoch
    /// of its own; nothing is changed where a list as new was taken meanwhile.
    pub async fn take_list(
        &self,
        list: &RevocationList,
        own: &PeerIdentity,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin(Access::Guard).await?;
        let recorded = tx.facts()?.list_numbers().of(&list.issuer);
        if recorded.is_some_and(|number| number >= list.number) {
            return Ok(());
        }
        tx.execute(
            "INSERT INTO revocation_list (issuer, number, accepted_at) VALUES ({issuer}, {number}, {now}) \
             ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, accepted_at = excluded.accepted_at",
            &[
                ("issuer", list.issuer.as_slice().into()),
                ("number", list.number.as_bytes().as_slice().into()),
                ("now", now.unix_ms().into()),
            ],
        )
        .await?;
        tx.advance_epoch().await?;
        let reason = format!(
            "number {} of the root whose key is {}",
            list.number,
            data_encoding::HEXLOWER.encode(&list.issuer)
        );
        let entry = GuardActEntry {
            reason: &reason,
            ..GuardActEntry::new("TAKE_REVOCATION_LIST", own)
        };
        let _ = tx.commit(vec![entry.to_entry()], now).await?;
        Ok(())
    }
}

//! Retention (DESIGN §5): bodies of old bundles are dropped below a mark that two persons have made; what they hash to stays.

use super::{ActError, WriteTx};

impl WriteTx {
    /// Makes a mark: bodies of a log's bundles before this number may be dropped. A mark never goes back.
    pub(crate) async fn mark_for_archiving(&mut self, log: &str, before_bundle: u64) -> Result<(), ActError> {
        let before = i64::try_from(before_bundle).map_err(|_| ActError::NotApplicable)?;
        let params = [("log", log.into()), ("before", before.into())];
        let known = self
            .optional("SELECT bundles FROM log_head WHERE log = {log}", &params)
            .await?
            .ok_or(ActError::UnknownReference)?;
        if known.int(0)? < before {
            return Err(ActError::NotApplicable);
        }
        let marked = self
            .execute(
                "INSERT INTO retention_mark (log, before_bundle) VALUES ({log}, {before}) \
                 ON CONFLICT (log) DO UPDATE SET before_bundle = excluded.before_bundle \
                 WHERE retention_mark.before_bundle < excluded.before_bundle",
                &params,
            )
            .await?;
        match marked {
            0 => Err(ActError::NotApplicable),
            _ => Ok(()),
        }
    }
}

//! What a side tells operators of itself on one screen. The same on both sides.

use std::sync::Arc;

use koseki_proto::koseki::common::v1::{
    CertificateStatus, DatabaseStatus, LogStatus, PolicyStatus, SideStatus, StandingAlarm, Suspension,
};
use koseki_proto::koseki::linkage::v1::PolicyRef;

use crate::{
    alarm::Alarms,
    cards::Cards,
    clock::{Clock, Timestamp},
    ops::Readiness,
    policy::Policies,
    store::{Database, StoreError},
};

/// What the instance itself knows.
pub struct StatusBoard {
    clock: Arc<dyn Clock>,
    started_at: Timestamp,
    readiness: Readiness,
    policies: Arc<Policies>,
    alarms: Alarms,
    certificates: Vec<CertificateStatus>,
    cards: Arc<Cards>,
}

impl StatusBoard {
    /// Of an instance that starts now. `certificates`: those of its TLS material.
    pub fn new(
        clock: Arc<dyn Clock>,
        readiness: Readiness,
        policies: Arc<Policies>,
        alarms: Alarms,
        certificates: Vec<(&'static str, Timestamp)>,
        cards: Arc<Cards>,
    ) -> Self {
        let certificate = |(name, not_after): (&str, Timestamp)| CertificateStatus {
            r#use: name.to_owned(),
            not_after: Some(not_after.to_proto()),
        };
        Self {
            started_at: clock.now(),
            clock,
            readiness,
            policies,
            alarms,
            cards,
            certificates: certificates.into_iter().map(certificate).collect(),
        }
    }

    /// The status, with what the database knows.
    pub async fn status(&self, database: &Database) -> Result<SideStatus, StoreError> {
        let now = self.clock.now();
        let mut reader = database.reader().await?;
        let mut connection = reader.connection();
        let suspensions = connection
            .all("SELECT kind, since FROM suspension ORDER BY kind", &[])
            .await?;
        let row = connection
            .one(
                "SELECT epoch, \
                    (SELECT size FROM log_head WHERE log = {log}), (SELECT bundles FROM log_head WHERE log = {log}), \
                    (SELECT count(*) FROM proposal WHERE approved_by IS NULL AND NOT voided AND expires_at >= {now}), \
                    (SELECT count(*) FROM closing WHERE confirmed_by IS NULL) \
                 FROM gate",
                &[("log", database.log().into()), ("now", now.unix_ms().into())],
            )
            .await?;
        let count = |at| Ok::<_, StoreError>(u32::try_from(row.int(at)?).unwrap_or(u32::MAX));
        let suspension = |row: &crate::store::Row| {
            Ok::<_, StoreError>(Suspension {
                kind: i32::try_from(row.int(0)?).unwrap_or_default(),
                since: Some(Timestamp::from_unix_ms(row.int(1)?).to_proto()),
            })
        };
        let (in_force, next) = self.policies.told();
        let policy = |policy: PolicyRef| PolicyStatus {
            sha256: policy.sha256,
            effective_at: policy.effective_at,
        };
        Ok(SideStatus {
            instance: database.log().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: Some(now.to_proto()),
            started_at: Some(self.started_at.to_proto()),
            ready: self.readiness.get(),
            suspensions: suspensions.iter().map(suspension).collect::<Result<_, _>>()?,
            policy: Some(policy(in_force)),
            next_policy: next.map(policy),
            certificates: self.certificates.clone(),
            database: Some(DatabaseStatus {
                engine: database.engine().to_owned(),
                epoch: row.int(0)?.unsigned_abs(),
            }),
            log: Some(LogStatus {
                size: row.int(1)?.unsigned_abs(),
                bundles: row.int(2)?.unsigned_abs(),
            }),
            alarms: self
                .alarms
                .standing()
                .into_iter()
                .map(|(alarm, about)| StandingAlarm {
                    name: alarm.name().to_owned(),
                    about,
                })
                .collect(),
            pending_proposals: count(3)?,
            unconfirmed_closings: count(4)?,
            revocation_lists: self.cards.status(),
        })
    }
}

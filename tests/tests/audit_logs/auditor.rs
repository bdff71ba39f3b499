//! An auditor at the desk: their files, and what is in the logs that they export.

use std::{path::Path, time::Duration};

use common::{
    identity::Role,
    terms::{ActId, RequestKind},
};
use devkit::{
    client::{CallError, Term},
    deployment::{GATEWAY_INSTANCE, PROVIDER_INSTANCE},
    registers::Scenario,
};
use integration_tests::stores::Behind;

use crate::desk::{Desk, Ended};

/// The auditor's files.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) provider: String,
    pub(crate) gateway: String,
    pub(crate) keys: String,
}

impl Desk {
    pub(crate) async fn run_auditor(&self, arguments: &[&str]) -> Ended {
        let profile = self.profile_with(Role::Auditor, "carol", |_| {});
        self.run_with(&profile, arguments).await
    }

    fn log_keys(&self) -> String {
        let folder = self.pair.deployment.clients(Role::Auditor);
        folder.join("log-keys.txt").to_str().unwrap().to_owned()
    }

    /// Exports a log, once its other side has countersigned something of it.
    pub(crate) async fn export(&self, side: &str, log: &str, name: &str) -> String {
        let out = self.path(name).to_str().unwrap().to_owned();
        let arguments = ["audit", "export", "--side", side, "--log", log, "--out", &out];
        self.run_auditor(&arguments).await.exits(0);
        out
    }

    pub(crate) async fn export_both(&self) -> Files {
        self.until_countersigned().await;
        Files {
            provider: self.export("registry", PROVIDER_INSTANCE, "provider.log").await,
            gateway: self.export("portal", GATEWAY_INSTANCE, "gateway.log").await,
            keys: self.log_keys(),
        }
    }

    /// Waits until everything that is in both logs now is countersigned.
    pub(crate) async fn until_countersigned(&self) {
        let sizes = self.sizes().await;
        let covered = async {
            let mut looks = tokio::time::interval(Duration::from_millis(50));
            loop {
                looks.tick().await;
                let now = self.sizes().await;
                if now.iter().zip(&sizes).all(|(now, then)| now.1 >= then.0) {
                    break;
                }
            }
        };
        tokio::time::timeout(integration_tests::raw::PATIENCE * 4, covered)
            .await
            .expect("the logs are not countersigned");
    }

    /// How many entries each side's log has, and how many of them are countersigned.
    pub(crate) async fn sizes(&self) -> Vec<(i64, i64)> {
        let mut sizes = Vec::new();
        let deployment = &self.pair.deployment;
        for database in [deployment.provider_database(), deployment.gateway_database()] {
            let mut behind = Behind::open(&database).await;
            let row = behind
                .connection()
                .one(
                    "SELECT log_head.size, COALESCE(log_checkpoint.witnessed_size, 0) \
                     FROM log_head LEFT JOIN log_checkpoint ON log_checkpoint.log = log_head.log",
                    &[],
                )
                .await
                .unwrap();
            sizes.push((row.int(0).unwrap(), row.int(1).unwrap()));
        }
        sizes
    }
}

impl Files {
    pub(crate) async fn run(&self, desk: &Desk, command: &[&str]) -> Ended {
        let files = [self.provider.as_str(), &self.gateway, "--keys", &self.keys];
        desk.run_bare(&[&["audit"], command, &files].concat()).await
    }
}

/// What one requester asked for.
pub(crate) struct Asked {
    /// Released.
    pub(crate) released: String,
    /// The register refusal, of somebody who must not be provided.
    pub(crate) suppressed: String,
    /// Refused for the withdrawn consent.
    pub(crate) withdrawn: String,
}

pub(crate) const KIND: RequestKind = RequestKind::CertificateRequest;

/// One release, one register refusal, one refusal after a withdrawal, a logout, and a suspension that is lifted.
pub(crate) async fn story(desk: &Desk) -> Asked {
    let cast = desk.pair.cast().await;
    let frontend = &cast.frontend;
    let offices = desk.pair.offices();
    let (person, _) = cast.person(Scenario::Suppressed).unwrap();
    let record = ActId::random().unwrap().to_string();
    let [officer, _] = &offices.registry;
    officer
        .record_non_provision(&record, Some(&person.person_id), None)
        .await
        .unwrap();
    let mut released = String::new();
    let mut suppressed = String::new();
    let mut withdrawn = String::new();
    for (scenario, id) in [
        (Scenario::Ordinary, &mut released),
        (Scenario::Suppressed, &mut suppressed),
    ] {
        let (_, card) = cast.person(scenario).unwrap();
        let session = frontend.login(&card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        let term = Term::For(Duration::from_secs(3_600));
        let consent = frontend.consent(&session, &text, term).await.unwrap();
        *id = frontend.ids().next();
        let outcome = frontend.copy_info_as(id, &session, KIND, "").await;
        let reason = outcome.as_ref().err().and_then(CallError::reason);
        let expected = (scenario == Scenario::Suppressed).then_some("NOT_PROVIDED");
        assert_eq!(reason, expected, "{outcome:?}");
        frontend.withdraw(&session, &consent).await.unwrap();
        withdrawn = frontend.ids().next();
        let outcome = frontend.copy_info_as(&withdrawn, &session, KIND, "").await;
        let reason = outcome.as_ref().err().and_then(CallError::reason);
        assert_eq!(reason, Some("CONSENT_REQUIRED"));
        frontend.logout(&session).await.unwrap();
    }
    let [alice, bob] = &offices.portal;
    alice
        .suspend(&ActId::random().unwrap().to_string(), Some(KIND))
        .await
        .unwrap();
    let proposed = alice.propose_resume(Some(KIND)).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    Asked {
        released,
        suppressed,
        withdrawn,
    }
}

pub(crate) async fn bodies(database: &Path) -> Vec<Vec<u8>> {
    let mut behind = Behind::open(database).await;
    let rows = behind
        .connection()
        .all("SELECT body FROM bundle ORDER BY number", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.bytes(0).unwrap().to_vec()).collect()
}

//! Each side countersigns the other's log (I9), and nothing is provided on a log that is not countersigned, or is not what the other
//! side has countersigned. Whatever is forbidden meanwhile is recorded all the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

mod closed;
mod countersigned;
mod differs;
mod hostile;
mod line;
mod unwitnessed;

use std::{path::Path, time::Duration};

use common::{alarm::Alarm, server::Server, terms::RequestKind};
use devkit::{
    client::{Frontend, Session, Term},
    deployment::Deployment,
    registers::Scenario,
    story::Cast,
};
use integration_tests::{stores::Behind, until};

const KIND: RequestKind = RequestKind::CertificateRequest;

/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(40);

/// Lets a log be without a countersignature as shortly as a policy can.
fn impatient(deployment: &Deployment) {
    for side in [deployment.provider(), deployment.gateway()] {
        let path = side.join("policy/provision-policy.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let shorter = text.replace("max_unwitnessed_age_ms = 60000", "max_unwitnessed_age_ms = 2000");
        assert_ne!(shorter, text);
        std::fs::write(path, shorter).unwrap();
    }
}

/// Whether an alarm stands.
fn stands(server: &Server, alarm: Alarm) -> bool {
    server
        .alarms()
        .standing()
        .iter()
        .any(|(standing, _)| *standing == alarm)
}

/// A session with a consent that lasts, and the consent's id.
async fn session(cast: &Cast) -> (Session, String) {
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    let term = Term::For(Duration::from_secs(600));
    let consent = cast.frontend.consent(&session, &text, term).await.unwrap();
    (session, consent)
}

/// Asks: how it ended, as a name.
async fn ask(frontend: &Frontend, session: &Session) -> String {
    match frontend.copy_info(session, KIND, "").await {
        Ok(_) => "PROVIDED".to_owned(),
        Err(error) => error.reason().unwrap_or("no answer").to_owned(),
    }
}

/// Size of a log, and the size that it is countersigned at, by its own database.
async fn sizes(database: &Path, log: &str) -> (i64, i64) {
    let mut behind = Behind::open(database).await;
    let row = behind
        .connection()
        .one(
            "SELECT log_head.size, COALESCE(witnessed_size, 0) FROM log_head \
             LEFT JOIN log_checkpoint ON log_checkpoint.log = log_head.log WHERE log_head.log = {log}",
            &[("log", log.into())],
        )
        .await
        .unwrap();
    (row.int(0).unwrap(), row.int(1).unwrap())
}

/// Waits until all that is in a log is countersigned.
async fn until_countersigned(database: &Path, log: &str) {
    until("the log is countersigned", async || {
        let (size, witnessed) = sizes(database, log).await;
        size > 0 && size == witnessed
    })
    .await;
}

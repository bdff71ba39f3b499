//! The happy path, looked at from outside.

use common::evidence::{Checkpoint, Frontier, LogKeys, is_countersigned};
use integration_tests::{Pair, log, stores::Behind};

use super::{ask, session, until_countersigned};

#[tokio::test(flavor = "multi_thread")]
async fn both_logs_are_countersigned_within_seconds() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let (session, _) = session(&cast).await;
    assert_eq!(ask(&cast.frontend, &session).await, "PROVIDED");
    let deployment = &pair.deployment;
    let keys = LogKeys::load(&deployment.log_keys()).unwrap();
    let (provider, gateway) = (deployment.provider_instance(), deployment.gateway_instance());
    for (database, log, origin, witness) in [
        (
            deployment.provider_database(),
            &provider,
            format!("koseki.example/koseki-provider/{provider}"),
            "koseki.example/portal-gateway",
        ),
        (
            deployment.gateway_database(),
            &gateway,
            format!("koseki.example/portal-gateway/{gateway}"),
            "koseki.example/koseki-provider",
        ),
    ] {
        until_countersigned(&database, log).await;
        let mut behind = Behind::open(&database).await;
        let row = behind
            .connection()
            .one(
                "SELECT witnessed_note FROM log_checkpoint WHERE log = {log}",
                &[("log", log.as_str().into())],
            )
            .await
            .unwrap();
        let note = row.text(0).unwrap();
        let checkpoint = Checkpoint::open(note, &keys).unwrap();
        assert_eq!(checkpoint.origin, origin);
        assert!(is_countersigned(note, witness, &keys), "{note}");
        // The root is that of the entries as they stand there.
        let mut tree = Frontier::default();
        for bundle in &log::logs(&database).await[log.as_str()] {
            for entry in &bundle.entries {
                if tree.size() < checkpoint.size {
                    tree.append(&log::leaf(&entry.stored), &mut Vec::new());
                }
            }
        }
        assert_eq!((tree.size(), tree.root()), (checkpoint.size, checkpoint.root));
        // Nothing of another side or another text counts.
        assert!(!is_countersigned(note, &origin, &keys));
        let other = note.replacen(
            &format!("\n{}\n", checkpoint.size),
            &format!("\n{}\n", checkpoint.size + 1),
            1,
        );
        assert!(Checkpoint::open(&other, &keys).is_err());
        assert!(!is_countersigned(&other, witness, &keys));
    }
}

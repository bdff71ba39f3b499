//! `kosekictl audit` on logs that real services wrote, exported over their RPC by an auditor.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

#[path = "../kosekictl/desk.rs"]
#[allow(dead_code, reason = "another target uses the rest of it")]
mod desk;

mod archive;
mod auditor;
mod closing;
mod tampering;

use std::path::PathBuf;

use auditor::story;
use desk::Desk;
use devkit::deployment::{FRONTEND, PROVIDER_INSTANCE};
use integration_tests::log;

#[tokio::test]
async fn exported_logs_of_both_sides_verify_and_reading_them_is_an_entry() {
    let desk = Desk::open().await;
    let files = desk.export_both().await;
    let verified = files.run(&desk, &["verify", "--output", "json"]).await;
    let json = verified.exits(0).json();
    assert_eq!(json["verdict"], "CLEAN", "{json:#}");
    assert_eq!(json["logs"].as_array().unwrap().len(), 2);
    // The same input gives the same bytes.
    let again = files.run(&desk, &["verify", "--output", "json"]).await;
    assert_eq!(verified.out, again.out);
    for database in [
        desk.pair.deployment.provider_database(),
        desk.pair.deployment.gateway_database(),
    ] {
        let bundles = log::bundles(&database).await;
        let read = bundles
            .iter()
            .flat_map(|bundle| &bundle.entries)
            .find_map(|entry| match &entry.event {
                Some(log::Event::OrdinaryAct(act)) if act.act == "READ_AUDIT_LOG" => Some(act.detail.clone()),
                _ => None,
            });
        let read = read.expect("the reading is an entry");
        assert_eq!(read.actor, "auditor/carol");
        assert!(read.reference.contains(" 0.."), "{}", read.reference);
    }
}

#[tokio::test]
async fn a_log_is_read_by_auditors_only_and_no_file_is_written_for_anybody_else() {
    let desk = Desk::open().await;
    let out = desk.path("operator.log");
    let arguments = [
        "audit",
        "export",
        "--side",
        "registry",
        "--log",
        PROVIDER_INSTANCE,
    ];
    let arguments = [&arguments[..], &["--out", out.to_str().unwrap()]].concat();
    desk.run("alice", &arguments)
        .await
        .exits(1)
        .says(&["PERMISSION_DENIED"]);
    let partial = PathBuf::from(format!("{}.partial", out.display()));
    assert!(!out.exists() && !partial.exists());
    let unknown = [
        "audit",
        "export",
        "--side",
        "registry",
        "--log",
        "provider-9",
        "--out",
    ];
    let ended = desk
        .run_auditor(&[&unknown[..], &[out.to_str().unwrap()]].concat())
        .await;
    ended.exits(1).says(&["UNKNOWN_REFERENCE"]);
    // A file that is there is left alone.
    desk.write("there.log", "something");
    let there = desk.path("there.log");
    let arguments = [
        "audit",
        "export",
        "--side",
        "registry",
        "--log",
        PROVIDER_INSTANCE,
    ];
    let arguments = [&arguments[..], &["--out", there.to_str().unwrap()]].concat();
    desk.run_auditor(&arguments).await.exits(2);
    assert_eq!(std::fs::read_to_string(there).unwrap(), "something");
}

#[tokio::test]
async fn the_logs_reconcile_prove_a_request_and_tell_who_received_what() {
    let desk = Desk::open().await;
    let asked = story(&desk).await;
    let files = desk.export_both().await;
    let json = async |command: &[&str]| {
        let ended = files.run(&desk, &[command, &["--output", "json"]].concat()).await;
        ended.exits(0).json()
    };
    let verified = json(&["verify"]).await;
    // The registry side released it, and the portal side.
    assert_eq!(verified["counts"]["releases"]["checked"], 2, "{verified:#}");

    let reconciled = json(&["reconcile"]).await;
    assert_eq!(reconciled["result"]["differences_total"], 0, "{reconciled:#}");
    assert!(reconciled["result"]["twins"].as_u64().unwrap() >= 2);

    let proved = json(&["prove", "--request-id", &asked.released]).await;
    let entries = proved["result"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(
        entries[0]["entry"]["answer_sha256"],
        entries[1]["entry"]["answer_sha256"]
    );
    assert!(entries.iter().all(|entry| entry["proof"].is_object()));
    let of_portal = &entries[1]["entry"];
    assert_eq!(of_portal["peer"], format!("portal-frontend/{FRONTEND}"));

    // Whatever is known leads to the one release.
    let code = entries[0]["entry"]["municipality_codes"][0].as_str().unwrap();
    let [card, session, account] =
        ["card", "session", "subject"].map(|name| of_portal[name].as_str().unwrap());
    for known in [
        ["--card", card],
        ["--session", session],
        ["--subject", account],
        ["--frontend", FRONTEND],
        ["--municipality", code],
        ["--request-id", &asked.released],
        ["--from", "2020-01-01T00:00:00Z"],
    ] {
        let found = json(&[&["who-received"], &known[..]].concat()).await;
        let releases = found["result"]["releases"].as_array().unwrap();
        assert_eq!(releases.len(), 1, "{known:?}: {found:#}");
        assert_eq!(releases[0]["request_id"], asked.released.as_str());
        assert_eq!(
            releases[0]["portal"][0]["entry"]["consent_id"],
            of_portal["consent_id"]
        );
    }
    for known in [
        ["--request-id", &asked.suppressed],
        ["--request-id", &asked.withdrawn],
        ["--frontend", "other"],
        ["--until", "2020-01-01T00:00:00Z"],
    ] {
        let found = json(&[&["who-received"], &known[..]].concat()).await;
        assert_eq!(found["result"]["releases_total"], 0, "{known:?}: {found:#}");
    }
    let japanese = files.run(&desk, &["who-received", "--language", "ja"]).await;
    japanese
        .exits(0)
        .says(&["判定: 問題なし", "提供 1 件", &asked.released]);
}

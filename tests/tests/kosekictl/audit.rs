//! `kosekictl audit` on logs that real services wrote, exported over their RPC by an auditor.

use std::path::PathBuf;

use common::identity::Role;
use devkit::deployment::{GATEWAY_INSTANCE, PROVIDER_INSTANCE};
use integration_tests::log;
use serde_json::Value;

use crate::desk::{Desk, Ended};

/// The auditor's files.
struct Files {
    provider: String,
    gateway: String,
    keys: String,
}

impl Desk {
    async fn run_auditor(&self, arguments: &[&str]) -> Ended {
        let profile = self.profile_with(Role::Auditor, "carol", |_| {});
        self.run_with(&profile, arguments).await
    }

    fn log_keys(&self) -> String {
        let folder = self.pair.deployment.clients(Role::Auditor);
        folder.join("log-keys.txt").to_str().unwrap().to_owned()
    }

    /// Exports a log, once its other side has countersigned something of it.
    async fn export(&self, side: &str, log: &str, name: &str) -> String {
        let out = self.path(name).to_str().unwrap().to_owned();
        let arguments = ["audit", "export", "--side", side, "--log", log, "--out", &out];
        self.run_auditor(&arguments).await.exits(0);
        out
    }

    async fn export_both(&self) -> Files {
        self.until_countersigned().await;
        Files {
            provider: self.export("registry", PROVIDER_INSTANCE, "provider.log").await,
            gateway: self.export("portal", GATEWAY_INSTANCE, "gateway.log").await,
            keys: self.log_keys(),
        }
    }

    /// Waits until everything that is in both logs now is countersigned.
    async fn until_countersigned(&self) {
        let sizes = self.sizes("size").await;
        let covered = async {
            loop {
                let countersigned = self.sizes("countersigned").await;
                if countersigned.iter().zip(&sizes).all(|(has, wants)| has >= wants) {
                    break;
                }
            }
        };
        tokio::time::timeout(integration_tests::raw::PATIENCE * 4, covered)
            .await
            .expect("the logs are not countersigned");
    }

    async fn sizes(&self, of: &str) -> Vec<u64> {
        let mut sizes = Vec::new();
        for side in ["registry", "portal"] {
            let listed = self
                .run_auditor(&["audit", "logs", "--side", side, "--output", "json"])
                .await;
            let log = &listed.exits(0).json()["logs"][0];
            let noted = |note: &Value| note.as_str().and_then(|note| note.lines().nth(1)?.parse().ok());
            sizes.push(match of {
                "size" => log["size"].as_u64().unwrap(),
                _ => noted(&log[of]).unwrap_or(0),
            });
        }
        sizes
    }
}

impl Files {
    async fn run(&self, desk: &Desk, command: &[&str]) -> Ended {
        let files = [self.provider.as_str(), &self.gateway, "--keys", &self.keys];
        desk.run_bare(&[&["audit"], command, &files].concat()).await
    }
}

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

//! Instances end and others follow: docs/runbooks/log-differs.md, step by step, and what auditors find of it.

use std::sync::OnceLock;

use common::identity::Role;
use devkit::deployment::{Addresses, Deployment, GATEWAY_INSTANCE, PROVIDER_INSTANCE};
use integration_tests::{Setting, stores::Behind, until};
use serde_json::json;

use crate::{auditor::story, desk::Desk};

/// The instances that follow; their keys are in the lists when the first ones start.
static SUCCESSORS: OnceLock<Deployment> = OnceLock::new();

fn with_successors(deployment: &Deployment) {
    let added = deployment.add_instance(2, &Addresses::loopback()).unwrap();
    assert!(SUCCESSORS.set(added).is_ok());
}

/// The profile of a caller of the successors.
fn profile(desk: &Desk, role: Role, name: &str) -> String {
    let successors = SUCCESSORS.get().unwrap();
    desk.profile_with(role, name, |table| {
        table["registry_admin"]["instance"] = successors.provider_instance().into();
        table["portal_admin"]["instance"] = successors.gateway_instance().into();
    })
}

async fn until_all_is_countersigned(desk: &Desk) {
    let deployment = &desk.pair.deployment;
    for database in [deployment.provider_database(), deployment.gateway_database()] {
        until("everything is countersigned", async || {
            let mut behind = Behind::open(&database).await;
            let row = behind
                .connection()
                .one(
                    "SELECT count(*) FROM log_head LEFT JOIN log_checkpoint ON log_checkpoint.log = log_head.log \
                     WHERE log_head.size <> COALESCE(log_checkpoint.witnessed_size, 0)",
                    &[],
                )
                .await
                .unwrap();
            row.int(0).unwrap() == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_were_closed_and_those_that_follow_verify_and_reconcile() {
    let mut desk = Desk::open_set(&Setting {
        change: with_successors,
        ..Setting::default()
    })
    .await;
    let _ = story(&desk).await;

    // Nobody is asked twice whether it is meant, and not without a terminal.
    let mut acts = Vec::new();
    for side in ["portal", "registry"] {
        let close = ["log", "close", "--side", side, "--reason", "the machine ends"];
        desk.run("alice", &close).await.exits(2).says(&["--yes"]);
        let dry = [&close[..], &["--dry-run", "--output", "json"]].concat();
        let told = desk.run("alice", &dry).await;
        assert_eq!(told.exits(0).json()["message"]["reason"], "the machine ends");
        let done = [&close[..], &["--yes", "--output", "json"]].concat();
        let done = desk.run("alice", &done).await.exits(0).json();
        assert_eq!(done["in_force"], true);
        let act_id = done["act_id"].as_str().unwrap().to_owned();
        let repeat = [&close[..], &["--yes", "--act-id", &act_id]].concat();
        desk.run("alice", &repeat)
            .await
            .exits(0)
            .says(&["at another instance of the side"]);
        desk.run("alice", &[&close[..], &["--yes"]].concat())
            .await
            .exits(1)
            .says(&["NOT_APPLICABLE"]);
        acts.push((side, act_id));
    }
    until("operators are told", async || {
        let told = desk.run("alice", &["status"]).await;
        told.code == Some(1) && told.out.matches("! alarm LOG_CLOSED").count() == 2
    })
    .await;
    until_all_is_countersigned(&desk).await;

    desk.pair.deployment = SUCCESSORS.get().unwrap().clone();
    desk.pair = desk.pair.again_now(async |_| {}).await;
    let _ = desk.pair.cast().await;
    let (alice, bob) = (
        profile(&desk, Role::Operator, "alice"),
        profile(&desk, Role::Operator, "bob"),
    );
    for (side, act_id) in &acts {
        desk.run_with(&bob, &["confirm", act_id, "--side", side])
            .await
            .exits(0)
            .says(&["CLOSE_LOG"]);
    }
    let close_peer = async |side: &str, instance: &str| {
        let act = [
            "log",
            "close-peer",
            instance,
            "--side",
            side,
            "--reason",
            "ended",
            "--yes",
        ];
        desk.run_with(&alice, &act).await
    };
    for (side, instance) in [("portal", PROVIDER_INSTANCE), ("registry", GATEWAY_INSTANCE)] {
        close_peer(side, "instance-9")
            .await
            .exits(1)
            .says(&["UNKNOWN_REFERENCE"]);
        close_peer(side, "no/instance").await.exits(1).says(&["INSTANCE"]);
        close_peer(side, instance).await.exits(0).says(&["in force"]);
    }
    until_all_is_countersigned(&desk).await;

    let carol = profile(&desk, Role::Auditor, "carol");
    let mut files = Vec::new();
    let successors = desk.pair.deployment.clone();
    for (side, log) in [
        ("registry", PROVIDER_INSTANCE.to_owned()),
        ("registry", successors.provider_instance()),
        ("portal", GATEWAY_INSTANCE.to_owned()),
        ("portal", successors.gateway_instance()),
    ] {
        let out = desk.path(&format!("{log}.log")).to_str().unwrap().to_owned();
        let export = ["audit", "export", "--side", side, "--log", &log, "--out", &out];
        desk.run_with(&carol, &export).await.exits(0);
        files.push(out);
    }
    let keys = successors.clients(Role::Auditor).join("log-keys.txt");
    for command in ["verify", "reconcile"] {
        let mut words = vec!["audit", command];
        words.extend(files.iter().map(String::as_str));
        words.extend(["--keys", keys.to_str().unwrap(), "--output", "json"]);
        let told = desk.run_bare(&words).await.exits(0).json();
        assert_eq!(told["verdict"], "CLEAN", "{told:#}");
        let logs = told["logs"].as_array().unwrap();
        let closed: Vec<_> = logs.iter().map(|log| &log["closed"]).collect();
        assert_eq!(closed, [&json!(true), &json!(false), &json!(true), &json!(false)]);
    }
}

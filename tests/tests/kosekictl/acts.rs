//! Closing takes one person and is asked about; opening takes two.

use common::identity::Role;
use serde_json::{Value, json};

use crate::desk::Desk;

/// How a side is doing. The exit code is 1 for a finding; an alarm about the data may stand besides.
async fn status(desk: &Desk, side: &str) -> Value {
    let run = desk
        .run("alice", &["status", "--side", side, "--output", "json"])
        .await;
    let told = run.json()["sides"][0].clone();
    let found = !told["findings"].as_array().unwrap().is_empty();
    assert_eq!(run.code, Some(i32::from(found)), "{run:?}");
    told
}

fn is_suspended(told: &Value) -> bool {
    let findings = told["findings"].as_array().unwrap();
    findings
        .iter()
        .any(|finding| finding.as_str().unwrap().contains("suspended since"))
}

/// Suspend, see it, confirm, resume by two: docs/runbooks/suspend-and-resume.md, step by step, on both sides.
#[tokio::test]
async fn one_person_suspends_and_two_resume() {
    let desk = Desk::open().await;
    let _cast = desk.pair.cast().await;
    for (side, kind, name) in [
        ("registry", None, "ALL"),
        ("portal", Some("notification"), "NOTIFICATION"),
    ] {
        let kind: Vec<&str> = kind.into_iter().flat_map(|kind| ["--kind", kind]).collect();
        assert!(!is_suspended(&status(&desk, side).await));

        let mut suspend = vec!["suspend", "--side", side, "--reason", "drill", "--output", "json"];
        suspend.extend(&kind);
        let mut dry = suspend.clone();
        dry.push("--dry-run");
        let before = desk.stored().await;
        let told = desk.run("alice", &dry).await.exits(0).json();
        assert_eq!(
            (&told["dry_run"], &told["message"]["kind"]),
            (&json!(true), &json!(name))
        );
        let asked = desk.run("alice", &suspend).await.exits(2).json();
        assert_eq!(asked["error"]["kind"], "NOT_CONFIRMED");
        assert_eq!(
            desk.stored().await,
            before,
            "a dry run or an act without confirmation was done"
        );

        suspend.push("--yes");
        let done = desk.run("alice", &suspend).await;
        let act_id = done.exits(0).json()["act_id"].as_str().unwrap().to_owned();
        assert!(done.error.contains(&format!("act id: {act_id}")), "{done:?}");
        let told = status(&desk, side).await;
        assert!(is_suspended(&told), "{told}");
        assert_eq!(told["suspensions"][0]["kind"], name);
        assert_eq!(told["unconfirmed_closings"], 1);

        // The same act again changes nothing; the same id for another act is refused.
        let suspended = desk.stored().await;
        suspend.extend(["--act-id", &act_id]);
        assert_eq!(
            desk.run("alice", &suspend).await.exits(0).json()["act_id"],
            *act_id
        );
        let other = [
            "suspend", "--side", side, "--reason", "other", "--yes", "--act-id", &act_id,
        ];
        desk.run("alice", &other)
            .await
            .exits(1)
            .says(&["ACT_ID_USED", "nothing was changed", "next: "]);
        assert_eq!(desk.stored().await, suspended);

        let confirm = ["confirm", &act_id, "--side", side];
        let told = format!("kosekictl {}", confirm.join(" "));
        assert_eq!(done.json()["confirm"], told);
        desk.run("alice", &confirm)
            .await
            .exits(1)
            .says(&["ANOTHER_PERSON_NEEDED", "another operator must do this"]);
        let dry = ["confirm", &act_id, "--side", side, "--dry-run"];
        desk.run("bob", &dry)
            .await
            .exits(0)
            .says(&["SUSPEND_PROVISION by operator/alice"]);
        assert_eq!(status(&desk, side).await["unconfirmed_closings"], 1);
        desk.run("bob", &confirm)
            .await
            .exits(0)
            .says(&["confirmed: SUSPEND_PROVISION"]);
        assert_eq!(status(&desk, side).await["unconfirmed_closings"], 0);

        let mut resume = vec![
            "resume",
            "--side",
            side,
            "--reason",
            "drill over",
            "--output",
            "json",
        ];
        resume.extend(&kind);
        let proposed = desk.run("alice", &resume).await.exits(0).json();
        assert_eq!(
            (&proposed["act"]["act"], &proposed["act"]["kind"]),
            (&json!("RESUME_PROVISION"), &json!(name))
        );
        opened_by_another_only(&desk, side, &proposed).await;
        let told = status(&desk, side).await;
        assert!(!is_suspended(&told) && told["suspensions"] == json!([]), "{told}");
    }
}

/// Alice's proposal: shown and hashed before, refused for the same person, done by another, and harmless to repeat.
async fn opened_by_another_only(desk: &Desk, side: &str, proposed: &Value) {
    let (id, hash) = (
        proposed["proposal_id"].as_str().unwrap(),
        proposed["act_sha256"].as_str().unwrap(),
    );
    let listed = desk
        .run("bob", &["pending", "--side", side, "--output", "json"])
        .await
        .exits(0)
        .json();
    let listed = listed["proposals"]
        .as_array()
        .unwrap()
        .iter()
        .find(|waits| waits["proposal_id"] == id)
        .cloned();
    let listed = listed.expect("it is listed");
    assert_eq!(
        (&listed["act_sha256"], &listed["act"]),
        (&json!(hash), &proposed["act"])
    );
    assert_eq!(listed["proposer"], "operator/alice");
    let before = desk.stored().await;

    let approve = ["approve", id, "--act-sha256", hash, "--side", side];
    desk.run("bob", &approve)
        .await
        .exits(2)
        .says(&["proposed by", "operator/alice", hash, "--yes"]);
    let dry = [&approve[..], &["--dry-run"]].concat();
    desk.run("bob", &dry)
        .await
        .exits(0)
        .says(&["nothing was approved"]);
    let another = "00".repeat(32);
    let wrong = ["approve", id, "--act-sha256", &another, "--side", side, "--yes"];
    desk.run("bob", &wrong)
        .await
        .exits(1)
        .says(&["--act-sha256", "another act", "nothing was approved"]);
    let approve = [&approve[..], &["--yes"]].concat();
    desk.run("alice", &approve)
        .await
        .exits(1)
        .says(&["ANOTHER_PERSON_NEEDED"]);
    assert_eq!(desk.stored().await, before, "something was opened");

    desk.run("bob", &approve)
        .await
        .exits(0)
        .says(&["approved and done", "epoch: "]);
    let opened = desk.stored().await;
    assert_ne!(opened, before);
    desk.run("bob", &approve)
        .await
        .exits(1)
        .says(&["no such proposal waits", "--repeat"]);
    let repeat = [&approve[..], &["--repeat"]].concat();
    desk.run("bob", &repeat).await.exits(0);
    assert_eq!(desk.stored().await, opened);
}

#[tokio::test]
async fn a_record_is_made_by_one_person_and_released_by_two() {
    let desk = Desk::open().await;
    let (authority, document) = ("family court (test)", "R8-77");
    let decision = ["--authority", authority, "--document", document];
    let record = [
        &["non-provision", "record", "--person", "scenario-ordinary-first"],
        &decision[..],
    ]
    .concat();

    let before = desk.stored().await;
    let asked = desk.run("alice", &record).await;
    asked.exits(2).says(&["no terminal", "--yes"]);
    let dry = [&record[..], &["--dry-run", "--output", "json"]].concat();
    let told = desk.run("alice", &dry).await.exits(0).json();
    assert_eq!(told["message"]["person_id"], "scenario-ordinary-first");
    assert_eq!(told["method"], "koseki.admin.v1.KosekiAdmin/RecordNonProvision");
    assert_eq!(desk.stored().await, before);

    let until = "2199-01-01T00:00:00+09:00";
    let now = [&record[..], &["--until", until, "--yes", "--output", "json"]].concat();
    let recorded = desk.run("alice", &now).await.exits(0).json();
    let id = recorded["act_id"].as_str().unwrap();

    let list = ["non-provision", "list", "--person", "scenario-ordinary-first"];
    let listed = desk.run("bob", &list).await;
    listed.exits(0).says(&[
        id,
        "PERSON",
        authority,
        document,
        "operator/alice",
        "2199-01-01 00:00:00 JST",
    ]);
    let json = [&list[..], &["--output", "json"]].concat();
    let listed = desk.run("bob", &json).await.exits(0).json();
    assert_eq!(listed["records"][0]["valid_until"], "2198-12-31T15:00:00Z");

    let shorter = [
        "non-provision",
        "shorten",
        id,
        "--until",
        "2198-01-01T00:00:00Z",
        "--reason",
        "less",
        "--output",
        "json",
    ];
    let proposed = desk.run("alice", &shorter).await.exits(0).json();
    opened_by_another_only(&desk, "registry", &proposed).await;
    let listed = desk.run("bob", &json).await.exits(0).json();
    assert_eq!(listed["records"][0]["valid_until"], "2198-01-01T00:00:00Z");
    assert_eq!(listed["records"][0]["released_at"], Value::Null);

    let release = [
        "non-provision",
        "release",
        id,
        "--reason",
        "withdrawn",
        "--output",
        "json",
    ];
    let proposed = desk.run("alice", &release).await.exits(0).json();
    opened_by_another_only(&desk, "registry", &proposed).await;
    let listed = desk.run("bob", &json).await.exits(0).json();
    assert_ne!(listed["records"][0]["released_at"], Value::Null);
    desk.run("alice", &release)
        .await
        .exits(1)
        .says(&["NOT_APPLICABLE", "next"]);
}

#[tokio::test]
async fn a_municipality_records_for_its_own_registers_only() {
    let desk = Desk::open().await;
    let (code, _, lines) = desk.municipality();
    let copy: Value = serde_json::from_str(&lines[0]).unwrap();
    let number = copy["local_number"].as_str().unwrap();
    let others = desk.pair.deployment.copies().unwrap();
    let other = others
        .iter()
        .map(|(code, _)| code)
        .find(|other| **other != code)
        .unwrap();
    let record = |by: &'static str| {
        ["non-provision", "record-own", "--municipality", by, "--register"]
            .map(str::to_owned)
            .to_vec()
    };
    let mut words = record("CODE");
    words[3] = code.clone();
    words.extend([number, "--authority", "mayor", "--document", "1", "--yes"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let before = desk.stored().await;
    let refused = desk.run_officer(other, &words).await;
    refused.exits(1).says(&["NOT_OWN_REGISTER", "policy"]);
    assert_eq!(desk.stored().await, before);
    desk.run_officer(&code, &words)
        .await
        .exits(0)
        .says(&["done and in force"]);
    let list = [
        "non-provision",
        "list",
        "--municipality",
        &code,
        "--register",
        number,
    ];
    desk.run("alice", &list)
        .await
        .exits(0)
        .says(&["REGISTER", &format!("municipality/{code}/desk-1")]);
}

#[tokio::test]
async fn one_person_blocks_a_card_and_two_lift_the_block() {
    let desk = Desk::open().await;
    let scenarios = desk.pair.deployment.scenarios().unwrap();
    let key = &scenarios
        .iter()
        .find(|person| person.name == "ordinary")
        .unwrap()
        .card_key_sha256;
    let set = ["block", "set", "--card-key", key, "--reason", "lost card"];
    let before = desk.stored().await;
    desk.run("alice", &set)
        .await
        .exits(2)
        .says(&["block the card", "--yes"]);
    let dry = [&set[..], &["--dry-run"]].concat();
    desk.run("alice", &dry)
        .await
        .exits(0)
        .says(&["nothing was sent", "PortalAdmin/SetBlock", key]);
    assert_eq!(desk.stored().await, before);
    let set = [&set[..], &["--yes"]].concat();
    desk.run("alice", &set)
        .await
        .exits(0)
        .says(&["done and in force"]);
    let lift = [
        "block",
        "lift",
        "--card-key",
        key,
        "--reason",
        "found",
        "--output",
        "json",
    ];
    let proposed = desk.run("alice", &lift).await.exits(0).json();
    opened_by_another_only(&desk, "portal", &proposed).await;
    desk.run("alice", &lift).await.exits(1).says(&["NOT_APPLICABLE"]);
}

#[tokio::test]
async fn who_may_only_read_is_told_before_anything_is_sent() {
    let desk = Desk::open().await;
    let before = desk.stored().await;
    let auditor = desk.profile_with(Role::Auditor, "carol", |_| {});
    desk.run_with(&auditor, &["status", "--side", "portal"])
        .await
        .exits(0);
    let act = ["suspend", "--side", "registry", "--reason", "x", "--yes"];
    desk.run_with(&auditor, &act)
        .await
        .exits(1)
        .says(&["PERMISSION_DENIED", "auditors may only read"]);
    let (code, _, _) = desk.municipality();
    desk.run_officer(&code, &act)
        .await
        .exits(1)
        .says(&["PERMISSION_DENIED", "nothing was sent"]);
    assert_eq!(desk.stored().await, before);
}

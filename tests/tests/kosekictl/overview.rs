//! What operators look at: status, municipalities, policies; and the help and the documents that name the commands.

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use common::{clock::Clock as _, identity::Role};
use devkit::client::Access;
use integration_tests::raw::PATIENCE;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::desk::{Desk, program, run};

#[tokio::test]
async fn status_is_one_screen_of_both_sides() {
    let desk = Desk::open().await;
    let _cast = desk.pair.cast().await;
    // The data set has a person in two current registers, which raises an alarm on the registry side.
    let alarm = "alarm SECOND_CURRENT_REGISTER (persons)";
    until_found(&desk, &["status"], alarm).await;
    let screen = desk.run("alice", &["status"]).await;
    screen.exits(1).says(&[
        &format!("! {alarm}"),
        "registry side: provider-1, version",
        "portal side: gateway-1, version",
        "providing",
        "days left, until",
        "JST)",
        "epoch",
        "entries in",
        "oldest copy",
        "alarms            SECOND_CURRENT_REGISTER (persons)",
        "alarms            none",
        "0 proposals, 0 closings without confirmation",
        "registry side     provider-1: providing, seen",
        "revocation lists",
        "ms old, sequence ",
    ]);
    assert!(screen.out.lines().count() < 40, "one screen: {}", screen.out);

    let told = desk
        .run("alice", &["status", "--output", "json"])
        .await
        .exits(1)
        .json();
    let [registry, portal] = &told["sides"].as_array().unwrap()[..] else {
        panic!("{told}")
    };
    let operators = desk.pair.offices();
    let own = operators.registry[0].status().await.unwrap();
    let side = own.side.unwrap();
    assert_eq!(
        (&registry["side"], &registry["instance"]),
        (&json!("registry"), &json!("provider-1"))
    );
    assert_eq!(
        (&registry["ready"], &registry["findings"]),
        (&json!(true), &json!([alarm]))
    );
    assert_eq!(portal["findings"], json!([]));
    assert_eq!(registry["log"]["size"], json!(side.log.unwrap().size));
    assert_eq!(registry["database"]["epoch"], json!(side.database.unwrap().epoch));
    let hash = data_encoding::HEXLOWER.encode(&side.policy.unwrap().sha256);
    assert_eq!(
        (&registry["policy"]["sha256"], &portal["policy"]["sha256"]),
        (&json!(hash), &json!(hash))
    );
    assert!(registry["certificates"][0]["days_left"].as_i64().unwrap() > 0);
    assert_eq!(registry["gateways"][0]["name"], "gateway-1");
    assert_eq!(registry["gateways"][0]["policy_sha256"], json!(hash));
    let seen = &portal["providers"][0];
    assert_eq!(
        (&seen["instance"], &seen["provider_log"]),
        (&json!("provider-1"), &json!("provider-1"))
    );
    assert_eq!(
        (&seen["providing"], &seen["left_alone"]),
        (&json!(true), &json!(false))
    );
    for side in [registry, portal] {
        let list = &side["revocation_lists"][0];
        assert_eq!((&list["overdue"], &list["fresh"]), (&json!(false), &json!(true)));
        assert_eq!(list["revoked"], json!(1));
        assert!(list["number"].as_str().unwrap().starts_with("0x"));
    }

    // One side that is not reached does not hide the other.
    let profile = desk.profile_with(Role::Operator, "alice", |table| {
        table["registry_admin"]["address"] = "127.0.0.1:1".into();
    });
    let half = desk.run_with(&profile, &["status"]).await;
    half.exits(2).says(&["portal side: gateway-1", "no answer"]);
    let half = desk
        .run_with(&profile, &["status", "--output", "json"])
        .await
        .exits(2)
        .json();
    assert_eq!(
        (&half["error"]["kind"], &half["done"]["sides"][0]["side"]),
        (&json!("CONNECTION"), &json!("portal"))
    );
    let side = desk.run_with(&profile, &["status", "--side", "portal"]).await;
    assert!(!side.exits(0).out.contains("registry side: "), "{side:?}");
}

#[tokio::test]
async fn municipalities_are_counted() {
    let desk = Desk::open().await;
    let told = desk
        .run("alice", &["municipalities", "--output", "json"])
        .await
        .exits(0)
        .json();
    let rows = told["municipalities"].as_array().unwrap();
    let counted: BTreeMap<&str, u64> = rows
        .iter()
        .map(|row| {
            (
                row["municipality_code"].as_str().unwrap(),
                row["copies"].as_u64().unwrap(),
            )
        })
        .collect();
    let files = desk.pair.deployment.copies().unwrap();
    let sent: BTreeMap<&str, u64> = files
        .iter()
        .map(|(code, path)| {
            (
                code.as_str(),
                fs::read_to_string(path).unwrap().lines().count() as u64,
            )
        })
        .collect();
    assert_eq!(counted, sent);
    assert_eq!(told["copies"], json!(sent.values().sum::<u64>()));
    let (code, count) = sent.iter().next_back().unwrap();
    let table = desk.run("alice", &["municipalities"]).await;
    table.exits(0).says(&[
        &format!("{code}  {count}"),
        "newest is",
        "JST)",
        &format!("{} municipalities", sent.len()),
    ]);
}

#[tokio::test]
async fn policies_are_compared_on_both_sides() {
    let desk = Desk::open().await;
    let _cast = desk.pair.cast().await;
    let same = desk
        .run("alice", &["policy", "compare", "--output", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&same["same"], &same["in_force_same"]),
        (&json!(true), &json!(true))
    );
    assert!(same["policies"].as_array().unwrap().len() >= 2, "{same}");

    // Whoever operates one side only compares it with what it has seen of the other.
    let alone = desk.profile_with(Role::Operator, "alice", |table| {
        table.remove("portal_admin");
    });
    let alone = desk
        .run_with(&alone, &["policy", "compare", "--output", "json"])
        .await;
    let alone = alone.exits(0).json();
    let holders = alone["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| &policy["holder"]);
    assert_eq!(holders.collect::<Vec<_>>(), ["provider-1", "gateway-1"]);

    // A next policy on one side only, in half an hour.
    let side = desk.pair.deployment.provider();
    let folder = side.join("next-policy");
    fs::create_dir_all(folder.join("consent")).unwrap();
    for entry in fs::read_dir(side.join("policy/consent")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join("consent").join(entry.file_name())).unwrap();
    }
    let in_force = fs::read_to_string(side.join("policy/provision-policy.toml")).unwrap();
    let moment = desk.pair.clock.now().after(Duration::from_secs(1_800));
    let next = in_force.replacen("2024-03-01T00:00:00+09:00", &moment.to_rfc3339(), 1);
    fs::write(folder.join("new"), next).unwrap();
    fs::rename(folder.join("new"), folder.join("provision-policy.toml")).unwrap();
    let differs = until_found(&desk, &["policy", "compare"], "NEXT policies differ").await;
    assert_eq!(
        (&differs["in_force_same"], &differs["next_same"]),
        (&json!(true), &json!(false))
    );
    let table = desk.run("alice", &["policy", "compare"]).await;
    table
        .exits(1)
        .says(&["NEXT policies differ", "provider-1", "gateway-1", "none"]);
    let alarm = "alarm NEXT_POLICY_MISSING_AT_PEER (gateway-1)";
    until_found(&desk, &["status", "--side", "registry"], alarm).await;
}

/// Runs a command until its exit code is 1 and its document has this in it.
async fn until_found(desk: &Desk, command: &[&str], finding: &str) -> Value {
    let command = [command, &["--output", "json"]].concat();
    let found = async {
        loop {
            let run = desk.run("alice", &command).await;
            if run.code == Some(1) && run.out.contains(finding) {
                return run.json();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.expect("it is found")
}

#[tokio::test]
async fn the_profile_may_be_named_by_the_environment() {
    let desk = Desk::open().await;
    let profile = desk.profile_with(Role::Operator, "alice", |_| {});
    let mut named = Command::new(program());
    named
        .args(["status", "--side", "portal"])
        .env("KOSEKICTL_CONFIG", &profile);
    let named = named
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert_eq!(named.status.code(), Some(0), "{named:?}");
    assert!(
        String::from_utf8(named.stdout)
            .unwrap()
            .contains("portal side: gateway-1")
    );
}

/// Every command that the documents show is one, and has the flags that they give it.
#[tokio::test]
async fn the_documents_show_commands_that_are_there() {
    let documents = [
        include_str!("../../../docs/kosekictl.md"),
        include_str!("../../../docs/runbooks/suspend-and-resume.md"),
        include_str!("../../../docs/runbooks/log-differs.md"),
        include_str!("../../../docs/runbooks/load-copies.md"),
        include_str!("../../../docs/runbooks/rebuild-own-records.md"),
        include_str!("../../../docs/runbooks/revocation-lists.md"),
        include_str!("../../../docs/consent-receipt.md"),
        include_str!("../../../docs/runbooks/audit.md"),
        include_str!("../../../docs/audit-report.md"),
    ];
    let mut shown = std::collections::BTreeSet::new();
    for document in documents {
        for line in document
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with("kosekictl "))
        {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            let group = [
                "persons",
                "linkages",
                "linkage",
                "non-provision",
                "block",
                "log",
                "policy",
                "receipt",
                "audit",
            ]
            .contains(&words[0]);
            let command = &words[..if group { 2 } else { 1 }];
            let help = run(&[command, &["--help"]].concat()).await;
            help.exits(0);
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.out.contains(flag), "{line}: {flag} is not in\n{}", help.out);
            }
            shown.insert(command.join(" "));
        }
    }
    let all = [
        "approve",
        "audit archive",
        "audit export",
        "audit logs",
        "audit prove",
        "audit reconcile",
        "audit verify",
        "audit who-received",
        "block lift",
        "block set",
        "confirm",
        "ingest",
        "linkage reactivate",
        "linkages load",
        "log close",
        "log close-peer",
        "municipalities",
        "non-provision list",
        "non-provision record",
        "non-provision record-own",
        "non-provision release",
        "non-provision shorten",
        "pending",
        "persons load",
        "policy compare",
        "receipt verify",
        "resume",
        "status",
        "suspend",
    ];
    assert_eq!(shown.iter().map(String::as_str).collect::<Vec<_>>(), all);
    let help = run(&["--help"]).await;
    help.exits(0).says(&["Exit codes:", "its outcome is not known"]);
    for command in all {
        assert!(help.out.contains(command.split(' ').next().unwrap()), "{command}");
    }
}

/// The connection is made to whom the profile names, as the callers of the other tests make it.
#[tokio::test]
async fn what_the_operators_client_sees_is_what_is_printed() {
    let desk = Desk::open().await;
    let access: Access = desk.pair.access();
    let operator =
        devkit::client::PortalOperator::new(&access, "bob", &desk.pair.reach().portal_admin).unwrap();
    let proposed = desk
        .run(
            "alice",
            &[
                "suspend", "--side", "portal", "--reason", "look", "--yes", "--output", "json",
            ],
        )
        .await
        .exits(0)
        .json();
    let pending = operator.pending().await.unwrap();
    let closing = pending
        .closings
        .iter()
        .find(|closing| proposed["act_id"] == closing.act_id.as_str());
    let closing = closing.expect("the closing waits");
    let listed = desk
        .run("bob", &["pending", "--output", "json"])
        .await
        .exits(0)
        .json();
    let listed: Vec<&Value> = listed["closings"].as_array().unwrap().iter().collect();
    let listed = listed
        .iter()
        .find(|listed| listed["act_id"] == closing.act_id.as_str())
        .unwrap();
    assert_eq!(
        (&listed["actor"], &listed["side"]),
        (&json!("operator/alice"), &json!("portal"))
    );
    assert_eq!(listed["overdue"], false);
    desk.run("bob", &["pending"]).await.exits(0).says(&[
        "SUSPEND_PROVISION",
        "operator/alice",
        "no proposals wait",
    ]);
}

//! Files of copies, persons and linkages: sent, checked, judged.

use std::fs;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::desk::Desk;

/// Stands in bad lines and must be in no output.
const PLANTED: &str = "PLANTED-埋込値";

/// Good lines with bad ones among them: the second, the third and the last.
fn spoilt(lines: &[String], code: &str) -> String {
    let mut lines = lines.to_vec();
    let wrong = if code.ends_with('0') { '1' } else { '0' };
    lines[1] = lines[1].replacen(code, &format!("{}{wrong}", &code[..5]), 1);
    lines[2] = lines[2].replacen('{', &format!(r#"{{"{PLANTED}":1,"#), 1);
    lines.push("x".repeat(65_537));
    lines.join("\n") + "\n"
}

fn results(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_file_is_ingested_and_each_line_has_its_result() {
    let desk = Desk::open().await;
    let (code, file, lines) = desk.municipality();
    let before = desk.stored().await;
    let file = file.to_str().unwrap();

    let whole = desk
        .run_officer(&code, &["ingest", file, "--output", "json"])
        .await;
    whole.exits(0);
    assert_eq!(whole.error, "", "no progress without a terminal");
    let told = whole.json();
    assert_eq!(
        (&told["lines"], &told["unchanged"]),
        (&json!(lines.len()), &json!(lines.len()))
    );
    assert_eq!((&told["refused"], &told["refusals"]), (&json!(0), &json!([])));

    let bad = desk.write("bad.jsonl", spoilt(&lines, &code));
    let kept = desk.path("results.jsonl");
    let sent = desk
        .run_officer(&code, &["ingest", &bad, "--results", kept.to_str().unwrap()])
        .await;
    sent.exits(1).says(&[
        &format!("{bad}:2: CHECK_DIGIT: municipality_code: the sixth digit is the check digit"),
        &format!("{bad}:3: NOT_THE_FORMAT"),
        &format!(
            "{bad}:{}: TOO_LONG: the whole line: at most 65,536 bytes",
            lines.len() + 1
        ),
        &format!("{} unchanged, 0 older, 3 refused", lines.len() - 2),
    ]);
    let told = fs::read_to_string(&kept).unwrap();
    desk.keeps_quiet(&told);
    for text in [&told, &sent.out, &sent.error] {
        assert!(!text.contains("PLANTED") && !text.contains("埋込"), "{text}");
    }
    let told = results(&told);
    let numbers: Vec<_> = told.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=lines.len() as u64 + 1).collect::<Vec<_>>());
    assert_eq!(told[0], json!({"line": 1, "outcome": "UNCHANGED"}));
    assert_eq!(
        (&told[1]["outcome"], &told[1]["reason"], &told[1]["field"]),
        (
            &json!("REFUSED"),
            &json!("CHECK_DIGIT"),
            &json!("municipality_code")
        )
    );
    assert_eq!(told.last().unwrap()["reason"], "TOO_LONG");
    assert_eq!(desk.stored().await, before, "bad lines changed something");

    let again = desk
        .run_officer(&code, &["ingest", &bad, "--results", kept.to_str().unwrap()])
        .await;
    again
        .exits(2)
        .says(&["--results", "a file that does not exist yet", "--resume"]);
    assert_eq!(
        results(&fs::read_to_string(&kept).unwrap()),
        told,
        "it was overwritten"
    );
}

#[tokio::test]
async fn a_file_is_checked_without_a_server_by_the_servers_rules() {
    let desk = Desk::open().await;
    let (code, file, lines) = desk.municipality();
    // No profile at all.
    let good = desk
        .run_bare(&["ingest", "--check", file.to_str().unwrap()])
        .await;
    good.exits(0)
        .says(&[&format!("{0} lines, {0} valid, 0 refused", lines.len())]);

    let bad = desk.write("bad.jsonl", spoilt(&lines, &code));
    let checked = desk
        .run_bare(&["ingest", "--check", &bad, "--output", "json"])
        .await;
    checked.exits(1);
    assert!(!checked.out.contains("PLANTED") && !checked.out.contains("埋込"));
    let online = desk
        .run_officer(&code, &["ingest", &bad, "--output", "json"])
        .await;
    online.exits(1);
    let (checked, online) = (checked.json(), online.json());
    assert_eq!(checked["refused"], 3);
    assert_eq!(checked["refusals"], online["refusals"], "the verdicts differ");

    for (group, file) in [
        ("persons", desk.pair.deployment.persons()),
        ("linkages", desk.pair.deployment.linkages()),
    ] {
        let file = file.to_str().unwrap();
        desk.run_bare(&[group, "load", "--check", file]).await.exits(0);
        // The other side's format: a portal side's line names no person.
        let lines = fs::read_to_string(file)
            .unwrap()
            .replace("\"linkage\"", "\"PLANTED\"");
        let bad = desk.write(&format!("{group}.jsonl"), lines);
        let bad = desk
            .run_bare(&[group, "load", "--check", &bad, "--output", "json"])
            .await;
        assert_eq!(bad.exits(1).json()["refusals"][0]["reason"], "NOT_THE_FORMAT");
        assert!(!bad.out.contains("PLANTED"), "{}", bad.out);
    }
}

fn linkage(number: u8, person: Option<&str>, state: &str) -> String {
    let mut line = json!({
        "type": "linkage",
        "linkage_code": BASE64URL_NOPAD.encode(&[number; 32]),
        "card_key_sha256": format!("{number:02x}").repeat(32),
        "state": state,
    });
    if let Some(person) = person {
        line["person_id"] = person.into();
    }
    line.to_string() + "\n"
}

#[tokio::test]
async fn a_dry_run_tells_what_a_load_would_do_and_changes_nothing() {
    let desk = Desk::open().await;
    let before = desk.stored().await;
    let person = json!({"type": "person", "person_id": "ctl-1", "members": []}).to_string() + "\n";
    let persons = desk.write(
        "persons.jsonl",
        format!("{person}{}", linkage(201, Some("nobody"), "ACTIVE")),
    );
    let linkages = desk.write("linkages.jsonl", linkage(201, None, "ACTIVE"));
    let run = desk
        .run(
            "alice",
            &["persons", "load", &persons, "--dry-run", "--output", "json"],
        )
        .await;
    let told = run.exits(1).json();
    assert_eq!(
        (&told["stored"], &told["refused"], &told["dry_run"]),
        (&json!(1), &json!(1), &json!(true))
    );
    assert_eq!(told["refusals"][0]["reason"], "UNKNOWN_REFERENCE");
    let run = desk
        .run("alice", &["linkages", "load", &linkages, "--dry-run"])
        .await;
    run.exits(0).says(&["dry run, nothing was stored", "1 stored"]);
    assert_eq!(desk.stored().await, before);

    // What it said it would do, it does; the id that was given is the load's.
    let id = "0190b0b0-0000-7000-8000-000000000001";
    let run = desk
        .run(
            "alice",
            &["linkages", "load", &linkages, "--load-id", id, "--output", "json"],
        )
        .await;
    assert_eq!(
        (&run.exits(0).json()["stored"], &run.json()["load_id"]),
        (&json!(1), &json!(id))
    );
    assert_ne!(desk.stored().await[1]["linkage"], before[1]["linkage"]);
}

#[tokio::test]
async fn a_load_that_closes_linkages_is_asked_about() {
    let desk = Desk::open().await;
    let active = desk.write("active.jsonl", linkage(202, None, "ACTIVE"));
    desk.run("alice", &["linkages", "load", &active]).await.exits(0);
    let before = desk.stored().await;
    let suspended = desk.write("suspended.jsonl", linkage(202, None, "SUSPENDED"));
    let run = desk.run("alice", &["linkages", "load", &suspended]).await;
    run.exits(2)
        .says(&["1 of 1 lines suspend, revoke", "no terminal", "--yes"]);
    assert_eq!(desk.stored().await, before);
    desk.run("alice", &["linkages", "load", &suspended, "--yes"])
        .await
        .exits(0);

    // Two persons open it again.
    let key = format!("{:02x}", 202).repeat(32);
    let proposed = desk
        .run(
            "alice",
            &[
                "linkage",
                "reactivate",
                "--card-key",
                &key,
                "--side",
                "portal",
                "--reason",
                "found",
                "--output",
                "json",
            ],
        )
        .await;
    let proposed = proposed.exits(0).json();
    let (id, hash) = (
        proposed["proposal_id"].as_str().unwrap(),
        proposed["act_sha256"].as_str().unwrap(),
    );
    let approve = ["approve", id, "--act-sha256", hash, "--side", "portal", "--yes"];
    desk.run("bob", &approve)
        .await
        .exits(0)
        .says(&["approved and done", &key]);
    assert_eq!(
        desk.stored().await[1]["linkage"].len(),
        before[1]["linkage"].len()
    );
}

#[tokio::test]
async fn a_dry_run_of_an_ingest_connects_to_nothing() {
    let desk = Desk::open().await;
    let (code, _, lines) = desk.municipality();
    let bad = desk.write("bad.jsonl", spoilt(&lines, &code));
    let before = desk.stored().await;
    let name = format!("{code}/desk-1");
    let profile = desk.profile_with(common::identity::Role::Municipality, &name, |table| {
        // Nobody listens there.
        table["ingest"]["address"] = "127.0.0.1:1".into();
    });
    let run = desk.run_with(&profile, &["ingest", &bad, "--dry-run"]).await;
    run.exits(1).says(&[
        "nothing was sent",
        "koseki-provider/provider-1 at 127.0.0.1:1",
        "3 refused",
    ]);
    assert_eq!(desk.stored().await, before);
}

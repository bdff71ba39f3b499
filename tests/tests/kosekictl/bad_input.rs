//! Bad input of each kind: exit code 2, the flag, key or file and its rule are named, the value is not, and nothing is
//! changed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use common::identity::Role;
use serde_json::Value;

use crate::desk::Desk;

/// Stands in bad values and must be in no error.
const PLANTED: &str = "PLANTED";

#[tokio::test]
async fn a_bad_flag_is_named_with_its_rule() {
    let desk = Desk::open().await;
    let before = desk.stored().await;
    let copies = desk.municipality().1;
    let copies = copies.to_str().unwrap();
    let record = [
        "non-provision",
        "record",
        "--yes",
        "--authority",
        "a",
        "--document",
        "d",
    ];
    let with = |more: &[&'static str]| [&record[..], more].concat();
    let uuid = "a UUID in its 36-character form";
    let digits = "64 lower-case hexadecimal digits";
    let rfc = "RFC 3339";
    let words = "1 to 256 bytes";
    let folder = desk.path("").to_str().unwrap().to_owned();
    let cases: Vec<(Vec<&str>, &str, &str)> = vec![
        (
            vec!["ingest", "/no/such/PLANTED-file"],
            "/no/such/PLANTED-file",
            "No such file",
        ),
        (vec!["persons", "load", &folder], &folder, "a regular file"),
        (
            vec!["ingest", copies, "--from-line", "999999"],
            "--from-line",
            "at most the number of lines",
        ),
        (
            vec!["ingest", copies, "--results", "/no/such/folder/r"],
            "/no/such/folder/r",
            "No such file",
        ),
        (
            vec!["linkages", "load", copies, "--load-id", PLANTED],
            "--load-id",
            uuid,
        ),
        (with(&["--person", "p", "--act-id", PLANTED]), "--act-id", uuid),
        (
            with(&[
                "--person",
                "p",
                "--act-id",
                "0190B0B0-0000-7000-8000-00000000000A",
            ]),
            "--act-id",
            uuid,
        ),
        (
            with(&["--person", "PLANTED ID"]),
            "--person",
            "printable ASCII characters without space",
        ),
        (with(&[]), "--person", "a person, a register, or both"),
        (
            with(&["--person", "p", "--until", "2026-13-01-PLANTED"]),
            "--until",
            rfc,
        ),
        (with(&["--person", "p", "--until", "2199-01-01"]), "--until", rfc),
        (
            with(&["--person", "p", "--from", "tomorrow-PLANTED"]),
            "--from",
            rfc,
        ),
        (
            with(&["--person", "p", "--until", "2001-01-01T00:00:00Z"]),
            "--until",
            "later than now",
        ),
        (
            with(&["--municipality", "131017", "--register", "PLANTED"]),
            "--municipality",
            "check digit",
        ),
        (
            with(&["--municipality", "1310", "--register", "PLANTED"]),
            "--municipality",
            "six digits",
        ),
        (
            with(&["--municipality", "131016", "--register", ""]),
            "--register",
            "1 to 64 bytes",
        ),
        (
            vec![
                "non-provision",
                "record",
                "--person",
                "p",
                "--authority",
                "",
                "--document",
                "d",
                "--yes",
            ],
            "--authority",
            "1 to 256 bytes",
        ),
        (
            vec![
                "non-provision",
                "record",
                "--person",
                "p",
                "--authority",
                "a",
                "--document",
                "PLANTED\n",
            ],
            "--document",
            "1 to 128 bytes",
        ),
        (
            vec!["non-provision", "list"],
            "--person",
            "a person, a register, or both",
        ),
        (
            vec![
                "non-provision",
                "list",
                "--municipality",
                "131017",
                "--register",
                "1",
            ],
            "--municipality",
            "check digit",
        ),
        (
            vec!["non-provision", "release", PLANTED, "--reason", "r"],
            "RECORD",
            uuid,
        ),
        (
            vec![
                "non-provision",
                "shorten",
                PLANTED,
                "--until",
                "2199-01-01T00:00:00Z",
                "--reason",
                "r",
            ],
            "RECORD",
            uuid,
        ),
        (
            vec!["block", "set", "--card-key", PLANTED, "--reason", "r", "--yes"],
            "--card-key",
            digits,
        ),
        (
            vec!["block", "lift", "--card-key", PLANTED, "--reason", "r"],
            "--card-key",
            digits,
        ),
        (
            vec!["linkage", "reactivate", "--card-key", "AB", "--reason", "r"],
            "--card-key",
            digits,
        ),
        (
            vec!["suspend", "--side", "portal", "--reason", "", "--yes"],
            "--reason",
            words,
        ),
        (
            vec!["suspend", "--side", "portal", "--reason", "PLANTED\n", "--yes"],
            "--reason",
            words,
        ),
        (
            vec!["suspend", "--reason", "r", "--yes"],
            "--side",
            "registry or portal",
        ),
        (
            vec![
                "resume",
                "--side",
                "portal",
                "--reason",
                "r",
                "--proposal-id",
                PLANTED,
            ],
            "--proposal-id",
            uuid,
        ),
        (
            vec!["approve", PLANTED, "--act-sha256", PLANTED, "--side", "portal"],
            "PROPOSAL",
            uuid,
        ),
        (
            vec![
                "approve",
                "0190b0b0-0000-7000-8000-000000000001",
                "--act-sha256",
                PLANTED,
                "--side",
                "portal",
            ],
            "--act-sha256",
            digits,
        ),
        (vec!["confirm", PLANTED, "--side", "registry"], "ACT", uuid),
    ];
    for (arguments, field, rule) in cases {
        let told = desk.run("alice", &arguments).await;
        told.exits(2).says(&[&format!("where: {field}"), rule, "next: "]);
        assert!(
            told.out.is_empty() && (field.contains(PLANTED) || !told.error.contains(PLANTED)),
            "{told:?}"
        );
        let json = desk
            .run("alice", &[&arguments[..], &["--output", "json"]].concat())
            .await;
        let error = &json.exits(2).json()["error"];
        assert_eq!(
            (&error["field"], &error["exit_code"]),
            (&Value::from(field), &Value::from(2)),
            "{json:?}"
        );
        assert!(error["rule"].as_str().unwrap().contains(rule), "{json:?}");
        assert_eq!(json.error, "", "errors are in the document");
    }
    assert_eq!(desk.stored().await, before);
}

#[tokio::test]
async fn a_command_line_that_is_none_is_explained() {
    let desk = Desk::open().await;
    let before = desk.stored().await;
    for (arguments, words) in [
        (
            &[
                "suspend", "--side", "portal", "--kind", "wedding", "--reason", "r", "--yes",
            ][..],
            &[
                "--kind",
                "certificate-request, notification, provision-code-request",
            ][..],
        ),
        (
            &["suspend", "--side", "court", "--reason", "r"],
            &["--side", "registry, portal"],
        ),
        (&["suspend", "--side", "portal", "--yes"], &["--reason"]),
        (&["ingest"], &["FILE"]),
        (&["ingest", "f", "--resume"], &["--results"]),
        (&["ingest", "f", "--from-line", "0"], &["--from-line", "0"]),
        (
            &["ingest", "f", "--check", "--results", "r"],
            &["--check", "--results", "cannot be used with"],
        ),
        (
            &[
                "non-provision",
                "record",
                "--municipality",
                "131016",
                "--authority",
                "a",
                "--document",
                "d",
            ],
            &["--register"],
        ),
        (
            &["approve", "0190b0b0-0000-7000-8000-000000000001"],
            &["--act-sha256"],
        ),
        (&["status", "--planted"], &["--planted", "unexpected argument"]),
        (&["annul"], &["annul", "unrecognized subcommand"]),
    ] {
        desk.run("alice", arguments).await.exits(2).says(words);
        let json = desk
            .run("alice", &[arguments, &["--output", "json"]].concat())
            .await;
        let error = &json.exits(2).json()["error"];
        assert_eq!(error["kind"], "USAGE");
        assert!(
            !error["message"].as_str().unwrap().is_empty() && json.error.is_empty(),
            "{json:?}"
        );
    }
    assert_eq!(desk.stored().await, before);
}

#[tokio::test]
async fn a_bad_profile_is_named_with_key_and_file() {
    let desk = Desk::open().await;
    let before = desk.stored().await;
    let folder = desk.path("");
    let open_key = desk.write("open-key.pem", "PLANTED");
    fs::set_permissions(&open_key, fs::Permissions::from_mode(0o644)).unwrap();
    let no_pem = desk.write("no.pem", "PLANTED");
    let bob = desk.pair.deployment.client(Role::Operator, "bob").private_key;
    let missing = folder.join("missing.pem");
    let missing = missing.to_str().unwrap();
    type Change<'a> = Box<dyn FnOnce(&mut toml::Table) + 'a>;
    let cases: Vec<(Change<'_>, Vec<&str>)> = vec![
        (
            Box::new(|table| {
                table.insert("planted".into(), 1.into());
            }),
            vec!["unknown field `planted`", "kosekictl.toml"],
        ),
        (
            Box::new(|table| {
                table["tls"]
                    .as_table_mut()
                    .unwrap()
                    .insert("planted".into(), 1.into());
            }),
            vec!["unknown field `planted`"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"].as_table_mut().unwrap().remove("instance");
            }),
            vec!["missing field `instance`"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"]["address"] = 7453.into();
            }),
            vec!["invalid type", "string"],
        ),
        (
            Box::new(|table| {
                table["trust_domain"] = "Upper Case".into();
            }),
            vec!["trust_domain", "a-z"],
        ),
        (
            Box::new(|table| {
                table["tls"]["certificate"] = missing.into();
            }),
            vec![missing, "cannot be read", "No such file"],
        ),
        (
            Box::new(|table| {
                table["tls"]["certificate"] = no_pem.as_str().into();
            }),
            vec![&no_pem, "PEM certificate"],
        ),
        (
            Box::new(|table| {
                table["tls"]["private_key"] = open_key.as_str().into();
            }),
            vec![&open_key, "chmod 600"],
        ),
        (
            Box::new(|table| {
                table["tls"]["private_key"] = bob.to_str().unwrap().into();
            }),
            vec!["private_key", "belong together"],
        ),
        (
            Box::new(|table| {
                table.remove("portal_admin");
            }),
            vec!["has no [portal_admin]", "address and instance"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"]["instance"] = "gateway-2".into();
            }),
            vec!["no answer", "portal-gateway/gateway-2", "nothing was sent"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"]["address"] = "127.0.0.1:1".into();
            }),
            vec!["no answer", "127.0.0.1:1", "refused"],
        ),
        (
            Box::new(|table| {
                table["trust_domain"] = "other.example".into();
            }),
            vec!["no answer", "nothing was sent"],
        ),
    ];
    for (change, words) in cases {
        let profile = desk.profile_with(Role::Operator, "alice", change);
        let act = ["suspend", "--side", "portal", "--reason", "r", "--yes"];
        let told = desk.run_with(&profile, &act).await;
        let words: Vec<&str> = words
            .into_iter()
            .filter(|word| *word != "kosekictl.toml")
            .collect();
        told.exits(2).says(&words).says(&["next: "]);
        assert!(told.out.is_empty() && !told.error.contains(PLANTED), "{told:?}");
    }
    let no_file = desk.run_with("/no/such/profile.toml", &["status"]).await;
    no_file.exits(2).says(&["/no/such/profile.toml", "No such file"]);
    let none = desk.run_bare(&["status"]).await;
    none.exits(2)
        .says(&["--config", "KOSEKICTL_CONFIG", "deploy/config/kosekictl.toml"]);
    assert_eq!(desk.stored().await, before);
}

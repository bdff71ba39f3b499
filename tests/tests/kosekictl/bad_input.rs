//! Bad flags and command lines of each kind: exit code 2, the flag or file and its rule are named, the value is not, and
//! nothing is changed.

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

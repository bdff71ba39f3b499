//! Bad lines of register copies (clause 2.1), sent through the listener that municipalities use: each is reported with its
//! number, a reason, the field and the rule and never with a value; the lines around it are in; sending the file again
//! changes nothing that is stored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use common::lines::{MAX_LINE_BYTES, MAX_MESSAGE_BYTES};
use devkit::{
    client::{CallError, Loaded, Municipality},
    registers::canonical_digest,
};
use integration_tests::{Pair, stored};
use koseki_proto::koseki::{
    common::v1::{FileLine, LineOutcome, LineReason, LineResult},
    ingest::v1::ingest_client::IngestClient,
};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;

/// Chiyoda, whose desk sends; and Osaka, for which it may not write.
const OWN: &str = "131016";
const OTHER: &str = "271004";
/// Stands in every bad line and must be in no answer.
const PLANTED: &str = "埋込値-PLANTED";

/// A register that breaks no rule.
fn good(number: &str) -> Value {
    json!({
        "municipality_code": OWN,
        "local_number": number,
        "revision": 3,
        "kind": "current",
        "medium": "text",
        "state": "settled",
        "registered_domicile": "東京都千代田区千代田一番",
        "first_entered_person": "甲野太郎",
        "made_on": {"written": "令和六年三月一日", "iso": "2024-03-01"},
        "members": [{
            "reference": format!("R-{number}"),
            "name": PLANTED,
            "name_kana": "コウノ タロウ",
            "name_kana_status": "reported",
            "birth_date": {"written": "昭和五十年頃"},
            "relationship": "本人",
            "removed": false,
        }],
    })
}

/// The line of a register, with its digest.
fn line(register: &Value) -> Vec<u8> {
    let mut register = register.clone();
    // Members are sorted by name: this is the canonical form.
    let digest = canonical_digest(&register.to_string());
    register["digest"] = digest.into();
    register.to_string().into_bytes()
}

/// The line of a good register that was changed before its digest was made.
fn changed(number: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut register = good(number);
    change(&mut register);
    line(&register)
}

/// The line of a good register in which a text was replaced after its digest was made.
fn replaced(number: &str, from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(line(&good(number))).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to).into_bytes()
}

/// What must come of a line.
struct Bad {
    line: Vec<u8>,
    reason: LineReason,
    field: &'static str,
    /// Stands in the rule that is told.
    rule: &'static str,
}

fn bad(line: Vec<u8>, reason: LineReason, field: &'static str, rule: &'static str) -> Bad {
    Bad {
        line,
        reason,
        field,
        rule,
    }
}

/// One member more than one register can have.
fn crowd() -> Vec<Value> {
    (0..129)
        .map(|at| {
            json!({"reference": format!("R-{at}"), "name": "甲", "name_kana_status": "none",
                "birth_date": {"written": "不詳"}, "relationship": "子", "removed": false})
        })
        .collect()
}

/// A good line as an array of its values in the order of the format's table, as which JSON readers may take a record.
fn positional(number: &str) -> Vec<u8> {
    let register: Value = serde_json::from_slice(&line(&good(number))).unwrap();
    let date = |date: &Value| match date.get("iso") {
        Some(iso) => json!([date["written"], iso]),
        None => json!([date["written"]]),
    };
    json!([
        register["municipality_code"],
        register["local_number"],
        register["revision"],
        register["kind"],
        register["medium"],
        register["state"],
        register["registered_domicile"],
        register["first_entered_person"],
        date(&register["made_on"]),
        register["members"],
        register["digest"],
    ])
    .to_string()
    .into_bytes()
}

/// One line for each rule.
fn bad_lines() -> Vec<Bad> {
    use LineReason::{CheckDigit, Digest, InvalidField, NotAllowed, NotTheFormat, NotUtf8, TooLong};
    let text = |field: &'static str, value: &str, rule| {
        let line = changed("B", |register| register[field] = value.into());
        bad(line, InvalidField, field, rule)
    };
    let member = |name: &str, value: Value| changed("B", |register| register["members"][0][name] = value);
    let without = |name: &str| {
        changed("B", |register| {
            register.as_object_mut().unwrap().remove(name).unwrap();
        })
    };
    let unknown = "no field that the format does not have";
    let kind = "of the type that the format says";
    vec![
        bad(
            changed("B", |r| r["municipality_code"] = "131017".into()),
            CheckDigit,
            "municipality_code",
            "check digit",
        ),
        bad(
            changed("B", |r| r["municipality_code"] = "13101".into()),
            InvalidField,
            "municipality_code",
            "six digits",
        ),
        bad(
            changed("B", |r| r["municipality_code"] = "１３１０１６".into()),
            InvalidField,
            "municipality_code",
            "six digits",
        ),
        bad(
            changed("B", |r| r["municipality_code"] = OTHER.into()),
            NotAllowed,
            "municipality_code",
            "the policy lists",
        ),
        bad(replaced("B", "甲野太郎", "甲野次郎"), Digest, "digest", "SHA-256"),
        bad(
            replaced("B", r#""digest":""#, r#""digest":"00"#),
            Digest,
            "digest",
            "SHA-256",
        ),
        bad(changed("B", |r| r[PLANTED] = 1.into()), NotTheFormat, "", unknown),
        bad(member(PLANTED, 1.into()), NotTheFormat, "members[0]", unknown),
        bad(
            changed("B", |r| r["made_on"][PLANTED] = 1.into()),
            NotTheFormat,
            "made_on",
            unknown,
        ),
        bad(without("medium"), NotTheFormat, "medium", "required"),
        bad(
            replaced("B", r#""digest""#, r#""digest2""#),
            NotTheFormat,
            "",
            unknown,
        ),
        bad(
            changed("B", |r| {
                r["members"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("relationship")
                    .unwrap();
            }),
            NotTheFormat,
            "members[0].relationship",
            "required",
        ),
        bad(
            replaced(
                "B",
                r#""state":"settled""#,
                r#""state":"settled","state":"settled""#,
            ),
            NotTheFormat,
            "state",
            "given once",
        ),
        bad(
            replaced(
                "B",
                r#""relationship":"本人""#,
                r#""relationship":"本人","relationship":"本人""#,
            ),
            NotTheFormat,
            "members[0].relationship",
            "given once",
        ),
        bad(
            changed("B", |r| r["removed_on"] = Value::Null),
            NotTheFormat,
            "removed_on",
            kind,
        ),
        bad(
            member("name_kana", Value::Null),
            NotTheFormat,
            "members[0].name_kana",
            kind,
        ),
        bad(
            changed("B", |r| r["registered_domicile"] = Value::Null),
            NotTheFormat,
            "registered_domicile",
            kind,
        ),
        bad(
            changed("B", |r| r["revision"] = PLANTED.into()),
            NotTheFormat,
            "revision",
            kind,
        ),
        bad(
            changed("B", |r| r["revision"] = 1.5.into()),
            NotTheFormat,
            "revision",
            kind,
        ),
        bad(
            changed("B", |r| r["revision"] = (-1).into()),
            NotTheFormat,
            "revision",
            kind,
        ),
        bad(
            changed("B", |r| r["revision"] = 0.into()),
            InvalidField,
            "revision",
            "9007199254740991",
        ),
        bad(
            changed("B", |r| r["revision"] = 9_007_199_254_740_992_u64.into()),
            InvalidField,
            "revision",
            "9007199254740991",
        ),
        bad(
            changed("B", |r| r["kind"] = PLANTED.into()),
            NotTheFormat,
            "kind",
            "one of the words",
        ),
        bad(
            changed("B", |r| r["members"] = json!({})),
            NotTheFormat,
            "members",
            kind,
        ),
        bad(
            member("removed", "false".into()),
            NotTheFormat,
            "members[0].removed",
            kind,
        ),
        bad(positional("B"), NotTheFormat, "", kind),
        bad(
            changed("B", |r| r["made_on"] = json!([PLANTED, "2024-03-01"])),
            NotTheFormat,
            "made_on",
            kind,
        ),
        bad(
            changed("B", |r| {
                r["members"][0] = json!([PLANTED, "甲", "none", ["不詳"], "子", false])
            }),
            NotTheFormat,
            "members[0]",
            kind,
        ),
        bad(
            changed("B", |r| r["kind"] = json!({"current": null})),
            NotTheFormat,
            "kind",
            kind,
        ),
        bad(
            changed("B", |r| r["state"] = json!({"settled": null})),
            NotTheFormat,
            "state",
            kind,
        ),
        text("local_number", "", "1 to 64 bytes"),
        text("local_number", &"番".repeat(22), "1 to 64 bytes"),
        text("registered_domicile", "", "1 to 1,024 bytes"),
        text(
            "registered_domicile",
            &format!("{PLANTED}\u{0}"),
            "no control characters",
        ),
        text(
            "registered_domicile",
            &format!("{PLANTED}\u{9f}"),
            "no control characters",
        ),
        text(
            "first_entered_person",
            &format!("{PLANTED}\n"),
            "no control characters",
        ),
        text("first_entered_person", &"名".repeat(171), "1 to 512 bytes"),
        bad(
            changed("B", |r| r["made_on"]["iso"] = "2024-02-30".into()),
            InvalidField,
            "made_on.iso",
            "YYYY-MM-DD",
        ),
        bad(
            changed("B", |r| r["made_on"]["iso"] = PLANTED.into()),
            InvalidField,
            "made_on.iso",
            "YYYY-MM-DD",
        ),
        bad(
            changed("B", |r| r["made_on"]["written"] = "".into()),
            InvalidField,
            "made_on.written",
            "1 to 64 bytes",
        ),
        bad(
            changed("B", |r| r["removed_on"] = json!({"written": PLANTED})),
            InvalidField,
            "removed_on",
            "left out for a current register",
        ),
        bad(
            changed("B", |r| r["kind"] = "removed".into()),
            InvalidField,
            "removed_on",
            "required",
        ),
        bad(
            changed("B", |r| r["kind"] = "pre_revision".into()),
            InvalidField,
            "removed_on",
            "required",
        ),
        bad(
            changed("B", |r| r["members"] = json!([])),
            InvalidField,
            "members",
            "1 to 128",
        ),
        bad(
            changed("B", |r| r["members"] = crowd().into()),
            InvalidField,
            "members",
            "1 to 128",
        ),
        bad(
            changed("B", |r| {
                let twice = r["members"][0].clone();
                r["members"].as_array_mut().unwrap().push(twice);
            }),
            InvalidField,
            "members[1].reference",
            "unique within the register",
        ),
        bad(
            member("reference", "".into()),
            InvalidField,
            "members[0].reference",
            "1 to 64 bytes",
        ),
        bad(
            member("name_kana_status", "none".into()),
            InvalidField,
            "members[0].name_kana",
            "left out",
        ),
        bad(
            changed("B", |r| {
                r["members"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("name_kana")
                    .unwrap();
            }),
            InvalidField,
            "members[0].name_kana",
            "required unless",
        ),
        bad(
            member("father", format!("{PLANTED}\t").into()),
            InvalidField,
            "members[0].father",
            "no control characters",
        ),
        bad(
            b"{\"registered_domicile\":\"\xe5\x9f\xff\"}".to_vec(),
            NotUtf8,
            "",
            "UTF-8",
        ),
        bad(
            [b"\xef\xbb\xbf".to_vec(), line(&good("B"))].concat(),
            NotTheFormat,
            "",
            "one JSON object",
        ),
        bad(PLANTED.as_bytes().to_vec(), NotTheFormat, "", "one JSON object"),
        bad(Vec::new(), NotTheFormat, "", "one JSON object"),
        bad(format!("[\"{PLANTED}\"]").into_bytes(), NotTheFormat, "", ""),
        bad(
            [line(&good("B")), line(&good("C"))].concat(),
            NotTheFormat,
            "",
            "nothing after it",
        ),
        bad(
            line(&good("B"))[..60].to_vec(),
            NotTheFormat,
            "",
            "one JSON object",
        ),
        bad(
            replaced("B", "本人", r"\ud800"),
            NotTheFormat,
            "",
            "one JSON object",
        ),
        bad(vec![b'['; MAX_LINE_BYTES], NotTheFormat, "", ""),
        bad(vec![b'x'; MAX_LINE_BYTES + 1], TooLong, "", "65,536 bytes"),
        bad(PLANTED.repeat(600_000).into_bytes(), TooLong, "", "65,536 bytes"),
    ]
}

fn file(lines: &[Vec<u8>]) -> std::io::Cursor<Vec<u8>> {
    let mut file = lines.join(&b'\n');
    file.push(b'\n');
    std::io::Cursor::new(file)
}

fn sender(pair: &Pair) -> Municipality {
    Municipality::new(&pair.access(), OWN, &pair.reach().ingest).unwrap()
}

/// Everything that came back, as text.
fn told(loaded: &Loaded) -> String {
    assert!(loaded.broken.is_none(), "{:?}", loaded.broken);
    format!("{:?}", loaded.lines)
}

fn outcomes(loaded: &Loaded) -> Vec<LineOutcome> {
    assert!(loaded.broken.is_none(), "{:?}", loaded.broken);
    loaded.lines.iter().map(|line| line.outcome).collect()
}

#[tokio::test]
async fn each_bad_line_is_told_by_number_reason_field_and_rule_and_its_neighbours_are_in() {
    let pair = Pair::start().await;
    let sender = sender(&pair);
    // A good line before, between and after the bad ones.
    let bad_lines = bad_lines();
    let mut lines = Vec::new();
    for (at, bad) in bad_lines.iter().enumerate() {
        lines.push(line(&good(&format!("G{at}"))));
        lines.push(bad.line.clone());
    }
    lines.push(line(&good("last")));

    let first = sender.send(file(&lines)).await;
    assert!(!told(&first).contains("PLANTED") && !told(&first).contains("埋込値"));
    assert_eq!(first.lines.len(), lines.len());
    for (report, number) in first.lines.iter().zip(1..) {
        assert_eq!(report.line_number, number);
        let at = usize::try_from(number - 1).unwrap();
        if at % 2 == 0 {
            assert_eq!(report.outcome, LineOutcome::Stored, "{report:?}");
            continue;
        }
        let bad = &bad_lines[at / 2];
        let line = String::from_utf8_lossy(&bad.line[..bad.line.len().min(400)]);
        assert_eq!(report.outcome, LineOutcome::Refused, "{report:?} {line}");
        assert_eq!(
            (report.reason, report.field.as_str()),
            (bad.reason, bad.field),
            "{report:?} {line}"
        );
        assert!(
            report.rule.contains(bad.rule) && !report.rule.is_empty(),
            "{report:?} {line}"
        );
    }
    let before = stored(&pair.deployment.provider_database()).await;
    assert_eq!(before["register_copy"].len(), bad_lines.len() + 1);

    let again = sender.send(file(&lines)).await;
    assert_eq!(again.count(LineOutcome::Unchanged), bad_lines.len() + 1);
    assert!(first.refused().eq(again.refused()), "the same refusals");
    assert_eq!(stored(&pair.deployment.provider_database()).await, before);
}

#[tokio::test]
async fn revisions_rise_and_one_revision_has_one_content() {
    let pair = Pair::start().await;
    let sender = sender(&pair);
    let at = |revision: u64, name: &str| {
        changed("N", |register| {
            register["revision"] = revision.into();
            register["first_entered_person"] = name.into();
        })
    };
    use LineOutcome::{Older, Refused, Stored, Unchanged};
    let sent = [
        (at(5, "甲野"), Stored),
        (at(5, "甲野"), Unchanged),
        (at(5, PLANTED), Refused),
        (at(4, "乙野"), Older),
        (at(6, "丙野"), Stored),
        (at(5, "甲野"), Older),
        (at(9_007_199_254_740_991, "丁野"), Stored),
    ];
    let lines: Vec<_> = sent.iter().map(|(line, _)| line.clone()).collect();
    let together = sender.send(file(&lines)).await;
    assert_eq!(outcomes(&together), sent.map(|(_, outcome)| outcome));
    let duplicate = &together.lines[2];
    assert_eq!(
        (duplicate.reason, duplicate.field.as_str()),
        (LineReason::Duplicate, "revision")
    );
    assert!(!told(&together).contains("PLANTED"));

    // A line of its own meets what is stored, not what stands beside it.
    let before = stored(&pair.deployment.provider_database()).await;
    for (line, outcome) in [
        (at(9_007_199_254_740_991, "丁野"), Unchanged),
        (at(9_007_199_254_740_991, "甲野"), Refused),
        (at(6, "丙野"), Older),
    ] {
        assert_eq!(outcomes(&sender.send(file(&[line])).await), [outcome]);
    }
    assert_eq!(stored(&pair.deployment.provider_database()).await, before);
}

/// Results as they come, without devkit's reader, and how the stream ended.
async fn raw(pair: &Pair, lines: Vec<FileLine>) -> (Vec<LineResult>, Option<CallError>) {
    let channel = pair
        .access()
        .to_provider(
            common::identity::Role::Municipality,
            &format!("{OWN}/{}", devkit::deployment::OFFICER),
            &pair.reach().ingest,
        )
        .unwrap();
    let mut told = Vec::new();
    let mut results = match IngestClient::new(channel)
        .send_copies(tokio_stream::iter(lines))
        .await
    {
        Ok(results) => results.into_inner(),
        Err(status) => return (told, Some(status.into())),
    };
    while let Some(result) = results.next().await {
        match result {
            Ok(result) => told.push(result),
            Err(status) => return (told, Some(status.into())),
        }
    }
    (told, None)
}

fn numbers(results: &[LineResult]) -> Vec<u64> {
    results.iter().map(|result| result.line_number).collect()
}

fn numbered(line_number: u64) -> FileLine {
    FileLine {
        line_number,
        line: line(&good(&format!("L{line_number}"))),
    }
}

#[tokio::test]
async fn a_number_that_does_not_rise_ends_the_stream_after_the_lines_before_it() {
    let pair = Pair::start().await;
    for (sent, taken) in [
        (vec![1, 2, 2, 3], vec![1, 2]),
        (vec![4, 7, 5, 8], vec![4, 7]),
        (vec![0], vec![]),
    ] {
        let (results, broken) = raw(&pair, sent.into_iter().map(numbered).collect()).await;
        let error = broken.expect("the stream was broken off");
        assert_eq!(error.reason(), Some("MALFORMED"), "{error}");
        assert_eq!(numbers(&results), taken);
    }
}

/// devkit's reader keeps such lines back: this is what the service makes of them.
#[tokio::test]
async fn a_line_that_is_too_long_is_told_by_the_service_too() {
    let pair = Pair::start().await;
    let most = FileLine {
        line_number: 1,
        line: vec![b'x'; MAX_LINE_BYTES],
    };
    let over = FileLine {
        line_number: 2,
        line: vec![b'x'; MAX_LINE_BYTES + 1],
    };
    let (results, broken) = raw(&pair, vec![most, over, numbered(3)]).await;
    assert!(broken.is_none(), "{broken:?}");
    let reasons: Vec<_> = results.iter().map(LineResult::reason).collect();
    use LineReason::{NotTheFormat, TooLong, Unspecified};
    assert_eq!(reasons, [NotTheFormat, TooLong, Unspecified]);
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_stream_with_a_clear_refusal() {
    let pair = Pair::start().await;
    let over = FileLine {
        line_number: 2,
        line: vec![b'x'; MAX_MESSAGE_BYTES + 1],
    };
    let (results, broken) = raw(&pair, vec![numbered(1), over, numbered(3)]).await;
    let error = broken.expect("the stream was broken off");
    assert_eq!(error.reason(), Some("MALFORMED"), "{error}");
    assert_eq!(numbers(&results), [1]);
}

#[tokio::test]
async fn a_fast_sender_gets_every_result_in_order() {
    let pair = Pair::start().await;
    // Everything is offered at once; every seventh line is bad.
    let lines: Vec<FileLine> = (1..=3_000)
        .map(|number| match number % 7 {
            0 => FileLine {
                line_number: number,
                line: PLANTED.as_bytes().to_vec(),
            },
            _ => numbered(number),
        })
        .collect();
    let (results, broken) = raw(&pair, lines).await;
    assert!(broken.is_none(), "{broken:?}");
    assert!(numbers(&results).into_iter().eq(1..=3_000));
    let stored = stored(&pair.deployment.provider_database()).await;
    assert_eq!(stored["register_copy"].len(), 3_000 - 3_000 / 7);
}

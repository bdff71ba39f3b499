//! Bad lines of persons and linkages, through the listeners that operators of either side use: each is reported with its
//! number, a reason, the field and the rule and never with a value, the lines around it are in, and sending the file again
//! changes nothing that is stored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use data_encoding::BASE64URL_NOPAD;
use devkit::client::Loaded;
use integration_tests::{Pair, stored};
use koseki_proto::koseki::common::v1::{LineOutcome, LineReason};
use serde_json::{Value, json};

/// Stands in every bad line and must be in no answer.
const PLANTED: &str = "PLANTED-埋込値";

fn code(number: u8) -> String {
    BASE64URL_NOPAD.encode(&[number; 32])
}

fn card(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

fn person(id: &str, references: &[&str]) -> Value {
    let members: Vec<_> = references
        .iter()
        .map(|reference| json!({"municipality_code": "131016", "reference": reference}))
        .collect();
    json!({"type": "person", "person_id": id, "members": members})
}

/// A linkage of both sides; the portal side's is without the person.
fn linkage(number: u8, person_id: Option<&str>, card: &str, state: &str) -> Value {
    let mut line =
        json!({"type": "linkage", "linkage_code": code(number), "card_key_sha256": card, "state": state});
    if let Some(person_id) = person_id {
        line["person_id"] = person_id.into();
    }
    line
}

fn changed(mut line: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut line);
    line
}

fn without(mut line: Value, field: &str) -> Value {
    line.as_object_mut().unwrap().remove(field).unwrap();
    line
}

/// A line and what must come of it: for a refusal, reason, field and words of the rule.
type Expected = Result<LineOutcome, (LineReason, &'static str, &'static str)>;

fn refused(reason: LineReason, field: &'static str, rule: &'static str) -> Expected {
    Err((reason, field, rule))
}

fn file(lines: &[(Vec<u8>, Expected)]) -> std::io::Cursor<Vec<u8>> {
    let lines: Vec<_> = lines.iter().map(|(line, _)| line.clone()).collect();
    std::io::Cursor::new(lines.join(&b'\n'))
}

fn compare(loaded: &Loaded, lines: &[(Vec<u8>, Expected)]) {
    assert!(loaded.broken.is_none(), "{:?}", loaded.broken);
    assert_eq!(loaded.lines.len(), lines.len());
    let told = format!("{:?}", loaded.lines);
    assert!(!told.contains("PLANTED") && !told.contains("埋込"), "{told}");
    for ((report, (line, expected)), number) in loaded.lines.iter().zip(lines).zip(1..) {
        let line = String::from_utf8_lossy(&line[..line.len().min(300)]);
        assert_eq!(report.line_number, number);
        match expected {
            Ok(outcome) => assert_eq!(report.outcome, *outcome, "{report:?} {line}"),
            Err((reason, field, rule)) => {
                assert_eq!(report.outcome, LineOutcome::Refused, "{report:?} {line}");
                assert_eq!(
                    (report.reason, report.field.as_str()),
                    (*reason, *field),
                    "{report:?} {line}"
                );
                assert!(
                    report.rule.contains(rule) && !report.rule.is_empty(),
                    "{report:?} {line}"
                );
            }
        }
    }
}

/// What must come of the same file the second time: a line that was stored is there already.
fn again(lines: Vec<(Vec<u8>, Expected)>) -> Vec<(Vec<u8>, Expected)> {
    let again = lines.into_iter().map(|(line, expected)| match expected {
        Ok(_) => (line, Ok(LineOutcome::Unchanged)),
        refused => (line, refused),
    });
    again.collect()
}

fn whole(lines: Vec<(Value, Expected)>) -> Vec<(Vec<u8>, Expected)> {
    let lines = lines.into_iter();
    lines
        .map(|(line, expected)| (line.to_string().into_bytes(), expected))
        .collect()
}

/// What both sides refuse of a linkage line; `good` makes one that breaks no rule.
fn bad_linkages(good: impl Fn() -> Value) -> Vec<(Vec<u8>, Expected)> {
    use LineReason::{InvalidField, NotTheFormat, NotUtf8, TooLong};
    let base64 = "43 characters of base64url";
    let hash = "64 lower-case hexadecimal digits";
    let set = |field: &'static str, value: Value| changed(good(), |line| line[field] = value);
    let twice = good()
        .to_string()
        .replacen('{', r#"{"state":"ACTIVE","#, 1)
        .into_bytes();
    let typed_twice = good()
        .to_string()
        .replacen('{', r#"{"type":"linkage","#, 1)
        .into_bytes();
    let mut lines = whole(vec![
        (
            set("linkage_code", PLANTED.into()),
            refused(InvalidField, "linkage_code", base64),
        ),
        (
            set("linkage_code", format!("{}=", code(9)).into()),
            refused(InvalidField, "linkage_code", base64),
        ),
        (
            set("linkage_code", code(9)[1..].into()),
            refused(InvalidField, "linkage_code", base64),
        ),
        // The last character has bits beyond the 32 bytes: another spelling of the same code.
        (
            set("linkage_code", format!("{}B", "A".repeat(42)).into()),
            refused(InvalidField, "linkage_code", base64),
        ),
        (
            set("linkage_code", "+/".repeat(21).into()),
            refused(InvalidField, "linkage_code", base64),
        ),
        (
            set("card_key_sha256", PLANTED.into()),
            refused(InvalidField, "card_key_sha256", hash),
        ),
        (
            set("card_key_sha256", "AB".repeat(32).into()),
            refused(InvalidField, "card_key_sha256", hash),
        ),
        (
            set("card_key_sha256", "ab".repeat(31).into()),
            refused(InvalidField, "card_key_sha256", hash),
        ),
        (
            set("state", PLANTED.into()),
            refused(NotTheFormat, "state", "one of the words"),
        ),
        (
            set("state", "active".into()),
            refused(NotTheFormat, "state", "one of the words"),
        ),
        (
            set("state", json!({"ACTIVE": null})),
            refused(NotTheFormat, "state", "of the type"),
        ),
        (
            set("state", Value::Null),
            refused(NotTheFormat, "state", "of the type"),
        ),
        (
            set("type", PLANTED.into()),
            refused(NotTheFormat, "type", "one of the words"),
        ),
        (set("type", Value::Null), refused(NotTheFormat, "type", "")),
        (
            set(PLANTED, 1.into()),
            refused(NotTheFormat, "", "no field that the format does not have"),
        ),
        (without(good(), "type"), refused(NotTheFormat, "type", "required")),
        (
            without(good(), "linkage_code"),
            refused(NotTheFormat, "linkage_code", "required"),
        ),
        (
            without(good(), "card_key_sha256"),
            refused(NotTheFormat, "card_key_sha256", "required"),
        ),
        (
            json!(["linkage", code(9), card(9), "ACTIVE"]),
            refused(NotTheFormat, "", "of the type"),
        ),
        (
            json!(["linkage", good()]),
            refused(NotTheFormat, "", "of the type"),
        ),
    ]);
    lines.extend([
        (twice, refused(NotTheFormat, "state", "given once")),
        (typed_twice, refused(NotTheFormat, "type", "given once")),
        (
            b"{\"type\":\"linkage\xff\"}".to_vec(),
            refused(NotUtf8, "", "UTF-8"),
        ),
        (
            PLANTED.as_bytes().to_vec(),
            refused(NotTheFormat, "", "one JSON object"),
        ),
        (
            PLANTED.repeat(600_000).into_bytes(),
            refused(TooLong, "", "65,536 bytes"),
        ),
    ]);
    lines
}

#[tokio::test]
async fn on_the_registry_side() {
    use LineOutcome::Stored;
    use LineReason::{Duplicate, InvalidField, NotTheFormat, UnknownReference};
    let pair = Pair::start().await;
    let [operator, _] = pair.offices().registry;
    let graphic = "printable ASCII";
    let code_rule = "six digits, the sixth the check digit";
    let once = "1 to 64 bytes, each once";
    let first_member = |field: &'static str, value: Value| {
        changed(person("p-bad", &["M-bad"]), |line| {
            line["members"][0][field] = value
        })
    };
    let crowd: Vec<_> = (0..65).map(|at| format!("M-{at}")).collect();
    let crowd: Vec<_> = crowd.iter().map(String::as_str).collect();
    let mut lines = whole(vec![
        (person("p-1", &["M-1", "M-2"]), Ok(Stored)),
        (person("p-2", &[]), Ok(Stored)),
        (
            person("p-3", &["M-2"]),
            refused(Duplicate, "members", "one person at most"),
        ),
        (person("", &[]), refused(InvalidField, "person_id", graphic)),
        (person(PLANTED, &[]), refused(InvalidField, "person_id", graphic)),
        (
            person("PLANTED with spaces", &[]),
            refused(InvalidField, "person_id", graphic),
        ),
        (
            person(&"p".repeat(65), &[]),
            refused(InvalidField, "person_id", graphic),
        ),
        (
            person("p-bad", &crowd),
            refused(InvalidField, "members", "at most 64"),
        ),
        (
            person("p-bad", &["M-7", "M-7"]),
            refused(InvalidField, "members[1].reference", once),
        ),
        (
            person("p-bad", &["M-7", ""]),
            refused(InvalidField, "members[1].reference", once),
        ),
        (
            first_member("municipality_code", "131017".into()),
            refused(InvalidField, "members[0].municipality_code", code_rule),
        ),
        (
            first_member("municipality_code", PLANTED.into()),
            refused(InvalidField, "members[0].municipality_code", code_rule),
        ),
        (
            changed(person("p-bad", &[]), |line| line[PLANTED] = 1.into()),
            refused(NotTheFormat, "", "no field"),
        ),
        (
            without(person("p-bad", &[]), "members"),
            refused(NotTheFormat, "members", "required"),
        ),
        (linkage(1, Some("p-1"), &card(1), "ACTIVE"), Ok(Stored)),
        (linkage(2, Some("p-2"), &card(2), "REVOKED"), Ok(Stored)),
        (
            linkage(2, Some("p-2"), &card(2), "ACTIVE"),
            refused(InvalidField, "state", "stays revoked"),
        ),
        (
            linkage(2, Some("p-2"), &card(3), "REVOKED"),
            refused(InvalidField, "state", "stays revoked"),
        ),
        (
            linkage(1, Some("p-2"), &card(1), "ACTIVE"),
            refused(Duplicate, "linkage_code", "one person for a code"),
        ),
        (
            linkage(4, Some("PLANTED"), &card(4), "ACTIVE"),
            refused(UnknownReference, "person_id", "a person that is loaded"),
        ),
        (
            linkage(4, None, &card(4), "ACTIVE"),
            refused(NotTheFormat, "person_id", "required"),
        ),
        (
            changed(linkage(4, Some("p-1"), &card(4), "ACTIVE"), |line| {
                line["members"] = json!([])
            }),
            refused(NotTheFormat, "", "no field"),
        ),
    ]);
    lines.extend(whole(vec![
        (
            first_member("reference", Value::Null),
            refused(NotTheFormat, "members[0].reference", "of the type"),
        ),
        (
            first_member(PLANTED, 1.into()),
            refused(NotTheFormat, "members[0]", "no field"),
        ),
        (
            changed(person("p-bad", &[]), |line| {
                line["members"] = json!([["131016", PLANTED]])
            }),
            refused(NotTheFormat, "members[0]", "of the type"),
        ),
    ]));
    lines.extend(bad_linkages(|| linkage(9, Some("p-1"), &card(9), "ACTIVE")));
    lines.extend(whole(vec![(
        linkage(5, Some("p-2"), &card(5), "SUSPENDED"),
        Ok(Stored),
    )]));

    compare(&operator.load(file(&lines)).await, &lines);
    let before = stored(&pair.deployment.provider_database()).await;
    assert_eq!(
        (
            before["person"].len(),
            before["person_member"].len(),
            before["linkage"].len()
        ),
        (2, 2, 3)
    );
    let lines = again(lines);
    compare(&operator.load(file(&lines)).await, &lines);
    assert_eq!(stored(&pair.deployment.provider_database()).await, before);

    // A change is stored as a change: no line more.
    let change = whole(vec![(linkage(1, Some("p-1"), &card(6), "SUSPENDED"), Ok(Stored))]);
    compare(&operator.load(file(&change)).await, &change);
    let after = stored(&pair.deployment.provider_database()).await;
    assert_eq!(after["linkage"].len(), 3);
    assert_ne!(after["linkage"], before["linkage"]);
}

#[tokio::test]
async fn on_the_portal_side() {
    use LineOutcome::Stored;
    use LineReason::{Duplicate, InvalidField, NotTheFormat};
    let pair = Pair::start().await;
    let [operator, _] = pair.offices().portal;
    let mut lines = whole(vec![
        (linkage(1, None, &card(1), "ACTIVE"), Ok(Stored)),
        (
            linkage(2, None, &card(1), "PENDING"),
            refused(Duplicate, "card_key_sha256", "not revoked"),
        ),
        (linkage(3, None, &card(3), "REVOKED"), Ok(Stored)),
        (linkage(4, None, &card(3), "ACTIVE"), Ok(Stored)),
        (
            linkage(3, None, &card(3), "ACTIVE"),
            refused(InvalidField, "state", "stays revoked"),
        ),
        // A person is never named on this side.
        (
            linkage(5, Some("p-PLANTED"), &card(5), "ACTIVE"),
            refused(NotTheFormat, "", "no field"),
        ),
        (
            person("p-PLANTED", &[]),
            refused(NotTheFormat, "type", "one of the words"),
        ),
    ]);
    lines.extend(bad_linkages(|| linkage(9, None, &card(9), "ACTIVE")));
    lines.extend(whole(vec![(linkage(6, None, &card(6), "SUSPENDED"), Ok(Stored))]));

    compare(&operator.load(file(&lines)).await, &lines);
    let before = stored(&pair.deployment.gateway_database()).await;
    assert_eq!(before["linkage"].len(), 4);
    let lines = again(lines);
    compare(&operator.load(file(&lines)).await, &lines);
    assert_eq!(stored(&pair.deployment.gateway_database()).await, before);
}

fn replace(number: u8, old: u8, new: u8) -> Value {
    json!({"type": "replace_card", "linkage_code": code(number), "card_key_sha256": card(old),
           "new_card_key_sha256": card(new)})
}

/// Linkages whose cards are replaced, or not; `linkage_of` makes a linkage's line as the side takes it.
fn replacements(linkage_of: impl Fn(u8, u8, &str) -> Value) -> Vec<(Vec<u8>, Expected)> {
    use LineOutcome::{Stored, Unchanged};
    use LineReason::{Duplicate, InvalidField, NeedsTwoPersons, NotTheFormat, UnknownReference};
    let hash = "64 lower-case hexadecimal digits";
    let (old, new) = ("card_key_sha256", "new_card_key_sha256");
    let set = |field: &'static str, value: Value| changed(replace(2, 2, 12), |line| line[field] = value);
    let rotate = json!({"type": "rotate", "linkage_code": code(1), "new_linkage_code": code(10),
                        "card_key_sha256": card(1)});
    whole(vec![
        (linkage_of(1, 1, "ACTIVE"), Ok(Stored)),
        (linkage_of(2, 2, "ACTIVE"), Ok(Stored)),
        (linkage_of(3, 3, "SUSPENDED"), Ok(Stored)),
        (linkage_of(4, 4, "REVOKED"), Ok(Stored)),
        (linkage_of(5, 5, "PENDING"), Ok(Stored)),
        (
            replace(9, 1, 12),
            refused(UnknownReference, "linkage_code", "a code that is loaded"),
        ),
        (
            replace(2, 9, 12),
            refused(UnknownReference, old, "that the linkage is bound to"),
        ),
        (replace(2, 2, 3), refused(Duplicate, new, "linkage")),
        (replace(2, 2, 2), refused(InvalidField, new, "another card")),
        (
            replace(3, 3, 12),
            refused(NeedsTwoPersons, "linkage_code", "Propose and Approve"),
        ),
        (
            replace(4, 4, 12),
            refused(InvalidField, "linkage_code", "stays revoked"),
        ),
        (
            set("linkage_code", PLANTED.into()),
            refused(InvalidField, "linkage_code", "base64url"),
        ),
        (set(old, PLANTED.into()), refused(InvalidField, old, hash)),
        (set(new, PLANTED.into()), refused(InvalidField, new, hash)),
        (set(PLANTED, 1.into()), refused(NotTheFormat, "", "no field")),
        (
            without(replace(2, 2, 12), new),
            refused(NotTheFormat, new, "required"),
        ),
        (replace(1, 1, 6), Ok(Stored)),
        (replace(5, 5, 7), Ok(Stored)),
        // A card that was replaced is not bound again, whatever line names it.
        (linkage_of(1, 1, "ACTIVE"), Ok(Unchanged)),
        (
            linkage_of(1, 1, "SUSPENDED"),
            refused(InvalidField, old, "not bound again"),
        ),
        (
            linkage_of(8, 1, "ACTIVE"),
            refused(InvalidField, old, "not bound again"),
        ),
        (rotate, refused(InvalidField, old, "not bound again")),
        (replace(2, 2, 1), refused(InvalidField, new, "not bound again")),
    ])
}

#[tokio::test]
async fn of_cards_that_are_replaced_on_the_registry_side() {
    let pair = Pair::start().await;
    let [operator, _] = pair.offices().registry;
    let persons = (1..=8).map(|number| (person(&format!("p-{number}"), &[]), Ok(LineOutcome::Stored)));
    let mut lines = whole(persons.collect());
    lines.extend(replacements(|number, of, state| {
        linkage(number, Some(&format!("p-{number}")), &card(of), state)
    }));
    compare(&operator.load(file(&lines)).await, &lines);
    let before = stored(&pair.deployment.provider_database()).await;
    assert_eq!((before["linkage"].len(), before["replaced_card"].len()), (5, 2));
    let lines = again(lines);
    compare(&operator.load(file(&lines)).await, &lines);
    assert_eq!(stored(&pair.deployment.provider_database()).await, before);
}

#[tokio::test]
async fn of_cards_that_are_replaced_on_the_portal_side() {
    let pair = Pair::start().await;
    let [operator, _] = pair.offices().portal;
    let lines = replacements(|number, of, state| linkage(number, None, &card(of), state));
    compare(&operator.load(file(&lines)).await, &lines);
    let before = stored(&pair.deployment.gateway_database()).await;
    assert_eq!((before["linkage"].len(), before["replaced_card"].len()), (5, 2));
    let lines = again(lines);
    compare(&operator.load(file(&lines)).await, &lines);
    assert_eq!(stored(&pair.deployment.gateway_database()).await, before);
}

//! Properties of the lines that are loaded: any text that the format allows is taken and kept byte for byte (I8), and no
//! broken line makes a reader panic or say what stood in it (I5). Failing cases are printed with proptest's seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use common::lines::LineFault;
use data_encoding::HEXLOWER;
use devkit::registers::canonical_digest;
use koseki_provider::{persons, register};
use portal_gateway::linkage;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Stands in every line that is broken: letters that no rule, field or word of the formats has.
const PLANTED: &str = "ZQXJ埋込ZQXJ";

fn line(domicile: &str, first: &str) -> String {
    let mut register = json!({
        "municipality_code": "131016", "local_number": PLANTED, "revision": 1, "kind": "removed", "medium": "text",
        "state": "settled", "registered_domicile": domicile, "first_entered_person": first,
        "made_on": {"written": PLANTED, "iso": "2024-03-01"}, "removed_on": {"written": PLANTED},
        "members": [{"reference": PLANTED, "name": PLANTED, "name_kana": PLANTED, "name_kana_status": "planned",
            "birth_date": {"written": PLANTED}, "father": PLANTED, "relationship": PLANTED, "removed": false}],
    });
    let digest = canonical_digest(&register.to_string());
    register["digest"] = digest.into();
    register.to_string()
}

fn person() -> String {
    json!({"type": "person", "person_id": "ZQXJ", "members":
        [{"municipality_code": "131016", "reference": PLANTED}]})
    .to_string()
}

fn linkage_line(person_id: Option<&str>) -> String {
    let mut line = json!({"type": "linkage", "linkage_code": "ZQXJ".repeat(10) + "ZQg", "card_key_sha256": "0d".repeat(32),
        "state": "ACTIVE"});
    if let Some(person_id) = person_id {
        line["person_id"] = person_id.into();
    }
    line.to_string()
}

/// Text that the format allows: anything but control characters, at most so many bytes.
fn text(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>().prop_filter("control", |c| !c.is_control()), 1..200).prop_map(
        move |chars| {
            let mut text = String::new();
            for next in chars {
                if text.len() + next.len_utf8() <= most {
                    text.push(next);
                }
            }
            text
        },
    )
}

/// Every character of JSON text beyond ASCII as `\uXXXX`.
fn escaped(json: &str) -> String {
    let mut text = String::new();
    for next in json.chars() {
        if next.is_ascii() {
            text.push(next);
        } else {
            for unit in next.encode_utf16(&mut [0; 2]) {
                text += &format!("\\u{unit:04x}");
            }
        }
    }
    text
}

/// One change of a line's bytes.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, &'static str),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0000",
        "\\ud800",
        "null",
        "true",
        "-1",
        "1e999",
        " ",
        "\"ZQXJ\":1,",
        "\"ZQXJ\",",
        "\u{0}",
        "\u{feff}",
        "記",
        "9007199254740993",
    ]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        at().prop_map(Mutation::Remove),
        (at(), token).prop_map(|(at, token)| Mutation::Insert(at, token)),
        at().prop_map(Mutation::Cut),
        (at(), at()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutate(line: &str, mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match mutation {
            Mutation::Replace(at, byte) => bytes[at.index(length)] = *byte,
            Mutation::Remove(at) => drop(bytes.remove(at.index(length))),
            Mutation::Insert(at, token) => {
                let at = at.index(length);
                drop(bytes.splice(at..at, token.bytes()));
            }
            Mutation::Cut(at) => bytes.truncate(at.index(length)),
            Mutation::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                drop(bytes.splice(from..from, part));
            }
        }
    }
    bytes
}

/// What is told of a broken line is made of the format's own words.
fn says_nothing_of_the_line(fault: &LineFault) {
    let told = format!("{fault:?}");
    assert!(
        !told.contains("ZQXJ") && !told.contains("埋") && !told.contains('記'),
        "{told}"
    );
    let path = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.[]".contains(&byte);
    assert!(fault.field.bytes().all(path), "{told}");
    assert!(fault.field.len() <= 100 && !fault.rule.is_empty(), "{told}");
}

/// A line that should have been taken.
fn taken(fault: LineFault) -> TestCaseError {
    TestCaseError::fail(format!("{fault:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_without_control_characters_is_kept_byte_for_byte(domicile in text(1_024), first in text(512)) {
        let line = line(&domicile, &first);
        let copy = register::parse_line(line.as_bytes()).map_err(taken)?;
        prop_assert_eq!(&copy.body, line.as_bytes());
        let kept: Value = serde_json::from_slice(&copy.body).unwrap();
        prop_assert_eq!(&kept["registered_domicile"], &Value::from(domicile));
        prop_assert_eq!(&kept["first_entered_person"], &Value::from(first));
        prop_assert_eq!(&kept["digest"], &Value::from(HEXLOWER.encode(&copy.digest)));

        // Written otherwise it is the same content, and another line.
        let otherwise = escaped(&line).replacen('{', " { ", 1) + "\t";
        let same = register::parse_line(otherwise.as_bytes()).map_err(taken)?;
        prop_assert_eq!(same.digest, copy.digest);
        prop_assert_eq!(&same.body, otherwise.as_bytes());
    }

    #[test]
    fn a_control_character_anywhere_in_a_text_is_refused(
        before in text(400), control in prop::char::ranges(vec!['\0'..='\u{1f}', '\u{7f}'..='\u{9f}'].into()), after in text(400)
    ) {
        let fault = register::parse_line(line(&format!("{before}{control}{after}"), PLANTED).as_bytes()).unwrap_err();
        prop_assert_eq!((fault.field.as_str(), fault.rule), ("registered_domicile", "no control characters"));
    }

    #[test]
    fn a_mutated_line_makes_no_reader_panic_and_is_not_quoted(
        which in 0..4_usize, mutations in prop::collection::vec(mutation(), 1..6)
    ) {
        let lines = [line(PLANTED, PLANTED), person(), linkage_line(Some("ZQXJ")), linkage_line(None)];
        let mutated = mutate(&lines[which], &mutations);
        for fault in [
            register::parse_line(&mutated).err(),
            persons::parse_line(&mutated).err(),
            linkage::parse_line(&mutated).err(),
        ].into_iter().flatten() {
            says_nothing_of_the_line(&fault);
        }
    }

    /// The digest covers everything: a line that was changed and still parses has the same content.
    #[test]
    fn a_mutated_register_is_refused_or_says_the_same(mutations in prop::collection::vec(mutation(), 1..3)) {
        let original = line(PLANTED, PLANTED);
        let mutated = mutate(&original, &mutations);
        if let Ok(copy) = register::parse_line(&mutated) {
            let before: Value = serde_json::from_str(&original).unwrap();
            let after: Value = serde_json::from_slice(&copy.body).unwrap();
            prop_assert_eq!(before, after);
        }
    }
}

/// What the mutations start from is whole.
#[test]
fn the_lines_that_are_mutated_break_no_rule() {
    register::parse_line(line(PLANTED, PLANTED).as_bytes()).unwrap();
    assert!(persons::parse_line(person().as_bytes()).is_ok());
    assert!(persons::parse_line(linkage_line(Some("ZQXJ")).as_bytes()).is_ok());
    assert!(linkage::parse_line(linkage_line(None).as_bytes()).is_ok());
}

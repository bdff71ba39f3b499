//! Every line keeps the rules of its format.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{cards, document, large};
use crate::registers::{
    DataSet, KanaStatus, MUNICIPALITIES, Register, RegisterDate, RegisterKind, canonical_digest,
};
use crate::tool;

fn copies(set: &DataSet) -> impl Iterator<Item = (&String, &String)> {
    set.copies
        .iter()
        .flat_map(|(code, lines)| lines.iter().map(move |line| (code, line)))
}

#[test]
fn the_documents_own_python_computes_the_same_digests() {
    let text = document("register-copy-format.md");
    let one_liner = text
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("\n```")
        .next()
        .unwrap();
    assert!(one_liner.starts_with("digest = ") && one_liner.lines().count() == 1);
    let script = format!(
        "import hashlib, json, sys\n\
         for line in sys.stdin.buffer:\n    \
             record = json.loads(line)\n    \
             expected = record.pop('digest')\n    \
             {one_liner}\n    \
             assert digest == expected, line\n\
         print('all the same')\n"
    );
    let lines: String = copies(large()).map(|(_, line)| format!("{line}\n")).collect();
    let output = tool::run("python3", &["-c", &script], lines.as_bytes());
    assert!(
        output.success && output.text.contains("all the same"),
        "{}",
        output.text
    );
}

#[test]
fn the_canonical_form_escapes_only_what_json_must() {
    let mut register: Register = serde_json::from_str(copies(large()).next().unwrap().1).unwrap();
    register.first_entered_person = "\"\\/\u{2028}\u{fa19}\u{10de92}<&>".to_owned();
    let line = register.to_line().unwrap();
    assert!(
        line.contains("\"\\\"\\\\/\u{2028}\u{fa19}\u{10de92}<&>\""),
        "{line}"
    );
    let canonical = serde_json::to_string(&register).unwrap();
    assert!(line.contains(&format!("\"digest\":\"{}\"", canonical_digest(&canonical))));
}

#[test]
fn every_copy_keeps_the_rules_of_the_format() {
    let codes: BTreeSet<_> = MUNICIPALITIES
        .iter()
        .map(|municipality| municipality.code)
        .collect();
    let mut keys = BTreeSet::new();
    for (code, line) in copies(large()) {
        assert!(line.len() < 65_536 && !line.contains('\n'));
        assert!(!line.contains("null") && !line.chars().any(char::is_control));
        let mut fields: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        assert_eq!(fields.remove("digest").unwrap().as_str().unwrap().len(), 64);
        let register: Register = serde_json::from_str(line).unwrap();
        // Nothing is there that the format does not know.
        let known: BTreeMap<String, Value> =
            serde_json::from_value(serde_json::to_value(&register).unwrap()).unwrap();
        assert_eq!(known, fields);

        assert_eq!(&register.municipality_code, code);
        assert!(codes.contains(code.as_str()));
        assert!(
            keys.insert((code.clone(), register.local_number.clone())),
            "{line}"
        );
        sized(&register.local_number, 64);
        sized(&register.registered_domicile, 1_024);
        sized(&register.first_entered_person, 512);
        assert_eq!(register.first_entered_person, register.members[0].name);
        assert!(register.revision >= 1);
        dated(&register.made_on);
        assert_eq!(
            register.removed_on.is_none(),
            register.kind == RegisterKind::Current
        );
        if let Some(removed_on) = &register.removed_on {
            dated(removed_on);
            assert!(
                register.made_on.iso.is_none() || register.made_on.iso <= removed_on.iso,
                "closed before it was made: {line}"
            );
        }
        assert!((1..=128).contains(&register.members.len()));
        let mut references = BTreeSet::new();
        for member in &register.members {
            sized(&member.reference, 64);
            assert!(references.insert(&member.reference), "twice in {line}");
            sized(&member.name, 512);
            sized(&member.relationship, 64);
            assert_eq!(
                member.name_kana.is_none(),
                member.name_kana_status == KanaStatus::None
            );
            for optional in [&member.name_kana, &member.father, &member.mother]
                .into_iter()
                .flatten()
            {
                sized(optional, 512);
            }
            dated(&member.birth_date);
        }
    }
}

fn sized(text: &str, most: usize) {
    assert!((1..=most).contains(&text.len()), "{text}");
}

fn dated(date: &RegisterDate) {
    sized(&date.written, 64);
    if let Some(iso) = &date.iso {
        let format = time::macros::format_description!("[year]-[month]-[day]");
        let day = time::Date::parse(iso, format).unwrap();
        assert!(day <= super::super::calendar::AS_OF, "{iso} has not come yet");
    }
}

#[test]
fn persons_come_before_linkages_and_everything_refers_to_something() {
    let set = large();
    let mut owners: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut persons = BTreeSet::new();
    let mut registry_linkages = BTreeMap::new();
    for line in &set.provider_linkages {
        let value: Value = serde_json::from_str(line).unwrap();
        let person_id = value["person_id"].as_str().unwrap().to_owned();
        assert!(person_id.len() <= 64 && person_id.chars().all(|c| c.is_ascii_graphic()));
        match value["type"].as_str().unwrap() {
            "person" => {
                assert!(registry_linkages.is_empty(), "a person after a linkage");
                for entry in value["members"].as_array().unwrap() {
                    let text = |field: &str| entry[field].as_str().unwrap().to_owned();
                    let key = (text("municipality_code"), text("reference"));
                    assert_eq!(
                        owners.insert(key, person_id.clone()),
                        None,
                        "a reference of two persons"
                    );
                }
                assert!(persons.insert(person_id), "a person twice");
            }
            "linkage" => {
                assert!(persons.contains(&person_id));
                let code = linkage_code(&value);
                let rest = (value["card_key_sha256"].clone(), value["state"].clone());
                assert_eq!(registry_linkages.insert(code, rest), None, "a code twice");
            }
            other => panic!("{other} is not a type"),
        }
    }
    for line in &set.portal_linkages {
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(value.get("person_id").is_none());
        let (card, _) = registry_linkages.remove(&linkage_code(&value)).unwrap();
        assert_eq!(card, value["card_key_sha256"]);
    }
    assert!(registry_linkages.is_empty(), "the portal side lacks linkages");

    for (code, line) in copies(set) {
        let register: Register = serde_json::from_str(line).unwrap();
        for member in register.members {
            assert!(
                owners.contains_key(&(code.clone(), member.reference)),
                "nobody's reference in {line}"
            );
        }
    }
}

fn linkage_code(value: &Value) -> String {
    let code = value["linkage_code"].as_str().unwrap();
    assert_eq!(
        data_encoding::BASE64URL_NOPAD
            .decode(code.as_bytes())
            .unwrap()
            .len(),
        32
    );
    code.to_owned()
}

#[test]
fn what_is_written_is_what_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let set = DataSet::generate(1, 100, cards()).unwrap();
    set.write_to(dir.path()).unwrap();
    cards().write_to(dir.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    for (code, lines) in &set.copies {
        let file = read(&format!("copies/{code}.jsonl"));
        assert!(file.ends_with('\n'));
        assert_eq!(&file.lines().collect::<Vec<_>>(), lines);
    }
    assert_eq!(
        read("persons-registry.jsonl").lines().collect::<Vec<_>>(),
        set.provider_linkages
    );
    assert_eq!(
        read("linkages-portal.jsonl").lines().collect::<Vec<_>>(),
        set.portal_linkages
    );
    let scenarios: Vec<crate::registers::ScenarioPerson> =
        serde_json::from_str(&read("scenarios.json")).unwrap();
    assert_eq!(scenarios, set.scenarios);
    for person in &scenarios {
        let card = crate::card::VirtualCard::from_pem(
            &read(&person.card_certificate_file),
            &read(&person.card_key_file),
        )
        .unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&card.public_key_sha256),
            person.card_key_sha256
        );
    }
}

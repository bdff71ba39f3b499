//! What is encoded is looked at, not what was meant to be: every value of every field of every member of random registers
//! is one that cannot be mistaken, and an answer's bytes hold those of the mask and no other (I7).

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use common::{
    clock::Timestamp,
    keyring::Keyring,
    policy::Item,
    terms::RegisterKind::{self, Current, PreRevision, Removed},
};
use koseki_proto::koseki::common::v1::{NameKanaStatus, RequesterCopyInfo};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::{
    non_provision,
    register::{Medium, specify},
};

const STATUSES: [(&str, NameKanaStatus); 4] = [
    ("none", NameKanaStatus::None),
    ("planned", NameKanaStatus::Planned),
    ("reported", NameKanaStatus::Reported),
    ("entered_ex_officio", NameKanaStatus::EnteredExOfficio),
];

/// A register of random shape. Its values follow from `nonce` and their places.
#[derive(Debug, Clone)]
struct Shape {
    kind: RegisterKind,
    /// Of each member the status, and whether the date of birth is whole.
    members: Vec<(usize, bool)>,
    own: usize,
    others_removed: bool,
    nonce: u64,
}

impl Shape {
    /// A value that stands nowhere else, with what text must come through: escapes, a variation sequence, Plane 2.
    fn value(&self, field: &str) -> String {
        format!(
            "«{field}\\\"\u{8fbb}\u{e0100}\u{20bb7}{:?}-{:016x}»",
            self.kind, self.nonce
        )
    }

    fn of_member(&self, at: usize, field: &str) -> String {
        self.value(&format!("{at}.{field}"))
    }

    fn record(&self) -> Value {
        let date = |field: &str, whole: bool| match whole {
            true => json!({
                "written": self.value(&format!("{field}.written")),
                "iso": self.value(&format!("{field}.iso")),
            }),
            false => json!({ "written": self.value(&format!("{field}.written")) }),
        };
        let members = self.members.iter().enumerate().map(|(at, (status, whole))| {
            let mut member = json!({
                "reference": self.of_member(at, "reference"),
                "name": self.of_member(at, "name"),
                "name_kana_status": STATUSES[*status].0,
                "birth_date": date(&format!("{at}.birth_date"), *whole),
                "father": self.of_member(at, "father"),
                "mother": self.of_member(at, "mother"),
                "relationship": self.of_member(at, "relationship"),
                "removed": at != self.own && self.others_removed,
            });
            if *status != 0 {
                member["name_kana"] = self.of_member(at, "name_kana").into();
            }
            member
        });
        json!({
            "municipality_code": self.value("municipality_code"),
            "local_number": self.value("local_number"),
            "registered_domicile": self.value("registered_domicile"),
            "first_entered_person": self.value("first_entered_person"),
            "made_on": date("made_on", true),
            "removed_on": date("removed_on", true),
            "members": members.collect::<Vec<_>>(),
            "digest": self.value("digest"),
        })
    }

    fn facts(&self) -> RegisterFacts {
        RegisterFacts {
            key: [0xEE; 32],
            kind: self.kind,
            medium: Medium::Text,
            in_motion: false,
            removed: self.kind != Current,
            position: self.own,
            municipality_code: self.value("municipality_code"),
            revision: 3,
            received_at: Timestamp::from_unix_ms(1_700_000_000_000),
            body: Some(Zeroizing::new(serde_json::to_vec(&self.record()).unwrap())),
        }
    }

    /// What the mask lets through of this register.
    fn allowed(&self, items: &BTreeSet<Item>) -> BTreeSet<String> {
        let mut allowed = BTreeSet::new();
        for item in items {
            match item {
                Item::RegisteredDomicile => allowed.insert(self.value("registered_domicile")),
                Item::FirstEnteredPerson => allowed.insert(self.value("first_entered_person")),
                Item::MunicipalityCode => allowed.insert(self.value("municipality_code")),
                Item::RequesterName if self.kind == Current => {
                    allowed.insert(self.of_member(self.own, "name"))
                }
                Item::RequesterNameKana if self.kind == Current && self.members[self.own].0 != 0 => {
                    allowed.insert(self.of_member(self.own, "name_kana"))
                }
                Item::RequesterBirthDate if self.kind == Current => {
                    if self.members[self.own].1 {
                        allowed.insert(self.of_member(self.own, "birth_date.iso"));
                    }
                    allowed.insert(self.of_member(self.own, "birth_date.written"))
                }
                _ => false,
            };
        }
        allowed
    }
}

/// Every text of a record, but for the words of the format itself.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with('«') => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

fn shape(kind: RegisterKind) -> impl Strategy<Value = Shape> {
    let members = prop::collection::vec((0..STATUSES.len(), any::<bool>()), 1..5);
    let rest = (any::<prop::sample::Index>(), any::<bool>(), any::<u64>());
    (members, rest).prop_map(move |(members, (own, others_removed, nonce))| Shape {
        kind,
        own: own.index(members.len()),
        members,
        others_removed,
        nonce,
    })
}

fn handles() -> HandleKey {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyring.toml");
    let purposes = ["sealing", "lookup", "pseudonym", "handle"];
    let key = |purpose: &&str| format!("[[{purpose}]]\nid = \"1\"\nkey = \"{}\"\n", "5a".repeat(32));
    fs::write(&file, purposes.iter().map(key).collect::<String>()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    Keyring::load(&file).unwrap().handle.unwrap()
}

fn encoded(facts: &[RegisterFacts], provision: &Provision, handles: &HandleKey) -> Vec<u8> {
    let specified = specify(facts, provision).unwrap();
    let providable = non_provision::check(specified, &[1; 32], &[]).unwrap();
    let answer = extract(&providable, provision, handles).unwrap();
    answer.into_message().encode_to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_encoded_answer_holds_what_is_in_the_mask_and_nothing_else(
        current in shape(Current),
        removed in prop::collection::vec(shape(Removed), 0..2),
        pre_revision in prop::collection::vec(shape(PreRevision), 0..2),
    ) {
        let handles = handles();
        let shapes: Vec<Shape> = [vec![current.clone()], removed, pre_revision].concat();
        let facts: Vec<RegisterFacts> = shapes.iter().map(Shape::facts).collect();
        for kinds in [
            BTreeSet::from([Current]),
            BTreeSet::from([Current, Removed]),
            BTreeSet::from([Current, PreRevision]),
            BTreeSet::from([Current, Removed, PreRevision]),
        ] {
            for subset in 0..1_u32 << Item::ALL.len() {
                let listed = |at: usize| subset & (1 << at) != 0;
                let items: BTreeSet<Item> =
                    (0..Item::ALL.len()).filter(|at| listed(*at)).map(|at| Item::ALL[at]).collect();
                let provision = Provision { registers: kinds.clone(), items: items.clone() };
                let bytes = encoded(&facts, &provision, &handles);
                let text = String::from_utf8_lossy(&bytes);
                let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
                prop_assert!(!holds(&[0xEE; 32]), "a look-up key");
                for shape in &shapes {
                    let is_asked_for = kinds.contains(&shape.kind);
                    let allowed = if is_asked_for { shape.allowed(&items) } else { BTreeSet::new() };
                    let mut values = Vec::new();
                    texts(&shape.record(), &mut values);
                    for value in values {
                        prop_assert_eq!(text.contains(&value), allowed.contains(&value), "{} {:?}", value, items);
                    }
                    let handle = handles.register(&shape.value("municipality_code"), &shape.value("local_number"));
                    let wanted = is_asked_for && items.contains(&Item::RegisterHandle);
                    prop_assert_eq!(holds(&handle), wanted);
                }
                let answer = RequesterCopyInfo::decode(bytes.as_slice()).unwrap();
                let status = answer.requester.map(|own| own.name_kana_status()).unwrap_or_default();
                let wanted = match items.contains(&Item::RequesterNameKanaStatus) {
                    true => STATUSES[current.members[current.own].0].1,
                    false => NameKanaStatus::Unspecified,
                };
                prop_assert_eq!(status, wanted);
            }
        }
    }
}

#[test]
fn a_place_at_which_nobody_or_somebody_removed_stands_gives_nothing() {
    let handles = handles();
    let shape = Shape {
        kind: Current,
        members: vec![(1, true), (2, true)],
        own: 0,
        others_removed: true,
        nonce: 1,
    };
    let provision = Provision {
        registers: BTreeSet::from([Current]),
        items: BTreeSet::from([Item::RequesterName]),
    };
    for (position, given) in [(0, true), (1, false), (2, false)] {
        let mut facts = shape.facts();
        facts.position = position;
        let facts = [facts];
        let providable = non_provision::check(specify(&facts, &provision).unwrap(), &[1; 32], &[]).unwrap();
        assert_eq!(
            extract(&providable, &provision, &handles).is_some(),
            given,
            "{position}"
        );
    }
}

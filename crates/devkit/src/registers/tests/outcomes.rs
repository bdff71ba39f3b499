//! What is expected of the scenario persons follows from the lines that are loaded, and the documentation names them all.

use std::collections::BTreeSet;

use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{cards, document, large};
use crate::registers::{
    DataSet, Medium, MotionState, OperatorRecord, Outcome, ProvidedRegister, Register, RegisterKind,
    Scenario, ScenarioPerson,
};

fn person(scenario: Scenario) -> &'static ScenarioPerson {
    large()
        .scenarios
        .iter()
        .find(|person| person.name == scenario.name())
        .unwrap()
}

fn lines_with(lines: &[String], field: &str, value: &str) -> Vec<Value> {
    let parsed = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    parsed.filter(|line: &Value| line[field] == value).collect()
}

/// What clause 4.2 lets through for this person: exactly one current register, in text, settled, the person not removed;
/// then every other register in text in which the person is entered.
fn specified(set: &DataSet, person_id: &str) -> Vec<ProvidedRegister> {
    let lines = lines_with(&set.provider_linkages, "person_id", person_id);
    let entries = lines.iter().find(|line| line["type"] == "person").unwrap()["members"].clone();
    let entries = entries.as_array().unwrap();
    let mut found = Vec::new();
    for register in set.copies.values().flatten() {
        let register: Register = serde_json::from_str(register).unwrap();
        let member = register.members.iter().find(|member| {
            entries.iter().any(|entry| {
                entry["municipality_code"] == register.municipality_code.as_str()
                    && entry["reference"] == member.reference.as_str()
            })
        });
        if let Some(removed) = member.map(|member| member.removed) {
            found.push((register, removed));
        }
    }
    let (current, mut older): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(register, _)| register.kind == RegisterKind::Current);
    let [(current, false)] = current.as_slice() else {
        return Vec::new();
    };
    if current.medium != Medium::Text || current.state != MotionState::Settled {
        return Vec::new();
    }
    older.retain(|(register, _)| register.medium == Medium::Text);
    older.sort_by_key(|(register, _)| register.made_on.iso.clone());
    std::iter::once(current)
        .chain(older.iter().map(|(register, _)| register))
        .map(Into::into)
        .collect()
}

#[test]
fn what_is_expected_follows_from_the_lines() {
    let set = large();
    for scenario in Scenario::ALL {
        let person = person(scenario);
        let specified = specified(set, &person.person_id);
        let expected = match &person.expected {
            Outcome::Provided { registers, .. } => Some(registers),
            _ => None,
        };
        match scenario {
            Scenario::TwoCurrentRegisters
            | Scenario::ImageOnly
            | Scenario::InMotion
            | Scenario::RemovedPerson => assert_eq!((specified, expected), (Vec::new(), None)),
            Scenario::Suppressed
            | Scenario::RegisterSuppressed
            | Scenario::RequesterAgainstRegister
            | Scenario::Blocked => {
                assert_eq!(person.expected, Outcome::NotProvided);
                assert!(person.record.is_some() && !specified.is_empty());
                assert_eq!(person.until_recorded, specified);
            }
            // The register would be provided: it is the linkage or the card alone that stands in the way.
            Scenario::NoLinkage
            | Scenario::SuspendedLinkage
            | Scenario::RevokedCard
            | Scenario::ExpiredCard => assert!(specified.len() == 1 && expected.is_none()),
            Scenario::Lineage => {
                assert_eq!(Some(&specified), expected);
                let kinds: Vec<_> = specified.iter().map(|register| register.register_kind).collect();
                assert_eq!(
                    kinds,
                    [
                        RegisterKind::Current,
                        RegisterKind::Removed,
                        RegisterKind::PreRevision
                    ]
                );
            }
            _ => assert_eq!((Some(&specified), 1), (expected, specified.len())),
        }
    }
}

#[test]
fn linkages_are_active_unless_the_scenario_says_otherwise() {
    let set = large();
    for scenario in Scenario::ALL {
        let hash = &person(scenario).card_key_sha256;
        let registry = lines_with(&set.provider_linkages, "card_key_sha256", hash);
        let portal = lines_with(&set.portal_linkages, "card_key_sha256", hash);
        let states = |lines: &[Value]| -> Vec<String> {
            lines
                .iter()
                .map(|line| line["state"].as_str().unwrap().to_owned())
                .collect()
        };
        match scenario {
            Scenario::NoLinkage => assert!(registry.is_empty() && portal.is_empty()),
            Scenario::SuspendedLinkage => {
                assert_eq!(
                    (states(&registry), states(&portal)),
                    (vec!["SUSPENDED".into()], vec!["ACTIVE".into()])
                );
            }
            _ => {
                assert_eq!(
                    (states(&registry), states(&portal)),
                    (vec!["ACTIVE".into()], vec!["ACTIVE".into()])
                );
                assert_eq!(registry[0]["person_id"], person(scenario).person_id.as_str());
            }
        }
    }
}

#[test]
fn records_cover_what_the_scenario_says() {
    let covers = |scenario| match person(scenario).record.clone() {
        Some(OperatorRecord::NonProvision { person_id, register }) => {
            assert!(person_id.is_none_or(|id| id == person(scenario).person_id));
            assert!(register.as_ref().is_none_or(|register| {
                register.municipality_code == person(scenario).until_recorded[0].municipality_code
            }));
            true
        }
        _ => false,
    };
    assert!(covers(Scenario::Suppressed));
    assert!(covers(Scenario::RegisterSuppressed));
    assert!(covers(Scenario::RequesterAgainstRegister));
    let shape = |scenario| match &person(scenario).record {
        Some(OperatorRecord::NonProvision { person_id, register }) => {
            (person_id.is_some(), register.is_some())
        }
        _ => (false, false),
    };
    assert_eq!(shape(Scenario::Suppressed), (true, false));
    assert_eq!(shape(Scenario::RegisterSuppressed), (false, true));
    assert_eq!(shape(Scenario::RequesterAgainstRegister), (true, true));
    let block = OperatorRecord::Block {
        card_key_sha256: person(Scenario::Blocked).card_key_sha256.clone(),
    };
    assert_eq!(person(Scenario::Blocked).record, Some(block));
}

#[test]
fn every_trap_character_is_in_name_and_domicile() {
    for (scenario, in_name, in_domicile) in [
        (
            Scenario::VariationSequence,
            "\u{8fbb}\u{e0100}",
            "\u{8fbb}\u{e0100}",
        ),
        (Scenario::CompatibilityIdeograph, "\u{fa11}\u{f9dc}", "\u{fa19}"),
        (Scenario::Plane2, "\u{20bb7}", "\u{20bb7}"),
        (Scenario::PrivateUse, "\u{10de92}", "\u{10de92}"),
        (Scenario::IdeographicSpace, "\u{3000}", "\u{3000}"),
    ] {
        let Outcome::Provided { registers, .. } = &person(scenario).expected else {
            panic!("not provided")
        };
        assert!(
            registers[0].first_entered_person.contains(in_name),
            "{}",
            scenario.name()
        );
        assert!(
            registers[0].registered_domicile.contains(in_domicile),
            "{}",
            scenario.name()
        );
        let lines = &large().copies[&registers[0].municipality_code];
        let name = format!(
            "\"first_entered_person\":\"{}\"",
            registers[0].first_entered_person
        );
        assert!(
            lines.iter().any(|line| line.contains(&name)),
            "{} is escaped",
            scenario.name()
        );
    }
}

#[test]
fn cards_are_as_their_scenarios_say() {
    let expired = |scenario| {
        let card = cards().card(scenario).unwrap();
        let (_, certificate) = X509Certificate::from_der(&card.certificate_der).unwrap();
        !certificate.validity().is_valid()
    };
    for scenario in Scenario::ALL {
        assert_eq!(expired(scenario), scenario == Scenario::ExpiredCard);
    }
    assert_eq!(
        cards().revoked_serials(),
        [cards().card(Scenario::RevokedCard).unwrap().serial.clone()]
    );
    let hashes: BTreeSet<_> = large()
        .scenarios
        .iter()
        .map(|person| &person.card_key_sha256)
        .collect();
    assert_eq!(hashes.len(), Scenario::ALL.len());
}

#[test]
fn the_documentation_names_the_scenario_persons_in_this_order() {
    let text = document("sandbox.md");
    let named: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | ").map(|(name, _)| name))
        .collect();
    let known: Vec<_> = Scenario::ALL.iter().map(|scenario| scenario.name()).collect();
    assert_eq!(named, known);
}

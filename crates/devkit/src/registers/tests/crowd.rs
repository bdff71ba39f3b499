//! The families: as many as asked for, the same every time, and with everything that registers hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{SEED, cards, large};
use crate::registers::{
    DataSet, Families, KanaStatus, MUNICIPALITIES, Medium, MotionState, Register, RegisterKind,
};

fn registers(set: &DataSet) -> Vec<Register> {
    set.copies
        .values()
        .flatten()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let first = DataSet::generate(SEED, 300, cards()).unwrap();
    assert_eq!(first, DataSet::generate(SEED, 300, cards()).unwrap());
    assert_ne!(
        first.copies,
        DataSet::generate(SEED + 1, 300, cards()).unwrap().copies
    );
}

#[test]
fn a_set_has_as_many_registers_as_asked_for() {
    let scenarios_only = registers(&DataSet::generate(SEED, 0, cards()).unwrap()).len();
    for asked in [scenarios_only, scenarios_only + 1, 100, 1_000] {
        assert_eq!(
            registers(&DataSet::generate(SEED, asked, cards()).unwrap()).len(),
            asked
        );
    }
}

#[test]
fn a_family_does_not_depend_on_how_many_are_asked_for() {
    let few: Vec<_> = Families::new(SEED, 1_000).take(20).map(Result::unwrap).collect();
    let many: Vec<_> = Families::new(SEED, 1_000_000)
        .take(20)
        .map(Result::unwrap)
        .collect();
    assert_eq!(few, many);
}

#[test]
fn everything_that_registers_hold_occurs() {
    let set = large();
    let registers = registers(set);
    assert_eq!(set.copies.len(), MUNICIPALITIES.len());
    let share = |is: &dyn Fn(&Register) -> bool| {
        registers.iter().filter(|register| is(register)).count() as f64 / registers.len() as f64
    };
    let current = |register: &Register| register.kind == RegisterKind::Current;
    assert!(share(&|r| current(r) && r.medium == Medium::Text) > 0.5);
    assert!((0.005..0.06).contains(&share(&|r| current(r) && r.medium == Medium::Image)));
    assert!(share(&|r| r.kind == RegisterKind::Removed && r.medium == Medium::Text) > 0.005);
    assert!(share(&|r| r.kind == RegisterKind::PreRevision && r.medium == Medium::Text) > 0.02);
    assert!(share(&|r| r.state == MotionState::InMotion) > 0.0);
    assert!(share(&|r| r.members.iter().any(|member| member.removed) && current(r)) > 0.05);
    assert!(share(&|r| r.members.len() > 3) > 0.1);

    let members = || registers.iter().flat_map(|register| &register.members);
    for status in [
        KanaStatus::None,
        KanaStatus::Planned,
        KanaStatus::Reported,
        KanaStatus::EnteredExOfficio,
    ] {
        assert!(members().any(|member| member.name_kana_status == status));
    }
    let partial = members().filter(|member| member.birth_date.iso.is_none()).count();
    assert!(
        (10..members().count() / 20).contains(&partial),
        "{partial} partial dates"
    );
    let former = MUNICIPALITIES.iter().flat_map(|municipality| municipality.former);
    let named = former.filter(|name| registers.iter().any(|r| r.registered_domicile.starts_with(*name)));
    assert!(named.count() > 5);
}

#[test]
fn children_leave_for_registers_of_their_own_in_other_municipalities() {
    let set = large();
    let mut standing: BTreeMap<(String, String), (bool, bool)> = BTreeMap::new();
    for register in registers(set) {
        for member in register.members {
            let key = (register.municipality_code.clone(), member.reference);
            let (left, entered) = standing.entry(key).or_default();
            *left |= member.removed;
            *entered |= !member.removed && register.kind == RegisterKind::Current;
        }
    }
    let mut moved = 0;
    for line in set
        .provider_linkages
        .iter()
        .filter(|line| line.contains("\"type\":\"person\""))
    {
        let person: serde_json::Value = serde_json::from_str(line).unwrap();
        let at: Vec<_> = person["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let text = |field: &str| entry[field].as_str().unwrap().to_owned();
                standing[&(text("municipality_code"), text("reference"))]
            })
            .collect();
        let codes: BTreeSet<_> = person["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["municipality_code"].to_string())
            .collect();
        assert_eq!(
            codes.len(),
            at.len(),
            "two references in one municipality: {line}"
        );
        if at.len() > 1 && at.iter().any(|(left, _)| *left) && at.iter().any(|(_, entered)| *entered) {
            moved += 1;
        }
    }
    assert!(moved > 100, "{moved} moved");
}

//! The registers, persons and linkages of the scenario persons.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use rand_chacha::ChaCha8Rng;
use time::macros::date;

use super::calendar::whole;
use super::family::CopyLine;
use super::linkage::{Entry, LinkageState, linkage_lines, person_line};
use super::municipality::{
    CHIYODA, FUKUOKA, HAMAMATSU, HIROSHIMA, KOBE, KYOTO, MORIOKA, Municipality, NAGANO, NAGOYA, NAHA,
    NIIGATA, OSAKA, SAITAMA, SAPPORO, SENDAI, YOKOHAMA,
};
use super::names::{Name, name};
use super::register::{KanaStatus, Medium, Member, MotionState, Register, RegisterDate, RegisterKind};
use super::scenario_cards::CARD_DIRECTORY;
use super::{
    DataError, Family, OperatorRecord, Outcome, ProvidedRegister, RegisterRef, RequesterItems, Scenario,
    ScenarioCards, ScenarioPerson,
};
use crate::card::{certificate_file, key_file};

/// Which of the household is the scenario person.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// Entered first.
    First,
    Spouse,
    Child,
}

/// What a scenario person's household is called, and where it is registered.
struct Household {
    place: &'static Municipality,
    /// The domicile as written.
    domicile: String,
    surname: Name,
    first: Name,
    seat: Seat,
}

/// Lines and descriptions of all scenario persons.
pub(super) struct ScenarioRegisters {
    pub(super) lines: Family,
    pub(super) persons: Vec<ScenarioPerson>,
}

/// Makes them all.
pub(super) fn build(rng: &mut ChaCha8Rng, cards: &ScenarioCards) -> Result<ScenarioRegisters, DataError> {
    let mut builder = Builder {
        references: BTreeMap::new(),
        register_count: 0,
        people: BTreeMap::new(),
    };
    let mut lines = Family::default();
    let mut persons = Vec::new();
    for scenario in Scenario::ALL {
        let household = household(scenario);
        let person_id = person_id(scenario, household.seat);
        let registers = builder.registers(scenario, &household);
        for register in &registers {
            let municipality_code = register.municipality_code.clone();
            lines.copies.push(CopyLine {
                municipality_code,
                line: register.to_line()?,
            });
        }
        let card = cards.card(scenario)?;
        if scenario != Scenario::NoLinkage {
            let at_provider = match scenario {
                Scenario::SuspendedLinkage => LinkageState::Suspended,
                _ => LinkageState::Active,
            };
            let pair = linkage_lines(
                rng,
                &person_id,
                &card.public_key_sha256,
                at_provider,
                LinkageState::Active,
            )?;
            lines.provider_linkages.push(pair.provider);
            lines.portal_linkages.push(pair.portal);
        }
        let key_hash = HEXLOWER.encode(&card.public_key_sha256);
        persons.push(describe(scenario, household.seat, key_hash, &registers)?);
    }
    for (person_id, entries) in &builder.people {
        lines.persons.push(person_line(person_id, entries)?);
    }
    Ok(ScenarioRegisters { lines, persons })
}

fn describe(
    scenario: Scenario,
    seat: Seat,
    card_key_sha256: String,
    registers: &[Register],
) -> Result<ScenarioPerson, DataError> {
    let person_id = person_id(scenario, seat);
    // The current register comes first, and its members in the order of the seats.
    let own = registers
        .first()
        .and_then(|register| register.members.get(seat as usize));
    let requester = RequesterItems::from(own.ok_or(DataError::NoEntry(scenario.name()))?);
    let provided: Vec<_> = registers.iter().map(ProvidedRegister::from).collect();
    let register = registers.first().map(|register| RegisterRef {
        municipality_code: register.municipality_code.clone(),
        local_number: register.local_number.clone(),
    });
    let of_person = Some(person_id.clone());
    let record = match scenario {
        Scenario::Suppressed => Some(OperatorRecord::NonProvision {
            person_id: of_person,
            register: None,
        }),
        Scenario::RegisterSuppressed => Some(OperatorRecord::NonProvision {
            person_id: None,
            register,
        }),
        Scenario::RequesterAgainstRegister => Some(OperatorRecord::NonProvision {
            person_id: of_person,
            register,
        }),
        Scenario::Blocked => Some(OperatorRecord::Block {
            card_key_sha256: card_key_sha256.clone(),
        }),
        _ => None,
    };
    let until_recorded = if record.is_some() {
        provided.clone()
    } else {
        Vec::new()
    };
    let expected = match scenario {
        Scenario::Ordinary
        | Scenario::VariationSequence
        | Scenario::CompatibilityIdeograph
        | Scenario::Plane2
        | Scenario::PrivateUse
        | Scenario::IdeographicSpace
        | Scenario::Lineage => Outcome::Provided {
            registers: provided,
            requester,
        },
        Scenario::Suppressed
        | Scenario::RegisterSuppressed
        | Scenario::RequesterAgainstRegister
        | Scenario::NoLinkage
        | Scenario::SuspendedLinkage
        | Scenario::TwoCurrentRegisters
        | Scenario::ImageOnly
        | Scenario::InMotion
        | Scenario::RemovedPerson
        | Scenario::Blocked => Outcome::NotProvided,
        Scenario::RevokedCard => Outcome::CardRevoked,
        Scenario::ExpiredCard => Outcome::CardExpired,
    };
    Ok(ScenarioPerson {
        name: scenario.name().to_owned(),
        expected,
        person_id,
        record,
        until_recorded,
        card_certificate_file: format!("{CARD_DIRECTORY}/{}", certificate_file(scenario.name())),
        card_key_file: format!("{CARD_DIRECTORY}/{}", key_file(scenario.name())),
        card_key_sha256,
    })
}

fn person_id(scenario: Scenario, seat: Seat) -> String {
    let seat = match seat {
        Seat::First => "first",
        Seat::Spouse => "spouse",
        Seat::Child => "child",
    };
    format!("scenario-{}-{seat}", scenario.name())
}

/// The household of each, with the placeholder names that forms use.
fn household(scenario: Scenario) -> Household {
    const KONO: Name = name("甲野", "コウノ");
    const OTSUKAWA: Name = name("乙川", "オツカワ");
    const HEIYAMA: Name = name("丙山", "ヘイヤマ");
    const TEIDA: Name = name("丁田", "テイダ");
    const ICHIRO: Name = name("一郎", "イチロウ");
    const JIRO: Name = name("二郎", "ジロウ");
    const YOSHITARO: Name = name("義太郎", "ヨシタロウ");
    const HANAKO: Name = name("花子", "ハナコ");
    let (place, town, surname, first, seat) = match scenario {
        Scenario::Ordinary => (&CHIYODA, "本町一丁目１番", KONO, YOSHITARO, Seat::Spouse),
        Scenario::Suppressed => (&OSAKA, "中央二丁目２番", OTSUKAWA, ICHIRO, Seat::Spouse),
        Scenario::RegisterSuppressed => (&NAGOYA, "栄町３番地", HEIYAMA, JIRO, Seat::First),
        Scenario::RequesterAgainstRegister => (&SAPPORO, "北町四丁目４番", TEIDA, ICHIRO, Seat::Child),
        Scenario::NoLinkage => (&NAHA, "泉町5番地5", KONO, HANAKO, Seat::First),
        Scenario::SuspendedLinkage => (&SENDAI, "緑町六丁目６番", OTSUKAWA, JIRO, Seat::First),
        Scenario::TwoCurrentRegisters => (&YOKOHAMA, "元町７番地", HEIYAMA, HANAKO, Seat::First),
        Scenario::ImageOnly => (&HIROSHIMA, "旭町8番地8", TEIDA, JIRO, Seat::First),
        Scenario::InMotion => (&FUKUOKA, "幸町九丁目９番", KONO, ICHIRO, Seat::Child),
        Scenario::RemovedPerson => (&NAGANO, "桜町１０番地", OTSUKAWA, HANAKO, Seat::Spouse),
        Scenario::Blocked => (&HAMAMATSU, "東町11番地1", HEIYAMA, ICHIRO, Seat::First),
        Scenario::VariationSequence => (
            &KYOTO,
            "\u{8fbb}\u{e0100}町１２番地",
            name("\u{8fbb}\u{e0100}野", "ツジノ"),
            JIRO,
            Seat::First,
        ),
        Scenario::CompatibilityIdeograph => (
            &KOBE,
            "\u{fa19}明町１３番地",
            name("山\u{fa11}", "ヤマザキ"),
            name("\u{f9dc}太", "リュウタ"),
            Seat::First,
        ),
        Scenario::Plane2 => (
            &OSAKA,
            "\u{20bb7}野町１４番地",
            name("\u{20bb7}川", "ヨシカワ"),
            HANAKO,
            Seat::First,
        ),
        Scenario::PrivateUse => (
            &NIIGATA,
            "\u{10de92}町１５番地",
            name("\u{10de92}島", "ワタシマ"),
            ICHIRO,
            Seat::First,
        ),
        Scenario::IdeographicSpace => (
            &MORIOKA,
            "\u{3000}本町\u{3000}１６番地",
            name("丁田\u{3000}", "テイダ"),
            YOSHITARO,
            Seat::First,
        ),
        Scenario::RevokedCard => (&CHIYODA, "本町十七丁目１７番", OTSUKAWA, YOSHITARO, Seat::First),
        Scenario::ExpiredCard => (&NAGOYA, "栄町18番地18", TEIDA, YOSHITARO, Seat::First),
        Scenario::Lineage => (&SAITAMA, "常盤町１９番地", HEIYAMA, YOSHITARO, Seat::First),
    };
    Household {
        place,
        domicile: format!("{}{town}", place.name),
        surname,
        first,
        seat,
    }
}

struct Builder {
    /// The last reference given, by municipality: every one counts from 1001, so that the same reference means another
    /// person elsewhere.
    references: BTreeMap<&'static str, u32>,
    register_count: u32,
    /// Where each person is entered.
    people: BTreeMap<String, Vec<Entry>>,
}

impl Builder {
    /// The scenario's registers in the order of an answer.
    fn registers(&mut self, scenario: Scenario, household: &Household) -> Vec<Register> {
        let mut current = self.current(scenario, household);
        match scenario {
            Scenario::ImageOnly => current.medium = Medium::Image,
            Scenario::InMotion => current.state = MotionState::InMotion,
            Scenario::RemovedPerson => {
                for member in current.members.iter_mut().skip(1).take(1) {
                    member.removed = true;
                }
            }
            Scenario::TwoCurrentRegisters => {
                let second = self.second_current(scenario, &current);
                return vec![current, second];
            }
            Scenario::Lineage => {
                let pre_revision = self.pre_revision(&current);
                let removed = self.parents(scenario, household, &current);
                return vec![current, removed, pre_revision];
            }
            _ => {}
        }
        vec![current]
    }

    /// The household's current register: a couple and a child.
    fn current(&mut self, scenario: Scenario, household: &Household) -> Register {
        let spouse = name("春子", "ハルコ");
        let child = name("秋", "アキ");
        let full = |given: Name| format!("{}{}", household.surname.written, given.written);
        let mut members = Vec::new();
        for (seat, given, relationship, birth_date, parents) in [
            (
                Seat::First,
                household.first,
                "長男",
                whole(date!(1974 - 05 - 06)),
                ("甲野太郎", "竹子"),
            ),
            (
                Seat::Spouse,
                spouse,
                "二女",
                whole(date!(1976 - 11 - 30)),
                ("乙川三郎", "梅子"),
            ),
            (
                Seat::Child,
                child,
                "長女",
                whole(date!(2003 - 02 - 28)),
                (full(household.first).as_str(), "春子"),
            ),
        ] {
            let id = person_id(scenario, seat);
            let status = kana_status(scenario, seat);
            members.push(Member {
                birth_date,
                father: Some(parents.0.to_owned()),
                mother: Some(parents.1.to_owned()),
                name: full(given),
                name_kana: reading(household.surname, given, status),
                name_kana_status: status,
                reference: self.reference(&id, household.place),
                relationship: relationship.to_owned(),
                removed: false,
            });
        }
        Register {
            first_entered_person: full(household.first),
            kind: RegisterKind::Current,
            local_number: self.local_number(),
            made_on: whole(date!(2005 - 04 - 01)),
            medium: Medium::Text,
            members,
            municipality_code: household.place.code.to_owned(),
            registered_domicile: household.domicile.clone(),
            removed_on: None,
            revision: 3,
            state: MotionState::Settled,
        }
    }

    /// Another current register of the person entered first, elsewhere: which of the two it is cannot be told.
    fn second_current(&mut self, scenario: Scenario, first: &Register) -> Register {
        let id = person_id(scenario, Seat::First);
        let mut second = first.clone();
        second.local_number = self.local_number();
        second.municipality_code = NAHA.code.to_owned();
        second.registered_domicile = format!("{}元町７番地", NAHA.name);
        second.made_on = whole(date!(2011 - 07 - 07));
        second.members.truncate(1);
        for member in &mut second.members {
            member.reference = self.reference(&id, &NAHA);
        }
        second
    }

    /// The same household's register before the municipality went over to magnetic disk, at a place whose municipality no
    /// longer exists.
    fn pre_revision(&mut self, current: &Register) -> Register {
        let mut register = current.clone();
        register.kind = RegisterKind::PreRevision;
        register.local_number = self.local_number();
        register.made_on = whole(date!(1999 - 10 - 10));
        register.removed_on = Some(whole(date!(2005 - 04 - 01)));
        register.registered_domicile = "埼玉県浦和市常盤町１９番地".to_owned();
        register.revision = 1;
        for member in &mut register.members {
            member.name_kana = None;
            member.name_kana_status = KanaStatus::None;
        }
        register
    }

    /// The parents' register, closed; the person left it by marriage.
    fn parents(&mut self, scenario: Scenario, household: &Household, current: &Register) -> Register {
        let father = format!("{}太郎", household.surname.written);
        let mut members = Vec::new();
        for (seat, given, relationship) in [("father", "太郎", "二男"), ("mother", "竹子", "長女")] {
            let id = format!("scenario-{}-{seat}", scenario.name());
            members.push(Member {
                birth_date: RegisterDate {
                    iso: None,
                    written: "昭和20年月日不詳".to_owned(),
                },
                father: None,
                mother: None,
                name: format!("{}{given}", household.surname.written),
                name_kana: None,
                name_kana_status: KanaStatus::None,
                reference: self.reference(&id, &NIIGATA),
                relationship: relationship.to_owned(),
                removed: true,
            });
        }
        let id = person_id(scenario, Seat::First);
        members.extend(current.members.iter().take(1).map(|member| Member {
            name_kana: None,
            name_kana_status: KanaStatus::None,
            reference: self.reference(&id, &NIIGATA),
            removed: true,
            ..member.clone()
        }));
        Register {
            first_entered_person: father,
            kind: RegisterKind::Removed,
            local_number: self.local_number(),
            made_on: whole(date!(1970 - 03 - 03)),
            medium: Medium::Text,
            members,
            municipality_code: NIIGATA.code.to_owned(),
            registered_domicile: "新潟県新津市本町２０番地".to_owned(),
            removed_on: Some(whole(date!(2012 - 12 - 12))),
            revision: 2,
            state: MotionState::Settled,
        }
    }

    /// The municipality's reference of the person: the one that it has, or the next.
    fn reference(&mut self, person_id: &str, place: &'static Municipality) -> String {
        let entries = self.people.entry(person_id.to_owned()).or_default();
        if let Some(entry) = entries.iter().find(|entry| entry.municipality_code == place.code) {
            return entry.reference.clone();
        }
        let last = self.references.entry(place.code).or_insert(1000);
        *last += 1;
        let reference = format!("S{last}");
        entries.push(Entry {
            municipality_code: place.code.to_owned(),
            reference: reference.clone(),
        });
        reference
    }

    fn local_number(&mut self) -> String {
        self.register_count += 1;
        format!("S{:03}", self.register_count)
    }
}

/// Every status occurs, spread over the scenarios and the seats.
fn kana_status(scenario: Scenario, seat: Seat) -> KanaStatus {
    let position = Scenario::ALL
        .iter()
        .position(|other| *other == scenario)
        .unwrap_or_default();
    match (position + seat as usize) % 4 {
        0 => KanaStatus::Reported,
        1 => KanaStatus::Planned,
        2 => KanaStatus::EnteredExOfficio,
        _ => KanaStatus::None,
    }
}

fn reading(surname: Name, given: Name, status: KanaStatus) -> Option<String> {
    (status != KanaStatus::None).then(|| format!("{}\u{3000}{}", surname.kana, given.kana))
}

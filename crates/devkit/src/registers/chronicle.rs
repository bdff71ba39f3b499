//! How one family comes about: who marries, who is born, who leaves, and which registers all that makes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use time::macros::date;
use time::{Date, Duration};

use super::DataError;
use super::calendar::{AS_OF, partial, whole, years_after};
use super::family::{CopyLine, Family};
use super::linkage::{Entry, LinkageState, linkage_lines, person_line};
use super::municipality::{ANY, Municipality};
use super::names::{FAMILY, FEMALE, MALE, Name};
use super::register::{KanaStatus, Medium, Member, MotionState, Register, RegisterDate, RegisterKind};
use super::{choice::Choice, domicile};

/// Births of those who founded the families.
const FIRST_BIRTH: Date = date!(1940 - 01 - 01);
/// The years over which these births are spread: the last of them have married by now.
const BIRTH_YEARS: i64 = 55;
/// Age at which a child may have married and left the parents' register.
const GROWN_YEARS: i64 = 24;

const IMAGE_SHARE: f64 = 0.03;
const OLD_IMAGE_SHARE: f64 = 0.6;
const IN_MOTION_SHARE: f64 = 0.003;
const PARTIAL_SHARE: f64 = 0.015;
const SPOUSE_FIRST_SHARE: f64 = 0.04;
const CHILD_MARRIED_SHARE: f64 = 0.6;
const SAME_MUNICIPALITY_SHARE: f64 = 0.3;
const GRANDPARENTS_SHARE: f64 = 0.12;
const DIED_SHARE: f64 = 0.3;
const LINKED_SHARE: f64 = 0.6;

/// Relationships to the parents, by order of birth among sons.
const SONS: [&str; 4] = ["長男", "二男", "三男", "四男"];
/// The same among daughters.
const DAUGHTERS: [&str; 4] = ["長女", "二女", "三女", "四女"];

/// Man or woman, for names and relationships.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sex {
    Male,
    Female,
}

/// Somebody, with what follows them from register to register.
#[derive(Clone)]
struct Person {
    number: usize,
    sex: Sex,
    given: Name,
    born_on: Date,
    birth_date: RegisterDate,
    father: Option<String>,
    mother: Option<String>,
    relationship: &'static str,
    kana_status: KanaStatus,
}

/// How a person stands in one register.
struct Standing {
    removed: bool,
    with_kana: bool,
}

const ENTERED: Standing = Standing {
    removed: false,
    with_kana: true,
};
const LEFT: Standing = Standing {
    removed: true,
    with_kana: false,
};
const BEFORE_KANA: Standing = Standing {
    removed: false,
    with_kana: false,
};

/// What is known of a family so far.
pub(super) struct Chronicle {
    rng: ChaCha8Rng,
    number: u64,
    room: usize,
    registers: Vec<Register>,
    /// By person number: where they are entered, and whether a current register still holds them.
    people: Vec<(Vec<Entry>, bool)>,
}

impl Chronicle {
    pub(super) fn begin(seed: u64, number: u64, room: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self {
            rng,
            number,
            room,
            registers: Vec::new(),
            people: Vec::new(),
        }
    }

    /// A couple, their children, the children's own registers, and what older registers there are.
    pub(super) fn found_family(&mut self) {
        let home = *ANY.pick(&mut self.rng);
        let surname = *FAMILY.pick(&mut self.rng);
        let born = years_after(FIRST_BIRTH, self.rng.random_range(0..BIRTH_YEARS), &mut self.rng);
        let spouse_first = self.rng.random_bool(SPOUSE_FIRST_SHARE);
        // The couple has the name of the one entered first: the husband's parents have it when that is he.
        let remembered = !spouse_first && self.rng.random_bool(GRANDPARENTS_SHARE);
        let grandparents = remembered.then(|| self.grandparents(born));
        let parents = grandparents
            .as_ref()
            .map(|[father, mother]| parent_names(surname, father, mother));
        let husband = self.person(Sex::Male, born, parents);
        let wife_born = born.saturating_add(Duration::days(self.rng.random_range(-1500..1200)));
        let wife = self.person(Sex::Female, wife_born, None);
        let married_on = years_after(born, self.rng.random_range(22..30), &mut self.rng);
        let children = self.children(surname, &husband, &wife, married_on);
        let weddings: Vec<_> = children.iter().map(|child| self.wedding(child)).collect();
        let couple = if spouse_first {
            [&wife, &husband]
        } else {
            [&husband, &wife]
        };

        // The municipality went over to magnetic disk: older registers were closed and made anew.
        let revised_on = years_after(date!(1998 - 01 - 01), self.rng.random_range(0..10), &mut self.rng);
        let revised = married_on < revised_on && self.has_room(2);
        let made_on = if revised { revised_on } else { married_on };

        let mut members = Vec::new();
        for person in couple {
            let died = person.born_on < date!(1950 - 01 - 01) && self.rng.random_bool(DIED_SHARE);
            members.push(self.enter(person, surname, home, if died { LEFT } else { ENTERED }, true));
        }
        for (child, wedding) in children.iter().zip(&weddings) {
            match wedding {
                None => members.push(self.enter(child, surname, home, ENTERED, true)),
                // Who left before the revision was not carried over.
                Some(day) if *day > made_on => members.push(self.enter(child, surname, home, LEFT, true)),
                Some(_) => {}
            }
        }
        let current_domicile = domicile::current(home, &mut self.rng);
        self.add_current(home, current_domicile, made_on, members);

        if revised {
            let mut members = Vec::new();
            for person in couple {
                members.push(self.enter(person, surname, home, BEFORE_KANA, false));
            }
            for (child, wedding) in children.iter().zip(&weddings) {
                if child.born_on < revised_on {
                    let left = wedding.is_some_and(|day| day <= revised_on);
                    let standing = if left { LEFT } else { BEFORE_KANA };
                    members.push(self.enter(child, surname, home, standing, false));
                }
            }
            self.add_old(RegisterKind::PreRevision, home, married_on, revised_on, members);
        }
        for (child, wedding) in children.iter().zip(weddings) {
            if let Some(day) = wedding {
                self.found_branch(child, surname, home, day);
            }
        }
        if let Some(grandparents) = grandparents.filter(|_| self.has_room(1)) {
            self.remember_grandparents(&grandparents, &husband, surname, married_on);
        }
    }

    /// The register of a child who has married.
    fn found_branch(&mut self, child: &Person, surname: Name, home: &'static Municipality, day: Date) {
        if !self.has_room(1) {
            return;
        }
        let stays = self.rng.random_bool(SAME_MUNICIPALITY_SHARE);
        let place = if stays { home } else { ANY.pick(&mut self.rng) };
        let other_sex = if child.sex == Sex::Male {
            Sex::Female
        } else {
            Sex::Male
        };
        let born = child
            .born_on
            .saturating_add(Duration::days(self.rng.random_range(-1500..1500)));
        let spouse = self.person(other_sex, born, None);
        let (husband, wife) = if child.sex == Sex::Male {
            (child, &spouse)
        } else {
            (&spouse, child)
        };
        let surname = if child.sex == Sex::Male {
            surname
        } else {
            *FAMILY.pick(&mut self.rng)
        };
        let children = self.children(surname, husband, wife, day);
        let mut members = Vec::new();
        for person in [husband, wife].into_iter().chain(&children) {
            members.push(self.enter(person, surname, place, ENTERED, true));
        }
        let domicile = domicile::current(place, &mut self.rng);
        self.add_current(place, domicile, day, members);
    }

    /// The parents of somebody born on this day.
    fn grandparents(&mut self, child_born: Date) -> [Person; 2] {
        let age = self.rng.random_range(25..35);
        let born = years_after(child_born, -age, &mut self.rng);
        let wife_born = born.saturating_add(Duration::days(self.rng.random_range(-700..1500)));
        [
            self.person(Sex::Male, born, None),
            self.person(Sex::Female, wife_born, None),
        ]
    }

    /// The husband's parents' register, closed when nobody was left in it.
    fn remember_grandparents(
        &mut self,
        [father, mother]: &[Person; 2],
        husband: &Person,
        surname: Name,
        married_on: Date,
    ) {
        let place = *ANY.pick(&mut self.rng);
        let made_on = years_after(husband.born_on, -self.rng.random_range(2..5), &mut self.rng);
        let removed_on = years_after(married_on, self.rng.random_range(1..12), &mut self.rng).min(AS_OF);
        let members = [father, mother, husband]
            .map(|person| self.enter(person, surname, place, LEFT, false))
            .to_vec();
        self.add_old(RegisterKind::Removed, place, made_on, removed_on, members);
    }

    fn children(&mut self, surname: Name, father: &Person, mother: &Person, married_on: Date) -> Vec<Person> {
        let parents = parent_names(surname, father, mother);
        let mut born = married_on;
        let (mut sons, mut daughters) = (SONS.iter(), DAUGHTERS.iter());
        let mut children = Vec::new();
        for _ in 0..self.rng.random_range(0..4) {
            born = years_after(born, self.rng.random_range(1..4), &mut self.rng);
            if born >= AS_OF {
                break;
            }
            let sex = if self.rng.random_bool(0.5) {
                Sex::Male
            } else {
                Sex::Female
            };
            let mut child = self.person(sex, born, Some(parents.clone()));
            let next = if sex == Sex::Male {
                sons.next()
            } else {
                daughters.next()
            };
            child.relationship = next.copied().unwrap_or(child.relationship);
            children.push(child);
        }
        children
    }

    /// When the child married, if it has.
    fn wedding(&mut self, child: &Person) -> Option<Date> {
        let day = years_after(
            child.born_on,
            self.rng.random_range(GROWN_YEARS..32),
            &mut self.rng,
        );
        (self.rng.random_bool(CHILD_MARRIED_SHARE) && day < AS_OF).then_some(day)
    }

    /// Somebody new. Without parents in the family, parents are made up whose registers are not part of the set.
    fn person(&mut self, sex: Sex, born_on: Date, parents: Option<(String, String)>) -> Person {
        let rng = &mut self.rng;
        let (given, relationships) = match sex {
            Sex::Male => (*MALE.pick(rng), Choice::of("長男", &["二男", "三男"])),
            Sex::Female => (*FEMALE.pick(rng), Choice::of("長女", &["二女", "三女"])),
        };
        let (father, mother) = match parents {
            Some((father, mother)) => (Some(father), Some(mother)),
            // Fathers are not always entered.
            None if rng.random_bool(0.02) => (None, Some(FEMALE.pick(rng).written.to_owned())),
            None => {
                let father = format!("{}{}", FAMILY.pick(rng).written, MALE.pick(rng).written);
                (Some(father), Some(FEMALE.pick(rng).written.to_owned()))
            }
        };
        let birth_date = if rng.random_bool(PARTIAL_SHARE) {
            partial(born_on, rng)
        } else {
            whole(born_on)
        };
        let kana_status = match rng.random_range(0..100) {
            0..5 => KanaStatus::None,
            5..45 => KanaStatus::Planned,
            45..85 => KanaStatus::Reported,
            _ => KanaStatus::EnteredExOfficio,
        };
        let relationship = *relationships.pick(rng);
        let number = self.people.len();
        self.people.push((Vec::new(), false));
        Person {
            number,
            sex,
            given,
            born_on,
            birth_date,
            father,
            mother,
            relationship,
            kana_status,
        }
    }

    /// Enters a person in a register of this municipality.
    fn enter(
        &mut self,
        person: &Person,
        surname: Name,
        place: &Municipality,
        standing: Standing,
        current: bool,
    ) -> Member {
        let kana_status = if standing.with_kana {
            person.kana_status
        } else {
            KanaStatus::None
        };
        let name_kana = match kana_status {
            KanaStatus::None => None,
            _ => Some(format!("{}\u{3000}{}", surname.kana, person.given.kana)),
        };
        Member {
            birth_date: person.birth_date.clone(),
            father: person.father.clone(),
            mother: person.mother.clone(),
            name: format!("{}{}", surname.written, person.given.written),
            name_kana,
            name_kana_status: kana_status,
            reference: self.reference(person.number, place, current && !standing.removed),
            relationship: person.relationship.to_owned(),
            removed: standing.removed,
        }
    }

    /// The municipality's reference of the person: the one that it has, or a new one.
    fn reference(&mut self, person: usize, place: &Municipality, held: bool) -> String {
        let Some((entries, is_held)) = self.people.get_mut(person) else {
            return String::new();
        };
        *is_held |= held;
        if let Some(entry) = entries.iter().find(|entry| entry.municipality_code == place.code) {
            return entry.reference.clone();
        }
        let reference = format!("{}-{}", self.number, person * 10 + entries.len());
        entries.push(Entry {
            municipality_code: place.code.to_owned(),
            reference: reference.clone(),
        });
        reference
    }

    /// How many registers there are.
    pub(super) fn register_count(&self) -> usize {
        self.registers.len()
    }

    fn has_room(&self, registers: usize) -> bool {
        self.registers.len() + registers <= self.room
    }

    fn add_current(&mut self, place: &Municipality, domicile: String, made_on: Date, members: Vec<Member>) {
        let medium = if self.rng.random_bool(IMAGE_SHARE) {
            Medium::Image
        } else {
            Medium::Text
        };
        let in_motion = self.rng.random_bool(IN_MOTION_SHARE);
        let state = if in_motion {
            MotionState::InMotion
        } else {
            MotionState::Settled
        };
        self.registers.push(Register {
            first_entered_person: first_name(&members),
            kind: RegisterKind::Current,
            local_number: self.local_number(),
            made_on: whole(made_on),
            medium,
            members,
            municipality_code: place.code.to_owned(),
            registered_domicile: domicile,
            removed_on: None,
            revision: self.rng.random_range(1..6),
            state,
        });
    }

    fn add_old(
        &mut self,
        kind: RegisterKind,
        place: &Municipality,
        made_on: Date,
        removed_on: Date,
        members: Vec<Member>,
    ) {
        let medium = if self.rng.random_bool(OLD_IMAGE_SHARE) {
            Medium::Image
        } else {
            Medium::Text
        };
        let unknown = self.rng.random_bool(PARTIAL_SHARE);
        let made_on = if unknown {
            partial(made_on, &mut self.rng)
        } else {
            whole(made_on)
        };
        self.registers.push(Register {
            first_entered_person: first_name(&members),
            kind,
            local_number: self.local_number(),
            made_on,
            medium,
            members,
            municipality_code: place.code.to_owned(),
            registered_domicile: domicile::old(place, &mut self.rng),
            removed_on: Some(whole(removed_on)),
            revision: self.rng.random_range(1..3),
            state: MotionState::Settled,
        });
    }

    fn local_number(&self) -> String {
        format!("{:08}-{}", self.number, self.registers.len() + 1)
    }

    pub(super) fn into_family(mut self) -> Result<Family, DataError> {
        let mut family = Family::default();
        for register in &self.registers {
            family.copies.push(CopyLine {
                municipality_code: register.municipality_code.clone(),
                line: register.to_line()?,
            });
        }
        for (number, (entries, held)) in self.people.iter().enumerate() {
            if entries.is_empty() {
                continue;
            }
            let person_id = format!("p{:08}-{number}", self.number);
            family.persons.push(person_line(&person_id, entries)?);
            if *held && self.rng.random_bool(LINKED_SHARE) {
                let state = match self.rng.random_range(0..100) {
                    0..2 => LinkageState::Pending,
                    2..3 => LinkageState::Suspended,
                    3..4 => LinkageState::Revoked,
                    _ => LinkageState::Active,
                };
                // The hash of no card: nobody can log in as somebody of the crowd.
                let card_key = self.rng.random::<[u8; 32]>();
                let pair = linkage_lines(&mut self.rng, &person_id, &card_key, state, state)?;
                family.provider_linkages.push(pair.provider);
                family.portal_linkages.push(pair.portal);
            }
        }
        Ok(family)
    }
}

/// Father and mother as a child's entry names them: the mother without the family name that she shares.
fn parent_names(surname: Name, father: &Person, mother: &Person) -> (String, String) {
    (
        format!("{}{}", surname.written, father.given.written),
        mother.given.written.to_owned(),
    )
}

fn first_name(members: &[Member]) -> String {
    members
        .first()
        .map(|member| member.name.clone())
        .unwrap_or_default()
}

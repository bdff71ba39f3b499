//! The history of a side, judged by its epochs (I1, I3): what was released while something stood against it. Everything comes
//! from the side's audit logs; the test only says whom its own acts were about.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use koseki_proto::koseki::{common::v1::RequestKind, evidence::v1::Outcome};

use crate::log::{Entry, Event, logs};

/// What has to hold for a release, at a side, and for whom or what: an account, a consent, a person of the test, a kind.
pub type Key = (&'static str, String);

/// What was done to a condition, by epochs.
#[derive(Default)]
struct Condition {
    closed: BTreeSet<u64>,
    opened: BTreeSet<u64>,
}

impl Condition {
    /// Whether it can have held under an epoch: it was opened since it was closed last. An act that closes begins its epoch,
    /// so what opens under the same one came after it.
    fn can_hold(&self, epoch: u64) -> bool {
        let since = self.closed.range(..=epoch).next_back().copied().unwrap_or(0);
        self.opened.range(since..=epoch).next().is_some()
    }
}

/// A release.
pub struct Release {
    /// The epoch under which it was committed.
    pub epoch: u64,
    /// The request.
    pub request_id: String,
    /// Its kind.
    pub kind: RequestKind,
    /// Pseudonym of whom it was about.
    pub subject: Vec<u8>,
    /// The consent that it stands on.
    pub consent: String,
}

/// What the logs of a side tell.
#[derive(Default)]
pub struct History {
    conditions: BTreeMap<Key, Condition>,
    /// Names of the acts, and how many there were.
    pub acts: BTreeMap<String, usize>,
    /// Everything that was released.
    pub released: Vec<Release>,
}

enum Turn {
    Closes,
    Opens,
}

impl History {
    /// Reads the logs of a side. `about` has the persons whom the acts and loads of the test were about, by their ids.
    pub async fn read(database: &Path, about: &BTreeMap<String, String>) -> Self {
        let mut history = Self::default();
        for bundle in logs(database).await.values().flatten() {
            for entry in &bundle.entries {
                history.take(entry, bundle.epoch, about);
            }
        }
        history
    }

    fn take(&mut self, entry: &Entry, epoch: u64, about: &BTreeMap<String, String>) {
        use Turn::{Closes, Opens};
        let mut turn = |turn: Turn, name: &'static str, of: String| {
            let condition = self.conditions.entry((name, of)).or_default();
            match turn {
                Closes => condition.closed.insert(epoch),
                Opens => condition.opened.insert(epoch),
            };
        };
        match entry.event.as_ref().unwrap() {
            Event::Provision(provision) => {
                if provision.outcome() == Outcome::Released {
                    let detail = provision.restricted.as_ref().unwrap();
                    self.released.push(Release {
                        epoch,
                        request_id: provision.request_id.clone(),
                        kind: provision.kind(),
                        subject: detail.subject_pseudonym.clone(),
                        consent: detail.consent_id.clone(),
                    });
                }
            }
            Event::GuardAct(act) => {
                let account = of_account(&act.subject_pseudonym);
                // What the test has not done is about somebody whom it does not look at.
                let person = about.get(&act.act_id).cloned();
                match act.act.as_str() {
                    "LOGOUT" => turn(Closes, "login", account),
                    "WITHDRAW_CONSENT" => turn(Closes, "consent", act.consent_id.clone()),
                    "SET_BLOCK" => turn(Closes, "no block", person.unwrap()),
                    "LIFT_BLOCK" => turn(Opens, "no block", person.unwrap()),
                    "CHANGE_LINKAGE" => {
                        if let Some(person) = person {
                            turn(Closes, "linkage", person);
                        }
                    }
                    "RECORD_NON_PROVISION" => turn(Closes, "no record", person.unwrap()),
                    "RELEASE_NON_PROVISION" => turn(Opens, "no record", person.unwrap()),
                    "SUSPEND_PROVISION" => turn(
                        Closes,
                        "not suspended",
                        of_kind(RequestKind::try_from(act.kind).unwrap()),
                    ),
                    "RESUME_PROVISION" => turn(
                        Opens,
                        "not suspended",
                        of_kind(RequestKind::try_from(act.kind).unwrap()),
                    ),
                    "TAKE_POLICY" | "TAKE_REVOCATION_LIST" => {}
                    other => panic!("{other} is not judged"),
                }
                *self.acts.entry(act.act.clone()).or_default() += 1;
            }
            Event::OrdinaryAct(act) => {
                match act.act.as_str() {
                    "LOGIN" => turn(Opens, "login", of_account(&act.subject_pseudonym)),
                    "GRANT_CONSENT" => turn(Opens, "consent", act.reference.clone()),
                    "LOAD_LINKAGES" => {
                        if let Some(person) = about.get(&act.reference) {
                            turn(Opens, "linkage", person.clone());
                        }
                    }
                    _ => {}
                }
                *self.acts.entry(act.act.clone()).or_default() += 1;
            }
            Event::LostAnswer(..) => {}
        }
    }

    /// A condition held before the first epoch, as what was loaded before.
    pub fn held_from_the_start(&mut self, key: Key) {
        self.conditions.entry(key).or_default().opened.insert(0);
    }

    /// What ends one condition ends another, too.
    pub fn closes_as_well(&mut self, one: &Key, other: Key) {
        let closed = self.conditions.get(one).map(|condition| condition.closed.clone());
        let other = self.conditions.entry(other).or_default();
        other.closed.extend(closed.unwrap_or_default());
    }

    /// Releases under an epoch under which a condition of theirs did not hold; `needs` says which those are.
    pub fn violations(&self, needs: impl Fn(&Release) -> Vec<Key>) -> Vec<String> {
        let mut violations = Vec::new();
        for release in &self.released {
            for key in needs(release) {
                let holds = self
                    .conditions
                    .get(&key)
                    .is_some_and(|condition| condition.can_hold(release.epoch));
                if !holds {
                    violations.push(format!(
                        "{} was released under epoch {} without: {} ({})",
                        release.request_id, release.epoch, key.0, key.1
                    ));
                }
            }
        }
        violations
    }
}

/// An account, by its pseudonym.
pub fn of_account(pseudonym: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(pseudonym)
}

/// A kind of request.
pub fn of_kind(kind: RequestKind) -> String {
    kind.as_str_name().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_from_its_opening_to_its_closing() {
        let condition = Condition {
            closed: [5, 9].into(),
            opened: [2, 5, 11].into(),
        };
        let held: Vec<u64> = (0..14).filter(|epoch| condition.can_hold(*epoch)).collect();
        // Under 5 it was closed and opened again.
        assert_eq!(held, [2, 3, 4, 5, 6, 7, 8, 11, 12, 13]);
    }
}

//! I3 over all logs of a side: no release under an epoch at or above that of an act in force that forbids it, and no request id
//! released twice. The logs come in the order of their epochs, so what is in force is what was done and not lifted so far.
//!
//! In memory is, for as long as the logs are gone through: 40 bytes or so for each released request, each session that ended and
//! each consent that was withdrawn, and 200 for each non-provision record.

use std::collections::{HashMap, HashSet};

use koseki_proto::koseki::evidence::v1::{GuardAct, GuardActDetail, Outcome, Provision, ProvisionDetail};

use crate::{
    entry::Event,
    log::{Log, Placed},
    moment,
    report::{Check, Place, Report},
    words::{Gap, Trouble},
};

/// A pseudonym as a log has it.
type Pseudonym = Vec<u8>;
/// The kind that stands for all kinds.
const ALL_KINDS: i32 = 0;

/// A non-provision record in force.
struct Record {
    person: Pseudonym,
    register: Pseudonym,
    from_ms: Option<i64>,
    until_ms: Option<i64>,
    epoch: u64,
}

impl Record {
    fn holds(&self, at_ms: i64) -> bool {
        self.from_ms.is_none_or(|from| from <= at_ms) && self.until_ms.is_none_or(|until| until > at_ms)
    }

    fn forbids(&self, detail: &ProvisionDetail) -> bool {
        let of_person = self.person == detail.subject_pseudonym;
        match (self.person.is_empty(), self.register.is_empty()) {
            (false, true) => of_person,
            (true, _) => detail.register_pseudonyms.contains(&self.register),
            (false, false) => of_person && detail.register_pseudonyms.contains(&self.register),
        }
    }
}

/// What is in force at a side.
#[derive(Default)]
pub(crate) struct Guards {
    suspended: HashMap<i32, u64>,
    blocked: HashMap<Pseudonym, u64>,
    not_linked: HashMap<Pseudonym, u64>,
    ended: HashMap<Pseudonym, u64>,
    withdrawn: HashMap<String, u64>,
    records: HashMap<String, Record>,
    /// Records by the person, or the register when they name no person.
    about: HashMap<Pseudonym, Vec<String>>,
    released: HashSet<[u8; 16]>,
    epochs: Epochs,
    /// Releases to cards without a linkage, under the epoch that is gone through: another log may have added one under it.
    unlinked: Vec<Unlinked>,
}

/// A release to a card without a linkage.
struct Unlinked {
    card: Pseudonym,
    epoch: u64,
    place: Place,
    about: String,
}

/// Whether every epoch's act was seen.
#[derive(Default)]
struct Epochs {
    /// The last epoch that an act made; `None` when it is not known.
    last: Option<u64>,
    begun: bool,
    /// Whether acts may be missing from here on.
    missing: bool,
}

impl Guards {
    /// Takes the next bundle. `all_go_on`: every log of the side is at hand and goes on behind this place.
    pub(crate) fn take(
        &mut self,
        log: &Log,
        placed: &Placed,
        (sound, all_go_on): (bool, bool),
        report: &mut Report,
    ) {
        let begins = !std::mem::replace(&mut self.epochs.begun, true);
        let Some(epoch) = placed.bundle.epoch else {
            // Archived: its acts are not known, and the next epoch may be any.
            self.epochs.last = None;
            return;
        };
        self.epochs.missing |= !sound;
        if begins && sound {
            self.epochs.last = Some(0);
        }
        if self
            .unlinked
            .first()
            .is_some_and(|unlinked| unlinked.epoch != epoch)
        {
            self.finish(report);
        }
        self.epoch(log, placed, epoch, all_go_on, report);
        for entry in &placed.bundle.entries {
            if let Event::Guard(act) = &entry.event {
                self.act(&act.0, &act.1, epoch);
            }
        }
        for entry in &placed.bundle.entries {
            if let Event::Ordinary(_, detail) = &entry.event {
                for card in &detail.card_pseudonyms {
                    self.not_linked.remove(card);
                    self.unlinked.retain(|unlinked| unlinked.card != *card);
                }
            }
        }
        let (mut checked, mut not_checked) = (0, 0);
        for entry in &placed.bundle.entries {
            let Event::Provision(provision) = &entry.event else {
                continue;
            };
            let (provision, detail) = (&provision.0, &provision.1);
            if provision.outcome() != Outcome::Released {
                continue;
            }
            match self.epochs.missing {
                true => not_checked += 1,
                false => checked += 1,
            }
            for (trouble, act_epoch) in self.forbidden(provision, detail, placed.bundle.at_ms) {
                let about = format!("{}: {epoch} >= {act_epoch}", provision.request_id);
                report.find(trouble, placed.place(&log.origin, entry.at), about);
            }
            if let Some(act_epoch) = self.not_linked.get(&detail.card_pseudonym) {
                self.unlinked.push(Unlinked {
                    card: detail.card_pseudonym.clone(),
                    epoch,
                    place: placed.place(&log.origin, entry.at),
                    about: format!("{}: {epoch} >= {act_epoch}", provision.request_id),
                });
            }
            if !self.released.insert(id(&provision.request_id)) {
                let place = placed.place(&log.origin, entry.at);
                report.find(Trouble::ReleasedTwice, place, provision.request_id.as_str());
            }
        }
        report.count(Check::Releases, checked, not_checked);
    }

    /// Says what has waited for the end of its epoch.
    pub(crate) fn finish(&mut self, report: &mut Report) {
        for unlinked in std::mem::take(&mut self.unlinked) {
            report.find(Trouble::ReleasedWithoutLinkage, unlinked.place, unlinked.about);
        }
    }

    /// Each epoch is made by the acts of one bundle.
    fn epoch(&mut self, log: &Log, placed: &Placed, epoch: u64, all_go_on: bool, report: &mut Report) {
        let makes = placed.bundle.has_guard_act();
        let place = || placed.place(&log.origin, 0);
        if let Some(last) = self.epochs.last {
            let next = last.saturating_add(u64::from(makes));
            if makes && epoch <= last {
                report.find(Trouble::EpochTwice, place(), format!("{epoch}"));
            } else if epoch > next && !self.epochs.missing {
                if all_go_on {
                    report.find(
                        Trouble::EpochWithoutAct,
                        place(),
                        format!("{}", last.saturating_add(1)),
                    );
                } else {
                    self.epochs.missing = true;
                    report.miss(
                        Gap::ActsMissing,
                        &log.origin,
                        Some((placed.first_index, u64::MAX)),
                    );
                }
            }
        }
        self.epochs.last = Some(self.epochs.last.map_or(epoch, |last| last.max(epoch)));
    }

    fn act(&mut self, act: &GuardAct, detail: &GuardActDetail, epoch: u64) {
        let subject = || detail.subject_pseudonym.clone();
        match act.act.as_str() {
            "SUSPEND_PROVISION" => {
                self.suspended.entry(act.kind).or_insert(epoch);
            }
            "DATABASE_MOVED" => {
                self.suspended.entry(ALL_KINDS).or_insert(epoch);
            }
            "RESUME_PROVISION" => {
                self.suspended.remove(&act.kind);
            }
            "SET_BLOCK" => {
                self.blocked.entry(subject()).or_insert(epoch);
            }
            "CHANGE_LINKAGE" if !detail.former_card_pseudonym.is_empty() => {
                self.change_linkage(detail, epoch)
            }
            "REACTIVATE_LINKAGE" => {
                self.not_linked.remove(&detail.subject_pseudonym);
            }
            "LIFT_BLOCK" => {
                self.blocked.remove(&detail.subject_pseudonym);
            }
            "LOGOUT" if !detail.session_pseudonym.is_empty() => {
                self.ended
                    .entry(detail.session_pseudonym.clone())
                    .or_insert(epoch);
            }
            "WITHDRAW_CONSENT" if !detail.consent_id.is_empty() => {
                self.withdrawn.entry(detail.consent_id.clone()).or_insert(epoch);
            }
            "RECORD_NON_PROVISION" => self.record(detail, epoch),
            "RELEASE_NON_PROVISION" => {
                self.records.remove(&detail.lifts_act_id);
            }
            "SHORTEN_NON_PROVISION" => {
                if let Some(record) = self.records.get_mut(&detail.lifts_act_id) {
                    record.until_ms = detail.valid_until.as_ref().and_then(moment::ms);
                }
            }
            _ => {}
        }
    }

    /// A linkage of the portal side, where a card has one at most. A block goes over with it to another card.
    fn change_linkage(&mut self, detail: &GuardActDetail, epoch: u64) {
        let (former, now) = (&detail.former_card_pseudonym, &detail.card_pseudonym);
        if former != now {
            self.not_linked.insert(former.clone(), epoch);
        }
        if !now.is_empty() {
            self.not_linked.remove(now);
            if self.blocked.contains_key(former) {
                self.blocked.entry(now.clone()).or_insert(epoch);
            }
        }
    }

    fn record(&mut self, detail: &GuardActDetail, epoch: u64) {
        let record = Record {
            person: detail.subject_pseudonym.clone(),
            register: detail.register_pseudonym.clone(),
            from_ms: detail.valid_from.as_ref().and_then(moment::ms),
            until_ms: detail.valid_until.as_ref().and_then(moment::ms),
            epoch,
        };
        let about = match record.person.is_empty() {
            true => &record.register,
            false => &record.person,
        };
        self.about
            .entry(about.clone())
            .or_default()
            .push(detail.act_id.clone());
        self.records.insert(detail.act_id.clone(), record);
    }

    /// The acts in force that forbid a release, and their epochs.
    fn forbidden(
        &self,
        provision: &Provision,
        detail: &ProvisionDetail,
        at_ms: Option<i64>,
    ) -> Vec<(Trouble, u64)> {
        let suspended = [ALL_KINDS, provision.kind];
        let suspended = suspended.iter().filter_map(|kind| self.suspended.get(kind)).min();
        let by_text = |acts: &HashMap<String, u64>, id: &String| acts.get(id).copied();
        let by = |acts: &HashMap<Pseudonym, u64>, named: &Pseudonym| acts.get(named).copied();
        let mut forbidden: Vec<(Trouble, u64)> = [
            (Trouble::ReleasedWhileSuspended, suspended.copied()),
            (
                Trouble::ReleasedWhileBlocked,
                by(&self.blocked, &detail.card_pseudonym),
            ),
            (
                Trouble::ReleasedAfterLogout,
                by(&self.ended, &detail.session_pseudonym),
            ),
            (
                Trouble::ReleasedAfterWithdrawal,
                by_text(&self.withdrawn, &detail.consent_id),
            ),
        ]
        .into_iter()
        .filter_map(|(trouble, epoch)| Some((trouble, epoch?)))
        .collect();
        let named = std::iter::once(&detail.subject_pseudonym).chain(&detail.register_pseudonyms);
        let records = named
            .filter_map(|named| self.about.get(named))
            .flatten()
            .filter_map(|id| self.records.get(id))
            .filter(|record| at_ms.is_none_or(|at| record.holds(at)) && record.forbids(detail));
        forbidden.extend(records.map(|record| (Trouble::ReleasedAgainstRecord, record.epoch)));
        forbidden
    }
}

/// A request id in 16 bytes: as a UUID, or by its digest when it is none.
pub(crate) fn id(text: &str) -> [u8; 16] {
    if let Ok(id) = uuid::Uuid::try_parse(text) {
        return id.into_bytes();
    }
    let digest = crate::tree::sha256(&[b"not a UUID", text.as_bytes()]);
    let mut id = [0; 16];
    id.copy_from_slice(digest.split_at(16).0);
    id
}

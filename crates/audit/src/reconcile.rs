//! `reconcile`: every answer in one side's logs has its twin in the other's, with the same request id, eligibility and answer, or
//! is listed with its cause.
//!
//! In memory is, for each answer of the registry side's files, about 600 bytes; the portal side's pass as a stream.

use std::{collections::HashMap, path::PathBuf};

use koseki_proto::koseki::evidence::v1::{LostAnswer, LostAnswerDetail, Outcome, Provision, ProvisionDetail};
use serde_json::{Value, json};

use crate::{
    entry::Event,
    guards::id,
    keys::Keys,
    moment,
    origin::{Side, instance},
    prove::outcome,
    report::{Check, Place, Report},
    verify::{Logs, verified},
    walk::Walk,
    words::{self, Gap, Language, Trouble},
};

/// Differences that are listed; all are counted.
const MAX_LISTED: usize = 1_000;
/// What the sides' clocks may differ by, and an answer take, in milliseconds: what is younger than the other side's files by less
/// may not be in them yet.
const MAX_LATE_MS: i64 = 60_000;

/// An answer as the registry side has recorded it.
struct Answer {
    /// The log, as a place in the list of logs.
    log: usize,
    bundle: u64,
    index: u64,
    at_ms: Option<i64>,
    eligibility: Vec<u8>,
    outcome: i32,
    sha256: Vec<u8>,
    seen: Seen,
}

/// What the portal side has of an answer.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    /// Nothing so far.
    Nothing,
    /// The same answer.
    Twin,
    /// A request that was forwarded, without an answer, and what became of it.
    Unanswered(String),
    /// That it was lost.
    Lost,
}

/// A difference that has a cause.
struct Difference {
    request_id: String,
    cause: String,
    place: Place,
    registry: i32,
    portal: Option<i32>,
}

struct Reconciliation {
    /// Origins of the registry side's logs.
    logs: Vec<String>,
    answers: HashMap<[u8; 16], Vec<Answer>>,
    /// How far the files of each registry log go, by instance: the first bundle, and before the last.
    reach: HashMap<String, (u64, u64)>,
    /// The latest moments in the files.
    registry_until: Option<i64>,
    portal_until: Option<i64>,
    differences: Vec<Difference>,
    differences_total: u64,
    twins: u64,
    unanswered: u64,
}

/// Reconciles exported logs of both sides. What the logs are worth is verified as `verify` does, and so is `until_ms`.
#[must_use]
pub fn reconcile(files: &[PathBuf], keys: &Keys, until_ms: Option<i64>) -> Report {
    let (logs, mut report) = verified("reconcile", files, keys, until_ms);
    for side in Side::ALL {
        if logs.of(side).next().is_none() {
            report.miss(Gap::SideNotGiven, side.role(), None);
        }
    }
    let mut this = Reconciliation::of_registry(&logs, keys);
    this.pass_portal(&logs, keys, &mut report);
    this.finish(&mut report);
    report
}

impl Reconciliation {
    fn of_registry(logs: &Logs, keys: &Keys) -> Self {
        let mut muted = Report::new("reconcile", keys, None);
        let mut this = Self {
            logs: Vec::new(),
            answers: HashMap::new(),
            reach: HashMap::new(),
            registry_until: None,
            portal_until: None,
            differences: Vec::new(),
            differences_total: 0,
            twins: 0,
            unanswered: 0,
        };
        for log in logs.of(Side::Registry) {
            let number = this.logs.len();
            this.logs.push(log.origin.clone());
            let mut reader = log.reader();
            while let Some(placed) = reader.next(&mut muted) {
                let bundle = placed.bundle.number;
                let reach = this.reach.entry(log.instance().to_owned());
                reach.or_insert((bundle, bundle)).1 = bundle + 1;
                this.registry_until = this.registry_until.max(placed.bundle.at_ms);
                for entry in &placed.bundle.entries {
                    if let Event::Provision(provision) = &entry.event {
                        let (provision, detail) = (&provision.0, &provision.1);
                        let answer = Answer {
                            log: number,
                            bundle,
                            index: placed.index(entry.at),
                            at_ms: placed.bundle.at_ms,
                            eligibility: detail.eligibility_sha256.clone(),
                            outcome: provision.outcome,
                            sha256: detail.answer_sha256.clone(),
                            seen: Seen::Nothing,
                        };
                        this.answers
                            .entry(id(&provision.request_id))
                            .or_default()
                            .push(answer);
                    }
                }
            }
        }
        this
    }

    fn pass_portal(&mut self, logs: &Logs, keys: &Keys, report: &mut Report) {
        let mut muted = Report::new("reconcile", keys, None);
        let mut walk = Walk::new(logs.of(Side::Portal));
        while let Some((log, placed)) = walk.next(&mut muted) {
            self.portal_until = self.portal_until.max(placed.bundle.at_ms);
            for entry in &placed.bundle.entries {
                let place = placed.place(&log.origin, entry.at);
                match &entry.event {
                    Event::Provision(provision) => self.request(&provision.0, &provision.1, place, report),
                    Event::Lost(lost) => self.lost(&lost.0, &lost.1, place, report),
                    _ => {}
                }
            }
        }
    }

    /// The answer of this eligibility to a request that fits, and has not been seen.
    fn answer(
        &mut self,
        request_id: &str,
        eligibility: &[u8],
        fits: impl Fn(&Answer) -> bool,
    ) -> Option<&mut Answer> {
        let answers = self.answers.get_mut(&id(request_id))?;
        answers
            .iter_mut()
            .find(|answer| answer.seen == Seen::Nothing && answer.eligibility == eligibility && fits(answer))
    }

    /// What the portal side has recorded of a request.
    fn request(
        &mut self,
        provision: &Provision,
        detail: &ProvisionDetail,
        place: Place,
        report: &mut Report,
    ) {
        let released = provision.outcome() == Outcome::Released;
        let request_id = provision.request_id.as_str();
        if detail.provider_log.is_empty() {
            if released {
                report.count(Check::Twins, 1, 0);
                report.find(Trouble::NoTwinAtProvider, place, request_id);
            } else if !detail.eligibility_sha256.is_empty() {
                self.unanswered += 1;
                if let Some(answer) = self.answer(request_id, &detail.eligibility_sha256, |_| true) {
                    answer.seen = Seen::Unanswered(detail.cause.clone());
                }
            }
            return;
        }
        let log = self
            .logs
            .iter()
            .position(|origin| instance(origin) == detail.provider_log);
        let bundle = detail.provider_bundle;
        let twin = self.answer(request_id, &detail.eligibility_sha256, |answer| {
            Some(answer.log) == log && answer.bundle == bundle
        });
        let Some(twin) = twin else {
            let reach = self.reach.get(&detail.provider_log);
            let reached = reach.is_some_and(|(from, to)| (*from..*to).contains(&bundle));
            report.count(Check::Twins, u64::from(reached), 0);
            match reached {
                true => report.find(Trouble::NoTwinAtProvider, place, request_id),
                false => not_yet(report, &place),
            }
            return;
        };
        twin.seen = Seen::Twin;
        let (there, same) = (twin.outcome, twin.sha256 == detail.answer_sha256);
        let there_released = there == i32::from(Outcome::Released);
        report.count(Check::Twins, 1, 0);
        if !same {
            report.find(Trouble::AnswerDiffers, place, request_id);
        } else if released && !there_released {
            report.find(Trouble::OutcomeDiffers, place, request_id);
        } else if there_released && !released {
            self.differ(Difference {
                request_id: request_id.to_owned(),
                cause: detail.cause.clone(),
                place,
                registry: there,
                portal: Some(provision.outcome),
            });
        } else {
            self.twins += 1;
        }
    }

    /// An answer that the portal side tells as lost.
    fn lost(&mut self, lost: &LostAnswer, detail: &LostAnswerDetail, place: Place, report: &mut Report) {
        let answers = self.answers.get_mut(&id(&lost.request_id));
        let of_batch = |answer: &&mut Answer| {
            answer.seen != Seen::Twin && answer.eligibility == detail.eligibility_sha256
        };
        match answers.and_then(|answers| answers.iter_mut().find(of_batch)) {
            Some(answer) => {
                answer.seen = Seen::Lost;
                if answer.sha256 != detail.answer_sha256 || answer.outcome != detail.outcome {
                    report.find(Trouble::AnswerDiffers, place, lost.request_id.as_str());
                }
            }
            None if is_younger(place.at_ms, self.registry_until) => {
                not_yet(report, &place);
            }
            None => {
                report.count(Check::Twins, 1, 0);
                report.find(Trouble::NoTwinAtProvider, place, lost.request_id.as_str());
            }
        }
    }

    fn differ(&mut self, difference: Difference) {
        self.differences_total += 1;
        if self.differences.len() < MAX_LISTED {
            self.differences.push(difference);
        }
    }

    /// Judges the answers that have no twin, and tells what came of it.
    fn finish(mut self, report: &mut Report) {
        let mut left: Vec<([u8; 16], Answer)> = std::mem::take(&mut self.answers)
            .into_iter()
            .flat_map(|(id, answers)| answers.into_iter().map(move |answer| (id, answer)))
            .filter(|(_, answer)| answer.seen != Seen::Twin)
            .collect();
        left.sort_by_key(|(_, answer)| (answer.log, answer.index));
        for (id, answer) in left {
            let request_id = uuid::Uuid::from_bytes(id).to_string();
            let place = Place {
                log: self.logs.get(answer.log).cloned().unwrap_or_default(),
                bundle: Some(answer.bundle),
                index: Some(answer.index),
                at_ms: answer.at_ms,
            };
            let cause = match answer.seen {
                Seen::Lost => "LOST_ANSWER".to_owned(),
                Seen::Unanswered(cause) => format!("NO_ANSWER_CAME: {cause}"),
                _ if is_younger(answer.at_ms, self.portal_until) => {
                    not_yet(report, &place);
                    continue;
                }
                _ => {
                    report.count(Check::Twins, 1, 0);
                    report.find(Trouble::NoTwinAtGateway, place, request_id);
                    continue;
                }
            };
            report.count(Check::Twins, 1, 0);
            self.differ(Difference {
                request_id,
                cause,
                place,
                registry: answer.outcome,
                portal: None,
            });
        }
        let json = json!({
            "twins": self.twins,
            "forwarded_without_answer": self.unanswered,
            "differences": self.differences.iter().map(Difference::json).collect::<Vec<_>>(),
            "differences_total": self.differences_total,
        });
        let text = Language::ALL.map(|language| self.text(language));
        report.answer(json, text);
    }

    fn text(&self, language: Language) -> String {
        let (twins, unanswered, total) = (self.twins, self.unanswered, self.differences_total);
        let mut text = match language {
            Language::Ja => format!(
                "一致: {twins} 件、回答のない転送: {unanswered} 件、原因の分かっている相違: {total} 件\n"
            ),
            Language::En => format!(
                "{twins} answers are the same on both sides; {unanswered} requests were forwarded and no answer came; \
                 {total} differences have a cause\n"
            ),
        };
        for difference in &self.differences {
            let place = words::place(language, &difference.place);
            let portal = difference.portal.map_or("-", outcome);
            text.push_str(&format!(
                "{place}: {}: {} ({} / {portal})\n",
                difference.request_id,
                difference.cause,
                outcome(difference.registry)
            ));
        }
        text
    }
}

impl Difference {
    fn json(&self) -> Value {
        json!({
            "request_id": self.request_id,
            "cause": self.cause,
            "log": self.place.log,
            "bundle": self.place.bundle,
            "index": self.place.index,
            "at": self.place.at_ms.map(moment::utc),
            "at_jst": self.place.at_ms.map(moment::jst),
            "registry_outcome": outcome(self.registry),
            "portal_outcome": self.portal.map(outcome),
        })
    }
}

fn not_yet(report: &mut Report, place: &Place) {
    if !report.asks_about(place.at_ms) {
        return;
    }
    report.count(Check::Twins, 0, 1);
    report.miss(
        Gap::TwinNotYet,
        &place.log,
        place.index.map(|index| (index, index + 1)),
    );
}

fn is_younger(at_ms: Option<i64>, until: Option<i64>) -> bool {
    match (at_ms, until) {
        (Some(at), Some(until)) => at.saturating_add(MAX_LATE_MS) > until,
        _ => true,
    }
}

//! `verify`: the logs by themselves, against what was signed, and I3.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use crate::{
    archive::Marks,
    closings::Closings,
    file::Outline,
    guards::Guards,
    keys::Keys,
    log::{Log, Target},
    note::Checkpoint,
    origin::Side,
    report::{Place, Report},
    walk::Walk,
    words::{Gap, Trouble},
};

/// The logs that were given, before any entry is looked at.
pub(crate) struct Logs {
    /// By origin.
    pub(crate) logs: BTreeMap<String, Log>,
}

impl Logs {
    /// Goes through the files: which logs they are of, and what is signed about them.
    pub(crate) fn open(files: &[PathBuf], keys: &Keys, report: &mut Report) -> Self {
        let mut logs: BTreeMap<String, Log> = BTreeMap::new();
        let mut notes = Vec::new();
        for path in files {
            let name = path.display().to_string();
            let outline = match Outline::read(path) {
                Ok(outline) => outline,
                Err(fault) => {
                    report.miss(fault.gap(), &name, None);
                    continue;
                }
            };
            let origin = outline.header.origin.clone();
            let side = Side::of(&origin).filter(|_| keys.origins().any(|known| known == origin));
            let Some(side) = side else {
                report.miss(Gap::NoKey, &origin, None);
                continue;
            };
            match &outline.end {
                Ok(end) => {
                    if !end.checkpoint.is_empty() {
                        notes.push((end.checkpoint.clone(), origin.clone(), false));
                    }
                    notes.extend(
                        end.witnessed
                            .iter()
                            .map(|note| (note.clone(), origin.clone(), true)),
                    );
                }
                Err(fault) => report.miss(fault.gap(), &origin, None),
            }
            let log = logs.entry(origin.clone()).or_insert_with(|| Log {
                origin,
                side,
                files: Vec::new(),
                targets: BTreeMap::new(),
            });
            log.files.push(outline);
        }
        for log in logs.values_mut() {
            log.files.sort_by_key(|file| {
                let end = file.end.as_ref().map_or(0, |end| end.size);
                (file.header.first_bundle, end)
            });
        }
        let mut this = Self { logs };
        for (note, by, witnessed) in notes {
            this.target(&note, &by, witnessed, keys, report);
        }
        this.look_for_missing(keys, report);
        this
    }

    /// Takes a note from the end of a file: of the log itself, or of one that its side is the witness of.
    fn target(&mut self, note: &str, by: &str, witnessed: bool, keys: &Keys, report: &mut Report) {
        let unsigned = |report: &mut Report, about: &str| {
            let place = Place {
                log: by.to_owned(),
                ..Place::default()
            };
            report.find(Trouble::CheckpointUnsigned, place, about);
        };
        let Some(checkpoint) = Checkpoint::read(note) else {
            return unsigned(report, "");
        };
        let origin = checkpoint.origin.clone();
        let side = Side::of(&origin).filter(|side| {
            // A log's own checkpoint is its own; a witness countersigns the other side's.
            let own = Side::of(by);
            match witnessed {
                true => own == Some(side.other()),
                false => origin == by,
            }
        });
        let target = side.and_then(|side| Target::new(checkpoint, side, keys, witnessed));
        let Some(target) = target else {
            return unsigned(report, &origin);
        };
        if let Some(log) = self.logs.get_mut(&origin) {
            log.add(target);
        }
    }

    /// Every log of a side that has a key belongs to the whole.
    fn look_for_missing(&self, keys: &Keys, report: &mut Report) {
        let sides: BTreeSet<Side> = self.logs.values().map(|log| log.side).collect();
        let missing = keys.origins().filter(|origin| {
            Side::of(origin).is_some_and(|side| sides.contains(&side)) && !self.logs.contains_key(*origin)
        });
        for origin in missing {
            report.miss(Gap::LogNotGiven, origin, None);
        }
    }

    /// The logs of a side.
    pub(crate) fn of(&self, side: Side) -> impl Iterator<Item = &Log> {
        self.logs.values().filter(move |log| log.side == side)
    }

    /// Whether every log of a side that has a key is there.
    fn is_whole(&self, side: Side, keys: &Keys) -> bool {
        keys.origins()
            .filter(|origin| Side::of(origin) == Some(side))
            .all(|origin| self.logs.contains_key(origin))
    }

    /// Verifies all of them.
    pub(crate) fn verify(&self, keys: &Keys, report: &mut Report) {
        let mut closings = Closings::default();
        for side in Side::ALL {
            let whole = self.is_whole(side, keys);
            let (mut guards, mut marks) = (Guards::default(), Marks::default());
            let mut walk = Walk::new(self.of(side));
            while let Some((log, placed)) = walk.next(report) {
                let sound = whole && walk.is_sound();
                guards.take(log, &placed, (sound, whole && walk.all_go_on()), report);
                marks.take(log, &placed);
                closings.take(log, &placed);
            }
            guards.finish(report);
            walk.finish(report);
            marks.finish(report);
        }
        closings.finish(&self.logs, report);
    }
}

/// Verifies exported logs; `until_ms`: only what was before this moment is asked about, in milliseconds since 1970. What is found
/// counts whenever it was.
#[must_use]
pub fn verify(files: &[PathBuf], keys: &Keys, until_ms: Option<i64>) -> Report {
    verified("verify", files, keys, until_ms).1
}

/// The logs, and what verifying them came to, for a command that goes on from there.
pub(crate) fn verified(
    command: &'static str,
    files: &[PathBuf],
    keys: &Keys,
    until_ms: Option<i64>,
) -> (Logs, Report) {
    let mut report = Report::new(command, keys, until_ms);
    let logs = Logs::open(files, keys, &mut report);
    logs.verify(keys, &mut report);
    (logs, report)
}

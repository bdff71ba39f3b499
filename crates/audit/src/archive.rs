//! Bodies that were dropped: each must be below a retention mark that some log of the side has.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    entry::Event,
    keys::Keys,
    log::{Log, Placed},
    report::{Place, Report},
    verify::verified,
    words::Trouble,
};

/// The act that makes a mark: two persons have approved it.
const ARCHIVE_LOG: &str = "ARCHIVE_LOG";

/// What was dropped of the logs of a side, and the marks that allow it.
#[derive(Default)]
pub(crate) struct Marks {
    /// By instance: bundles before this may be dropped.
    before: BTreeMap<String, u64>,
    /// By instance: origin, and the last bundle that was dropped.
    dropped: BTreeMap<String, (String, u64)>,
}

impl Marks {
    pub(crate) fn take(&mut self, log: &Log, placed: &Placed) {
        let bundle = &placed.bundle;
        if bundle.epoch.is_none() {
            let instance = log.origin.rsplit('/').next().unwrap_or_default();
            let dropped = (log.origin.clone(), bundle.number);
            self.dropped.insert(instance.to_owned(), dropped);
        }
        for entry in &bundle.entries {
            if let Event::Guard(act) = &entry.event
                && act.0.act == ARCHIVE_LOG
                && let Some((instance, before)) = act.1.reference.rsplit_once(' ')
                && let Ok(before) = before.parse::<u64>()
            {
                let mark = self.before.entry(instance.to_owned()).or_default();
                *mark = before.max(*mark);
            }
        }
    }

    pub(crate) fn finish(self, report: &mut Report) {
        for (instance, (origin, last)) in self.dropped {
            let before = self.before.get(&instance).copied().unwrap_or(0);
            if last >= before {
                let place = Place {
                    log: origin,
                    bundle: Some(last),
                    ..Place::default()
                };
                report.find(Trouble::ArchivedAboveMark, place, format!("{last} >= {before}"));
            }
        }
    }
}

/// The number of the first bundle of a log that was made at this time or later, or that is behind the files: the bodies of all
/// before it are in the files; `None` when there are none. What the files are worth is verified as `verify` does.
#[must_use]
pub fn archivable(files: &[PathBuf], keys: &Keys, log: &str, before_ms: i64) -> (Report, Option<u64>) {
    let (logs, report) = verified("archive", files, keys);
    let mut muted = Report::new("archive", keys);
    let log = logs.logs.values().find(|known| known.instance() == log);
    let mut reader = log.map(Log::reader);
    let mut before = None;
    while let Some(placed) = reader.as_mut().and_then(|reader| reader.next(&mut muted)) {
        match placed.bundle.at_ms {
            Some(at) if at >= before_ms => break,
            Some(_) => before = placed.bundle.number.checked_add(1),
            // Dropped before: the mark of then stands.
            None => {}
        }
    }
    (report, before)
}

//! Logs that the other side has closed: they must not go on beyond the size at which it did.

use std::collections::BTreeMap;

use crate::{
    entry::Event,
    log::{Log, Placed},
    origin::Side,
    report::{Place, Report},
    words::Trouble,
};

/// The act that closes a log of the other side; its reference is `<origin> <size>`.
const CLOSE_PEER_LOG: &str = "CLOSE_PEER_LOG";

/// What the logs of both sides say of each other's end.
#[derive(Default)]
pub(crate) struct Closings {
    /// By origin: the size at which it was closed, and which log says so.
    closed: BTreeMap<String, (u64, String)>,
}

impl Closings {
    pub(crate) fn take(&mut self, log: &Log, placed: &Placed) {
        for entry in &placed.bundle.entries {
            if let Event::Ordinary(act, detail) = &entry.event
                && act.act == CLOSE_PEER_LOG
                && let Some((origin, size)) = detail.reference.rsplit_once(' ')
                && let Ok(size) = size.parse::<u64>()
                // A side has no say over its own logs' being witnessed.
                && Side::of(origin) == Some(log.side.other())
            {
                let closed = (size, log.origin.clone());
                self.closed.entry(origin.to_owned()).or_insert(closed);
            }
        }
    }

    /// Looks at how far each log that was given goes.
    pub(crate) fn finish(self, logs: &BTreeMap<String, Log>, report: &mut Report) {
        for (origin, (closed, by)) in self.closed {
            let size = logs.get(&origin).map_or(0, |_| report.log(&origin).size);
            if size > closed {
                let place = Place {
                    log: origin,
                    index: Some(closed),
                    ..Place::default()
                };
                report.find(Trouble::BeyondClosing, place, format!("{size} > {closed} ({by})"));
            }
        }
    }
}

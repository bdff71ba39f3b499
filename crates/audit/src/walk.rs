//! The logs of a side together, in the order of their epochs: an act that made an epoch comes before everything under it,
//! whichever log has it. One bundle of each log is in memory.

use crate::{
    log::{Log, Placed, Reader},
    report::Report,
};

/// Goes through the logs of a side.
pub(crate) struct Walk<'a> {
    readers: Vec<(Reader<'a>, Option<Placed>)>,
    begun: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(logs: impl Iterator<Item = &'a Log>) -> Self {
        Self {
            readers: logs.map(|log| (log.reader(), None)).collect(),
            begun: false,
        }
    }

    /// The next bundle and its log; `None` when all have been read.
    pub(crate) fn next(&mut self, report: &mut Report) -> Option<(&'a Log, Placed)> {
        if !self.begun {
            self.begun = true;
            for (reader, head) in &mut self.readers {
                *head = reader.next(report);
            }
        }
        let order = |placed: &Placed| (placed.epoch, !placed.bundle.has_guard_act());
        let (reader, head) = self
            .readers
            .iter_mut()
            .filter(|(_, head)| head.is_some())
            .min_by_key(|(_, head)| head.as_ref().map(order))?;
        let placed = head.take()?;
        *head = reader.next(report);
        Some((reader.log, placed))
    }

    /// Whether every log goes on, or was closed, and none has a break so far: what none of them has been seen to hold by now, none holds.
    pub(crate) fn all_go_on(&self) -> bool {
        let goes_on = |(reader, head): &(Reader<'_>, Option<Placed>)| {
            (head.is_some() || reader.is_closed()) && reader.is_sound()
        };
        self.readers.iter().all(goes_on)
    }

    /// Whether no log has a break so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.readers.iter().all(|(reader, _)| reader.is_sound())
    }

    /// Says what was not checked, once everything was read.
    pub(crate) fn finish(mut self, report: &mut Report) {
        for (reader, _) in &mut self.readers {
            reader.finish(report);
        }
    }
}

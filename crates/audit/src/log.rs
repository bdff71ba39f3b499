//! A log, read from its files one after the other: numbers, indexes and epochs follow each other, and the roots are those that
//! were signed.

use std::collections::{BTreeMap, VecDeque};

use koseki_proto::koseki::evidence::v1::{ExportedBundle, export_part::Part};

use crate::{
    entry::{Bundle, Event},
    file::{Outline, Parts},
    keys::Keys,
    moment,
    note::{Checkpoint, Countersigned},
    origin::{Side, instance, witness_of},
    report::{Check, Place, Report},
    tree::Tree,
    words::{Gap, Trouble},
};

/// What the clocks of an auditor and of a witness may differ by, in milliseconds.
const MAX_CLOCK_SKEW_MS: i64 = 60_000;

/// A witness tells whole seconds, and its word needs a moment to come: what it countersigned so shortly before an export may be
/// beyond it, in milliseconds.
const UNKNOWN_YET_MS: i64 = 2_000;

/// After so long everything that there was is countersigned, or provision is stopped; in milliseconds.
const SETTLED_MS: i64 = 120_000;

/// The act that is the last entry of a log.
const CLOSE_LOG: &str = "CLOSE_LOG";

/// A checkpoint that the entries must agree with.
#[derive(Clone)]
pub(crate) struct Target {
    checkpoint: Checkpoint,
    key_id: u32,
    countersigned: Option<Countersigned>,
    witnessed: bool,
}

impl Target {
    /// One that the log's key has signed; `None` when it has not.
    pub(crate) fn new(checkpoint: Checkpoint, side: Side, keys: &Keys, witnessed: bool) -> Option<Self> {
        let witness = witness_of(&checkpoint.origin, side);
        Some(Self {
            key_id: checkpoint.signed(keys)?,
            countersigned: checkpoint.countersigned(&witness, keys),
            checkpoint,
            witnessed,
        })
    }
}

/// A log as it was given.
pub(crate) struct Log {
    /// Its origin.
    pub(crate) origin: String,
    /// Its side.
    pub(crate) side: Side,
    /// Its files, in order.
    pub(crate) files: Vec<Outline>,
    /// What it must agree with, by size.
    pub(crate) targets: BTreeMap<u64, Vec<Target>>,
}

impl Log {
    /// Its short name.
    pub(crate) fn instance(&self) -> &str {
        instance(&self.origin)
    }

    /// One more checkpoint that it must agree with.
    pub(crate) fn add(&mut self, target: Target) {
        self.targets
            .entry(target.checkpoint.size)
            .or_default()
            .push(target);
    }

    /// Reads it from the beginning.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader {
            log: self,
            instance: self.instance(),
            left: self.files.iter().collect(),
            parts: None,
            tree: Tree::default(),
            next: None,
            index: 0,
            epoch: 0,
            of_file: 0,
            covered: 0,
            asked: 0,
            sound: true,
            closed: false,
            said: false,
        }
    }
}

/// A bundle in its place in the log.
pub(crate) struct Placed {
    /// Index of its first entry.
    pub(crate) first_index: u64,
    /// Its epoch, or the last one that was known before it.
    pub(crate) epoch: u64,
    /// The bundle.
    pub(crate) bundle: Bundle,
    /// As it was exported.
    pub(crate) exported: ExportedBundle,
}

impl Placed {
    /// Where one of its entries is.
    pub(crate) fn place(&self, origin: &str, at: usize) -> Place {
        Place {
            log: origin.to_owned(),
            bundle: Some(self.bundle.number),
            index: Some(self.index(at)),
            at_ms: self.bundle.at_ms,
        }
    }

    /// Index of one of its entries.
    pub(crate) fn index(&self, at: usize) -> u64 {
        self.first_index + u64::try_from(at).unwrap_or(u64::MAX)
    }
}

/// Goes through a log once.
pub(crate) struct Reader<'a> {
    pub(crate) log: &'a Log,
    instance: &'a str,
    left: VecDeque<&'a Outline>,
    parts: Option<(Parts, &'a Outline)>,
    tree: Tree,
    /// Number of the next bundle; `None` before the first file.
    next: Option<u64>,
    /// Index of the next entry.
    index: u64,
    epoch: u64,
    /// Bundles of the file so far.
    of_file: u64,
    /// Entries under a countersigned root.
    covered: u64,
    /// Entries up to the last one that is asked about.
    asked: u64,
    /// Whether every part that there should be was there.
    sound: bool,
    /// Whether the log was closed: nothing may follow.
    closed: bool,
    /// Whether it was said that something follows.
    said: bool,
}

impl Reader<'_> {
    /// The tree before the first entry of the first file.
    pub(crate) fn tree_before(log: &Log) -> Tree {
        let first = log.files.first();
        let known = first.and_then(|file| Tree::known(file.header.first_index, &file.header.frontier));
        known.unwrap_or_default()
    }

    /// Whether the log has been read from its first entry, and without a break so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Whether the log has come to its end, for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    fn place(&self) -> Place {
        Place {
            log: self.log.origin.clone(),
            bundle: self.next,
            index: Some(self.index),
            at_ms: None,
        }
    }

    /// The next bundle.
    pub(crate) fn next(&mut self, report: &mut Report) -> Option<Placed> {
        loop {
            let Some((parts, file)) = &mut self.parts else {
                if !self.open(report)? {
                    return None;
                }
                continue;
            };
            let part = parts.next();
            let file = *file;
            match part {
                Ok(Some(Part::Bundle(exported))) => {
                    self.of_file += 1;
                    if self.next.is_some_and(|next| exported.number < next) && self.is_again(file, &exported)
                    {
                        continue;
                    }
                    if let Some(placed) = self.take(exported, report) {
                        return Some(placed);
                    }
                }
                Ok(Some(Part::End(end))) => {
                    self.parts = None;
                    if end.bundles != self.of_file || end.size > self.index {
                        let about = format!("{} != {}", end.bundles, self.of_file);
                        report.find(Trouble::EndDiffers, self.place(), about);
                    }
                }
                // Said already, when the file was gone through.
                _ => {
                    self.sound = false;
                    self.parts = None;
                }
            }
        }
    }

    /// Whether a bundle is there because files overlap: it was read from the one before.
    fn is_again(&self, file: &Outline, exported: &ExportedBundle) -> bool {
        let place = file.header.first_bundle.checked_add(self.of_file - 1);
        place == Some(exported.number)
    }

    /// Opens the next file; `None` when there is none.
    fn open(&mut self, report: &mut Report) -> Option<bool> {
        let file = self.left.pop_front()?;
        let (origin, header) = (&self.log.origin, &file.header);
        let known = Tree::known(header.first_index, &header.frontier);
        let begins = match self.next {
            None => {
                if header.first_index > 0 || header.first_bundle > 0 {
                    report.miss(Gap::BeforeFile, origin, Some((0, header.first_index)));
                    self.sound = false;
                }
                true
            }
            Some(next) if header.first_bundle > next => {
                report.miss(Gap::BetweenFiles, origin, Some((self.index, header.first_index)));
                self.sound = false;
                true
            }
            Some(_) => false,
        };
        if begins {
            let Some(known) = known else {
                report.find(Trouble::MalformedBundle, self.place(), "header");
                self.sound = false;
                return Some(false);
            };
            self.tree = known;
            self.index = header.first_index;
            self.next = Some(header.first_bundle);
            self.compare(report);
        }
        let summary = report.log(origin);
        if summary.files.is_empty() {
            summary.first_bundle = header.first_bundle;
            summary.first_index = header.first_index;
        }
        summary.files.push(file.path.display().to_string());
        self.of_file = 0;
        match Parts::open(&file.path).and_then(|mut parts| {
            parts.next()?;
            Ok(parts)
        }) {
            Ok(parts) => {
                self.parts = Some((parts, file));
                Some(true)
            }
            Err(_) => {
                report.miss(Gap::FileUnreadable, origin, None);
                self.sound = false;
                Some(false)
            }
        }
    }

    fn take(&mut self, exported: ExportedBundle, report: &mut Report) -> Option<Placed> {
        let next = self.next.unwrap_or(exported.number);
        if exported.number != next {
            let about = format!("{} != {next}", exported.number);
            report.find(Trouble::Numbering, self.place(), about);
        }
        self.next = exported.number.checked_add(1);
        let Some(bundle) = Bundle::read(&exported) else {
            report.find(Trouble::MalformedBundle, self.place(), "");
            self.sound = false;
            return None;
        };
        let mut place = self.place();
        place.bundle = Some(bundle.number);
        place.at_ms = bundle.at_ms;
        if let Some(first_index) = bundle.first_index.filter(|first| *first != self.index) {
            let about = format!("{first_index} != {}", self.index);
            report.find(Trouble::Indexing, place.clone(), about);
            self.index = first_index;
        }
        if bundle.log.as_ref().is_some_and(|log| log != self.instance) {
            report.find(Trouble::ForeignBundle, place.clone(), "");
        }
        if let Some(epoch) = bundle.epoch {
            if epoch < self.epoch {
                let about = format!("{epoch} < {}", self.epoch);
                report.find(Trouble::EpochFell, place, about);
            }
            self.epoch = epoch;
        } else {
            report.log(&self.log.origin).hashes_only += u64::try_from(bundle.leaves.len()).unwrap_or(0);
        }
        let placed = Placed {
            first_index: self.index,
            epoch: self.epoch,
            bundle,
            exported,
        };
        for entry in &placed.bundle.entries {
            let place = || placed.place(&self.log.origin, entry.at);
            if matches!(entry.event, Event::Unreadable) {
                report.find(Trouble::MalformedEntry, place(), "");
            }
            for differs in &entry.differs {
                report.find(*differs, place(), "");
            }
        }
        for at in 0..placed.bundle.leaves.len() {
            if self.closed && !std::mem::replace(&mut self.said, true) {
                report.find(Trouble::AfterItsEnd, placed.place(&self.log.origin, at), "");
            }
            let entry = placed.bundle.entries.get(at).map(|entry| &entry.event);
            self.closed |= matches!(entry, Some(Event::Guard(act)) if act.0.act == CLOSE_LOG);
        }
        for leaf in &placed.bundle.leaves {
            self.tree.append(*leaf);
            self.index += 1;
            self.compare(report);
        }
        if report.asks_about(placed.bundle.at_ms) {
            self.asked = self.index;
        }
        let summary = report.log(&self.log.origin);
        summary.bundles += 1;
        summary.size = self.index;
        summary.closed = self.closed;
        Some(placed)
    }

    /// Compares the root with what was signed of a tree of this size.
    fn compare(&mut self, report: &mut Report) {
        let Some(targets) = self.log.targets.get(&self.tree.size()) else {
            return;
        };
        let root = self.tree.root();
        for target in targets {
            if target.witnessed {
                report.count(Check::WitnessedCheckpoints, 1, 0);
            }
            if target.checkpoint.root != root {
                let trouble = match target.witnessed {
                    true => Trouble::Forked,
                    false => Trouble::RootDiffers,
                };
                let place = Place {
                    log: self.log.origin.clone(),
                    ..Place::default()
                };
                report.find(trouble, place, format!("size {}", target.checkpoint.size));
            } else if let Some(countersigned) = target.countersigned {
                self.covered = self.tree.size();
                report.log(&self.log.origin).checkpoint =
                    Some((target.checkpoint.clone(), target.key_id, countersigned));
            }
        }
    }

    /// Says what was not checked, once everything was read.
    pub(crate) fn finish(&mut self, report: &mut Report) {
        let (origin, size) = (&self.log.origin, self.index);
        let begin = self.log.files.first().map_or(0, |file| file.header.first_index);
        if size == begin {
            report.miss(Gap::Empty, origin, None);
        } else if self.covered == 0 {
            report.miss(Gap::NotCountersigned, origin, Some((begin, size)));
        } else if self.covered < self.asked {
            report.miss(Gap::BeyondCheckpoint, origin, Some((self.covered, self.asked)));
        }
        let exported = self.exported_at();
        let wanted = report.until().and_then(|until| until.checked_add(SETTLED_MS));
        if wanted.is_some_and(|wanted| exported.is_none_or(|exported| exported < wanted)) {
            report.miss(Gap::ExportedTooEarly, origin, None);
        }
        let covered = self.covered.saturating_sub(begin);
        report.count(Check::Entries, covered, size - begin - covered.min(size - begin));
        for (of, targets) in self.log.targets.range(self.tree.size() + 1..) {
            for target in targets {
                self.beyond(*of, target, report);
            }
        }
    }

    /// When the last of the files was asked for.
    fn exported_at(&self) -> Option<i64> {
        let last = self.log.files.last()?;
        last.header.exported_at.as_ref().and_then(moment::ms)
    }

    /// A checkpoint of more entries than there are: of a file that lacks something, of a log that grew since it was exported, or of
    /// one that was rolled back.
    fn beyond(&self, of: u64, target: &Target, report: &mut Report) {
        let origin = &self.log.origin;
        let range = Some((self.tree.size(), of));
        if !target.witnessed {
            let place = Place {
                log: origin.clone(),
                ..Place::default()
            };
            let about = format!("size {of} > {}", self.tree.size());
            report.find(Trouble::FewerThanSigned, place, about);
            return;
        }
        let last = self.log.files.last();
        let exported = self.exported_at();
        let at = target
            .countersigned
            .and_then(|countersigned| i64::try_from(countersigned.unix_s).ok()?.checked_mul(1_000));
        match at.zip(exported) {
            // It grew since.
            Some((at, exported)) if at + UNKNOWN_YET_MS > exported => {}
            Some((at, exported))
                if at + MAX_CLOCK_SKEW_MS < exported && last.is_some_and(|file| file.end.is_ok()) =>
            {
                report.count(Check::WitnessedCheckpoints, 1, 0);
                let place = Place {
                    log: origin.clone(),
                    at_ms: Some(at),
                    ..Place::default()
                };
                report.find(
                    Trouble::RolledBack,
                    place,
                    format!("size {of} > {}", self.tree.size()),
                );
            }
            _ => {
                report.count(Check::WitnessedCheckpoints, 0, 1);
                report.miss(Gap::WitnessedBeyondFile, origin, range);
            }
        }
    }
}

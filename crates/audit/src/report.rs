//! What was checked, what was found, and what could not be checked. Nothing of it depends on anything but the input.

use std::{collections::BTreeMap, fmt::Write as _};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{
    keys::Keys,
    moment,
    note::{Checkpoint, Countersigned},
    words::{self, Gap, Language, Trouble},
};

/// Findings, and gaps, that are listed; all are counted.
const MAX_LISTED: usize = 1_000;

/// What an audit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was checked and nothing was found.
    Clean,
    /// Something was found.
    Finding,
    /// Nothing was found, and not everything could be checked.
    CouldNotCheck,
}

impl Verdict {
    /// 0 clean, 1 finding, 2 could not check.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Finding => 1,
            Self::CouldNotCheck => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Clean => "CLEAN",
            Self::Finding => "FINDING",
            Self::CouldNotCheck => "COULD_NOT_CHECK",
        }
    }
}

/// What is checked, with how much of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Entries under a countersigned root.
    Entries,
    /// Releases against the acts in force (I3).
    Releases,
    /// Checkpoints that the other side has countersigned, against the entries.
    WitnessedCheckpoints,
    /// Provisions against their twins on the other side.
    Twins,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Releases => "releases",
            Self::WitnessedCheckpoints => "witnessed_checkpoints",
            Self::Twins => "twins",
        }
    }
}

/// How much of something was checked.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    checked: u64,
    not_checked: u64,
}

/// Where something is in a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// Origin of the log.
    pub(crate) log: String,
    /// Number of the bundle.
    pub(crate) bundle: Option<u64>,
    /// Index of the entry.
    pub(crate) index: Option<u64>,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: Option<i64>,
}

struct Finding {
    trouble: Trouble,
    place: Place,
    about: String,
}

struct NotChecked {
    gap: Gap,
    log: String,
    range: Option<(u64, u64)>,
}

/// What was read of a log.
#[derive(Default)]
pub(crate) struct LogSummary {
    /// Its files.
    pub(crate) files: Vec<String>,
    /// Number of the first bundle.
    pub(crate) first_bundle: u64,
    /// Index of the first entry.
    pub(crate) first_index: u64,
    /// Bundles that were read.
    pub(crate) bundles: u64,
    /// Entries up to the end of the last of them.
    pub(crate) size: u64,
    /// Entries whose bodies were archived: they are checked by their hashes only.
    pub(crate) hashes_only: u64,
    /// It was closed: its last entry says so.
    pub(crate) closed: bool,
    /// The newest countersigned checkpoint that the entries agree with.
    pub(crate) checkpoint: Option<(Checkpoint, u32, Countersigned)>,
}

/// What an audit found.
pub struct Report {
    command: &'static str,
    until_ms: Option<i64>,
    keys: Vec<String>,
    logs: BTreeMap<String, LogSummary>,
    counts: BTreeMap<Check, Count>,
    findings: Vec<Finding>,
    findings_total: u64,
    gaps: Vec<NotChecked>,
    gaps_total: u64,
    result: Option<Value>,
    result_text: Option<[String; 2]>,
}

impl Report {
    pub(crate) fn new(command: &'static str, keys: &Keys, until_ms: Option<i64>) -> Self {
        Self {
            command,
            until_ms,
            keys: keys.all().map(|(name, id)| format!("{name}+{id:08x}")).collect(),
            logs: BTreeMap::new(),
            counts: BTreeMap::new(),
            findings: Vec::new(),
            findings_total: 0,
            gaps: Vec::new(),
            gaps_total: 0,
            result: None,
            result_text: None,
        }
    }

    pub(crate) fn find(&mut self, trouble: Trouble, place: Place, about: impl Into<String>) {
        self.findings_total += 1;
        if self.findings.len() < MAX_LISTED {
            let about = about.into();
            self.findings.push(Finding {
                trouble,
                place,
                about,
            });
        }
    }

    pub(crate) fn miss(&mut self, gap: Gap, log: &str, range: Option<(u64, u64)>) {
        self.gaps_total += 1;
        if self.gaps.len() < MAX_LISTED {
            let log = log.to_owned();
            self.gaps.push(NotChecked { gap, log, range });
        }
    }

    /// Whether it is asked about what was at this moment: what is later may be missing, or not be provable yet.
    pub(crate) fn asks_about(&self, at_ms: Option<i64>) -> bool {
        at_ms.zip(self.until_ms).is_none_or(|(at, until)| at < until)
    }

    /// Until when it is asked about.
    pub(crate) fn until(&self) -> Option<i64> {
        self.until_ms
    }

    pub(crate) fn count(&mut self, check: Check, checked: u64, not_checked: u64) {
        let count = self.counts.entry(check).or_default();
        count.checked += checked;
        count.not_checked += not_checked;
    }

    pub(crate) fn log(&mut self, origin: &str) -> &mut LogSummary {
        self.logs.entry(origin.to_owned()).or_default()
    }

    pub(crate) fn checkpoint_of(&self, origin: &str) -> Option<&Checkpoint> {
        let (checkpoint, ..) = self.logs.get(origin)?.checkpoint.as_ref()?;
        Some(checkpoint)
    }

    /// What the command was asked for, for programs, and in the order of [`Language::ALL`] for people.
    pub(crate) fn answer(&mut self, json: Value, text: [String; 2]) {
        self.result = Some(json);
        self.result_text = Some(text);
    }

    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (self.findings_total, self.gaps_total) {
            (0, 0) => Verdict::Clean,
            (0, _) => Verdict::CouldNotCheck,
            _ => Verdict::Finding,
        }
    }

    /// For programs (docs/audit-report.md).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let log = |(origin, log): (&String, &LogSummary)| {
            let checkpoint = log.checkpoint.as_ref().map(|(checkpoint, key_id, witness)| {
                json!({
                    "size": checkpoint.size,
                    "root": BASE64.encode(&checkpoint.root),
                    "key_id": format!("{key_id:08x}"),
                    "countersigned_key_id": format!("{:08x}", witness.key_id),
                    "countersigned_at": moment::utc_s(witness.unix_s),
                })
            });
            json!({
                "log": origin,
                "files": log.files,
                "first_bundle": log.first_bundle,
                "first_index": log.first_index,
                "bundles": log.bundles,
                "size": log.size,
                "hashes_only": log.hashes_only,
                "closed": log.closed,
                "checkpoint": checkpoint,
            })
        };
        let finding = |finding: &Finding| {
            let Finding {
                trouble,
                place,
                about,
            } = finding;
            json!({
                "finding": trouble.name(),
                "log": place.log,
                "bundle": place.bundle,
                "index": place.index,
                "at": place.at_ms.map(moment::utc),
                "at_jst": place.at_ms.map(moment::jst),
                "about": about,
            })
        };
        let gap = |not: &NotChecked| {
            json!({
                "cause": not.gap.name(),
                "log": not.log,
                "from": not.range.map(|(from, _)| from),
                "to": not.range.map(|(_, to)| to),
            })
        };
        let counts = self.counts.iter().map(|(check, count)| {
            let value = json!({ "checked": count.checked, "not_checked": count.not_checked });
            (check.name().to_owned(), value)
        });
        let mut report = json!({
            "tool": { "name": "kosekictl audit", "version": env!("CARGO_PKG_VERSION") },
            "command": self.command,
            "until": self.until_ms.map(moment::utc),
            "verdict": self.verdict().name(),
            "exit_code": self.verdict().exit_code(),
            "keys": self.keys,
            "logs": self.logs.iter().map(log).collect::<Vec<_>>(),
            "counts": counts.collect::<serde_json::Map<_, _>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "findings_total": self.findings_total,
            "not_checked": self.gaps.iter().map(gap).collect::<Vec<_>>(),
            "not_checked_total": self.gaps_total,
        });
        if let (Some(result), Some(report)) = (&self.result, report.as_object_mut()) {
            report.insert("result".to_owned(), result.clone());
        }
        report
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self, language: Language) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_text(&mut text, language);
        text
    }

    fn write_text(&self, out: &mut String, language: Language) -> std::fmt::Result {
        writeln!(out, "{}", words::verdict(language, self.verdict()))?;
        if let Some(until) = self.until_ms {
            writeln!(out, "{}", words::until(language, until))?;
        }
        for (origin, log) in &self.logs {
            writeln!(out, "{}", words::log(language, origin, log))?;
        }
        for (check, count) in &self.counts {
            writeln!(
                out,
                "{}",
                words::count(language, *check, count.checked, count.not_checked)
            )?;
        }
        for finding in &self.findings {
            let place = words::place(language, &finding.place);
            let words = finding.trouble.words(language);
            write!(out, "{}: {place}: {words}", finding.trouble.name())?;
            match finding.about.as_str() {
                "" => writeln!(out)?,
                about => writeln!(out, " ({about})")?,
            }
        }
        if self.findings_total > u64::try_from(self.findings.len()).unwrap_or(u64::MAX) {
            writeln!(out, "{}", words::more(language, self.findings_total))?;
        }
        for not in &self.gaps {
            let range = not
                .range
                .map(|(from, to)| words::range(language, from, to))
                .unwrap_or_default();
            writeln!(
                out,
                "{}: {}{range}: {}",
                not.gap.name(),
                not.log,
                not.gap.words(language)
            )?;
        }
        if let Some([japanese, english]) = &self.result_text {
            write!(
                out,
                "\n{}",
                match language {
                    Language::Ja => japanese,
                    Language::En => english,
                }
            )?;
        }
        Ok(())
    }
}

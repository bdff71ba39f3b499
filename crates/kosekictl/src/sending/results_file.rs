//! The results file: one JSON object a line, in the order of the records.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use common::lines::send::LineReport;
use koseki_proto::koseki::common::v1::{LineOutcome, LineReason};
use serde::{Deserialize, Serialize};

use super::tally::Tally;
use crate::failure::{Failure, Result};

/// Results that may be lost when the program is killed: their lines are sent again then.
const UNFLUSHED: u32 = 256;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultLine {
    line: u64,
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

impl ResultLine {
    fn of(report: &LineReport) -> Self {
        let refused = report.outcome == LineOutcome::Refused;
        let only_refused = |text: &str| refused.then(|| text.to_owned());
        Self {
            line: report.line_number,
            outcome: report.outcome_name().to_owned(),
            reason: only_refused(report.reason_name()),
            field: only_refused(&report.field),
            rule: only_refused(&report.rule),
        }
    }

    fn into_report(self) -> Option<LineReport> {
        let reason = self.reason.as_deref().unwrap_or("UNSPECIFIED");
        Some(LineReport {
            line_number: self.line,
            outcome: LineOutcome::from_str_name(&format!("LINE_OUTCOME_{}", self.outcome))?,
            reason: LineReason::from_str_name(&format!("LINE_REASON_{reason}"))?,
            field: self.field.unwrap_or_default(),
            rule: self.rule.unwrap_or_default(),
        })
    }
}

/// The file, being written.
pub(super) struct ResultsFile {
    path: PathBuf,
    file: BufWriter<File>,
    unflushed: u32,
}

impl ResultsFile {
    /// A new file; never over one that is there.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let mut failure = Failure::flag("--results", "a file that does not exist yet");
                failure.what = format!("{}: exists already; nothing was sent", path.display());
                failure.next = "name another file, or add --resume to go on behind its last line".to_owned();
                failure
            }
            _ => Failure::file(
                path,
                error,
                "name a file in a folder that is there and that you may write to",
            ),
        })?;
        Ok(Self::at_its_end(path, file))
    }

    /// A file that is there: what it tells, cut behind its last complete line.
    pub(super) fn go_on(path: &Path) -> Result<(Self, Tally)> {
        let unusable = |error: io::Error| {
            Failure::file(
                path,
                error,
                "name the results file of the run that broke, or leave --resume out",
            )
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(unusable)?;
        let mut reader = BufReader::new(&file);
        let mut tally = Tally::default();
        let (mut whole, mut number) = (0_u64, 0_u64);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(unusable)?;
            // A line without its end was being written when the program was stopped.
            if line.last() != Some(&b'\n') {
                break;
            }
            number += 1;
            let parsed = serde_json::from_slice(&line)
                .ok()
                .and_then(ResultLine::into_report);
            let follows = |report: &LineReport| number == 1 || report.line_number == tally.last_line() + 1;
            let Some(report) = parsed.filter(follows) else {
                let rule = format!("line {number}: a result that follows the one before it");
                return Err(Failure::file(
                    path,
                    rule,
                    "it is no results file, or was changed: name another one",
                ));
            };
            tally.add(report);
            whole += u64::try_from(read).unwrap_or_default();
        }
        file.set_len(whole).map_err(unusable)?;
        let mut file = file;
        file.seek(SeekFrom::End(0)).map_err(unusable)?;
        Ok((Self::at_its_end(path, file), tally))
    }

    fn at_its_end(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            unflushed: 0,
        }
    }

    pub(super) fn write(&mut self, report: &LineReport) -> Result<()> {
        let mut line = serde_json::to_vec(&ResultLine::of(report)).map_err(|error| self.fault(error))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| self.fault(error))?;
        self.unflushed += 1;
        if self.unflushed >= UNFLUSHED {
            self.flush()
        } else {
            Ok(())
        }
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.unflushed = 0;
        self.file.flush().map_err(|error| self.fault(error))
    }

    fn fault(&self, error: impl ToString) -> Box<Failure> {
        Failure::file(&self.path, error, "make room, or name a file elsewhere")
    }
}

#[cfg(test)]
mod tests {
    use common::lines::LineFault;

    use super::*;

    fn stored(line_number: u64) -> LineReport {
        LineReport {
            outcome: LineOutcome::Stored,
            ..LineReport::refused(line_number, LineFault::new(LineReason::Unspecified, "", ""))
        }
    }

    #[test]
    fn it_is_not_overwritten_and_goes_on_behind_its_last_complete_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let mut file = ResultsFile::create(&path).unwrap();
        let fault = LineFault::new(LineReason::CheckDigit, "municipality_code", "a rule");
        file.write(&stored(3)).unwrap();
        file.write(&LineReport::refused(4, fault)).unwrap();
        file.flush().unwrap();
        drop(file);
        assert!(ResultsFile::create(&path).is_err());

        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            whole,
            "{\"line\":3,\"outcome\":\"STORED\"}\n{\"line\":4,\"outcome\":\"REFUSED\",\"reason\":\"CHECK_DIGIT\",\
             \"field\":\"municipality_code\",\"rule\":\"a rule\"}\n"
        );
        std::fs::write(&path, format!("{whole}{{\"line\":5,\"outc")).unwrap();
        let (mut file, told) = ResultsFile::go_on(&path).unwrap();
        assert_eq!((told.last_line(), told.refused()), (4, 1));
        file.write(&stored(5)).unwrap();
        file.flush().unwrap();
        let gone_on = std::fs::read_to_string(&path).unwrap();
        assert_eq!(gone_on, format!("{whole}{{\"line\":5,\"outcome\":\"STORED\"}}\n"));
    }

    #[test]
    fn what_is_no_results_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other");
        for content in [
            "hello\n",
            "{\"line\":1,\"outcome\":\"STORED\"}\n{\"line\":9,\"outcome\":\"STORED\"}\n",
        ] {
            std::fs::write(&path, content).unwrap();
            assert!(ResultsFile::go_on(&path).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }
}

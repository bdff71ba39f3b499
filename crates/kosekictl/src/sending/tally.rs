//! Counts of what became of lines, and the refusals themselves: number, reason, field and rule, never content.

use std::path::Path;

use common::lines::send::LineReport;
use koseki_proto::koseki::common::v1::LineOutcome;
use serde_json::{Value, json};

/// Refusals that are kept for the result; all of them are in the results file.
const KEPT: usize = 10_000;
/// Refusals that are shown to people.
const SHOWN: usize = 50;

/// What became of the lines so far.
#[derive(Default)]
pub(crate) struct Tally {
    stored: u64,
    unchanged: u64,
    older: u64,
    refused: u64,
    other: u64,
    last_line: u64,
    refusals: Vec<LineReport>,
}

impl Tally {
    pub(super) fn add(&mut self, report: LineReport) {
        let count = match report.outcome {
            LineOutcome::Stored => &mut self.stored,
            LineOutcome::Unchanged => &mut self.unchanged,
            LineOutcome::Older => &mut self.older,
            LineOutcome::Refused => &mut self.refused,
            LineOutcome::Unspecified => &mut self.other,
        };
        *count += 1;
        self.last_line = report.line_number;
        if report.outcome == LineOutcome::Refused && self.refusals.len() < KEPT {
            self.refusals.push(report);
        }
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn last_line(&self) -> u64 {
        self.last_line
    }

    pub(super) fn counts(&self) -> String {
        let mut text = format!(
            "{} stored, {} unchanged, {} older, {} refused",
            self.stored, self.unchanged, self.older, self.refused
        );
        if self.other > 0 {
            text.push_str(&format!(
                ", {} with an outcome that this program does not know",
                self.other
            ));
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({
            "lines": self.stored + self.unchanged + self.older + self.refused + self.other,
            "stored": self.stored,
            "unchanged": self.unchanged,
            "older": self.older,
            "refused": self.refused,
        });
        if let (Some(json), Value::Object(refusals)) = (json.as_object_mut(), self.refusals_json()) {
            json.extend(refusals);
        }
        json
    }

    pub(super) fn refusals_json(&self) -> Value {
        let refusal = |line: &LineReport| {
            json!({
                "line": line.line_number,
                "reason": line.reason_name(),
                "field": line.field,
                "rule": line.rule,
            })
        };
        let refusals: Vec<Value> = self.refusals.iter().map(refusal).collect();
        json!({"refusals": refusals, "refusals_left_out": self.left_out(self.refusals.len())})
    }

    pub(super) fn refusals_text(&self, file: &Path) -> String {
        let mut text = String::new();
        for line in self.refusals.iter().take(SHOWN) {
            let field = if line.field.is_empty() {
                "the whole line"
            } else {
                &line.field
            };
            let (number, reason, rule) = (line.line_number, line.reason_name(), &line.rule);
            text.push_str(&format!(
                "  {}:{number}: {reason}: {field}: {rule}\n",
                file.display()
            ));
        }
        let more = self.left_out(SHOWN.min(self.refusals.len()));
        if more > 0 {
            text.push_str(&format!(
                "  and {more} more: --output json has 10,000, --results FILE all\n"
            ));
        }
        text
    }

    fn left_out(&self, told: usize) -> u64 {
        self.refused
            .saturating_sub(u64::try_from(told).unwrap_or(u64::MAX))
    }
}

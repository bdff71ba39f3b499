//! What became of a file that was loaded line by line.

use common::lines::send::{LineReport, Reader, take_results};
use koseki_proto::koseki::common::v1::{LineOutcome, LineResult};
use tonic::{Response, Status, Streaming};

use super::CallError;

/// What became of a file.
#[derive(Debug)]
pub struct Loaded {
    /// One report for each line whose outcome is known, in order of the numbers. What stands here was durable.
    pub lines: Vec<LineReport>,
    /// Why the rest is not known, when the stream broke.
    pub broken: Option<CallError>,
    /// The file could not be read to its end.
    pub unread: Option<std::io::Error>,
}

impl Loaded {
    /// Lines with this outcome.
    pub fn count(&self, outcome: LineOutcome) -> usize {
        self.lines.iter().filter(|line| line.outcome == outcome).count()
    }

    /// Lines that were refused.
    pub fn refused(&self) -> impl Iterator<Item = &LineReport> {
        self.lines
            .iter()
            .filter(|line| line.outcome == LineOutcome::Refused)
    }

    /// Whether all of the file was taken and none of it refused.
    pub fn is_whole(&self) -> bool {
        self.broken.is_none() && self.unread.is_none() && self.refused().next().is_none()
    }

    /// Takes the results until the stream ends or breaks, and shows each as soon as it is there.
    pub(super) async fn take(
        answered: Result<Response<Streaming<LineResult>>, Status>,
        reader: Reader,
        mut seen: impl FnMut(&LineReport),
    ) -> Self {
        let mut lines = Vec::new();
        let ended = take_results(answered, reader, |report| {
            seen(&report);
            lines.push(report);
            true
        })
        .await;
        Self {
            lines,
            broken: ended.broken.map(CallError::from),
            unread: ended.unread,
        }
    }
}

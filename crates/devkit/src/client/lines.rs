//! Loading files line by line: one side reads and sends with a bounded window, the other takes the results.

use common::lines::{ReadLine, read_line};
use koseki_proto::koseki::common::v1::{
    FileLine, LineOutcome, LineReason, LineResult, LoadMessage, LoadStart, load_message::Part,
};
use tokio::{io::AsyncBufRead, sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Response, Status, Streaming};

use super::CallError;

/// Lines that have been read and not yet been taken by the connection.
const WINDOW_LINES: usize = 64;

/// What became of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineReport {
    /// The line's number in its file, from 1.
    pub line_number: u64,
    /// What became of it.
    pub outcome: LineOutcome,
    /// Why it was refused; `Unspecified` otherwise.
    pub reason: LineReason,
    /// Path of the field at fault.
    pub field: String,
    /// The rule that it breaks.
    pub rule: String,
}

impl LineReport {
    /// The reason's name without its prefix, such as `CHECK_DIGIT`.
    pub fn reason_name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("LINE_REASON_").unwrap_or(name)
    }
}

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
}

impl From<LineResult> for LineReport {
    fn from(result: LineResult) -> Self {
        Self {
            line_number: result.line_number,
            outcome: result.outcome(),
            reason: result.reason(),
            field: result.field,
            rule: result.rule,
        }
    }
}

/// What the reader found by itself.
#[derive(Default)]
struct Read {
    too_long: Vec<LineReport>,
    fault: Option<std::io::Error>,
}

/// The task that reads the file.
pub(super) struct Reader(JoinHandle<Read>);

/// Begins to read a file. A line that is longer than any server takes is reported here and not sent.
pub(super) fn send<R: AsyncBufRead + Unpin + Send + 'static>(
    mut file: R,
) -> (ReceiverStream<FileLine>, Reader) {
    let (lines, stream) = mpsc::channel(WINDOW_LINES);
    let reader = tokio::spawn(async move {
        let mut read = Read::default();
        let mut line_number = 0;
        loop {
            line_number += 1;
            match read_line(&mut file).await {
                Ok(Some(ReadLine::Line(line))) => {
                    // A closed channel means that the stream broke: the results tell that.
                    if lines.send(FileLine { line_number, line }).await.is_err() {
                        return read;
                    }
                }
                Ok(Some(ReadLine::TooLong)) => read.too_long.push(too_long(line_number)),
                Ok(None) => return read,
                Err(fault) => {
                    read.fault = Some(fault);
                    return read;
                }
            }
        }
    });
    (ReceiverStream::new(stream), Reader(reader))
}

/// Lines as a load of an administration's listener.
pub(super) fn load(
    load_id: &str,
    dry_run: bool,
    lines: ReceiverStream<FileLine>,
) -> impl Stream<Item = LoadMessage> + Send + 'static {
    let message = |part| LoadMessage { part: Some(part) };
    let start = message(Part::Start(LoadStart {
        load_id: load_id.to_owned(),
        dry_run,
    }));
    tokio_stream::once(start).chain(lines.map(move |line| message(Part::Line(line))))
}

/// Takes the results until the stream ends or breaks, and shows each as soon as it is there.
pub(super) async fn take_results(
    answered: Result<Response<Streaming<LineResult>>, Status>,
    reader: Reader,
    mut seen: impl FnMut(&LineReport),
) -> Loaded {
    let mut lines = Vec::new();
    let mut broken = None;
    match answered {
        Ok(results) => {
            let mut results = results.into_inner();
            while let Some(result) = results.next().await {
                match result {
                    Ok(result) => {
                        let report = LineReport::from(result);
                        seen(&report);
                        lines.push(report);
                    }
                    Err(status) => broken = Some(status.into()),
                }
            }
        }
        Err(status) => broken = Some(status.into()),
    }
    let read = reader.0.await.unwrap_or_default();
    lines.extend(read.too_long);
    lines.sort_by_key(|line| line.line_number);
    Loaded {
        lines,
        broken,
        unread: read.fault,
    }
}

fn too_long(line_number: u64) -> LineReport {
    let fault = common::lines::too_long();
    LineReport {
        line_number,
        outcome: LineOutcome::Refused,
        reason: fault.reason,
        field: fault.field,
        rule: fault.rule.to_owned(),
    }
}

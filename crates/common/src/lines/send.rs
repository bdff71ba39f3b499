//! The sender's side: one task reads the file ahead with a bounded window while the connection takes lines; the results
//! come back in the order of the file.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use koseki_proto::koseki::common::v1::{
    FileLine, LineOutcome, LineReason, LineResult, LoadMessage, LoadStart, load_message::Part,
};
use tokio::{io::AsyncBufRead, sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Response, Status, Streaming};

use super::{ReadLine, read_line, too_long};

/// Lines that have been read and not yet been taken by the connection.
const WINDOW_LINES: usize = 64;
/// How long the reader may take to notice that the connection is gone.
const READER_ENDS: Duration = Duration::from_secs(5);

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
    /// A line that is refused before it is sent.
    pub fn refused(line_number: u64, fault: super::LineFault) -> Self {
        Self {
            line_number,
            outcome: LineOutcome::Refused,
            reason: fault.reason,
            field: fault.field,
            rule: fault.rule.to_owned(),
        }
    }

    /// The outcome's name without its prefix, such as `STORED`.
    pub fn outcome_name(&self) -> &'static str {
        let name = self.outcome.as_str_name();
        name.strip_prefix("LINE_OUTCOME_").unwrap_or(name)
    }

    /// The reason's name without its prefix, such as `CHECK_DIGIT`.
    pub fn reason_name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("LINE_REASON_").unwrap_or(name)
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

/// How far the reader has got, as the taker of the results sees it.
#[derive(Default)]
struct Progress {
    /// Lines that are longer than any server takes, and are not sent; in order.
    too_long: Mutex<Vec<u64>>,
    /// The last line that was handed to the connection.
    sent: AtomicU64,
}

impl Progress {
    /// Those of the lines that were not sent whose place is before `line_number`.
    fn too_long_before(&self, line_number: u64) -> Vec<u64> {
        let mut held = self.too_long.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.partition_point(|number| *number < line_number);
        held.drain(..before).collect()
    }
}

/// How reading ended.
enum Read {
    Whole,
    /// The connection takes no more.
    Stopped,
    Failed(io::Error),
}

/// The task that reads the file.
pub struct Reader {
    task: JoinHandle<Read>,
    progress: Arc<Progress>,
}

/// Begins to read a file behind its line `after` (0: from its beginning). A line that is longer than any server takes is
/// reported as refused and not sent.
pub fn read_behind<R: AsyncBufRead + Unpin + Send + 'static>(
    mut file: R,
    after: u64,
) -> (ReceiverStream<FileLine>, Reader) {
    let (lines, stream) = mpsc::channel(WINDOW_LINES);
    let progress = Arc::new(Progress::default());
    let shared = progress.clone();
    let task = tokio::spawn(async move {
        let mut line_number = 0;
        loop {
            line_number += 1;
            match read_line(&mut file).await {
                Ok(Some(_)) if line_number <= after => {}
                Ok(Some(ReadLine::Line(line))) => {
                    // A closed channel means that the stream broke: the results tell that.
                    if lines.send(FileLine { line_number, line }).await.is_err() {
                        return Read::Stopped;
                    }
                    shared.sent.store(line_number, Ordering::Release);
                }
                Ok(Some(ReadLine::TooLong)) => {
                    let mut too_long = shared.too_long.lock().unwrap_or_else(PoisonError::into_inner);
                    too_long.push(line_number);
                }
                Ok(None) => return Read::Whole,
                Err(fault) => return Read::Failed(fault),
            }
        }
    });
    (ReceiverStream::new(stream), Reader { task, progress })
}

/// Lines as a load of an administration's listener.
pub fn as_load(
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

/// How a stream ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Why the rest is not known, when the stream broke.
    pub broken: Option<Status>,
    /// The file could not be read to its end.
    pub unread: Option<io::Error>,
}

/// Takes the results until the stream ends or breaks, and shows each as soon as it is there, in the order of the file.
/// What was shown is durable; `seen` says whether to go on.
pub async fn take_results(
    answered: Result<Response<Streaming<LineResult>>, Status>,
    reader: Reader,
    mut seen: impl FnMut(LineReport) -> bool,
) -> Ended {
    let Reader { task, progress } = reader;
    let mut acknowledged = 0;
    let broken = |status| Ended {
        broken: Some(status),
        unread: None,
    };
    let mut results = match answered {
        Ok(results) => results.into_inner(),
        Err(status) => {
            task.abort();
            return broken(status);
        }
    };
    while let Some(result) = results.next().await {
        let result = match result {
            Ok(result) => LineReport::from(result),
            Err(status) => {
                task.abort();
                return broken(status);
            }
        };
        acknowledged = result.line_number;
        let unsent = progress.too_long_before(acknowledged);
        let unsent = unsent
            .into_iter()
            .map(|number| LineReport::refused(number, too_long()));
        if !unsent.chain([result]).all(&mut seen) {
            task.abort();
            return Ended::default();
        }
    }
    drop(results);
    let early = || Status::aborted("the server ended the stream before every line had its result");
    let read = match tokio::time::timeout(READER_ENDS, task).await {
        Ok(Ok(read)) => read,
        // It waits for its file while the server has ended.
        _ => return broken(early()),
    };
    if matches!(read, Read::Stopped) || progress.sent.load(Ordering::Acquire) > acknowledged {
        return broken(early());
    }
    let unsent = progress.too_long_before(u64::MAX);
    if !unsent
        .into_iter()
        .map(|number| LineReport::refused(number, too_long()))
        .all(seen)
    {
        return Ended::default();
    }
    Ended {
        broken: None,
        unread: match read {
            Read::Failed(fault) => Some(fault),
            Read::Whole | Read::Stopped => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reading_begins_behind_a_line_and_keeps_the_numbers() {
        let long = "x".repeat(crate::lines::MAX_LINE_BYTES + 1);
        let file = std::io::Cursor::new(format!("{long}\na\nb\n{long}\nc"));
        let (stream, reader) = read_behind(file, 2);
        let sent: Vec<(u64, Vec<u8>)> = stream.map(|line| (line.line_number, line.line)).collect().await;
        assert_eq!(sent, [(3, b"b".to_vec()), (5, b"c".to_vec())]);
        assert!(matches!(reader.task.await.unwrap(), Read::Whole));
        // The first long line was before the beginning; the second is told in its place.
        assert_eq!(reader.progress.too_long_before(4), Vec::<u64>::new());
        assert_eq!(reader.progress.too_long_before(5), [4]);
        assert_eq!(reader.progress.sent.load(Ordering::Acquire), 5);
    }

    #[tokio::test]
    async fn a_stream_that_is_refused_is_told_as_broken() {
        let (_lines, reader) = read_behind(std::io::Cursor::new("a\nb"), 0);
        let ended = take_results(Err(Status::unavailable("no")), reader, |_| {
            panic!("no result came")
        })
        .await;
        assert_eq!(ended.broken.unwrap().message(), "no");
        assert!(ended.unread.is_none());
    }
}

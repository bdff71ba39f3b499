//! Files that are loaded line by line over a stream: reading them on the sender's side, taking them in on the server's.
//! One result per line, in order, after it is durable; a bad line leaves its neighbours alone.

pub mod send;

use std::{future::Future, io, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use koseki_proto::koseki::common::v1::{
    FileLine, LineOutcome, LineReason, LineResult, LoadMessage, load_message::Part,
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use crate::{
    refusal::{Reason, Refusal},
    store::StoreError,
    terms::{ActId, RuleBroken},
};

/// Length of a line at most, in bytes, without its end.
pub const MAX_LINE_BYTES: usize = 65_536;
/// Message limit of a method that takes lines, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// Lines that are stored together at most.
const BATCH_LINES: usize = 1_024;
/// Bytes that are stored together: no further line is added to as many.
const BATCH_BYTES: usize = 1024 * 1024;
/// Streams at the same time on a listener: with [`BATCH_BYTES`] the bound of what senders make us keep.
const MAX_STREAMS: usize = 64;
/// A stream ends after this long without a message.
const IDLE: Duration = Duration::from_secs(60);

/// Why a line is refused: never with a value in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The reason.
    pub reason: LineReason,
    /// Path of the field; empty when the whole line is at fault.
    pub field: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl LineFault {
    /// A fault.
    pub fn new(reason: LineReason, field: &str, rule: &'static str) -> Self {
        // Paths are made of the format's own names; the bound holds for deep ones.
        Self {
            reason,
            field: field.chars().take(100).collect(),
            rule,
        }
    }
}

/// What became of a line, before it is told.
pub type Outcome = Result<LineOutcome, LineFault>;

fn to_proto(line_number: u64, outcome: Outcome) -> LineResult {
    match outcome {
        Ok(outcome) => LineResult {
            line_number,
            outcome: outcome.into(),
            ..Default::default()
        },
        Err(fault) => LineResult {
            line_number,
            outcome: LineOutcome::Refused.into(),
            reason: fault.reason.into(),
            field: fault.field,
            rule: fault.rule.to_owned(),
        },
    }
}

/// A fault for a line that is too long.
pub fn too_long() -> LineFault {
    LineFault::new(LineReason::TooLong, "", "at most 65,536 bytes")
}

/// The stream of results of a method that takes lines.
pub type Results = ReceiverStream<Result<LineResult, Status>>;

/// How many streams of a listener are taken in at the same time; shared by its calls.
#[derive(Clone)]
pub struct Intake(Arc<Semaphore>);

impl Default for Intake {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

impl Intake {
    /// Takes lines in: whatever has come in is handed to `store` together, and its outcomes are sent before more is read,
    /// so that a fast sender waits and fills nothing. One stream too many is refused.
    pub fn take_in<S, F, Fut>(&self, incoming: S, store: F) -> Result<Results, Status>
    where
        S: Stream<Item = Result<FileLine, Status>> + Send + Unpin + 'static,
        F: Fn(Vec<Vec<u8>>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<Outcome>> + Send,
    {
        match self.0.clone().try_acquire_owned() {
            Ok(place) => Ok(take_in(incoming, store, place)),
            Err(_) => Err(Refusal::new(Reason::Overloaded).into()),
        }
    }
}

/// The start of a load on an administration's listener, and the lines after it.
pub async fn start_load(
    mut incoming: Streaming<LoadMessage>,
) -> Result<
    (
        LoadStart,
        impl Stream<Item = Result<FileLine, Status>> + Send + Unpin,
    ),
    Status,
> {
    let first = tokio::time::timeout(IDLE, incoming.next())
        .await
        .ok()
        .flatten()
        .transpose()?;
    let Some(LoadMessage {
        part: Some(Part::Start(start)),
    }) = first
    else {
        return Err(Refusal::malformed("start", RuleBroken("the first message of a load")).into());
    };
    let start = LoadStart {
        load_id: ActId::parse(&start.load_id).map_err(|rule| Refusal::malformed("start.load_id", rule))?,
        dry_run: start.dry_run,
    };
    let lines = incoming.map(|message| match message?.part {
        Some(Part::Line(line)) => Ok(line),
        _ => Err(Refusal::malformed("line", RuleBroken("a line in each message after the first")).into()),
    });
    Ok((start, lines))
}

/// How a load begins.
#[derive(Debug, Clone, Copy)]
pub struct LoadStart {
    /// Its id: entries and closings that it makes carry it.
    pub load_id: ActId,
    /// Whether it only tells what it would do.
    pub dry_run: bool,
}

fn take_in<S, F, Fut>(mut incoming: S, store: F, place: OwnedSemaphorePermit) -> Results
where
    S: Stream<Item = Result<FileLine, Status>> + Send + Unpin + 'static,
    F: Fn(Vec<Vec<u8>>) -> Fut + Send + 'static,
    Fut: Future<Output = Vec<Outcome>> + Send,
{
    let (results, receiver) = mpsc::channel(BATCH_LINES);
    tokio::spawn(async move {
        let _place = place;
        let mut last = 0;
        loop {
            let Gathered { numbers, lines, then } = gather(&mut incoming, &mut last).await;
            if !lines.is_empty() {
                for (number, outcome) in numbers.into_iter().zip(store(lines).await) {
                    // A sender that takes no results is treated as one that is gone.
                    let told = results.send_timeout(Ok(to_proto(number, outcome)), IDLE);
                    if told.await.is_err() {
                        return;
                    }
                }
            }
            match then {
                Then::More => {}
                Then::End => return,
                Then::Refuse(refusal) => {
                    // A receiver that is gone needs no answer, and one that takes none keeps no place.
                    let _ = results.send_timeout(Err(refusal.into()), IDLE).await;
                    return;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// What has come in, and what is to be done after it.
struct Gathered {
    numbers: Vec<u64>,
    lines: Vec<Vec<u8>>,
    then: Then,
}

enum Then {
    More,
    End,
    Refuse(Refusal),
}

/// Waits for a line and takes those that are there already.
async fn gather(
    incoming: &mut (impl Stream<Item = Result<FileLine, Status>> + Unpin),
    last: &mut u64,
) -> Gathered {
    let mut gathered = Gathered {
        numbers: Vec::new(),
        lines: Vec::new(),
        then: Then::More,
    };
    let mut bytes = 0;
    // An idle sender is treated as one that has ended.
    let mut next = tokio::time::timeout(IDLE, incoming.next()).await.ok().flatten();
    loop {
        match next {
            None => gathered.then = Then::End,
            Some(Err(_)) => {
                let rule = RuleBroken("messages of at most 131,072 bytes, each one line");
                gathered.then = Then::Refuse(Refusal::malformed("line", rule));
            }
            Some(Ok(line)) if line.line_number <= *last => {
                let rule = RuleBroken("rising, from 1");
                gathered.then = Then::Refuse(Refusal::malformed("line_number", rule));
            }
            Some(Ok(line)) => {
                *last = line.line_number;
                gathered.numbers.push(line.line_number);
                bytes += line.line.len();
                gathered.lines.push(line.line);
                if gathered.lines.len() < BATCH_LINES
                    && bytes < BATCH_BYTES
                    && let Some(more) = incoming.next().now_or_never()
                {
                    next = more;
                    continue;
                }
            }
        }
        return gathered;
    }
}

/// Stores the lines of a batch that parsed, together, and puts the outcomes back in order. When the store fails, each of
/// them was not stored and may be sent again.
pub async fn store_parsed<T, F, Fut>(parsed: Vec<Result<T, LineFault>>, store: F) -> Vec<Outcome>
where
    F: FnOnce(Vec<T>) -> Fut,
    Fut: Future<Output = Result<Vec<Outcome>, StoreError>>,
{
    let (good, faults): (Vec<Option<T>>, Vec<Option<LineFault>>) = parsed
        .into_iter()
        .map(|line| match line {
            Ok(line) => (Some(line), None),
            Err(fault) => (None, Some(fault)),
        })
        .unzip();
    let good: Vec<T> = good.into_iter().flatten().collect();
    let mut stored = match store(good).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            // Operators get the chain; the sender learns what to do.
            let _ = Reason::from(error);
            Vec::new()
        }
    }
    .into_iter();
    let not_stored = || Err(LineFault::new(LineReason::NotStored, "", "send the line again"));
    faults
        .into_iter()
        .map(|fault| fault.map_or_else(|| stored.next().unwrap_or_else(not_stored), Err))
        .collect()
}

/// A line as it was read from a file.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadLine {
    /// Its bytes, without the line end.
    Line(Vec<u8>),
    /// It is longer than [`MAX_LINE_BYTES`]; it was skipped.
    TooLong,
}

/// Reads the next line of a file in bounded memory; `None` at its end.
pub async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R) -> io::Result<Option<ReadLine>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(match (too_long, line.is_empty()) {
                (true, _) => Some(ReadLine::TooLong),
                (false, true) => None,
                (false, false) => Some(ReadLine::Line(line)),
            });
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (part, used) = match end {
            Some(end) => (buffer.get(..end).unwrap_or_default(), end + 1),
            None => (buffer, buffer.len()),
        };
        if line.len() + part.len() > MAX_LINE_BYTES {
            too_long = true;
            line = Vec::new();
        }
        if !too_long {
            line.extend_from_slice(part);
        }
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(if too_long {
                ReadLine::TooLong
            } else {
                ReadLine::Line(line)
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_in_bounded_memory() {
        let long = vec![b'x'; 10_000_000];
        let mut file = b"a\n\n".to_vec();
        file.extend_from_slice(&long);
        file.extend_from_slice(b"\nlast");
        let mut reader = tokio::io::BufReader::new(file.as_slice());
        let mut read = Vec::new();
        while let Some(line) = read_line(&mut reader).await.unwrap() {
            read.push(line);
        }
        let line = |text: &str| ReadLine::Line(text.as_bytes().to_vec());
        assert_eq!(read, [line("a"), line(""), ReadLine::TooLong, line("last")]);
    }
}

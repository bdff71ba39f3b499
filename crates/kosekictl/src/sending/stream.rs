//! One stream after the other until the file is through.

use std::{path::Path, time::Duration};

use common::{
    lines::send::{Ended, LineReport, as_load, read_behind, take_results},
    refusal::Reason,
};
use koseki_proto::koseki::{
    common::v1::{FileLine, LineReason, LineResult},
    ingest::v1::ingest_client::IngestClient,
};
use tokio::{fs::File, io::BufReader};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming, transport::Channel};

use super::{progress::Progress, results_file::ResultsFile, tally::Tally};
use crate::{
    answer,
    connection::{Admin, no_connection},
    failure::{Failure, Kind, Result},
    terminal::Terminal,
};

/// The first pause before going on; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Where lines go.
pub(crate) enum Target {
    /// Register copies, to the ingest listener.
    Ingest {
        client: IngestClient<Channel>,
        server: String,
    },
    /// Persons and linkages, to an admin listener.
    Load {
        admin: Admin,
        load_id: String,
        dry_run: bool,
    },
}

impl Target {
    fn server(&self) -> &str {
        match self {
            Self::Ingest { server, .. } => server,
            Self::Load { admin, .. } => &admin.server,
        }
    }

    async fn open(
        &self,
        lines: ReceiverStream<FileLine>,
    ) -> std::result::Result<Response<Streaming<LineResult>>, Status> {
        match self {
            Self::Ingest { client, .. } => client.clone().send_copies(lines).await,
            Self::Load {
                admin,
                load_id,
                dry_run,
            } => admin.load(as_load(load_id, *dry_run, lines)).await,
        }
    }
}

/// A file on its way.
pub(super) struct Sending<'a> {
    pub(super) file: &'a Path,
    pub(super) target: &'a Target,
    pub(super) retries: u32,
    pub(super) terminal: Terminal,
    pub(super) tally: &'a mut Tally,
    pub(super) results: Option<&'a mut ResultsFile>,
    pub(super) progress: &'a Progress,
    /// The last line whose result is known.
    pub(super) acknowledged: u64,
}

/// Why a stream did not get to the end.
enum Break {
    /// The stream broke.
    Broken(Status),
    /// The server's store failed on a line: it and those behind it are sent again.
    NotStored,
}

impl Sending<'_> {
    /// Sends until every line has its result. After a break it goes on behind the last one, for as long as that gets
    /// further.
    pub(super) async fn run(&mut self) -> Result<()> {
        let first = self.acknowledged;
        let mut in_vain = 0;
        loop {
            let before = self.acknowledged;
            let Some(broken) = self.once().await? else {
                return Ok(());
            };
            if self.acknowledged > before {
                in_vain = 0;
            }
            let may_pass = match &broken {
                Break::NotStored => true,
                Break::Broken(status) => match answer::reason(status) {
                    Some(reason) => matches!(reason, Reason::Overloaded | Reason::Unavailable),
                    // A server that was never there is rather a wrong address than a break.
                    None => self.acknowledged > first,
                },
            };
            if !may_pass || in_vain >= self.retries {
                return Err(self.given_up(&broken, may_pass));
            }
            let pause = FIRST_PAUSE
                .saturating_mul(1 << in_vain.min(10))
                .min(LONGEST_PAUSE);
            in_vain += 1;
            let notice = format!(
                "{} behind line {}; going on in {:.1} s ({in_vain} of {})",
                self.in_words(&broken),
                self.acknowledged,
                pause.as_secs_f64(),
                self.retries
            );
            self.progress.suspend(|| self.terminal.tell(&notice));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = tokio::signal::ctrl_c() => return Err(interrupted()),
            }
        }
    }

    /// One stream. `None`: every line has its result.
    async fn once(&mut self) -> Result<Option<Break>> {
        let unusable = |error: std::io::Error| {
            Failure::file(
                self.file,
                error,
                "see that the file is there, and that it can be read",
            )
        };
        let file = File::open(self.file).await.map_err(unusable)?;
        let file = BufReader::with_capacity(256 * 1024, file);
        let (lines, reader) = read_behind(file, self.acknowledged);
        let mut stopped: Option<Result<Break>> = None;
        let (target, progress) = (self.target, self.progress);
        let (tally, results, acknowledged) = (&mut *self.tally, &mut self.results, &mut self.acknowledged);
        let seen = |report: LineReport| {
            let taken = take(report, acknowledged, tally, results.as_deref_mut());
            match taken {
                Ok(None) => {
                    progress.at(*acknowledged, tally.refused());
                    true
                }
                Ok(Some(broken)) => {
                    stopped = Some(Ok(broken));
                    false
                }
                Err(failure) => {
                    stopped = Some(Err(failure));
                    false
                }
            }
        };
        let taking = async { take_results(target.open(lines).await, reader, seen).await };
        let ended = tokio::select! {
            ended = taking => ended,
            _ = tokio::signal::ctrl_c() => return Err(interrupted()),
        };
        match (stopped, ended) {
            (Some(stopped), _) => stopped.map(Some),
            (
                None,
                Ended {
                    unread: Some(error), ..
                },
            ) => Err(unusable(error)),
            (None, Ended { broken, .. }) => Ok(broken.map(Break::Broken)),
        }
    }

    fn in_words(&self, broken: &Break) -> String {
        let server = self.target.server();
        match broken {
            Break::Broken(status) => match answer::reason(status) {
                Some(reason) => format!("{server} ended the stream: {}", reason.name()),
                None => format!("the stream to {server} broke: {}", answer::causes(status)),
            },
            Break::NotStored => format!("{server} could not store the line"),
        }
    }

    fn given_up(&self, broken: &Break, may_pass: bool) -> Box<Failure> {
        if let Break::Broken(status) = broken
            && !may_pass
        {
            return match answer::reason(status) {
                Some(reason) => answer::refused(status, reason, self.target.server(), &[]),
                None => no_connection(self.target.server(), &answer::causes(status)),
            };
        }
        let what = format!(
            "{}; {} more tries did not get further",
            self.in_words(broken),
            self.retries
        );
        Failure::new(
            Kind::Incomplete,
            what,
            "see that the server runs and can store (`kosekictl status`)",
        )
    }
}

/// Takes one result in. It counts only when it is that of the next line: what is between would be lost.
fn take(
    report: LineReport,
    acknowledged: &mut u64,
    tally: &mut Tally,
    results: Option<&mut ResultsFile>,
) -> Result<Option<Break>> {
    if report.reason == LineReason::NotStored {
        return Ok(Some(Break::NotStored));
    }
    if report.line_number != *acknowledged + 1 {
        let status = Status::data_loss("the result of another line than the next came");
        return Ok(Some(Break::Broken(status)));
    }
    if let Some(results) = results {
        results.write(&report)?;
    }
    *acknowledged = report.line_number;
    tally.add(report);
    Ok(None)
}

fn interrupted() -> Box<Failure> {
    Failure::new(
        Kind::Incomplete,
        "interrupted",
        "what was sent last may be stored all the same, which is no harm",
    )
}

#[cfg(test)]
mod tests {
    use common::lines::{LineFault, too_long};

    use super::*;

    #[test]
    fn what_was_not_stored_and_what_is_not_the_next_line_counts_as_a_break() {
        let (mut acknowledged, mut tally) = (4, Tally::default());
        let mut take = |report| take(report, &mut acknowledged, &mut tally, None);
        let not_stored = LineReport::refused(5, LineFault::new(LineReason::NotStored, "", ""));
        assert!(matches!(take(not_stored), Ok(Some(Break::NotStored))));
        for other in [4, 6] {
            let report = LineReport::refused(other, too_long());
            assert!(matches!(take(report), Ok(Some(Break::Broken(_)))), "{other}");
        }
        assert!(matches!(take(LineReport::refused(5, too_long())), Ok(None)));
        assert_eq!((acknowledged, tally.refused(), tally.last_line()), (5, 1, 5));
    }
}

//! Sending a file line by line, and going on behind the last acknowledged line when the stream breaks.

mod offline;
mod progress;
mod results_file;
mod stream;
mod tally;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

pub(crate) use offline::{Scan, scan};
pub(crate) use stream::Target;

use crate::{
    context::Context,
    failure::{Failure, Kind, Result},
    report::Report,
};
use progress::Progress;
use results_file::ResultsFile;
use tally::Tally;

/// What every command that sends a file takes.
#[derive(Args)]
pub(crate) struct SendingArguments {
    /// The file, one record a line
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Check the file without any server, by the server's own rules, and send nothing
    #[arg(long, conflicts_with_all = ["results", "resume", "from_line", "dry_run"])]
    pub(crate) check: bool,
    /// Write one JSON object a line with what became of each; must not exist yet
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Go on behind the last complete line of --results
    #[arg(long, requires = "results", conflicts_with = "from_line")]
    resume: bool,
    /// Begin at this line of the file; those before it are taken as sent
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// How often to try again in a row without getting further, after the stream broke
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,
}

/// What is said at the end.
pub(crate) struct Wording<'a> {
    /// What is done, such as `ingest`.
    pub(crate) command: &'a str,
    /// The server only judged the lines.
    pub(crate) dry_run: bool,
    /// Flag and value that have to be given again to go on.
    pub(crate) goes_on_with: Option<(&'a str, &'a str)>,
}

impl SendingArguments {
    /// A file can be sent again from a line only if it can be read again.
    pub(crate) fn check_file(&self) -> Result<()> {
        let next = "give a file that is there and that you may read";
        let metadata =
            std::fs::metadata(&self.file).map_err(|error| Failure::file(&self.file, error, next))?;
        if metadata.is_file() {
            return Ok(());
        }
        let rule = "a regular file: after a break it is read again";
        Err(Failure::file(&self.file, rule, "write the lines to a file first"))
    }

    /// Sends the file, of which `lines` are known to be there.
    pub(crate) async fn send(
        &self,
        context: &Context,
        target: &Target,
        lines: u64,
        wording: &Wording<'_>,
    ) -> Result<Report> {
        let mut tally = Tally::default();
        let mut results = None;
        let mut after = self.from_line - 1;
        if let Some(path) = &self.results {
            let opened = if self.resume {
                let (file, told) = ResultsFile::go_on(path)?;
                after = told.last_line();
                tally = told;
                file
            } else {
                ResultsFile::create(path)?
            };
            results = Some(opened);
        }
        if after > lines {
            let rule = format!("at most the number of lines of FILE, which is {lines}");
            return Err(match &self.results {
                Some(path) if self.resume => {
                    Failure::file(path, rule, "give the results file that belongs to this FILE")
                }
                _ => Failure::flag("--from-line", rule),
            });
        }
        let progress = Progress::new(lines, after, tally.refused());
        let mut sending = stream::Sending {
            file: &self.file,
            target,
            retries: self.retries,
            terminal: context.terminal,
            tally: &mut tally,
            results: results.as_mut(),
            progress: &progress,
            acknowledged: after,
        };
        let sent = sending.run().await;
        let acknowledged = sending.acknowledged;
        progress.end();
        let flushed = results.as_mut().map_or(Ok(()), ResultsFile::flush);
        let done = self.document(&tally, acknowledged, wording);
        if let Err(mut failure) = sent.and(flushed) {
            let got_further = acknowledged > after || failure.kind == Kind::Incomplete;
            if got_further && acknowledged < lines {
                self.say_how_to_go_on(context, &mut failure, acknowledged, wording);
            }
            failure.done = Some(done);
            return Err(failure);
        }
        Ok(Report {
            json: done,
            text: self.text(&tally, acknowledged, wording),
            finding: tally.refused() > 0,
            unchecked: false,
        })
    }

    fn say_how_to_go_on(
        &self,
        context: &Context,
        failure: &mut Failure,
        acknowledged: u64,
        wording: &Wording<'_>,
    ) {
        let from = (acknowledged + 1).to_string();
        let mut set = Vec::new();
        let mut without = vec![("--from-line", true), ("--resume", false)];
        if self.results.is_some() {
            set.push(("--resume", None));
        } else {
            set.push(("--from-line", Some(from.as_str())));
            without.remove(0);
        }
        set.extend(wording.goes_on_with.map(|(flag, value)| (flag, Some(value))));
        failure.next = format!(
            "lines up to {acknowledged} have their result; {}; then go on from line {from}:",
            failure.next
        );
        failure.repeat = Some(context.command_line.with(&set, &without));
    }

    fn document(&self, tally: &Tally, acknowledged: u64, wording: &Wording<'_>) -> Value {
        let mut document = tally.to_json();
        if let Some(document) = document.as_object_mut() {
            document.insert("command".to_owned(), wording.command.into());
            document.insert("file".to_owned(), self.file.display().to_string().into());
            document.insert("dry_run".to_owned(), wording.dry_run.into());
            document.insert("last_line".to_owned(), acknowledged.into());
            if let Some((flag, id)) = wording.goes_on_with {
                document.insert(flag.trim_start_matches("--").replace('-', "_"), id.into());
            }
            let results = self.results.as_ref().map(|path| path.display().to_string());
            document.insert("results_file".to_owned(), results.into());
        }
        document
    }

    fn text(&self, tally: &Tally, acknowledged: u64, wording: &Wording<'_>) -> String {
        let judged = if wording.dry_run {
            "dry run, nothing was stored; each line would be: "
        } else {
            ""
        };
        let mut text = format!("{}: {judged}{}", self.file.display(), tally.counts());
        text.push_str(&format!("\nlast line: {acknowledged}\n"));
        text.push_str(&tally.refusals_text(&self.file));
        if let Some(path) = &self.results {
            text.push_str(&format!("results: {}\n", path.display()));
        }
        if tally.refused() > 0 {
            text.push_str("next: correct the lines that were refused and send the file again; what is stored is UNCHANGED then");
        }
        text
    }
}

/// The report of a check without a server.
pub(crate) fn checked(file: &Path, scan: &Scan) -> Report {
    let tally = &scan.tally;
    let valid = scan.lines - tally.refused();
    let mut json = json!({
        "command": "check",
        "file": file.display().to_string(),
        "lines": scan.lines,
        "valid": valid,
        "refused": tally.refused(),
    });
    if let (Some(json), Value::Object(refusals)) = (json.as_object_mut(), tally.refusals_json()) {
        json.extend(refusals);
    }
    let mut text = format!(
        "{}: {} lines, {valid} valid, {} refused\n",
        file.display(),
        scan.lines,
        tally.refused()
    );
    text.push_str(&tally.refusals_text(file));
    text.push_str(
        "checked without a server: who may send, and what is stored already, only the server knows",
    );
    Report {
        json,
        text,
        finding: tally.refused() > 0,
        unchecked: false,
    }
}

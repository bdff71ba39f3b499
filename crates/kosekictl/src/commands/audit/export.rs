//! `audit logs` and `audit export`: what the services serve to auditors.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use koseki_proto::koseki::evidence::v1::{
    ExportPart, ListLogsRequest, LogState, ReadBundlesRequest, export_part::Part,
};
use prost::Message as _;
use serde_json::json;
use tonic::Streaming;

use crate::{
    answer,
    arguments::SideArgument,
    connection::request,
    context::Context,
    failure::{Failure, Kind, Result},
    report::Report,
    table,
};

/// The audit logs of a side, and how far each is countersigned
#[derive(Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    side: SideArgument,
}

/// Export an audit log to a file, up to its newest countersigned checkpoint; reading it is itself an entry
#[derive(Args)]
pub(crate) struct Export {
    /// The log: the name of its instance
    #[arg(long, value_name = "NAME")]
    log: String,
    /// The file to write; one that is there is left alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Number of the first bundle, for a file that follows another one
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from_bundle: u64,
    /// Export what nobody has countersigned yet as well; it cannot be verified
    #[arg(long)]
    with_tail: bool,
    #[command(flatten)]
    side: SideArgument,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let profile = context.profile()?;
        let (mut client, server) = profile.audit_log(profile.side(self.side.side)?)?;
        let listed = client.list_logs(request(ListLogsRequest {})).await;
        let listed = listed.map_err(|status| answer::of_reading(&status, &server))?;
        let listed = listed.into_inner();
        let rows = listed.logs.iter().map(|log| {
            let size = |note: &str| size_of(note).unwrap_or_else(|| "-".to_owned());
            vec![
                log.log.clone(),
                log.origin.clone(),
                log.size.to_string(),
                log.bundles.to_string(),
                size(&log.checkpoint),
                size(&log.countersigned),
            ]
        });
        let heads = ["log", "origin", "entries", "bundles", "signed", "countersigned"];
        let mut text = table::with_headings(&heads, &rows.collect::<Vec<_>>());
        for note in &listed.witnessed {
            let origin = note.lines().next().unwrap_or_default();
            let size = size_of(note).unwrap_or_default();
            text.push_str(&format!(
                "\nthis side has countersigned {origin} up to {size} entries"
            ));
        }
        let json = json!({
            "server": server,
            "logs": listed.logs.iter().map(to_json).collect::<Vec<_>>(),
            "witnessed": listed.witnessed,
        });
        Ok(Report::done(json, text))
    }
}

fn to_json(log: &LogState) -> serde_json::Value {
    json!({
        "log": log.log,
        "origin": log.origin,
        "size": log.size,
        "bundles": log.bundles,
        "checkpoint": log.checkpoint,
        "countersigned": log.countersigned,
    })
}

/// The size in a checkpoint, to be shown.
fn size_of(note: &str) -> Option<String> {
    let size: u64 = note.lines().nth(1)?.parse().ok()?;
    Some(size.to_string())
}

impl Export {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let profile = context.profile()?;
        let (mut client, server) = profile.audit_log(profile.side(self.side.side)?)?;
        let mut file = NewFile::create(&self.out)?;
        // Before it is asked for: what was countersigned by now must come.
        let asked_at = context.now();
        let message = ReadBundlesRequest {
            log: self.log.clone(),
            first_bundle: self.from_bundle,
            beyond_countersigned: self.with_tail,
        };
        let stream = client.read_bundles(message).await;
        let mut stream: Streaming<ExportPart> = stream
            .map_err(|status| answer::of_reading(&status, &server))?
            .into_inner();
        let end = loop {
            let part = stream.message().await;
            let part = part.map_err(|status| answer::of_reading(&status, &server))?;
            let mut part = part.and_then(|part| part.part).ok_or_else(|| cut_off(&server))?;
            if let Part::Header(header) = &mut part {
                header.exported_at = Some(asked_at.to_proto());
            }
            file.add(&part)?;
            if let Part::End(end) = part {
                break end;
            }
        };
        file.finish()?;
        let countersigned = end.checkpoint.lines().nth(1).unwrap_or("-");
        let mut text = format!(
            "{}: bundles {} to before {} of {}, {} entries in all; signed up to {countersigned}",
            self.out.display(),
            self.from_bundle,
            self.from_bundle + end.bundles,
            self.log,
            end.size,
        );
        if end.bundles == 0 {
            text.push_str(
                "\nnothing new is countersigned yet: wait some seconds, or see `kosekictl audit logs`",
            );
        }
        let json = json!({
            "file": self.out.display().to_string(),
            "server": server,
            "log": self.log,
            "first_bundle": self.from_bundle,
            "bundles": end.bundles,
            "size": end.size,
            "checkpoint": end.checkpoint,
        });
        Ok(Report::done(json, text))
    }
}

fn cut_off(server: &str) -> Box<Failure> {
    Failure::new(
        Kind::Connection,
        format!("{server} stopped before the end of the log; no file was written"),
        "repeat the command",
    )
}

/// A file that gets its name when it is whole.
struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: Option<BufWriter<File>>,
}

impl NewFile {
    fn create(path: &Path) -> Result<Self> {
        if path.exists() {
            let next = "give another --out, or move the file away";
            return Err(Failure::file(path, "is there already", next));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        // Pseudonyms of persons are in it: it is for its owner.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)
            .map_err(|error| Failure::file(&partial, error, "see that the folder can be written"))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file: Some(BufWriter::new(file)),
        })
    }

    fn failed(&self, error: impl ToString) -> Box<Failure> {
        Failure::file(
            &self.partial,
            error,
            "see that there is room, and repeat the command",
        )
    }

    fn add(&mut self, part: &Part) -> Result<()> {
        let part = ExportPart {
            part: Some(part.clone()),
        };
        let encoded = part.encode_length_delimited_to_vec();
        let written = match &mut self.file {
            Some(file) => file.write_all(&encoded),
            None => Ok(()),
        };
        written.map_err(|error| self.failed(error))
    }

    fn finish(mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            let file = file.into_inner().map_err(|error| self.failed(error))?;
            file.sync_all().map_err(|error| self.failed(error))?;
        }
        fs::rename(&self.partial, &self.path).map_err(|error| self.failed(error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // What is cut off is no export; after a success it has its name.
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

//! `ingest`: a municipality sends its register copies.

use clap::Args;
use koseki_provider::register::parse_line;
use serde_json::json;

use crate::{
    context::Context,
    failure::Result,
    report::Report,
    sending::{SendingArguments, Target, Wording, checked, scan},
};

/// Send a file of register copies (docs/register-copy-format.md) over the ingest listener
#[derive(Args)]
pub(crate) struct Ingest {
    #[command(flatten)]
    sending: SendingArguments,
    /// Check the file and the profile, say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
}

impl Ingest {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let Self { sending, dry_run } = self;
        sending.check_file()?;
        if sending.check {
            let scan = scan(&sending.file, |line| parse_line(line).map(|_| false)).await?;
            return Ok(checked(&sending.file, &scan));
        }
        let (client, server) = context.profile()?.ingest()?;
        if dry_run {
            let scan = scan(&sending.file, |line| parse_line(line).map(|_| false)).await?;
            let mut report = checked(&sending.file, &scan);
            report.text = format!(
                "dry run: nothing was sent. {} lines would go to {server}\n{}",
                scan.lines, report.text
            );
            if let Some(json) = report.json.as_object_mut() {
                json.insert("dry_run".to_owned(), true.into());
                json.insert("server".to_owned(), json!(server));
            }
            return Ok(report);
        }
        // Only counted: the server judges each line anyway.
        let lines = scan(&sending.file, |_| Ok(false)).await?.lines;
        let wording = Wording {
            command: "ingest",
            dry_run: false,
            goes_on_with: None,
        };
        sending
            .send(context, &Target::Ingest { client, server }, lines, &wording)
            .await
    }
}

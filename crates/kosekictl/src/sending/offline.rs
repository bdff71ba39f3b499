//! Reading a file without a server: counting its lines, and judging them by the server's own code.

use std::path::Path;

use common::lines::{LineFault, ReadLine, read_line, send::LineReport, too_long};
use tokio::{fs::File, io::BufReader};

use super::tally::Tally;
use crate::failure::{Failure, Result};

/// What a file holds.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) lines: u64,
    /// Lines that may take something away.
    pub(crate) forbidding: u64,
    /// What would be refused whatever is stored.
    pub(crate) tally: Tally,
}

/// Reads the whole file. `judge` says of each line whether it may take something away, or what is wrong with it.
pub(crate) async fn scan(
    path: &Path,
    judge: impl Fn(&[u8]) -> std::result::Result<bool, LineFault>,
) -> Result<Scan> {
    let failed = |line: u64, error: std::io::Error| {
        let mut failure = Failure::file(path, error, "see that the file is there, and that it can be read");
        if line > 0 {
            failure.what = format!("{}: cannot be read behind line {line}", path.display());
        }
        failure
    };
    let file = File::open(path).await.map_err(|error| failed(0, error))?;
    let mut file = BufReader::with_capacity(256 * 1024, file);
    let mut scan = Scan::default();
    loop {
        let judged = match read_line(&mut file).await {
            Ok(None) => return Ok(scan),
            Ok(Some(ReadLine::Line(line))) => judge(&line),
            Ok(Some(ReadLine::TooLong)) => Err(too_long()),
            Err(error) => return Err(failed(scan.lines, error)),
        };
        scan.lines += 1;
        match judged {
            Ok(forbidding) => scan.forbidding += u64::from(forbidding),
            Err(fault) => scan.tally.add(LineReport::refused(scan.lines, fault)),
        }
    }
}

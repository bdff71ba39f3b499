//! Standard output has the one result and nothing else; notices, questions and progress go to standard error.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::ValueEnum;

use crate::{
    failure::{Failure, Kind, Result},
    report::Report,
};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Table,
    /// One JSON document on standard output, errors too
    Json,
}

/// Where results, notices and questions go.
#[derive(Clone, Copy)]
pub(crate) struct Terminal {
    format: OutputFormat,
}

impl Terminal {
    pub(crate) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// Writes a text to standard output. Whoever closed it does not want to read it.
    pub(crate) fn print(self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    /// Writes a notice to standard error.
    pub(crate) fn tell(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", without_controls(text));
    }

    /// Writes the result.
    pub(crate) fn show(self, report: &Report) {
        match self.format {
            OutputFormat::Json => self.print(&format!("{:#}\n", report.json)),
            OutputFormat::Table => {
                let text = without_controls(report.text.trim_end());
                self.print(&format!("{text}\n"));
            }
        }
    }

    /// Writes the failure.
    pub(crate) fn fail(self, failure: &Failure) {
        match self.format {
            OutputFormat::Json => self.print(&format!("{:#}\n", failure.to_json())),
            OutputFormat::Table => self.tell(&failure.to_text()),
        }
    }

    /// Asks before something dangerous. Without a terminal nobody can answer: that is a refusal, never a yes.
    pub(crate) fn confirm(self, what: &str, yes: bool) -> Result<()> {
        if yes {
            return Ok(());
        }
        // Where the question is not seen, an answer is to something else.
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Failure::new(
                Kind::NotConfirmed,
                format!(
                    "{what}: this needs a confirmation, and there is no terminal to ask on; nothing was sent"
                ),
                "run it on a terminal, or give --yes to say that it is meant",
            ));
        }
        let mut error = io::stderr().lock();
        let _ = write!(error, "{what}.\nType `yes` to go on: ");
        let _ = error.flush();
        drop(error);
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && answer.trim_end() == "yes" {
            Ok(())
        } else {
            Err(Failure::new(
                Kind::NotConfirmed,
                "it was not confirmed; nothing was sent",
                "repeat the command and type `yes` when it is meant",
            ))
        }
    }
}

/// What servers and files say must not steer the terminal.
fn without_controls(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{FFFD}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            without_controls("a\u{1b}[2Jb\rc\u{9b}\nd"),
            "a\u{FFFD}[2Jb\u{FFFD}c\u{FFFD}\nd"
        );
    }
}

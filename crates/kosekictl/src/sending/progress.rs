//! The progress bar: rate, remaining time, refusals so far. On standard error, and only when that is a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{bar:24} {human_pos}/{human_len} lines  {per_sec}  {eta} left  {msg}";

/// The bar, or nothing when nobody sees it.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(lines: u64, done: u64, refused: u64) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(5)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(lines), target).with_position(done);
        // The template is a constant that a test parses.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        // Rate and remaining time are those of this run.
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        let progress = Self(bar);
        progress.at(done, refused);
        progress
    }

    pub(super) fn at(&self, line: u64, refused: u64) {
        self.0.set_position(line);
        self.0.set_message(format!("{refused} refused"));
    }

    /// Writes a notice without tearing the bar.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }

    pub(super) fn end(&self) {
        if self.0.length() == Some(self.0.position()) {
            self.0.finish();
        } else {
            self.0.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}

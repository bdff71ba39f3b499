//! Running a foreign tool in a test: another implementation's word on what this crate makes.

use std::io::Write;
use std::process::{Command, Stdio};

/// What the tool said.
pub(crate) struct Output {
    pub(crate) success: bool,
    /// Standard output, then standard error.
    pub(crate) text: String,
}

/// Runs `program`, feeding `input` to it. A tool that is missing fails the test: nothing is skipped in silence.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs {program} on PATH: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A tool that does not read its input closes it early; its own output then tells the story.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Output {
        success: output.status.success(),
        text: String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    }
}

//! What only happens on a terminal: the question before something dangerous, and the progress bar.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::ffi::OsStringExt as _,
    process::Stdio,
};

use common::identity::Role;
use integration_tests::raw::PATIENCE;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::process::Command;

use crate::desk::{Desk, program};

/// Runs the program with its input and its errors on a terminal, types, and returns its exit code and what was seen.
async fn on_a_terminal(profile: &str, arguments: &[&str], typed: &str) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_bytes();
    let slave = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(std::ffi::OsString::from_vec(name.clone()))
            .unwrap()
    };
    let mut child = Command::new(program())
        .args(["--config", profile])
        .args(arguments)
        .env("TERM", "xterm")
        .stdin(slave())
        .stderr(slave())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut master = File::from(master);
    master.write_all(typed.as_bytes()).unwrap();
    // Reading ends with an error when the program has closed the terminal.
    let seen = tokio::task::spawn_blocking(move || {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4_096]);
        while let Ok(read @ 1..) = master.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    let ended = tokio::time::timeout(PATIENCE * 4, child.wait())
        .await
        .expect("it ends")
        .unwrap();
    (ended.code(), seen.await.unwrap())
}

#[tokio::test]
async fn only_yes_is_yes() {
    let desk = Desk::open().await;
    let profile = desk.profile_with(Role::Operator, "alice", |_| {});
    let suspend = ["suspend", "--side", "portal", "--reason", "asked"];
    let before = desk.stored().await;
    for typed in ["no\n", "y\n", "\n", "yes please\n", "\u{4}"] {
        let (code, seen) = on_a_terminal(&profile, &suspend, typed).await;
        assert_eq!(code, Some(2), "{typed:?}: {seen}");
        assert!(
            seen.contains("stop provision of every kind at the portal side, at once"),
            "{seen}"
        );
        assert!(
            seen.contains("Type `yes` to go on") && seen.contains("nothing was sent"),
            "{seen}"
        );
    }
    assert_eq!(desk.stored().await, before);
    let (code, seen) = on_a_terminal(&profile, &suspend, "yes\n").await;
    assert_eq!(code, Some(0), "{seen}");
    assert!(!desk.stored().await[1]["suspension"].is_empty());
}

#[tokio::test]
async fn progress_shows_rate_remaining_time_and_refusals() {
    let desk = Desk::open().await;
    let (code, _, lines) = desk.municipality();
    let mut all: Vec<&str> = lines.iter().map(String::as_str).cycle().take(2_000).collect();
    all.insert(10, "{}");
    let file = desk.write("many.jsonl", all.join("\n"));
    let profile = desk.profile_with(Role::Municipality, &format!("{code}/desk-1"), |_| {});
    let (code, seen) = on_a_terminal(&profile, &["ingest", &file], "").await;
    assert_eq!(code, Some(1), "{seen}");
    for word in ["/2,001 lines", "/s", " left", "1 refused"] {
        assert!(seen.contains(word), "`{word}` in {seen}");
    }
    desk.keeps_quiet(&seen);
}

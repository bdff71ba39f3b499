//! `send_copies.py`: one result a line, exit codes, and going on after a break.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use common::identity::Role;
use devkit::{
    deployment::{Deployment, OFFICER},
    registers::canonical_digest,
};
use serde_json::{Value, json};

use crate::{Bench, Ran, run};

/// The municipality with the most registers.
struct Desk {
    arguments: Vec<OsString>,
    /// Its register copies.
    copies: PathBuf,
    /// Those of another municipality.
    foreign: PathBuf,
}

impl Desk {
    fn new(deployment: &Deployment) -> Self {
        let mut files = deployment.copies().unwrap();
        files.sort_by_key(|(_, file)| lines(file).len());
        let [(_, foreign), .., (code, copies)] = &files[..] else {
            panic!("two municipalities at least")
        };
        let files = deployment.client(Role::Municipality, &format!("{code}/{OFFICER}"));
        let arguments = [
            ("--certificate", files.certificate),
            ("--key", files.private_key),
            ("--ca", files.peer_ca),
        ];
        Self {
            arguments: arguments
                .into_iter()
                .flat_map(|(name, path)| [name.into(), path.into()])
                .collect(),
            copies: copies.clone(),
            foreign: foreign.clone(),
        }
    }

    async fn send(&self, python: &OsStr, ingest: &str, file: &Path, results: &Path, more: &[&str]) -> Ran {
        let mut arguments: Vec<&OsStr> = self.arguments.iter().map(OsString::as_os_str).collect();
        arguments.extend([OsStr::new("--ingest"), OsStr::new(ingest)]);
        arguments.extend([OsStr::new("--results"), results.as_os_str(), file.as_os_str()]);
        arguments.extend(more.iter().map(OsStr::new));
        run(python, "send_copies.py", &arguments).await
    }
}

fn lines(file: &Path) -> Vec<Vec<u8>> {
    let content = fs::read(file).unwrap();
    let lines = content.split_inclusive(|byte| *byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

fn results(file: &Path) -> Vec<Value> {
    let lines = lines(file);
    lines
        .iter()
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn taken(line: usize, outcome: &str) -> Value {
    json!({"line": line, "outcome": outcome, "reason": "", "field": "", "rule": ""})
}

/// A line whose record was changed, with the digest of the new content.
fn changed(line: &[u8], field: &str, value: Value) -> Vec<u8> {
    let mut record: Value = serde_json::from_slice(line).unwrap();
    record[field] = value;
    let record = record.as_object_mut().unwrap();
    record.remove("digest");
    let digest = canonical_digest(&serde_json::to_string(record).unwrap());
    record.insert("digest".to_owned(), digest.into());
    let mut line = serde_json::to_vec(record).unwrap();
    line.push(b'\n');
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_in_order_is_taken_whole_and_after_a_break_from_behind_the_last_result() {
    let bench = Bench::start().await;
    let desk = Desk::new(&bench.deployment);
    let file = bench.deployment.dir().join("results.jsonl");
    let count = lines(&desk.copies).len();
    assert!(count > 3, "the file has {count} lines");
    let ingest = bench.pair.reach().unwrap().ingest;

    let sent = desk.send(&bench.python, &ingest, &desk.copies, &file, &[]).await;
    assert_eq!(sent.code, 0);
    assert!(sent.said.contains(&format!("{count} lines: {count} stored")));
    let expected: Vec<_> = (1..=count).map(|line| taken(line, "STORED")).collect();
    assert_eq!(results(&file), expected);

    // As a run leaves it that was cut off while it wrote the third result.
    let mut cut = lines(&file)[..2].concat();
    cut.extend_from_slice(&lines(&file)[2][..10]);
    fs::write(&file, cut).unwrap();
    let bench = bench
        .while_stopped(async |python, _| {
            let broken = desk
                .send(python, &ingest, &desk.copies, &file, &["--resume"])
                .await;
            assert_eq!(broken.code, 2);
            assert!(broken.said.contains("UNAVAILABLE"), "{}", broken.said);
            assert_eq!(results(&file), [taken(1, "STORED"), taken(2, "STORED")]);
        })
        .await;
    let ingest = bench.pair.reach().unwrap().ingest;
    let resumed = desk
        .send(&bench.python, &ingest, &desk.copies, &file, &["--resume"])
        .await;
    assert_eq!(resumed.code, 0);
    assert!(
        resumed.said.contains("going on behind line 2"),
        "{}",
        resumed.said
    );
    let expected = (1..=count).map(|line| taken(line, if line > 2 { "UNCHANGED" } else { "STORED" }));
    assert_eq!(results(&file), expected.collect::<Vec<_>>());

    // Nothing is left to send; and results of a longer file are not taken for those of this one.
    let again = desk
        .send(&bench.python, &ingest, &desk.copies, &file, &["--resume"])
        .await;
    assert_eq!((again.code, results(&file).len()), (0, count));
    let shorter = bench.deployment.dir().join("shorter.jsonl");
    fs::write(&shorter, lines(&desk.copies)[..2].concat()).unwrap();
    let shorter = desk
        .send(&bench.python, &ingest, &shorter, &file, &["--resume"])
        .await;
    assert_eq!(shorter.code, 2);

    // Who mistypes the file's name keeps the results.
    let absent = bench.deployment.dir().join("absent.jsonl");
    let absent = desk.send(&bench.python, &ingest, &absent, &file, &[]).await;
    assert_eq!((absent.code, results(&file).len()), (2, count));
    bench.pair.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_told_one_by_one_and_leave_their_neighbours_alone() {
    let bench = Bench::start().await;
    let desk = Desk::new(&bench.deployment);
    let good = lines(&desk.copies);
    let foreign = lines(&desk.foreign);
    let text = String::from_utf8(good[1].clone()).unwrap();
    let place = text.find("\"digest\":\"").unwrap() + 10;
    let digit = if text[place..].starts_with('0') { "1" } else { "0" };
    let wrong_digest = format!("{}{digit}{}", &text[..place], &text[place + 1..]);
    let code = serde_json::from_slice::<Value>(&good[2]).unwrap()["municipality_code"].clone();
    let code = code.as_str().unwrap();
    let check_digit = (code[5..].parse::<u32>().unwrap() + 1) % 10;
    let wrong_code = format!("{}{check_digit}", &code[..5]);
    // So many that they would fill the window if they took room in it.
    let too_long = vec![b'x'; 70_000];
    let too_long = [too_long.as_slice(), b"\n"].concat().repeat(300);

    let file = bench.deployment.dir().join("bad.jsonl");
    let parts = [
        good[0].clone(),
        wrong_digest.into_bytes(),
        changed(&good[2], "municipality_code", wrong_code.into()),
        foreign[0].clone(),
        b"\n".to_vec(),
        too_long,
        // The last line of a file need not end.
        good[3].strip_suffix(b"\n").unwrap().to_vec(),
    ];
    fs::write(&file, parts.concat()).unwrap();
    let told = bench.deployment.dir().join("results.jsonl");
    let ingest = bench.pair.reach().unwrap().ingest;
    let sent = desk.send(&bench.python, &ingest, &file, &told, &[]).await;
    assert_eq!(sent.code, 1);
    assert!(sent.said.contains("306 lines: 304 refused, 2 stored"));

    let results = results(&told);
    assert_eq!(results.len(), 306);
    assert_eq!(results[0], taken(1, "STORED"));
    for (at, reason, field) in [
        (1, "DIGEST", "digest"),
        (2, "CHECK_DIGIT", "municipality_code"),
        (3, "NOT_ALLOWED", "municipality_code"),
        (4, "NOT_THE_FORMAT", ""),
        (5, "TOO_LONG", ""),
        (304, "TOO_LONG", ""),
    ] {
        let told = &results[at];
        assert_eq!(told["line"], at + 1);
        assert_eq!(
            [&told["outcome"], &told["reason"], &told["field"]],
            ["REFUSED", reason, field]
        );
        assert!(!told["rule"].as_str().unwrap().is_empty(), "{told}");
    }
    assert_eq!(results[305], taken(306, "STORED"));
    bench.pair.stop().await.unwrap();
}

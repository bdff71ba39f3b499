//! Streams that break and replies that get lost: behind a proxy that cuts connections.

use std::{
    collections::BTreeSet,
    fs,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{digest, identity::Role};
use data_encoding::HEXLOWER;
use integration_tests::raw::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::watch,
};

use crate::desk::{Desk, Ended, program};

/// Bytes from the server after which a connection is cut: a few hundred results.
const CUT_AFTER: usize = 12_000;
/// Lines of the files that are cut.
const LINES: usize = 3_000;

/// Stands between the program and a listener.
struct Proxy {
    address: String,
    /// Connections that are still to be cut.
    cuts: Arc<AtomicUsize>,
    /// New connections are refused.
    closed: Arc<AtomicBool>,
    cut_now: watch::Sender<u32>,
    /// Connections are held where others are cut: nothing comes any more, and nothing ends.
    holds: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

impl Proxy {
    /// `closes`: after a cut nobody gets in until [`Self::open`].
    async fn start(to: String, cuts: usize, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (cut_now, cut) = watch::channel(0);
        let this = Self {
            address: listener.local_addr().unwrap().to_string(),
            cuts: Arc::new(AtomicUsize::new(cuts)),
            closed: Arc::new(AtomicBool::new(false)),
            cut_now,
            holds: Arc::default(),
            held: Arc::default(),
        };
        let (cuts, closed) = (this.cuts.clone(), this.closed.clone());
        let (holds, held) = (this.holds.clone(), this.held.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if closed.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&to).await.unwrap();
                let (cuts, closed, mut cut) = (cuts.clone(), closed.clone(), cut.clone());
                let (holds, held) = (holds.clone(), held.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pump(client, server, &cuts, &holds, &held) => {
                            if closes {
                                closed.store(true, Ordering::SeqCst);
                            }
                        }
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        this
    }

    fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}

/// Carries both ways until an end closes, or the connection is one to be cut.
async fn pump(
    client: TcpStream,
    server: TcpStream,
    cuts: &AtomicUsize,
    holds: &AtomicBool,
    held: &AtomicBool,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let down = async {
        let (mut carried, mut buffer) = (0, vec![0; 1_024]);
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            carried += read;
            let less = |left: usize| left.checked_sub(1);
            if carried >= CUT_AFTER
                && cuts
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                    .is_ok()
            {
                if holds.load(Ordering::SeqCst) {
                    held.store(true, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Many copies of a municipality, made of one of its own.
fn many(line: &str) -> Vec<String> {
    let copy: Value = serde_json::from_str(line).unwrap();
    let numbered = |number| {
        let mut copy = copy.clone();
        copy["local_number"] = format!("cut-{number}").into();
        copy.as_object_mut().unwrap().remove("digest");
        // Members are sorted by name, which for this content is the canonical form.
        let digest = digest::sha256(&[copy.to_string().as_bytes()]);
        copy["digest"] = HEXLOWER.encode(&digest).into();
        copy.to_string()
    };
    (0..LINES).map(numbered).collect()
}

fn numbers(results: &str) -> Vec<u64> {
    let number = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["line"]
            .as_u64()
            .unwrap()
    };
    results.lines().map(number).collect()
}

/// The command that an error says, run as a shell would: its words have no quotes here.
async fn run_repeat(desk: &Desk, ended: &Ended) -> Ended {
    let error = &ended.json()["error"];
    let repeat = error["repeat"].as_str().unwrap_or_else(|| panic!("{ended:?}"));
    assert!(!repeat.contains('\''), "{repeat}");
    let words: Vec<&str> = repeat.strip_prefix("kosekictl ").unwrap().split(' ').collect();
    desk.run_bare(&words).await
}

#[tokio::test]
async fn after_breaks_it_goes_on_behind_the_last_acknowledged_line() {
    let desk = Desk::open().await;
    let (code, _, lines) = desk.municipality();
    let file = desk.write("many.jsonl", many(&lines[0]).join("\n"));
    let proxy = Proxy::start(desk.pair.reach().ingest, 2, false).await;
    let name = format!("{code}/desk-1");
    let profile = desk.profile_with(Role::Municipality, &name, |table| {
        table["ingest"]["address"] = proxy.address.clone().into();
    });
    let kept = desk.path("results.jsonl");
    let run = [
        "ingest",
        &file,
        "--results",
        kept.to_str().unwrap(),
        "--output",
        "json",
    ];
    let run = desk.run_with(&profile, &run).await;
    let told = run.exits(0).json();
    assert_eq!(proxy.cuts.load(Ordering::SeqCst), 0, "nothing was cut");
    assert!(run.error.matches("; going on in").count() >= 2, "{}", run.error);
    // A line that was stored without its result getting through is UNCHANGED the second time.
    assert_eq!((&told["lines"], &told["refused"]), (&json!(LINES), &json!(0)));
    assert!(told["stored"].as_u64().unwrap() > 0);
    let all: Vec<u64> = (1..=LINES as u64).collect();
    assert_eq!(numbers(&fs::read_to_string(&kept).unwrap()), all);
    let stored = desk.stored().await;
    let copies = stored[0].values().map(Vec::len).max().unwrap();
    assert!(copies >= LINES, "{copies}");
}

#[tokio::test]
async fn when_it_gives_up_it_says_how_to_go_on_and_that_works() {
    let desk = Desk::open().await;
    let (code, _, lines) = desk.municipality();
    let file = desk.write("many.jsonl", many(&lines[0]).join("\n"));
    let proxy = Proxy::start(desk.pair.reach().ingest, 1, true).await;
    let profile = desk.profile_with(Role::Municipality, &format!("{code}/desk-1"), |table| {
        table["ingest"]["address"] = proxy.address.clone().into();
    });
    let kept = desk.path("results.jsonl");
    let kept = kept.to_str().unwrap();
    let run = [
        "ingest",
        &file,
        "--results",
        kept,
        "--retries",
        "1",
        "--output",
        "json",
    ];
    let broken = desk.run_with(&profile, &run).await;
    let told = broken.exits(2).json();
    assert_eq!(told["error"]["kind"], "INCOMPLETE");
    let last = told["done"]["last_line"].as_u64().unwrap();
    assert!((1..LINES as u64).contains(&last), "{told}");
    assert!(
        told["error"]["next"]
            .as_str()
            .unwrap()
            .contains(&format!("go on from line {}", last + 1))
    );
    assert_eq!(
        numbers(&fs::read_to_string(kept).unwrap()),
        (1..=last).collect::<Vec<_>>()
    );

    // The program was killed while it wrote a result.
    let whole = fs::read_to_string(kept).unwrap();
    fs::write(kept, format!("{whole}{{\"line\":")).unwrap();
    proxy.open();
    let resumed = run_repeat(&desk, &broken).await;
    assert_eq!(resumed.exits(0).json()["lines"], json!(LINES));
    assert_eq!(
        numbers(&fs::read_to_string(kept).unwrap()),
        (1..=LINES as u64).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_load_goes_on_from_its_line_under_its_id() {
    let desk = Desk::open().await;
    let person = |n| json!({"type": "person", "person_id": format!("cut-{n}"), "members": []}).to_string();
    let persons: Vec<String> = (0..LINES).map(person).collect();
    let file = desk.write("persons.jsonl", persons.join("\n"));
    let proxy = Proxy::start(desk.pair.reach().registry_admin, 1, true).await;
    let profile = desk.profile_with(Role::Operator, "alice", |table| {
        table["registry_admin"]["address"] = proxy.address.clone().into();
    });
    let run = ["persons", "load", &file, "--retries", "0", "--output", "json"];
    let broken = desk.run_with(&profile, &run).await;
    let told = broken.exits(2).json();
    let (last, id) = (
        told["done"]["last_line"].as_u64().unwrap(),
        &told["done"]["load_id"],
    );
    let ending = format!("--from-line {} --load-id {}", last + 1, id.as_str().unwrap());
    assert!(
        told["error"]["repeat"].as_str().unwrap().ends_with(&ending),
        "{told}"
    );
    assert!(
        broken.error.contains(id.as_str().unwrap()),
        "the id is shown before"
    );
    proxy.open();
    let resumed = run_repeat(&desk, &broken).await.exits(0).json();
    assert_eq!(resumed["lines"].as_u64().unwrap(), LINES as u64 - last);
    assert_eq!(&resumed["load_id"], id);
}

#[tokio::test]
async fn when_it_is_interrupted_it_says_how_to_go_on() {
    let desk = Desk::open().await;
    let (code, _, lines) = desk.municipality();
    let file = desk.write("many.jsonl", many(&lines[0]).join("\n"));
    let proxy = Proxy::start(desk.pair.reach().ingest, 1, false).await;
    proxy.holds.store(true, Ordering::SeqCst);
    let name = format!("{code}/desk-1");
    let profile = desk.profile_with(Role::Municipality, &name, |table| {
        table["ingest"]["address"] = proxy.address.clone().into();
    });
    let child = Command::new(program())
        .args(["--config", &profile, "ingest", &file, "--output", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while !proxy.held.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What has come through is taken in.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let id = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let last = told["done"]["last_line"].as_u64().unwrap();
    assert!((1..LINES as u64).contains(&last), "{told}");
    assert_eq!(
        (&told["error"]["kind"], &told["error"]["message"]),
        (&json!("INCOMPLETE"), &json!("interrupted"))
    );
    let repeat = told["error"]["repeat"].as_str().unwrap();
    assert!(repeat.ends_with(&format!("--from-line {}", last + 1)), "{repeat}");
}

#[tokio::test]
async fn an_act_whose_reply_is_lost_is_repeated_under_its_id() {
    let desk = Desk::open().await;
    let proxy = Proxy::start(desk.pair.reach().registry_admin, 0, false).await;
    let profile = desk.profile_with(Role::Operator, "alice", |table| {
        table["registry_admin"]["address"] = proxy.address.clone().into();
    });
    let suspend = [
        "suspend", "--side", "registry", "--reason", "lost", "--yes", "--output", "json",
    ];
    // A closing returns only when no earlier answer can be released any more: there is time to cut it off in between.
    let cut = async {
        while desk.stored().await[0]["suspension"].is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.cut_now.send_modify(|cut| *cut += 1);
    };
    let (lost, ()) = tokio::join!(desk.run_with(&profile, &suspend), cut);
    let told = lost.exits(2).json();
    assert_eq!(told["error"]["kind"], "UNKNOWN_OUTCOME", "{told}");
    let repeat = told["error"]["repeat"].as_str().unwrap();
    let id = repeat.rsplit_once("--act-id ").unwrap().1;
    assert!(lost.error.contains(&format!("act id: {id}")), "{lost:?}");

    let stored = desk.stored().await;
    let repeated = run_repeat(&desk, &lost).await;
    assert_eq!(repeated.exits(0).json()["act_id"], id);
    assert_eq!(desk.stored().await, stored, "it was done twice");
    let pending = desk
        .run("bob", &["pending", "--side", "registry", "--output", "json"])
        .await
        .json();
    let closings = pending["closings"].as_array().unwrap().iter();
    let ids: BTreeSet<&str> = closings
        .map(|closing| closing["act_id"].as_str().unwrap())
        .collect();
    assert!(ids.contains(id), "{pending}");
}

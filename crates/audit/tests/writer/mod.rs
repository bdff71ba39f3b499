//! What the tests write logs with: code of their own, written from docs/audit-log.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "helpers of tests; a test that cannot be set up has failed, and not each takes all of them"
)]

use std::path::{Path, PathBuf};

use audit::{Keys, Report};
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use data_encoding::BASE64;
use koseki_proto::koseki::evidence::v1::{
    Bundle, Entry, ExportEnd, ExportHeader, ExportPart, ExportedBundle, GuardAct, GuardActDetail, LostAnswer,
    LostAnswerDetail, OrdinaryAct, OrdinaryActDetail, Outcome, Provision, ProvisionDetail, Public,
    Restricted, export_part::Part, public::Event, restricted::Detail,
};
use prost::Message as _;
use prost_types::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

pub const DOMAIN: &str = "koseki.example";
pub const PROVIDER: &str = "koseki-provider";
pub const GATEWAY: &str = "portal-gateway";
/// The moment of the first bundle.
pub const BEGIN: i64 = 1_790_000_000;

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest(&SHA256, &parts.concat()).as_ref().try_into().unwrap()
}

fn id_of(name: &str, algorithm: u8, public: &[u8]) -> [u8; 4] {
    let key = [&[algorithm], public].concat();
    sha256(&[name.as_bytes(), b"\n", &key])[..4].try_into().unwrap()
}

/// A key, always the same for a name.
pub struct Key {
    name: String,
    algorithm: u8,
    pair: Ed25519KeyPair,
}

impl Key {
    pub fn new(name: &str, algorithm: u8) -> Self {
        let seed = sha256(&[b"test", name.as_bytes(), &[algorithm]]);
        Self {
            name: name.to_owned(),
            algorithm,
            pair: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(),
        }
    }

    pub fn line(&self) -> String {
        let public = self.pair.public_key().as_ref();
        let id = u32::from_be_bytes(id_of(&self.name, self.algorithm, public));
        let key = BASE64.encode(&[&[self.algorithm], public].concat());
        format!("{}+{id:08x}+{key}\n", self.name)
    }

    fn signature(&self, message: &[u8], before: &[u8]) -> String {
        let id = id_of(&self.name, self.algorithm, self.pair.public_key().as_ref());
        let signed = [&id[..], before, self.pair.sign(message).as_ref()].concat();
        format!("\u{2014} {} {}\n", self.name, BASE64.encode(&signed))
    }

    /// The signed note of a checkpoint.
    pub fn checkpoint(&self, size: u64, root: &[u8]) -> String {
        let text = format!("{}\n{size}\n{}\n", self.name, BASE64.encode(root));
        format!("{text}\n{}", self.signature(text.as_bytes(), &[]))
    }

    /// The note, countersigned at this time.
    pub fn countersign(&self, note: &str, unix_s: i64) -> String {
        let text = format!("{}\n", note.split_once("\n\n").unwrap().0);
        let message = format!("cosignature/v1\ntime {unix_s}\n{text}");
        let time = unix_s.to_be_bytes();
        format!("{note}{}", self.signature(message.as_bytes(), &time))
    }
}

fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1], &root(left), &root(right)])
        }
    }
}

pub fn leaf(entry: &Entry) -> [u8; 32] {
    let commitment = sha256(&[&entry.salt, &entry.restricted]);
    sha256(&[&[0], &entry.public, &commitment])
}

/// What happened, before it is an entry.
pub type Happened = (Event, Detail);

/// A log that grows.
#[derive(Clone)]
pub struct Log {
    pub role: &'static str,
    pub instance: &'static str,
    pub bundles: Vec<Bundle>,
    /// Numbers of bundles whose bodies are archived: all before this.
    pub archived: u64,
    pub exported_at: i64,
    pub witnessed: Vec<String>,
}

impl Log {
    pub fn new(role: &'static str, instance: &'static str) -> Self {
        Self {
            role,
            instance,
            bundles: Vec::new(),
            archived: 0,
            exported_at: BEGIN + 100_000,
            witnessed: Vec::new(),
        }
    }

    pub fn origin(&self) -> String {
        format!("{DOMAIN}/{}/{}", self.role, self.instance)
    }

    fn other(&self) -> &'static str {
        match self.role {
            PROVIDER => GATEWAY,
            _ => PROVIDER,
        }
    }

    /// The key of its checkpoints, and its witness's.
    pub fn keys(&self) -> [Key; 2] {
        [
            Key::new(&self.origin(), 1),
            Key::new(&format!("{DOMAIN}/{}", self.other()), 4),
        ]
    }

    pub fn size(&self) -> u64 {
        self.bundles
            .iter()
            .map(|bundle| bundle.entries.len() as u64)
            .sum()
    }

    /// Appends a bundle under an epoch; the index of its first entry.
    pub fn commit(&mut self, epoch: u64, happened: Vec<Happened>) -> u64 {
        let at = Timestamp {
            seconds: BEGIN + 10 * self.bundles.len() as i64,
            nanos: 250_000_000,
        };
        let first_index = self.size();
        let entry = |(number, (event, detail)): (usize, Happened)| Entry {
            public: Public {
                at_unix_s: at.seconds as u64,
                epoch,
                event: Some(event),
            }
            .encode_to_vec(),
            salt: sha256(&[
                self.origin().as_bytes(),
                &(first_index + number as u64).to_be_bytes(),
            ])
            .to_vec(),
            restricted: Restricted {
                at: Some(at),
                detail: Some(detail),
            }
            .encode_to_vec(),
        };
        let entries = happened.into_iter().enumerate().map(entry).collect();
        self.bundles.push(Bundle {
            log: self.instance.to_owned(),
            first_index,
            epoch,
            at: Some(at),
            entries,
        });
        first_index
    }

    pub fn leaves(&self) -> Vec<[u8; 32]> {
        self.bundles
            .iter()
            .flat_map(|bundle| bundle.entries.iter().map(leaf))
            .collect()
    }

    /// The checkpoint of the first `size` entries, signed, and countersigned at `unix_s` when that is given.
    pub fn checkpoint(&self, size: u64, unix_s: Option<i64>) -> String {
        let [own, witness] = self.keys();
        let note = own.checkpoint(size, &root(&self.leaves()[..size as usize]));
        match unix_s {
            Some(unix_s) => witness.countersign(&note, unix_s),
            None => note,
        }
    }

    /// The checkpoint of everything, countersigned.
    pub fn signed(&self) -> String {
        self.checkpoint(self.size(), Some(BEGIN + 50_000))
    }

    /// The parts of the file, from a bundle on, under this checkpoint.
    pub fn parts(&self, from: usize, checkpoint: &str) -> Vec<Part> {
        let first_index = self
            .bundles
            .get(from)
            .map_or(self.size(), |bundle| bundle.first_index);
        let leaves = self.leaves();
        let mut frontier = Vec::new();
        let mut at = 0;
        for level in (0..64).rev().filter(|level| first_index >> level & 1 == 1) {
            let width = 1_usize << level;
            frontier.push(root(&leaves[at..at + width]).to_vec());
            at += width;
        }
        let header = ExportHeader {
            format: 1,
            origin: self.origin(),
            first_bundle: from as u64,
            first_index,
            frontier,
            exported_at: Some(Timestamp {
                seconds: self.exported_at,
                nanos: 0,
            }),
        };
        let bundle = |(number, bundle): (usize, &Bundle)| {
            let archived = (number as u64) < self.archived;
            Part::Bundle(ExportedBundle {
                number: number as u64,
                body: if archived {
                    Vec::new()
                } else {
                    bundle.encode_to_vec()
                },
                leaf_hashes: match archived {
                    true => bundle.entries.iter().flat_map(leaf).collect(),
                    false => Vec::new(),
                },
            })
        };
        let end = ExportEnd {
            bundles: (self.bundles.len() - from) as u64,
            size: self.size(),
            checkpoint: checkpoint.to_owned(),
            witnessed: self.witnessed.clone(),
        };
        let bundles = self.bundles.iter().enumerate().skip(from).map(bundle);
        std::iter::once(Part::Header(header))
            .chain(bundles)
            .chain([Part::End(end)])
            .collect()
    }
}

pub fn encoded(parts: &[Part]) -> Vec<u8> {
    let part = |part: &Part| {
        ExportPart {
            part: Some(part.clone()),
        }
        .encode_length_delimited_to_vec()
    };
    parts.iter().flat_map(part).collect()
}

/// A folder of exported files and the list of keys of the logs that were given.
pub struct Desk {
    pub folder: TempDir,
    files: Vec<PathBuf>,
    keys: Vec<String>,
}

impl Desk {
    pub fn of(logs: &[&Log]) -> Self {
        let mut desk = Self::empty();
        for log in logs {
            desk.add(log, &encoded(&log.parts(0, &log.signed())));
        }
        desk
    }

    pub fn empty() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            files: Vec::new(),
            keys: Vec::new(),
        }
    }

    pub fn trust(&mut self, log: &Log) {
        let mut keys: Vec<String> = log.keys().iter().map(Key::line).collect();
        self.keys.append(&mut keys);
    }

    pub fn add(&mut self, log: &Log, content: &[u8]) {
        self.trust(log);
        let name = format!("{}-{}.log", log.instance, self.files.len());
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        self.files.push(path);
    }

    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub fn keys(&self) -> Keys {
        let path = self.folder.path().join("log-keys.txt");
        std::fs::write(&path, self.keys.concat()).unwrap();
        Keys::load(&path).unwrap()
    }

    pub fn verify(&self) -> Report {
        audit::verify(&self.files, &self.keys())
    }
}

/// The names of findings, or of causes, in a report.
pub fn names(report: &Report, list: &str, name: &str) -> Vec<String> {
    let json = report.to_json();
    let all = json[list].as_array().unwrap();
    all.iter()
        .map(|one| one[name].as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
pub fn assert_clean(report: &Report) -> Value {
    let json = report.to_json();
    assert_eq!(json["verdict"], "CLEAN", "{json:#}");
    json
}

#[track_caller]
pub fn assert_finds(report: &Report, finding: &str) -> Value {
    let json = report.to_json();
    assert_eq!(json["exit_code"], 1, "{json:#}");
    let found = names(report, "findings", "finding");
    assert!(found.iter().any(|one| one == finding), "{finding} in {json:#}");
    json
}

#[track_caller]
pub fn assert_not_checked(report: &Report, cause: &str) -> Value {
    let json = report.to_json();
    assert_eq!(json["exit_code"], 2, "{json:#}");
    let causes = names(report, "not_checked", "cause");
    assert!(causes.iter().any(|one| one == cause), "{cause} in {json:#}");
    json
}

pub fn request_id(number: u8) -> String {
    format!("01900000-0000-7000-8000-0000000000{number:02x}")
}

/// A pseudonym.
pub fn named(number: u8) -> Vec<u8> {
    vec![number; 16]
}

/// What is released to a requester: everything that could forbid it has a name of its own.
pub fn release(number: u8) -> (Provision, ProvisionDetail) {
    let provision = Provision {
        request_id: request_id(number),
        kind: 1,
        procedure: "certificate".to_owned(),
        outcome: Outcome::Released.into(),
        reason: String::new(),
        items: vec![1, 2],
    };
    let detail = ProvisionDetail {
        cause: "PROVIDED".to_owned(),
        subject_pseudonym: named(1),
        peer: "portal-frontend/demo".to_owned(),
        consent_id: "11111111-1111-4111-8111-111111111111".to_owned(),
        eligibility_sha256: vec![number; 32],
        session_pseudonym: named(2),
        card_pseudonym: named(3),
        register_pseudonyms: vec![named(4)],
        municipality_codes: vec!["131016".to_owned()],
        answer_sha256: vec![number + 100; 32],
        provider_log: String::new(),
        provider_bundle: 0,
    };
    (provision, detail)
}

pub fn provision((provision, detail): (Provision, ProvisionDetail)) -> Happened {
    (Event::Provision(provision), Detail::Provision(detail))
}

pub fn ordinary(act: &str) -> Happened {
    (
        Event::OrdinaryAct(OrdinaryAct { act: act.to_owned() }),
        Detail::OrdinaryAct(OrdinaryActDetail::default()),
    )
}

pub fn guard(act: &str, kind: i32, detail: GuardActDetail) -> Happened {
    let act = GuardAct {
        act: act.to_owned(),
        kind,
    };
    (Event::GuardAct(act), Detail::GuardAct(detail))
}

pub fn lost(number: u8) -> Happened {
    let (_, released) = release(number);
    let detail = LostAnswerDetail {
        provider_log: "provider-1".to_owned(),
        eligibility_sha256: released.eligibility_sha256,
        outcome: Outcome::Released.into(),
        answer_sha256: released.answer_sha256,
    };
    let lost = LostAnswer {
        request_id: request_id(number),
    };
    (Event::LostAnswer(lost), Detail::LostAnswer(detail))
}

pub fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
}

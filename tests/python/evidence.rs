//! An implementation of the standards that shares nothing with ours ([evidence.py]) verifies what a real pair of services has made:
//! checkpoints, countersignatures, proofs, the log as it is stored and as it is exported. And it finds a flipped bit in each.

use std::{env, path::Path, process::Stdio, time::Duration};

use common::{authorisation::Listener, identity::Role, terms::RequestKind};
use data_encoding::HEXLOWER;
use devkit::{
    client::Term,
    deployment::{GATEWAY_INSTANCE, PROVIDER_INSTANCE, TRUST_DOMAIN},
    process::Binaries,
    registers::Scenario,
};
use integration_tests::{Pair, address, forger::Forger, stores::Behind};
use koseki_proto::{
    koseki::{
        evidence::v1::Bundle,
        linkage::v1::{ExchangeCheckpointsRequest, SubmittedCheckpoint},
    },
    portal::v1::ProvisionRecord,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

const KIND: RequestKind = RequestKind::CertificateRequest;
const PATIENCE: Duration = Duration::from_secs(40);

/// What the verifier says of each claim.
async fn verify(keys: &Path, claims: &[Value]) -> Vec<String> {
    let python = env::var_os("KOSEKI_PYTHON").unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/evidence.py");
    let mut verifier = Command::new(python)
        .arg(program)
        .arg(keys)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = verifier.stdin.take().unwrap();
    let lines: String = claims.iter().map(|claim| format!("{claim}\n")).collect();
    let writing = tokio::spawn(async move { input.write_all(lines.as_bytes()).await.unwrap() });
    let output = verifier.wait_with_output().await.unwrap();
    writing.await.unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<String> = said.lines().map(str::to_owned).collect();
    assert_eq!(said.len(), claims.len());
    said
}

/// Each of these is broken by the flip of one bit, in every byte of the field.
fn flipped(claim: &Value, field: &str) -> Vec<Value> {
    let flip = |text: &str| {
        let bytes = HEXLOWER.decode(text.as_bytes()).unwrap();
        (0..bytes.len())
            .map(|at| {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << (at % 8);
                HEXLOWER.encode(&bytes)
            })
            .collect::<Vec<_>>()
    };
    let with = |value: Value| {
        let mut claim = claim.clone();
        claim[field] = value;
        claim
    };
    match &claim[field] {
        Value::String(text) => flip(text).into_iter().map(|text| with(text.into())).collect(),
        Value::Array(list) => {
            let flips = list.iter().enumerate().flat_map(|(at, text)| {
                let put = move |text: String| {
                    let mut list = list.clone();
                    list[at] = text.into();
                    Value::Array(list)
                };
                flip(text.as_str().unwrap()).into_iter().map(put)
            });
            flips.map(with).collect()
        }
        Value::Number(number) => vec![
            with((number.as_u64().unwrap() ^ 1).into()),
            with((number.as_u64().unwrap() + 1_000).into()),
        ],
        other => panic!("{other}"),
    }
}

/// A claim, and what must not be believed in its place.
struct Claimed {
    claim: Value,
    broken: Vec<Value>,
}

impl Claimed {
    fn new(claim: Value, fields: &[&str]) -> Self {
        let broken = fields.iter().flat_map(|field| flipped(&claim, field)).collect();
        Self { claim, broken }
    }
}

struct Side {
    database: std::path::PathBuf,
    log: &'static str,
    origin: String,
    witness: String,
}

impl Side {
    async fn text(&self, sql: &'static str) -> String {
        let mut behind = Behind::open(&self.database).await;
        let row = behind
            .connection()
            .one(sql, &[("log", self.log.into())])
            .await
            .unwrap();
        row.text(0).unwrap().to_owned()
    }

    /// Once all that is in the log is countersigned: the note.
    async fn note(&self) -> String {
        let countersigned = async {
            loop {
                let mut behind = Behind::open(&self.database).await;
                let row = behind
                    .connection()
                    .optional(
                        "SELECT witnessed_note FROM log_checkpoint JOIN log_head ON log_head.log = log_checkpoint.log \
                         WHERE log_head.log = {log} AND witnessed_size = log_head.size",
                        &[("log", self.log.into())],
                    )
                    .await
                    .unwrap();
                if let Some(row) = row {
                    return row.text(0).unwrap().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, countersigned).await.unwrap()
    }

    fn checkpoint(&self, note: &str) -> Value {
        json!({
            "claim": "checkpoint",
            "note": hex(note.as_bytes()),
            "origin": self.origin,
            "witness": self.witness,
        })
    }

    /// The log as it is stored.
    async fn bundles(&self, note: &str) -> Claimed {
        let mut behind = Behind::open(&self.database).await;
        let rows = behind
            .connection()
            .all(
                "SELECT body, hashes FROM bundle WHERE log = {log} ORDER BY number",
                &[("log", self.log.into())],
            )
            .await
            .unwrap();
        let bodies: Vec<Vec<u8>> = rows.iter().map(|row| row.bytes(0).unwrap().to_vec()).collect();
        let hashes: Vec<Vec<u8>> = rows.iter().map(|row| row.bytes(1).unwrap().to_vec()).collect();
        let claim = |bodies: &[Vec<u8>], hashes: &[Vec<u8>]| {
            let mut claim = self.checkpoint(note);
            claim["claim"] = "bundles".into();
            claim["bodies"] = bodies.iter().map(|body| hex(body)).collect();
            claim["hashes"] = hashes.iter().map(|hashes| hex(hashes)).collect();
            claim
        };
        let mut broken = Vec::new();
        // Some bundles from everywhere, each with one bit less or more in each of its parts.
        for at in (0..bodies.len()).step_by(bodies.len() / 12 + 1) {
            for part in 0..3 {
                let mut bundle = Bundle::decode(bodies[at].as_slice()).unwrap();
                let entry = bundle.entries.last_mut().unwrap();
                let part = [&mut entry.public, &mut entry.salt, &mut entry.restricted]
                    .into_iter()
                    .nth(part);
                let part = part.unwrap();
                let byte = at * 7 % part.len();
                part[byte] ^= 1 << (at % 8);
                let mut bodies = bodies.clone();
                bodies[at] = bundle.encode_to_vec();
                broken.push(claim(&bodies, &hashes));
            }
            let mut altered = hashes.clone();
            altered[at][at % 32] ^= 1;
            broken.push(claim(&bodies, &altered));
            let (mut fewer, mut less) = (bodies.clone(), hashes.clone());
            fewer.remove(at);
            less.remove(at);
            broken.push(claim(&fewer, &less));
        }
        Claimed {
            claim: claim(&bodies, &hashes),
            broken,
        }
    }

    /// The log as an auditor exports it.
    async fn export(&self, pair: &Pair, side: &str) -> Claimed {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("exported.log");
        let profile = folder.path().join("kosekictl.toml");
        std::fs::write(&profile, profile_of(pair)).unwrap();
        let ran = Command::new(Binaries::kosekictl().unwrap())
            .args(["audit", "export", "--side", side, "--log", self.log])
            .arg("--out")
            .arg(&out)
            .arg("--config")
            .arg(&profile)
            .output()
            .await
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let file = std::fs::read(&out).unwrap();
        let claim = |file: &[u8]| json!({"claim": "export", "file": hex(file), "origin": self.origin, "witness": self.witness});
        // Cut off anywhere, and a bit in the entries that the checkpoint is about.
        let mut broken: Vec<Value> = [0, 1, file.len() / 2, file.len() - 1]
            .map(|end| claim(&file[..end]))
            .into();
        let bundle = Behind::open(&self.database)
            .await
            .connection()
            .one(
                "SELECT body FROM bundle WHERE log = {log} AND number = 0",
                &[("log", self.log.into())],
            )
            .await
            .unwrap();
        let bundle = Bundle::decode(bundle.bytes(0).unwrap()).unwrap();
        let entry = &bundle.entries[0];
        for part in [&entry.public, &entry.salt, &entry.restricted] {
            let at = file
                .windows(part.len())
                .position(|window| window == part.as_slice())
                .unwrap();
            for byte in 0..part.len() {
                let mut file = file.clone();
                file[at + byte] ^= 1 << (byte % 8);
                broken.push(claim(&file));
            }
        }
        Claimed {
            claim: claim(&file),
            broken,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The connection profile of an auditor.
fn profile_of(pair: &Pair) -> String {
    let files = pair.deployment.client(Role::Auditor, "carol");
    let reach = pair.reach();
    let mut table: toml::Table = include_str!("../../deploy/config/kosekictl.toml")
        .parse()
        .unwrap();
    table["trust_domain"] = TRUST_DOMAIN.into();
    for (key, file) in [
        ("certificate", files.certificate),
        ("private_key", files.private_key),
        ("peer_ca", files.peer_ca),
    ] {
        table["tls"][key] = file.to_str().unwrap().into();
    }
    for (section, address, instance) in [
        ("registry_admin", &reach.registry_admin, PROVIDER_INSTANCE),
        ("portal_admin", &reach.portal_admin, GATEWAY_INSTANCE),
        ("ingest", &reach.ingest, PROVIDER_INSTANCE),
    ] {
        table[section]["address"] = address.as_str().into();
        table[section]["instance"] = instance.into();
    }
    table.to_string()
}

/// What the provider gives in an exchange of checkpoints, from a checkpoint on that the portal side has countersigned.
async fn exchanged(pair: &Pair, gateway: &Side, countersigned: &str) -> SubmittedCheckpoint {
    let forger = Forger::new(
        &pair.deployment,
        &address(&pair.provider, Listener::Linkage),
        pair.clock.clone(),
    );
    let given = async {
        loop {
            let request = ExchangeCheckpointsRequest {
                submitted: Some(SubmittedCheckpoint {
                    checkpoint: gateway
                        .text("SELECT note FROM log_checkpoint WHERE log = {log}")
                        .await,
                    ..SubmittedCheckpoint::default()
                }),
                witnessed: countersigned.to_owned(),
            };
            // The gateway itself may be at it.
            if let Ok(answer) = forger.client.clone().exchange_checkpoints(request).await {
                return answer.into_inner().submitted.unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, given).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_shares_nothing_with_ours_verifies_the_evidence() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    let term = Term::For(Duration::from_secs(600));
    cast.frontend.consent(&session, &text, term).await.unwrap();
    let provider = Side {
        database: pair.deployment.provider_database(),
        log: PROVIDER_INSTANCE,
        origin: format!("{TRUST_DOMAIN}/koseki-provider/{PROVIDER_INSTANCE}"),
        witness: format!("{TRUST_DOMAIN}/portal-gateway"),
    };
    let gateway = Side {
        database: pair.deployment.gateway_database(),
        log: GATEWAY_INSTANCE,
        origin: format!("{TRUST_DOMAIN}/portal-gateway/{GATEWAY_INSTANCE}"),
        witness: format!("{TRUST_DOMAIN}/koseki-provider"),
    };
    let mut claims = Vec::new();
    let before = provider.note().await;
    for _ in 0..5 {
        cast.frontend.copy_info(&session, KIND, "").await.unwrap();
    }
    for side in [&provider, &gateway] {
        let note = side.note().await;
        claims.push(Claimed::new(side.checkpoint(&note), &["note"]));
        claims.push(side.bundles(&note).await);
    }

    let newer = exchanged(&pair, &gateway, &before).await;
    assert!(newer.old_size > 0 && !newer.consistency_proof.is_empty());
    let consistency = json!({
        "claim": "consistency",
        "older": hex(before.as_bytes()),
        "older_witness": provider.witness,
        "note": hex(newer.checkpoint.as_bytes()),
        "origin": provider.origin,
        "witness": "",
        "path": newer.consistency_proof.iter().map(|hash| hex(hash)).collect::<Vec<_>>(),
    });
    claims.push(Claimed::new(consistency, &["note", "older", "path"]));

    let proven = async {
        loop {
            let page = cast.frontend.own_records(&session, 0, &[]).await.unwrap();
            let is_proven =
                |record: &ProvisionRecord| record.proof.as_ref().is_some_and(|proof| proof.tree_size > 0);
            if page.records.len() == 5 && page.records.iter().all(is_proven) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let page = tokio::time::timeout(PATIENCE, proven).await.unwrap();
    let [note] = &page.checkpoints[..] else {
        panic!("{} checkpoints", page.checkpoints.len())
    };
    for record in &page.records {
        let proof = record.proof.as_ref().unwrap();
        let mut claim = gateway.checkpoint(note);
        claim["claim"] = "inclusion".into();
        claim["index"] = proof.index.into();
        claim["leaf"] = hex(&[proof.public_part.as_slice(), &proof.commitment].concat()).into();
        claim["path"] = proof.inclusion_proof.iter().map(|hash| hex(hash)).collect();
        claims.push(Claimed::new(claim, &["leaf", "path", "index"]));
    }
    claims.push(provider.export(&pair, "registry").await);
    claims.push(gateway.export(&pair, "portal").await);

    let keys = pair.deployment.log_keys();
    let good: Vec<Value> = claims.iter().map(|claimed| claimed.claim.clone()).collect();
    for (claimed, said) in claims.iter().zip(verify(&keys, &good).await) {
        assert_eq!(said, "true", "{}", claimed.claim["claim"]);
    }
    let broken: Vec<Value> = claims.into_iter().flat_map(|claimed| claimed.broken).collect();
    assert!(broken.len() > 2_000, "{}", broken.len());
    for (claim, said) in broken.iter().zip(verify(&keys, &broken).await) {
        assert!(said.starts_with("false"), "{said}: {claim}");
    }
}

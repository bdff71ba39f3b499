//! `prove`: one request's entries on both sides, each with the proof that it is under a countersigned root.

use std::path::PathBuf;

use data_encoding::{BASE64, HEXLOWER};
use koseki_proto::koseki::evidence::v1::{Outcome, Provision, ProvisionDetail};
use serde_json::{Value, json};
use tlog_tiles::tlog;

use crate::{
    entry::{Bundle, Event},
    guards::id,
    keys::Keys,
    log::{Log, Placed, Reader},
    moment,
    report::Report,
    tree::{Hash, Proof},
    verify::{Logs, verified},
    words::{self, Gap, Language},
};

/// An entry about the request.
struct Found {
    origin: String,
    index: u64,
    bundle: u64,
    at_ms: Option<i64>,
    leaf: Hash,
    public: Vec<u8>,
    commitment: Hash,
    told: Value,
    text: [String; 2],
}

/// Finds the entries of a request in exported logs, and proves each. What the logs are worth is verified as `verify` does.
#[must_use]
pub fn prove(files: &[PathBuf], keys: &Keys, request_id: &str) -> Report {
    let (logs, mut report) = verified("prove", files, keys);
    let found = find(&logs, keys, request_id);
    if found.is_empty() {
        report.miss(Gap::RequestNotFound, request_id, None);
    }
    let mut json = Vec::new();
    let mut text = [String::new(), String::new()];
    for one in &found {
        let proof = proof(&logs, keys, one, &report);
        for (text, (told, language)) in text.iter_mut().zip(one.text.iter().zip(Language::ALL)) {
            text.push_str(told);
            text.push_str(&match (&proof, language) {
                (Some((size, hashes)), Language::Ja) => {
                    format!("  包含証明: {size} 件の木、ハッシュ {} 個\n", hashes.len())
                }
                (Some((size, hashes)), Language::En) => {
                    format!(
                        "  inclusion proof: tree of {size} entries, {} hashes\n",
                        hashes.len()
                    )
                }
                (None, _) => format!("  {}\n", Gap::BeyondCheckpoint.words(language)),
            });
        }
        let checkpoint = report
            .checkpoint_of(&one.origin)
            .map(|checkpoint| &checkpoint.note);
        let proof = proof.map(|(size, hashes)| {
            let hashes: Vec<String> = hashes.iter().map(|hash| BASE64.encode(hash)).collect();
            json!({ "size": size, "hashes": hashes, "checkpoint": checkpoint })
        });
        json.push(json!({
            "log": one.origin,
            "bundle": one.bundle,
            "index": one.index,
            "at": one.at_ms.map(moment::utc),
            "at_jst": one.at_ms.map(moment::jst),
            "public": BASE64.encode(&one.public),
            "commitment": BASE64.encode(&one.commitment),
            "leaf_hash": BASE64.encode(&one.leaf),
            "proof": proof,
            "entry": one.told,
        }));
    }
    report.answer(json!({ "request_id": request_id, "entries": json }), text);
    report
}

fn find(logs: &Logs, keys: &Keys, request_id: &str) -> Vec<Found> {
    let wanted = id(request_id);
    let mut muted = Report::new("prove", keys);
    let mut found = Vec::new();
    for log in logs.logs.values() {
        let mut reader = log.reader();
        while let Some(placed) = reader.next(&mut muted) {
            for entry in &placed.bundle.entries {
                let about = request_of(&entry.event).is_some_and(|request| id(request) == wanted);
                if about {
                    found.extend(found_at(log, &placed, entry.at, &entry.event));
                }
            }
        }
    }
    found
}

fn request_of(event: &Event) -> Option<&str> {
    match event {
        Event::Provision(provision) => Some(&provision.0.request_id),
        Event::Lost(lost) => Some(&lost.0.request_id),
        Event::Guard(act) => Some(&act.1.request_id),
        Event::Ordinary(_, detail) => Some(&detail.request_id),
        Event::Unreadable => None,
    }
}

fn found_at(log: &Log, placed: &Placed, at: usize, event: &Event) -> Option<Found> {
    let (public, commitment) = Bundle::parts(&placed.exported, at)?;
    let (told, text) = told(log, placed, at, event);
    Some(Found {
        origin: log.origin.clone(),
        index: placed.index(at),
        bundle: placed.bundle.number,
        at_ms: placed.bundle.at_ms,
        leaf: *placed.bundle.leaves.get(at)?,
        public,
        commitment,
        told,
        text,
    })
}

/// The proof of an entry under the log's newest countersigned checkpoint.
fn proof(logs: &Logs, keys: &Keys, found: &Found, report: &Report) -> Option<(u64, Vec<Hash>)> {
    let checkpoint = report.checkpoint_of(&found.origin)?;
    let log = logs.logs.get(&found.origin)?;
    let size = checkpoint.size;
    if found.index >= size {
        return None;
    }
    let mut proof = Proof::new(found.index, size, &Reader::tree_before(log));
    let mut muted = Report::new("prove", keys);
    let mut reader = log.reader();
    while let Some(placed) = reader.next(&mut muted) {
        for (index, leaf) in (placed.first_index..size).zip(&placed.bundle.leaves) {
            proof.take(index, *leaf);
        }
    }
    let hashes = proof.hashes()?;
    // The library's own check, beside ours.
    let theirs = hashes.iter().copied().map(tlog::Hash).collect();
    let root = tlog::Hash(checkpoint.root);
    tlog::check_record(&theirs, size, root, proof.index, tlog::Hash(found.leaf)).ok()?;
    Some((size, hashes))
}

/// Stable name of an outcome.
pub(crate) fn outcome(number: i32) -> &'static str {
    match Outcome::try_from(number) {
        Ok(Outcome::Released) => "RELEASED",
        Ok(Outcome::NotProvided) => "NOT_PROVIDED",
        Ok(Outcome::Refused) => "REFUSED",
        Ok(Outcome::Unavailable) => "UNAVAILABLE",
        Ok(Outcome::Unspecified) | Err(_) => "UNKNOWN",
    }
}

/// A provision, for programs.
pub(crate) fn provision_json(provision: &Provision, detail: &ProvisionDetail) -> Value {
    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    json!({
        "event": "PROVISION",
        "request_id": provision.request_id,
        "kind": provision.kind().as_str_name(),
        "procedure": provision.procedure,
        "outcome": outcome(provision.outcome),
        "reason": provision.reason,
        "items": provision.items().map(|item| item.as_str_name()).collect::<Vec<_>>(),
        "cause": detail.cause,
        "subject": hex(&detail.subject_pseudonym),
        "peer": detail.peer,
        "consent_id": detail.consent_id,
        "eligibility_sha256": hex(&detail.eligibility_sha256),
        "session": hex(&detail.session_pseudonym),
        "card": hex(&detail.card_pseudonym),
        "registers": detail.register_pseudonyms.iter().map(|register| hex(register)).collect::<Vec<_>>(),
        "municipality_codes": detail.municipality_codes,
        "answer_sha256": hex(&detail.answer_sha256),
        "provider_log": detail.provider_log,
        "provider_bundle": (!detail.provider_log.is_empty()).then_some(detail.provider_bundle),
    })
}

/// What an entry says, for programs and, in both languages, for people.
fn told(log: &Log, placed: &Placed, at: usize, event: &Event) -> (Value, [String; 2]) {
    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    let json = match event {
        Event::Provision(provision) => provision_json(&provision.0, &provision.1),
        Event::Lost(lost) => json!({
            "event": "LOST_ANSWER",
            "request_id": lost.0.request_id,
            "provider_log": lost.1.provider_log,
            "eligibility_sha256": hex(&lost.1.eligibility_sha256),
            "outcome": outcome(lost.1.outcome),
            "answer_sha256": hex(&lost.1.answer_sha256),
        }),
        Event::Guard(act) => json!({
            "event": "GUARD_ACT",
            "act": act.0.act,
            "actor": act.1.actor,
            "request_id": act.1.request_id,
            "consent_id": act.1.consent_id,
        }),
        Event::Ordinary(act, detail) => json!({
            "event": "ORDINARY_ACT",
            "act": act.act,
            "actor": detail.actor,
            "request_id": detail.request_id,
            "reference": detail.reference,
        }),
        Event::Unreadable => Value::Null,
    };
    let text = Language::ALL.map(|language| {
        let mut text = format!("{}\n", words::place(language, &placed.place(&log.origin, at)));
        for (name, value) in json.as_object().into_iter().flatten() {
            let value = match value {
                Value::String(value) if value.is_empty() => continue,
                Value::Array(values) if values.is_empty() => continue,
                Value::Null => continue,
                Value::String(value) => value.clone(),
                other => other.to_string(),
            };
            text.push_str(&format!("  {name}: {value}\n"));
        }
        text
    });
    (json, text)
}

//! `who-received`: what left, to whom, under which consent (clauses 3.4, 3.6), found by whatever is known of it. A release is one
//! row with what both sides have recorded of it.
//!
//! In memory is what is found, about 2 KiB a release.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use koseki_proto::koseki::evidence::v1::{Outcome, Provision, ProvisionDetail};
use serde_json::{Value, json};

use crate::{
    entry::Event,
    guards::id,
    keys::Keys,
    moment,
    origin::Side,
    prove::provision_json,
    report::Report,
    verify::{Logs, verified},
    words::{self, Language},
};

/// What is known of the releases that are looked for; all of it must hold.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Pseudonym of the card.
    pub card: Option<[u8; 16]>,
    /// Pseudonym of the session.
    pub session: Option<[u8; 16]>,
    /// Pseudonym of the person (registry side) or the account (portal side).
    pub subject: Option<[u8; 16]>,
    /// The frontend that asked.
    pub frontend: Option<String>,
    /// Code of a municipality a register of which was released.
    pub municipality_code: Option<String>,
    /// The request.
    pub request_id: Option<String>,
    /// Not before this, in milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Before this, in milliseconds since 1970.
    pub until_ms: Option<i64>,
}

/// Whether one thing that is known fits an entry; `None` when the entry's side does not record it.
type Fit = Option<bool>;

impl Asked {
    /// For each thing that is known, whether it fits this side's entry.
    fn fits(
        &self,
        side: Side,
        provision: &Provision,
        detail: &ProvisionDetail,
        at_ms: Option<i64>,
    ) -> Vec<Fit> {
        let pseudonym =
            |asked: &Option<[u8; 16]>, recorded: &[u8]| asked.map(|asked| Some(recorded == asked));
        let frontend = self.frontend.as_ref().map(|frontend| {
            let peer = detail.peer.strip_prefix("portal-frontend/");
            (side == Side::Portal).then(|| peer == Some(frontend))
        });
        let municipality = self
            .municipality_code
            .as_ref()
            .map(|code| (side == Side::Registry).then(|| detail.municipality_codes.contains(code)));
        // Each side has its own pseudonyms: one that does not fit here may fit there.
        let or_there = |fit: Option<Fit>| fit.map(|fit| fit.filter(|fits| *fits));
        let request = self.request_id.as_ref();
        let known = [
            or_there(pseudonym(&self.card, &detail.card_pseudonym)),
            or_there(pseudonym(&self.session, &detail.session_pseudonym)),
            or_there(pseudonym(&self.subject, &detail.subject_pseudonym)),
            frontend,
            municipality,
            request.map(|request| Some(id(request) == id(&provision.request_id))),
            self.from_ms.map(|from| at_ms.map(|at| at >= from)),
            self.until_ms.map(|until| at_ms.map(|at| at < until)),
        ];
        known.into_iter().flatten().collect()
    }
}

/// What one side has of a release.
struct Part {
    log: String,
    bundle: u64,
    index: u64,
    at_ms: Option<i64>,
    fits: Vec<Fit>,
    provision: Provision,
    detail: ProvisionDetail,
}

/// A request, as both sides have it.
#[derive(Default)]
struct Row {
    portal: Vec<Part>,
    registry: Vec<Part>,
}

impl Row {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.portal.iter().chain(&self.registry)
    }

    /// Whether everything that is known fits on one of the sides, and nothing is against it.
    fn is_asked(&self) -> bool {
        let count = self.parts().map(|part| part.fits.len()).max().unwrap_or(0);
        (0..count).all(|at| self.parts().any(|part| part.fits.get(at) == Some(&Some(true))))
    }

    fn released(&self) -> bool {
        self.parts()
            .any(|part| part.provision.outcome() == Outcome::Released)
    }
}

/// Looks for releases in exported logs. What the logs are worth is verified as `verify` does.
#[must_use]
pub fn who_received(files: &[PathBuf], keys: &Keys, asked: &Asked) -> Report {
    let (logs, mut report) = verified("who-received", files, keys);
    let found = gather(&logs, keys, asked);
    let mut rows: Vec<&Row> = found
        .values()
        .filter(|row| row.released() && row.is_asked())
        .collect();
    rows.sort_by_key(|row| row.parts().map(|part| (part.at_ms, &part.log, part.index)).min());
    let json: Vec<Value> = rows.iter().map(|row| to_json(row)).collect();
    let text = Language::ALL.map(|language| to_text(language, &rows));
    report.answer(json!({ "releases": json, "releases_total": rows.len() }), text);
    report
}

/// Once to see which requests something fits of, and once for all that is recorded of them.
fn gather(logs: &Logs, keys: &Keys, asked: &Asked) -> BTreeMap<[u8; 16], Row> {
    let mut wanted = HashSet::new();
    each(logs, keys, asked, |_, part| {
        let against = part.fits.contains(&Some(false));
        let fits = part.fits.is_empty() || part.fits.contains(&Some(true));
        if fits && !against && part.provision.outcome() == Outcome::Released {
            wanted.insert(id(&part.provision.request_id));
        }
    });
    let mut rows: BTreeMap<[u8; 16], Row> = BTreeMap::new();
    each(logs, keys, asked, |side, part| {
        let id = id(&part.provision.request_id);
        if wanted.contains(&id) {
            let row = rows.entry(id).or_default();
            match side {
                Side::Portal => row.portal.push(part),
                Side::Registry => row.registry.push(part),
            }
        }
    });
    rows
}

fn each(logs: &Logs, keys: &Keys, asked: &Asked, mut take: impl FnMut(Side, Part)) {
    let mut muted = Report::new("who-received", keys);
    for log in logs.logs.values() {
        let mut reader = log.reader();
        while let Some(placed) = reader.next(&mut muted) {
            for entry in &placed.bundle.entries {
                let Event::Provision(provision) = &entry.event else {
                    continue;
                };
                let at_ms = placed.bundle.at_ms;
                let fits = asked.fits(log.side, &provision.0, &provision.1, at_ms);
                let part = Part {
                    log: log.origin.clone(),
                    bundle: placed.bundle.number,
                    index: placed.index(entry.at),
                    at_ms,
                    fits,
                    provision: provision.0.clone(),
                    detail: provision.1.clone(),
                };
                take(log.side, part);
            }
        }
    }
}

fn part_json(part: &Part) -> Value {
    json!({
        "log": part.log,
        "bundle": part.bundle,
        "index": part.index,
        "at": part.at_ms.map(moment::utc),
        "at_jst": part.at_ms.map(moment::jst),
        "entry": provision_json(&part.provision, &part.detail),
    })
}

fn to_json(row: &Row) -> Value {
    let request_id = row.parts().next().map(|part| part.provision.request_id.as_str());
    json!({
        "request_id": request_id,
        "portal": row.portal.iter().map(part_json).collect::<Vec<_>>(),
        "registry": row.registry.iter().map(part_json).collect::<Vec<_>>(),
    })
}

fn to_text(language: Language, rows: &[&Row]) -> String {
    let mut text = match language {
        Language::Ja => format!("提供 {} 件\n", rows.len()),
        Language::En => format!("{} releases\n", rows.len()),
    };
    for row in rows {
        for part in row.parts() {
            let at = part.at_ms.map(|at| words::both(language, at)).unwrap_or_default();
            let (provision, detail) = (&part.provision, &part.detail);
            let items: Vec<&str> = provision
                .items()
                .map(|item| item.as_str_name().trim_start_matches("COPY_INFO_ITEM_"))
                .collect();
            let kind = provision.kind().as_str_name().trim_start_matches("REQUEST_KIND_");
            let outcome = crate::prove::outcome(provision.outcome);
            let words = match language {
                Language::Ja => [
                    "請求番号",
                    "結果",
                    "請求の別",
                    "項目",
                    "提供先",
                    "同意",
                    "市区町村",
                    "記録",
                ],
                Language::En => [
                    "request",
                    "outcome",
                    "kind",
                    "items",
                    "to",
                    "consent",
                    "municipalities",
                    "entry",
                ],
            };
            let values = [
                provision.request_id.clone(),
                format!("{outcome} {}", detail.cause),
                format!("{kind} {}", provision.procedure),
                items.join(" "),
                detail.peer.clone(),
                detail.consent_id.clone(),
                detail.municipality_codes.join(" "),
                format!("{} {}", part.log, part.index),
            ];
            text.push_str(&format!("{at}\n"));
            for (word, value) in words.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
                text.push_str(&format!("  {word}: {value}\n"));
            }
        }
    }
    text
}

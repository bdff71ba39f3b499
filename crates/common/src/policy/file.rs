//! The policy file: read whole and checked whole. Every refusal names the key and the rule that it breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::Path,
};

use serde::Deserialize;

use super::{
    ApprovalPolicy, ConsentText, ExchangePolicy, FreshnessPolicy, Item, LoginPolicy, Policy, Provision,
    RetentionPolicy,
};
use crate::{
    clock::Timestamp,
    digest,
    files::{self, FileError},
    terms::{MunicipalityCode, Procedure, RegisterKind, RequestKind},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    effective_at: String,
    provision: Vec<ProvisionEntry>,
    consent: ConsentEntry,
    login: LoginPolicy,
    exchange: ExchangePolicy,
    retention: RetentionPolicy,
    freshness: FreshnessPolicy,
    approvals: ApprovalPolicy,
    municipalities: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvisionEntry {
    kind: RequestKind,
    procedure: String,
    registers: Vec<RegisterKind>,
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsentEntry {
    max_days: u64,
    text: Vec<TextEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextEntry {
    kind: RequestKind,
    language: String,
    file: String,
    sha256: String,
}

/// What is wrong with the content of the file.
type Fault = String;

fn fault(key: impl Display, rule: impl Display) -> Fault {
    format!("{key}: {rule}")
}

/// Reads and checks the file and the consent texts that it names, beside it.
pub(super) fn load(path: &Path) -> Result<Policy, FileError> {
    let text = files::read_text(path)?;
    let bad = |fault: Fault| FileError::content(path, fault);
    let file: File = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
    check_bounds(&file).map_err(bad)?;
    Ok(Policy {
        sha256: digest::sha256(&[text.as_bytes()]),
        effective_at: Timestamp::from_rfc3339(&file.effective_at)
            .ok_or_else(|| bad(fault("effective_at", "must be a moment as in RFC 3339")))?,
        consent_texts: consent_texts(path, file.consent.text)?,
        consent_max_days: file.consent.max_days,
        login: file.login,
        exchange: file.exchange,
        retention: file.retention,
        freshness: file.freshness,
        approvals: file.approvals,
        provisions: provisions(file.provision).map_err(bad)?,
        municipalities: municipalities(&file.municipalities).map_err(bad)?,
    })
}

fn check_bounds(file: &File) -> Result<(), Fault> {
    let (login, exchange) = (&file.login, &file.exchange);
    for (key, value, most, rule) in [
        (
            "login.challenge_seconds",
            login.challenge_seconds,
            120,
            "must be 1 to 120",
        ),
        (
            "login.session_seconds",
            login.session_seconds,
            86_400,
            "must be 1 to 86,400",
        ),
        (
            "login.session_idle_seconds",
            login.session_idle_seconds,
            login.session_seconds,
            "must be 1 to session_seconds",
        ),
        (
            "login.crl_max_age_hours",
            login.crl_max_age_hours,
            168,
            "must be 1 to 168",
        ),
        (
            "consent.max_days",
            file.consent.max_days,
            3_650,
            "must be 1 to 3,650",
        ),
        (
            "retention.audit_years",
            file.retention.audit_years.into(),
            50,
            "must be 1 to 50",
        ),
        (
            "retention.session_days",
            file.retention.session_days.into(),
            400,
            "must be 1 to 400",
        ),
        (
            "retention.consent_years",
            file.retention.consent_years.into(),
            50,
            "must be 1 to 50",
        ),
        (
            "freshness.linkage_confirmed_days",
            file.freshness.linkage_confirmed_days.into(),
            400,
            "must be 1 to 400",
        ),
        (
            "approvals.proposal_hours",
            file.approvals.proposal_hours.into(),
            168,
            "must be 1 to 168",
        ),
        (
            "approvals.confirmation_hours",
            file.approvals.confirmation_hours.into(),
            168,
            "must be 1 to 168",
        ),
    ] {
        if !(1..=most).contains(&value) {
            return Err(fault(key, rule));
        }
    }
    for (key, value) in [
        ("max_answer_age_ms", exchange.max_answer_age_ms),
        ("max_hand_off_ms", exchange.max_hand_off_ms),
        ("refusal_after_ms", exchange.refusal_after_ms),
        ("forward_deadline_ms", exchange.forward_deadline_ms),
        ("max_clock_skew_ms", exchange.max_clock_skew_ms),
        ("eligibility_fresh_ms", exchange.eligibility_fresh_ms),
        ("suppression_max_age_ms", exchange.suppression_max_age_ms),
        ("max_unwitnessed_age_ms", exchange.max_unwitnessed_age_ms),
    ] {
        if !(1..=60_000).contains(&value) {
            return Err(fault(format_args!("exchange.{key}"), "must be 1 to 60,000"));
        }
    }
    for (key, value) in [
        ("refusal_after_ms", exchange.refusal_after_ms),
        ("max_answer_age_ms", exchange.max_answer_age_ms),
    ] {
        if value < exchange.forward_deadline_ms {
            let rule = "must be at least forward_deadline_ms";
            return Err(fault(format_args!("exchange.{key}"), rule));
        }
    }
    if exchange.max_unwitnessed_age_ms < 2_000 {
        return Err(fault("exchange.max_unwitnessed_age_ms", "must be at least 2,000"));
    }
    if exchange.suppression_max_age_ms < 2_000 {
        return Err(fault("exchange.suppression_max_age_ms", "must be at least 2,000"));
    }
    let is_oid = |text: &String| {
        text.split('.').count() > 1
            && text
                .split('.')
                .all(|arc| !arc.is_empty() && arc.bytes().all(|digit| digit.is_ascii_digit()))
    };
    if login.certificate_policies.is_empty() || !login.certificate_policies.iter().all(is_oid) {
        let rule = "must list at least one object identifier, such as 1.2.392";
        return Err(fault("login.certificate_policies", rule));
    }
    Ok(())
}

fn provisions(entries: Vec<ProvisionEntry>) -> Result<BTreeMap<(RequestKind, Procedure), Provision>, Fault> {
    let mut provisions = BTreeMap::new();
    for (at, entry) in entries.into_iter().enumerate() {
        let key = |name: &str| format!("provision[{at}].{name}");
        let procedure = Procedure::parse(&entry.procedure).map_err(|rule| fault(key("procedure"), rule))?;
        let items: BTreeSet<Item> = entry.items.iter().copied().collect();
        if items.is_empty() || items.len() < entry.items.len() {
            return Err(fault(key("items"), "must list at least one item, each once"));
        }
        let registers: BTreeSet<RegisterKind> = entry.registers.iter().copied().collect();
        if !registers.contains(&RegisterKind::Current) || registers.len() < entry.registers.len() {
            return Err(fault(key("registers"), "must list current, and each kind once"));
        }
        let provision = Provision { registers, items };
        if provisions.insert((entry.kind, procedure), provision).is_some() {
            return Err(fault(
                key("procedure"),
                "must be another one than those before it of its kind",
            ));
        }
    }
    Ok(provisions)
}

fn consent_texts(path: &Path, entries: Vec<TextEntry>) -> Result<Vec<ConsentText>, FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let bad = |key: &str, rule: String| FileError::content(path, fault(key, rule));
    let mut texts: Vec<ConsentText> = Vec::new();
    for (at, entry) in entries.into_iter().enumerate() {
        let key = |name: &str| format!("consent.text[{at}].{name}");
        let text = files::read_text(&folder.join(&entry.file))?;
        let sha256 = digest::sha256(&[text.as_bytes()]);
        if data_encoding::HEXLOWER.encode(&sha256) != entry.sha256 {
            let rule = format!("must be the SHA-256 of {}", entry.file);
            return Err(bad(&key("sha256"), rule));
        }
        if !matches!(entry.language.as_str(), "ja" | "en") {
            return Err(bad(&key("language"), "must be ja or en".to_owned()));
        }
        if text.is_empty() || text.len() > 4_096 {
            return Err(bad(&key("file"), "must have 1 to 4,096 bytes".to_owned()));
        }
        texts.push(ConsentText {
            kind: entry.kind,
            language: entry.language,
            text,
            sha256,
        });
    }
    for kind in RequestKind::ALL {
        if texts.iter().all(|text| text.kind != kind) {
            return Err(bad("consent.text", format!("must have one for {kind:?}")));
        }
    }
    Ok(texts)
}

fn municipalities(
    entries: &BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<MunicipalityCode, BTreeSet<MunicipalityCode>>, Fault> {
    let mut municipalities = BTreeMap::new();
    for (sender, codes) in entries {
        let key = format!("municipalities.{sender}");
        let code = |text: &str| MunicipalityCode::parse(text).map_err(|rule| fault(&key, rule));
        let writes = codes
            .iter()
            .map(|text| code(text))
            .collect::<Result<BTreeSet<_>, _>>()?;
        if writes.is_empty() || writes.len() < codes.len() {
            return Err(fault(&key, "must list at least one code, each once"));
        }
        municipalities.insert(code(sender)?, writes);
    }
    Ok(municipalities)
}

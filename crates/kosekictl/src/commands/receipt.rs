//! `receipt verify`: whether a consent receipt is what the portal side has signed. Offline, with public keys only.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use portal_gateway::receipt::{MAX_RECEIPT_BYTES, NotGood, Receipt as Content, ReceiptKeys};
use serde_json::json;

use crate::{
    failure::{Failure, Kind, Result},
    report::Report,
    table,
};

/// Consent receipts (docs/consent-receipt.md)
#[derive(Subcommand)]
pub(crate) enum Receipt {
    Verify(Verify),
}

/// Verify a consent receipt with public keys, without any server; exit code 1 when it is not good
#[derive(Args)]
pub(crate) struct Verify {
    /// The receipt
    file: PathBuf,
    /// The directory with the portal side's public keys, <key id>.pem each
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
}

impl Verify {
    pub(crate) fn run(self) -> Result<Report> {
        let keys = ReceiptKeys::load(&self.keys).map_err(|error| {
            let next = "give the directory with the public keys that the portal side has published";
            Failure::file(&self.keys, common::telemetry::chain(&error), next)
        })?;
        match keys.verify(&read(&self.file)?) {
            Ok(content) => good(&content),
            Err(fault) => Ok(not_good(fault)),
        }
    }
}

/// Reads the file, and no more of it than it takes to see that it is too long.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Failure::file(path, error, "see that the file is there, and that it can be read");
    let mut content = Vec::new();
    let most = u64::try_from(MAX_RECEIPT_BYTES).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut content))
        .map_err(failed)?;
    Ok(content)
}

fn good(content: &Content) -> Result<Report> {
    let json = serde_json::to_value(content).map_err(|_| {
        let next = "report this to whoever maintains the program";
        Failure::new(Kind::System, "the receipt cannot be written as JSON", next)
    })?;
    Ok(Report::done(
        json!({ "good": true, "receipt": json }),
        format!("good\n{}", table::of_pairs(&pairs(content))),
    ))
}

fn not_good(fault: NotGood) -> Report {
    Report {
        json: json!({ "good": false, "fault": fault.to_string() }),
        text: format!("NOT good: {fault}"),
        finding: true,
        unchecked: false,
    }
}

fn pairs(content: &Content) -> Vec<(&'static str, String)> {
    let processing = &content.pii_processing;
    let mut pairs = vec![
        ("schema version", content.schema_version.clone()),
        ("receipt id", content.receipt_id.clone()),
        ("record id", content.record_id.clone()),
        ("PII principal id", content.pii_principal_id.clone()),
        ("privacy notice", processing.privacy_notice.clone()),
        ("language", processing.language.clone()),
    ];
    for purpose in &processing.purposes {
        let pii = purpose.pii_information.iter().map(|pii| pii.pii_type.as_str());
        pairs.extend([
            (
                "purpose",
                format!("{} ({})", purpose.purpose, purpose.purpose_type),
            ),
            ("lawful basis", purpose.lawful_basis.clone()),
            ("PII information", pii.collect::<Vec<_>>().join(", ")),
            ("PII controllers", purpose.pii_controllers.join(", ")),
            ("collection method", purpose.collection_method.clone()),
            ("storage locations", purpose.storage_locations.join(", ")),
            ("retention period", purpose.retention_period.clone()),
            ("recipients", purpose.recipient_third_parties.join(", ")),
            ("withdrawal method", purpose.withdrawal_method.clone()),
        ]);
    }
    for party in &content.party_identification {
        pairs.push((
            "party",
            format!(
                "{} ({}): {}\n{}\n{}",
                party.party_id, party.party_role, party.party_name, party.party_address, party.party_contact
            ),
        ));
    }
    for event in &content.events {
        let mut text = format!(
            "{} {} ({}, by {})",
            event.event_time, event.event_state, event.event_type, event.entity_id
        );
        if let Some(validity) = &event.validity_duration {
            let term = if validity.one_time {
                "for one answer, at the latest until"
            } else {
                "until"
            };
            text.push_str(&format!("\n{term} {}", validity.until));
        }
        pairs.push(("event", text));
    }
    pairs
}

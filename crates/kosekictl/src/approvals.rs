//! Openings, as people and programs are told of them.

use common::{approval::Opening, terms::RequestKind};
use data_encoding::HEXLOWER;
use koseki_proto::koseki::common::v1::RequestKind as ProtoKind;
use serde_json::{Value, json};

use crate::moment;

/// A kind's stable name; `ALL` for all kinds.
pub(crate) fn kind_name(kind: Option<RequestKind>) -> &'static str {
    kind_name_of(kind.map_or(ProtoKind::Unspecified, RequestKind::to_proto).into())
}

/// A kind's stable name, as a message carries it.
pub(crate) fn kind_name_of(kind: i32) -> &'static str {
    match ProtoKind::try_from(kind) {
        Ok(ProtoKind::Unspecified) => "ALL",
        Ok(kind) => kind.as_str_name().trim_start_matches("REQUEST_KIND_"),
        Err(_) => "UNKNOWN",
    }
}

/// In words: exactly what would be opened.
pub(crate) fn in_words(opening: &Opening) -> String {
    match opening {
        Opening::ResumeProvision(None) => "end the suspension of all kinds: provide again".to_owned(),
        Opening::ResumeProvision(kind) => {
            format!("end the suspension of {}: provide again", kind_name(*kind))
        }
        Opening::ReleaseNonProvision(record) => format!("release the non-provision record {record}"),
        Opening::ShortenNonProvision(record, until) => {
            format!(
                "let the non-provision record {record} end at {}",
                moment::both(*until)
            )
        }
        Opening::LiftBlock(card) => format!(
            "lift the block of the card with the key {}",
            HEXLOWER.encode(card)
        ),
        Opening::ReactivateLinkage(card) => {
            format!(
                "make the suspended linkage of the card with the key {} active",
                HEXLOWER.encode(card)
            )
        }
        Opening::ArchiveLog(log, before) => {
            format!("let the bodies of the bundles of {log} before number {before} be dropped")
        }
    }
}

/// For programs.
pub(crate) fn to_json(opening: &Opening) -> Value {
    let act = opening.name();
    match opening {
        Opening::ResumeProvision(kind) => json!({"act": act, "kind": kind_name(*kind)}),
        Opening::ReleaseNonProvision(record) => json!({"act": act, "record_id": record.to_string()}),
        Opening::ShortenNonProvision(record, until) => {
            json!({"act": act, "record_id": record.to_string(), "valid_until": until.to_rfc3339()})
        }
        Opening::LiftBlock(card) | Opening::ReactivateLinkage(card) => {
            json!({"act": act, "card_key_sha256": HEXLOWER.encode(card)})
        }
        Opening::ArchiveLog(log, before) => json!({"act": act, "log": log, "before_bundle": before}),
    }
}

use koseki_proto::koseki::common::v1::{
    ArchiveLog, LiftBlock, OpeningAct, ReactivateLinkage, ReleaseNonProvision, ResumeProvision,
    ShortenNonProvision, opening_act::Act,
};
use prost::Message as _;

use crate::{
    clock::Timestamp,
    digest,
    keyring::{Lookup, LookupKey},
    terms::{ActId, RequestKind, RuleBroken},
};

/// What two persons may open.
#[derive(Clone)]
pub enum Opening {
    /// Provision, of one kind or (`None`) of all.
    ResumeProvision(Option<RequestKind>),
    /// A non-provision record is released.
    ReleaseNonProvision(ActId),
    /// A non-provision record ends earlier.
    ShortenNonProvision(ActId, Timestamp),
    /// A block is lifted; SHA-256 of the card's public key.
    LiftBlock([u8; 32]),
    /// A suspended linkage is active again; SHA-256 of the card's public key.
    ReactivateLinkage([u8; 32]),
    /// The bodies of a log's bundles before this number may be dropped.
    ArchiveLog(String, u64),
}

impl Opening {
    /// Takes an act as it was sent.
    pub fn parse(act: &OpeningAct) -> Result<Self, (&'static str, RuleBroken)> {
        let card = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| RuleBroken("32 bytes"));
        let at = |field| move |rule| (field, rule);
        let act = act.act.as_ref().ok_or(("act", RuleBroken("one act")))?;
        Ok(match act {
            Act::ResumeProvision(act) => Self::ResumeProvision(
                RequestKind::parse_or_all(act.kind).map_err(at("act.resume_provision.kind"))?,
            ),
            Act::ReleaseNonProvision(act) => Self::ReleaseNonProvision(
                ActId::parse(&act.record_id).map_err(at("act.release_non_provision.record_id"))?,
            ),
            Act::ShortenNonProvision(act) => Self::ShortenNonProvision(
                ActId::parse(&act.record_id).map_err(at("act.shorten_non_provision.record_id"))?,
                act.valid_until.as_ref().and_then(Timestamp::from_proto).ok_or((
                    "act.shorten_non_provision.valid_until",
                    RuleBroken("a valid timestamp"),
                ))?,
            ),
            Act::LiftBlock(act) => {
                Self::LiftBlock(card(&act.card_key_sha256).map_err(at("act.lift_block.card_key_sha256"))?)
            }
            Act::ReactivateLinkage(act) => Self::ReactivateLinkage(
                card(&act.card_key_sha256).map_err(at("act.reactivate_linkage.card_key_sha256"))?,
            ),
            Act::ArchiveLog(act) => {
                if act.log.is_empty() || act.log.len() > 64 {
                    return Err(("act.archive_log.log", RuleBroken("1 to 64 bytes")));
                }
                Self::ArchiveLog(act.log.clone(), act.before_bundle)
            }
        })
    }

    /// The act as it is sent and stored.
    pub fn to_proto(&self) -> OpeningAct {
        OpeningAct {
            act: Some(match self {
                Self::ResumeProvision(kind) => Act::ResumeProvision(ResumeProvision {
                    kind: crate::store::kind_number(*kind),
                }),
                Self::ReleaseNonProvision(record) => Act::ReleaseNonProvision(ReleaseNonProvision {
                    record_id: record.to_string(),
                }),
                Self::ShortenNonProvision(record, until) => Act::ShortenNonProvision(ShortenNonProvision {
                    record_id: record.to_string(),
                    valid_until: Some(until.to_proto()),
                }),
                Self::LiftBlock(card) => Act::LiftBlock(LiftBlock {
                    card_key_sha256: card.to_vec(),
                }),
                Self::ReactivateLinkage(card) => Act::ReactivateLinkage(ReactivateLinkage {
                    card_key_sha256: card.to_vec(),
                }),
                Self::ArchiveLog(log, before_bundle) => Act::ArchiveLog(ArchiveLog {
                    log: log.clone(),
                    before_bundle: *before_bundle,
                }),
            }),
        }
    }

    /// Stable name in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ResumeProvision(_) => "RESUME_PROVISION",
            Self::ReleaseNonProvision(_) => "RELEASE_NON_PROVISION",
            Self::ShortenNonProvision(..) => "SHORTEN_NON_PROVISION",
            Self::LiftBlock(_) => "LIFT_BLOCK",
            Self::ReactivateLinkage(_) => "REACTIVATE_LINKAGE",
            Self::ArchiveLog(..) => "ARCHIVE_LOG",
        }
    }

    /// SHA-256 of the exact act: what is approved.
    pub fn sha256(&self) -> [u8; 32] {
        digest::sha256(&[b"koseki-opening-v1", &self.to_proto().encode_to_vec()])
    }

    /// What names the thing that is opened: closing it anew makes the proposals to open it void.
    pub fn target(&self, key: &LookupKey) -> Lookup {
        let (label, id): (&str, Vec<u8>) = match self {
            Self::ResumeProvision(kind) => (
                "provision",
                crate::store::kind_number(*kind).to_be_bytes().to_vec(),
            ),
            Self::ReleaseNonProvision(record) | Self::ShortenNonProvision(record, _) => {
                ("non-provision", record.as_bytes().to_vec())
            }
            Self::LiftBlock(card) => ("block", card.to_vec()),
            Self::ReactivateLinkage(card) => ("linkage", card.to_vec()),
            Self::ArchiveLog(log, _) => ("log", log.as_bytes().to_vec()),
        };
        key.lookup("opening", &[label.as_bytes(), &id])
    }
}

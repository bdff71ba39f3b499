//! The requester's own records: what became of their requests, and through which frontend. Safe for a family: nothing of
//! another account, and refusals for the register are alike but for id and time (I6).

use std::sync::Arc;

use common::{
    clock::Timestamp,
    evidence::EvidenceKeys,
    paging::{PageSize, PageTokens, TokenFor},
    refusal::{Reason, Refusal},
};
use koseki_proto::{
    koseki::{common::v1::CopyInfoItem, evidence::v1::Outcome},
    portal::v1::{ProvisionOutcome, ProvisionRecord},
};

use crate::{record_index::RecordIndex, record_proofs, requester::Unblocked, store::GatewayStore};

/// Where a record stands: the newest first, and by log and place in it within a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPlace {
    /// When it was decided.
    pub at: Timestamp,
    /// The log that has it.
    pub log: String,
    /// Its index there.
    pub entry_index: i64,
}

impl RecordPlace {
    fn to_bytes(&self) -> Vec<u8> {
        let (at, index) = (self.at.unix_ms().to_be_bytes(), self.entry_index.to_be_bytes());
        [at.as_slice(), &index, self.log.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk()?;
        let (index, log) = rest.split_first_chunk()?;
        Some(Self {
            at: Timestamp::from_unix_ms(i64::from_be_bytes(*at)),
            log: String::from_utf8(log.to_vec()).ok()?,
            entry_index: i64::from_be_bytes(*index),
        })
    }
}

/// What became of a request, as the index has it.
pub struct Record {
    /// Where it stands.
    pub place: RecordPlace,
    /// Id of the request.
    pub request_id: String,
    /// Number of its kind.
    pub kind: i32,
    /// Its procedure.
    pub procedure: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The reason that the caller was given; empty when it was provided.
    pub reason: String,
    /// Names of what was provided.
    pub items: Vec<CopyInfoItem>,
    /// Name of the frontend.
    pub frontend: String,
    /// The public part of its entry, as it was hashed.
    pub public_part: Vec<u8>,
    /// What hides the rest of it.
    pub commitment: Vec<u8>,
}

impl From<Record> for ProvisionRecord {
    fn from(record: Record) -> Self {
        let outcome = match record.outcome {
            Outcome::Released => ProvisionOutcome::Provided,
            Outcome::NotProvided => ProvisionOutcome::NotProvided,
            Outcome::Refused => ProvisionOutcome::Refused,
            Outcome::Unavailable => ProvisionOutcome::Unavailable,
            Outcome::Unspecified => ProvisionOutcome::Unspecified,
        };
        Self {
            request_id: record.request_id,
            at: Some(whole_seconds(record.place.at).to_proto()),
            kind: record.kind,
            procedure: record.procedure,
            outcome: outcome.into(),
            reason: record.reason,
            items: record.items.into_iter().map(Into::into).collect(),
            frontend: record.frontend,
            proof: None,
        }
    }
}

/// A refusal for the register leaves at a fixed time so that how long it took tells nothing: neither must its record (I6).
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms().div_euclid(1_000).saturating_mul(1_000))
}

/// A page of records.
pub struct RecordPage {
    /// The newest first.
    pub records: Vec<ProvisionRecord>,
    /// The checkpoints that their proofs are for.
    pub checkpoints: Vec<String>,
    /// For the next page; empty on the last one.
    pub next: Vec<u8>,
    /// Everything from before this moment is in the list.
    pub complete_until: Timestamp,
}

/// Gives the records.
pub struct OwnRecords {
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// Up to when the index is whole.
    pub index: Arc<RecordIndex>,
    /// Makes page tokens.
    pub tokens: Arc<PageTokens>,
    /// Names logs.
    pub keys: Arc<EvidenceKeys>,
}

impl OwnRecords {
    const LIST: &str = "own-records";

    /// A page of a requester's records.
    pub async fn list(
        &self,
        requester: Unblocked,
        size: PageSize,
        token: &[u8],
    ) -> Result<RecordPage, Refusal> {
        let account = requester.account();
        let owner = account.to_be_bytes();
        let token_for = TokenFor {
            list: Self::LIST,
            owner: &owner,
        };
        let behind = self
            .tokens
            .read(token_for, token)
            .map_err(|rule| Refusal::malformed("page_token", rule))?;
        let behind = match behind {
            None => None,
            // It was sealed by us for this list: what it holds is a place.
            Some(place) => Some(RecordPlace::from_bytes(&place).ok_or(Reason::Unavailable)?),
        };
        // Before the page is read: what comes in meanwhile is more than is promised.
        let complete_until = self.index.whole_until().ok_or(Reason::Unavailable)?;
        let listed = self
            .store
            .list_records(account, behind.as_ref(), size.limit())
            .await;
        let mut records = listed.map_err(Reason::from)?;
        let more = records.len() > size.entries();
        records.truncate(size.entries());
        let next = match records.last() {
            Some(last) if more => self
                .tokens
                .make(token_for, &last.place.to_bytes())
                .map_err(|_| Reason::Unavailable)?,
            _ => Vec::new(),
        };
        let database = self.store.side().database();
        let proven = record_proofs::prove(database, &self.keys, records).await;
        let (records, checkpoints) = proven.map_err(Reason::from)?;
        Ok(RecordPage {
            records,
            checkpoints,
            next,
            complete_until,
        })
    }
}

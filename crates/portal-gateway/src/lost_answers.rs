//! Answers that were lost (docs/audit-log.md): what the registry side has recorded for this instance's batches, and this log has no
//! entry for, is recorded here as lost. So every entry there has its twin here, whatever stopped on the way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    alarm::{Alarm, Alarms},
    clock::Clock,
    evidence::{EvidenceKeys, LostAnswerEntry, Outcome, open_receipt},
    identity::Role,
    store::{Database, StoreError},
    telemetry,
};
use koseki_proto::koseki::{
    evidence::v1::{Bundle, Public, Receipt, ReceiptItem, Restricted, public::Event, restricted::Detail},
    linkage::v1::{GetReceiptsRequest, linkage_client::LinkageClient},
};
use prost::Message as _;
use tonic::{Request, Status, transport::Channel};

use crate::{
    recorded_answers::{RecordedAnswers, requests_sha256},
    store::{GatewayStore, LostAnswerPlace, lost_answer_place, record_lost_answers},
};

/// Between two looks, when there is nothing more at once.
const EVERY: Duration = Duration::from_secs(3);
/// Deadline of a call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Message limit, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Items of a page at most.
const MAX_ITEMS: usize = 4_096;
/// Own bundles that are read at a time.
const BUNDLES: i64 = 32;

/// Finds and records what was lost.
pub struct LostAnswers {
    /// The line.
    pub client: LinkageClient<Channel>,
    /// Name of the provider instance, and of its log.
    pub provider: String,
    /// Name of this instance.
    pub instance: String,
    /// Public keys.
    pub keys: Arc<EvidenceKeys>,
    /// What this process has recorded of late.
    pub recorded: Arc<RecordedAnswers>,
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// What an operator has to look at.
    pub alarms: Alarms,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Why it was not looked for.
#[derive(Debug, thiserror::Error)]
enum LostAnswersError {
    #[error("the registry side gave no receipts")]
    Peer(#[from] Box<Status>),
    #[error("the registry side gave no receipts in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the registry side's receipts are not what was asked for")]
    Refused,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the registry side has recorded, by the bundle there and the request's id.
type Answers = BTreeMap<(u64, String), ([u8; 32], ReceiptItem)>;

/// A page of receipts.
struct Page {
    /// What this process is not known to have recorded.
    answers: Answers,
    /// A bundle there from which on all batches are of this process: the first in which it has recorded one.
    known_from: Option<u64>,
    /// The next bundle there.
    next: u64,
}

impl LostAnswers {
    /// The line over this channel.
    pub fn client(channel: Channel) -> LinkageClient<Channel> {
        LinkageClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Goes on for as long as the service runs.
    pub async fn keep_up(self) {
        loop {
            match self.round().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        error = telemetry::chain(&error),
                        "lost answers were not looked for"
                    );
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks at the next page of receipts; whether there may be another one at once.
    async fn round(&self) -> Result<bool, LostAnswersError> {
        let database = self.store.side().database();
        let place = lost_answer_place(database, &self.provider).await?;
        let Page {
            mut answers,
            known_from,
            next,
        } = self.ask(place.provider_bundle).await?;
        if next == place.provider_bundle {
            return Ok(false);
        }
        let own_bundle = self
            .leave_out_recorded(database, &mut answers, place.own_bundle, next)
            .await?;
        let known = known_from.and_then(|bundle| self.recorded.own_bundle(&self.provider, bundle));
        let after = LostAnswerPlace {
            provider_bundle: next,
            own_bundle: own_bundle.max(known.unwrap_or_default()),
        };
        let entries: Vec<_> = answers
            .values()
            .map(|(eligibility_sha256, item)| {
                LostAnswerEntry {
                    provider_log: &self.provider,
                    eligibility_sha256: *eligibility_sha256,
                    item,
                }
                .to_entry()
            })
            .collect();
        let lost = entries.len();
        // The place moves with the entries: what is lost is recorded once, whatever happens in between.
        if !record_lost_answers(
            database,
            &self.provider,
            &place,
            &after,
            entries,
            self.clock.now(),
        )
        .await?
        {
            return Ok(false);
        }
        if lost > 0 {
            tracing::warn!(
                answers = lost,
                "answers of the registry side were lost, which is recorded now"
            );
        }
        // Whoever invents receipts does not get all of this side's time.
        Ok(lost == 0)
    }

    /// What the registry side has recorded from a bundle on.
    async fn ask(&self, from: u64) -> Result<Page, LostAnswersError> {
        let mut request = Request::new(GetReceiptsRequest { from_bundle: from });
        request.set_timeout(DEADLINE);
        let mut client = self.client.clone();
        let page = tokio::time::timeout(DEADLINE, client.get_receipts(request)).await?;
        let page = page.map_err(Box::new)?.into_inner();
        let origin = self.keys.origin_of(Role::KosekiProvider, &self.provider);
        let (mut answers, mut known_from) = (Answers::new(), None);
        let mut taken = page.provider_log == self.provider
            && page.next_bundle >= from
            && i64::try_from(page.next_bundle).is_ok();
        for envelope in &page.receipts {
            let receipt = open_receipt(envelope, &origin, &self.keys.known);
            let added = receipt.and_then(|receipt| {
                let asked_for = receipt.log == self.provider
                    && receipt.gateway_instance == self.instance
                    && (from..page.next_bundle).contains(&receipt.bundle);
                // What more it says than what was recorded is not looked at.
                if asked_for && self.has_recorded(&receipt) {
                    known_from.get_or_insert(receipt.bundle);
                    return Some(());
                }
                asked_for.then(|| add(&mut answers, receipt))?
            });
            taken &= added.is_some();
        }
        if !taken || answers.len() > MAX_ITEMS {
            self.alarms.raise(Alarm::ReceiptRefused, &self.provider);
            return Err(LostAnswersError::Refused);
        }
        Ok(Page {
            answers,
            known_from,
            next: page.next_bundle,
        })
    }

    fn has_recorded(&self, receipt: &Receipt) -> bool {
        let ids = receipt.items.iter().map(|item| item.request_id.as_str());
        let requests = requests_sha256(ids);
        self.recorded.has(&self.provider, receipt.bundle, &requests)
    }

    /// Leaves out what this log has an entry for, reading it from a bundle on. A bundle here before which there is no entry for the
    /// `next` bundle there or a later one: an answer is recorded here after it was there.
    async fn leave_out_recorded(
        &self,
        database: &Database,
        answers: &mut Answers,
        from: u64,
        next: u64,
    ) -> Result<u64, StoreError> {
        let (mut at, mut first_later) = (from, None);
        while !answers.is_empty() {
            let bundles = database.bundles(at, BUNDLES).await?;
            if bundles.is_empty() {
                break;
            }
            for (number, bundle) in bundles {
                at = number + 1;
                for (request_id, provider_bundle) in recorded(bundle, &self.provider)? {
                    if provider_bundle >= next {
                        first_later.get_or_insert(number);
                    }
                    answers.remove(&(provider_bundle, request_id));
                }
            }
        }
        Ok(first_later.unwrap_or(at))
    }
}

/// Adds what a receipt says; `None` when it says it in another form than a receipt has.
fn add(answers: &mut Answers, receipt: Receipt) -> Option<()> {
    let eligibility_sha256 = receipt.eligibility_sha256.try_into().ok()?;
    for item in receipt.items {
        let good = item.request_id.len() == 36
            && item.request_id.is_ascii()
            && Outcome::try_from(item.outcome).is_ok()
            && matches!(item.answer_sha256.len(), 0 | 32);
        let key = (receipt.bundle, item.request_id.clone());
        good.then(|| answers.insert(key, (eligibility_sha256, item)))?;
    }
    Some(())
}

/// The requests of a bundle that have an answer of this provider, each with the bundle there.
fn recorded(bundle: Option<Bundle>, provider: &str) -> Result<Vec<(String, u64)>, StoreError> {
    const RULE: StoreError = StoreError::Unreadable("a bundle");
    let mut recorded = Vec::new();
    for entry in bundle.into_iter().flat_map(|bundle| bundle.entries) {
        let public = Public::decode(entry.public.as_slice()).map_err(|_| RULE)?;
        let restricted = Restricted::decode(entry.restricted.as_slice()).map_err(|_| RULE)?;
        if let (Some(Event::Provision(provision)), Some(Detail::Provision(detail))) =
            (public.event, restricted.detail)
            && detail.provider_log == provider
        {
            recorded.push((provision.request_id, detail.provider_bundle));
        }
    }
    Ok(recorded)
}

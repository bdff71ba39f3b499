//! Receipts that a gateway asks for again: made anew from the log, and signed anew (docs/audit-log.md).

use std::time::Duration;

use common::{
    clock::Timestamp,
    evidence::ReceiptSigner,
    identity::PeerIdentity,
    store::{Database, StoreError},
};
use koseki_proto::koseki::{
    evidence::v1::{Bundle, Public, Receipt, ReceiptItem, Restricted, public::Event, restricted::Detail},
    linkage::v1::GetReceiptsResponse,
};
use prost::Message as _;

/// Bundles that are looked at for one call at most.
const BUNDLES: i64 = 32;
/// Items of all receipts of an answer together at most: as many as the gateway can record in one bundle.
const MAX_ITEMS: usize = 4_096;
/// What was committed longer ago than this and the time that a gateway waits for an answer is recorded there by now, or never.
pub(super) const IN_FLIGHT: Duration = Duration::from_secs(10);

/// The receipts of a gateway's batches that were committed before a moment, from a bundle on.
pub(super) async fn again(
    database: &Database,
    signer: &ReceiptSigner,
    gateway: &PeerIdentity,
    from: u64,
    before: Timestamp,
) -> Result<GetReceiptsResponse, StoreError> {
    let mut response = GetReceiptsResponse {
        provider_log: database.log().to_owned(),
        receipts: Vec::new(),
        next_bundle: from,
    };
    let mut items = 0;
    for (number, bundle) in database.bundles(from, BUNDLES).await? {
        // A body that was archived is older than anything that can still be asked for.
        if let Some(bundle) = bundle {
            let at = bundle.at.as_ref().and_then(Timestamp::from_proto);
            if at.is_none_or(|at| at >= before) {
                break;
            }
            let receipts = of_bundle(number, &bundle, gateway)?;
            items += receipts.iter().map(|receipt| receipt.items.len()).sum::<usize>();
            if items > MAX_ITEMS {
                break;
            }
            response
                .receipts
                .extend(receipts.iter().map(|receipt| signer.sign(receipt)));
        }
        response.next_bundle = number + 1;
    }
    Ok(response)
}

/// The receipts of one bundle: the entries of a batch stand together, in its order.
fn of_bundle(number: u64, bundle: &Bundle, gateway: &PeerIdentity) -> Result<Vec<Receipt>, StoreError> {
    const RULE: StoreError = StoreError::Unreadable("a bundle");
    let peer = gateway.to_string();
    let mut receipts: Vec<Receipt> = Vec::new();
    for entry in &bundle.entries {
        let public = Public::decode(entry.public.as_slice()).map_err(|_| RULE)?;
        let restricted = Restricted::decode(entry.restricted.as_slice()).map_err(|_| RULE)?;
        let (Some(Event::Provision(provision)), Some(Detail::Provision(detail))) =
            (public.event, restricted.detail)
        else {
            continue;
        };
        if detail.peer != peer {
            continue;
        }
        let item = ReceiptItem {
            request_id: provision.request_id,
            outcome: provision.outcome,
            answer_sha256: detail.answer_sha256,
        };
        match receipts.last_mut() {
            Some(last) if last.eligibility_sha256 == detail.eligibility_sha256 => last.items.push(item),
            _ => receipts.push(Receipt {
                log: bundle.log.clone(),
                gateway_instance: gateway.name().to_owned(),
                sequence: 0,
                eligibility_sha256: detail.eligibility_sha256,
                bundle: number,
                items: vec![item],
            }),
        }
    }
    Ok(receipts)
}

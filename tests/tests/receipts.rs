//! A gateway takes an answer only with the registry side's receipt for exactly it, and a receipt that it asks for again only when
//! it is one of its own batches (DESIGN §5): in front of a registry side that says something else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use common::{alarm::Alarm, refusal::Reason, terms::RequestKind};
use devkit::{
    deployment::{GATEWAY_INSTANCE, PROVIDER_INSTANCE},
    registers::Scenario,
    story::ask_once,
};
use integration_tests::{
    log::{self, Event},
    played_registry::{PlayedRegistry, Says},
    registry_evidence::RegistryEvidence,
    until,
};
use koseki_proto::koseki::{
    evidence::v1::{Outcome, Receipt, ReceiptItem},
    linkage::v1::{Envelope, GetReceiptsResponse},
};

const KIND: RequestKind = RequestKind::CertificateRequest;

async fn ask(played: &PlayedRegistry) -> Result<(), String> {
    let (_, card) = played.cast.person(Scenario::Ordinary).unwrap();
    match ask_once(&played.cast.frontend, &card, KIND, "").await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.reason().unwrap_or("no reason").to_owned()),
    }
}

fn refused_one_stands(played: &PlayedRegistry) -> bool {
    let standing = played.gateway.alarms().standing();
    standing.iter().any(|(alarm, _)| *alarm == Alarm::ReceiptRefused)
}

type Altered = fn(&RegistryEvidence, Receipt) -> Option<Envelope>;

/// Each has one thing that is not so.
const ALTERED: [(&str, Altered); 10] = [
    ("no receipt", |_, _| None),
    ("another log", |evidence, mut receipt| {
        receipt.log = "provider-2".to_owned();
        Some(evidence.sign(&receipt))
    }),
    ("another gateway", |evidence, mut receipt| {
        receipt.gateway_instance = "gateway-2".to_owned();
        Some(evidence.sign(&receipt))
    }),
    ("another batch", |evidence, mut receipt| {
        receipt.eligibility_sha256 = vec![1; 32];
        Some(evidence.sign(&receipt))
    }),
    ("an item too few", |evidence, mut receipt| {
        receipt.items.pop();
        Some(evidence.sign(&receipt))
    }),
    ("an item too many", |evidence, mut receipt| {
        receipt.items.extend(receipt.items.clone());
        Some(evidence.sign(&receipt))
    }),
    ("another request", |evidence, receipt| {
        altered_item(evidence, receipt, |item| item.request_id.replace_range(..1, "1"))
    }),
    ("another answer", |evidence, receipt| {
        altered_item(evidence, receipt, |item| item.answer_sha256 = vec![1; 32])
    }),
    ("nothing released", |evidence, receipt| {
        altered_item(evidence, receipt, |item| {
            item.outcome = Outcome::NotProvided.into();
            item.answer_sha256.clear();
        })
    }),
    ("a signature of something else", |evidence, mut receipt| {
        let signed = evidence.sign(&receipt);
        receipt.bundle += 1;
        Some(Envelope {
            signature: signed.signature,
            ..evidence.sign(&receipt)
        })
    }),
];

fn altered_item(
    evidence: &RegistryEvidence,
    mut receipt: Receipt,
    alter: fn(&mut ReceiptItem),
) -> Option<Envelope> {
    receipt.items.iter_mut().for_each(alter);
    Some(evidence.sign(&receipt))
}

#[tokio::test]
async fn an_answer_that_no_receipt_fits_is_withheld_and_alarms() {
    let played = PlayedRegistry::start().await;
    let database = played.deployment.gateway_database();
    assert_eq!(ask(&played).await, Ok(()), "its receipt fits");
    let released = log::released(&database).await;
    assert!(released > 0 && !refused_one_stands(&played));
    for (what, receipt) in ALTERED {
        played.says(|says| says.receipt = receipt);
        assert_eq!(
            ask(&played).await,
            Err(Reason::Unavailable.name().to_owned()),
            "{what}"
        );
        assert!(refused_one_stands(&played), "{what}");
    }
    assert_eq!(log::released(&database).await, released);
    played.says(|says: &mut Says| says.receipt = |evidence, receipt| Some(evidence.sign(&receipt)));
    assert_eq!(ask(&played).await, Ok(()), "and again");
}

/// Requests that nobody has seen here: one of every page that is not in order, and one of the page that is.
const BAD: &str = "01936e2a-0000-7000-8000-00000000000b";
const GOOD: &str = "01936e2a-0000-7000-8000-00000000000a";

fn page(
    evidence: &RegistryEvidence,
    request_id: &str,
    alter: fn(&mut Receipt, &mut u64),
) -> GetReceiptsResponse {
    let mut receipt = Receipt {
        log: PROVIDER_INSTANCE.to_owned(),
        gateway_instance: GATEWAY_INSTANCE.to_owned(),
        sequence: 1,
        eligibility_sha256: vec![3; 32],
        bundle: 0,
        items: vec![ReceiptItem {
            request_id: request_id.to_owned(),
            outcome: Outcome::Released.into(),
            answer_sha256: vec![4; 32],
        }],
    };
    let mut next_bundle = 1;
    alter(&mut receipt, &mut next_bundle);
    GetReceiptsResponse {
        provider_log: PROVIDER_INSTANCE.to_owned(),
        receipts: vec![evidence.sign(&receipt)],
        next_bundle,
    }
}

type Page = fn(&RegistryEvidence) -> GetReceiptsResponse;

/// Each has one thing that is not so.
const BAD_PAGES: [Page; 7] = [
    |evidence| GetReceiptsResponse {
        provider_log: "provider-2".to_owned(),
        ..page(evidence, BAD, |_, _| {})
    },
    |evidence| page(evidence, BAD, |receipt, _| receipt.log = "provider-2".to_owned()),
    |evidence| {
        page(evidence, BAD, |receipt, _| {
            receipt.gateway_instance = "gateway-2".to_owned()
        })
    },
    |evidence| page(evidence, BAD, |receipt, next| receipt.bundle = *next),
    |evidence| {
        page(evidence, BAD, |receipt, _| {
            receipt.eligibility_sha256 = vec![3; 31]
        })
    },
    |evidence| page(evidence, "", |_, _| {}),
    |evidence| {
        let mut page = page(evidence, BAD, |_, _| {});
        page.receipts
            .iter_mut()
            .for_each(|receipt| receipt.signature[0] ^= 1);
        page
    },
];

#[tokio::test]
async fn receipts_that_are_not_what_was_asked_for_record_nothing() {
    let played = PlayedRegistry::start().await;
    // One page after the other, then one that is in order, and nothing more.
    played.says(|says| {
        says.asked_again = 0;
        says.again = |evidence, from, asked| match BAD_PAGES.get(asked) {
            Some(bad) => bad(evidence),
            None if from == 0 => page(evidence, GOOD, |_, _| {}),
            None => GetReceiptsResponse {
                provider_log: PROVIDER_INSTANCE.to_owned(),
                receipts: Vec::new(),
                next_bundle: from,
            },
        };
    });
    until("an answer is recorded as lost", async || {
        !lost(&played).await.is_empty()
    })
    .await;
    assert!(refused_one_stands(&played));
    assert_eq!(lost(&played).await, [GOOD]);
}

async fn lost(played: &PlayedRegistry) -> Vec<String> {
    let bundles = log::bundles(&played.deployment.gateway_database()).await;
    let entries = bundles.into_iter().flat_map(|bundle| bundle.entries);
    let lost = entries.filter_map(|entry| match entry.event {
        Some(Event::LostAnswer(public, _)) => Some(public.request_id),
        _ => None,
    });
    lost.collect()
}

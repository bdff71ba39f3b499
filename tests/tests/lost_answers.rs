//! What the registry side has recorded and the portal side never did, since it stopped or the answer came too late, is recorded there
//! as lost (docs/audit-log.md): so every entry of the one log has its twin in the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{path::Path, time::Duration};

use common::{
    authorisation::Listener,
    clock::Clock as _,
    evidence::{LogKeys, LostAnswerEntry, Outcome, open_receipt},
    terms::RequestKind,
};
use devkit::{
    client::{Session, Term},
    deployment::Addresses,
    registers::Scenario,
    story::Cast,
};
use integration_tests::{
    Pair, address,
    forger::Forger,
    hooks::Places,
    log::{self, Event},
    until,
};
use koseki_proto::koseki::{
    evidence::v1::{LostAnswerDetail, ReceiptItem},
    linkage::v1::{GetReceiptsRequest, GetReceiptsResponse},
};
use portal_gateway::store::{LostAnswerPlace, lost_answer_place, record_lost_answers};
use tonic::Code;

const KIND: RequestKind = RequestKind::CertificateRequest;
/// After which nothing is on its way any more.
const SETTLED: Duration = Duration::from_secs(11);

async fn session(cast: &Cast, scenario: Scenario) -> Session {
    let (_, card) = cast.person(scenario).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    let term = Term::For(Duration::from_secs(3_600));
    cast.frontend.consent(&session, &text, term).await.unwrap();
    session
}

/// What the portal side has recorded as lost, in order.
async fn lost(database: &Path) -> Vec<(String, LostAnswerDetail)> {
    let entries = log::bundles(database)
        .await
        .into_iter()
        .flat_map(|bundle| bundle.entries);
    let lost = entries.filter_map(|entry| match entry.event {
        Some(Event::LostAnswer(public, detail)) => Some((public.request_id, detail)),
        _ => None,
    });
    lost.collect()
}

/// That exactly these are recorded as lost, each as the registry side has it.
async fn are_lost(pair: &Pair, ids: &[String]) {
    let [registry, portal] = [
        pair.deployment.provider_database(),
        pair.deployment.gateway_database(),
    ];
    until("they are recorded as lost", async || {
        lost(&portal).await.len() >= ids.len()
    })
    .await;
    let lost = lost(&portal).await;
    let named: Vec<_> = lost.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(named, ids);
    for (id, detail) in &lost {
        let (_, there) = log::provision(&registry, id).await.unwrap();
        let restricted = there.restricted.as_ref().unwrap();
        assert_eq!(detail.provider_log, pair.deployment.provider_instance());
        assert_eq!(detail.eligibility_sha256, restricted.eligibility_sha256);
        assert_eq!(detail.answer_sha256, restricted.answer_sha256);
        assert_eq!(detail.outcome(), there.outcome());
    }
}

/// How far the portal side has looked, once that is as far as the registry side's log goes.
async fn looked_through(pair: &Pair) {
    let database = pair.portal_store.side().database();
    let provider = pair.deployment.provider_instance();
    let bundles = log::bundles(&pair.deployment.provider_database()).await.len();
    until("it has looked at all", async || {
        let place = lost_answer_place(database, &provider).await.unwrap();
        place.provider_bundle >= u64::try_from(bundles).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_gateway_never_recorded_is_recorded_after_its_start() {
    let (none, portal) = (Places::default(), Places::default());
    let pair = Pair::start_hooked(&none, &portal).await.load().await;
    let cast = pair.cast().await;
    let [provided, refused] = [
        session(&cast, Scenario::Ordinary).await,
        session(&cast, Scenario::ImageOnly).await,
    ];
    cast.frontend.copy_info(&provided, KIND, "").await.unwrap();
    cast.frontend.copy_info(&refused, KIND, "").await.unwrap_err();

    // It stops between the registry side's commit and its own: whatever its transaction has done is undone.
    let mut ids = Vec::new();
    let mut pair = pair;
    for session in [provided, refused] {
        let cast = pair.cast().await;
        portal.let_commits_fail(true);
        let id = cast.frontend.ids().next();
        let refused = cast
            .frontend
            .copy_info_as(&id, &session, KIND, "")
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some("UNAVAILABLE"));
        let database = pair.deployment.provider_database();
        assert!(log::provision(&database, &id).await.is_some());
        ids.push(id);
        pair = pair.again([&none, &portal], |_| {}).await;
        portal.let_commits_fail(false);
    }
    let database = pair.deployment.gateway_database();
    for id in &ids {
        assert!(log::provision(&database, id).await.is_none());
    }
    pair.clock.advance(SETTLED);
    are_lost(&pair, &ids).await;
    let outcomes: Vec<_> = lost(&database)
        .await
        .iter()
        .map(|(_, detail)| detail.outcome())
        .collect();
    assert_eq!(outcomes, [Outcome::Released, Outcome::NotProvided]);

    // Once, whatever comes after.
    let cast = pair.cast().await;
    let again = session(&cast, Scenario::Ordinary).await;
    cast.frontend.copy_info(&again, KIND, "").await.unwrap();
    let pair = pair.again([&none, &none], |_| {}).await;
    pair.clock.advance(SETTLED);
    looked_through(&pair).await;
    are_lost(&pair, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_came_too_late_is_recorded_within_seconds() {
    let (registry, none) = (Places::default(), Places::default());
    let pair = Pair::start_hooked(&registry, &none).await.load().await;
    let cast = pair.cast().await;
    let session = session(&cast, Scenario::Ordinary).await;
    cast.frontend.copy_info(&session, KIND, "").await.unwrap();
    registry.before_gate(tokio::time::sleep(Duration::from_millis(1_300)));
    let id = cast.frontend.ids().next();
    let refused = cast
        .frontend
        .copy_info_as(&id, &session, KIND, "")
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("UNAVAILABLE"));
    let [provider, gateway] = [
        pair.deployment.provider_database(),
        pair.deployment.gateway_database(),
    ];
    until("the registry side has recorded it", async || {
        log::provision(&provider, &id).await.is_some()
    })
    .await;
    let (_, here) = log::provision(&gateway, &id).await.unwrap();
    assert_eq!(here.outcome(), Outcome::Unavailable);
    assert_eq!(here.restricted.unwrap().provider_log, "");
    // What may still be on its way is not looked at.
    assert_eq!(lost(&gateway).await, []);
    pair.clock.advance(SETTLED);
    are_lost(&pair, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_record_what_was_lost_one_does() {
    let pair = Pair::start_loaded().await;
    let database = pair.portal_store.side().database();
    let item = ReceiptItem {
        request_id: "0".repeat(36),
        ..ReceiptItem::default()
    };
    let entry = || {
        let entry = LostAnswerEntry {
            provider_log: "provider-9",
            eligibility_sha256: [0; 32],
            item: &item,
        };
        vec![entry.to_entry()]
    };
    for round in 0..10 {
        let before = lost_answer_place(database, "provider-9").await.unwrap();
        let after = LostAnswerPlace {
            provider_bundle: round + 1,
            own_bundle: round,
        };
        let now = pair.clock.now();
        let record = || record_lost_answers(database, "provider-9", &before, &after, entry(), now);
        let (one, other) = tokio::join!(record(), record());
        assert!(one.unwrap() != other.unwrap());
    }
    assert_eq!(lost(&pair.deployment.gateway_database()).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_given_the_receipts_of_its_own_batches_and_no_others() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let session = session(&cast, Scenario::Ordinary).await;
    let id = cast.frontend.ids().next();
    cast.frontend.copy_info_as(&id, &session, KIND, "").await.unwrap();
    let second = pair.deployment.add_instance(2, &Addresses::loopback()).unwrap();
    let there = address(&pair.provider, Listener::Linkage);
    let instance = pair.deployment.provider_instance();
    let keys = LogKeys::load(&pair.deployment.log_keys()).unwrap();
    let origin = format!("koseki.example/koseki-provider/{instance}");
    let ask = async |deployment, from_bundle| -> GetReceiptsResponse {
        let forger = Forger::at_instance(deployment, &there, &instance, pair.clock.clone());
        let mut page = None;
        until("it is its turn", async || {
            let request = GetReceiptsRequest { from_bundle };
            page = match forger.client.clone().get_receipts(request).await {
                Ok(page) => Some(page.into_inner()),
                // The gateway itself, which has this name too, is just asking.
                Err(refused) if refused.code() == Code::ResourceExhausted => None,
                Err(refused) => panic!("{refused}"),
            };
            page.is_some()
        })
        .await;
        page.unwrap()
    };
    let all = async |deployment| {
        let (mut from, mut receipts) = (0, Vec::new());
        loop {
            let page = ask(deployment, from).await;
            assert_eq!(page.provider_log, instance);
            for envelope in &page.receipts {
                let receipt = open_receipt(envelope, &origin, &keys).unwrap();
                assert!((from..page.next_bundle).contains(&receipt.bundle));
                receipts.push(receipt);
            }
            if page.next_bundle == from {
                return (receipts, from);
            }
            from = page.next_bundle;
        }
    };
    // It may still be on its way.
    let own = &pair.deployment;
    assert!(
        all(own)
            .await
            .0
            .iter()
            .all(|receipt| receipt.items[0].request_id != id)
    );
    pair.clock.advance(SETTLED);
    let (receipts, end) = all(own).await;
    let (_, entry) = log::provision(&own.provider_database(), &id).await.unwrap();
    let entry = entry.restricted.unwrap();
    let [receipt] = &receipts[..] else {
        panic!("{} receipts", receipts.len())
    };
    assert_eq!(receipt.items[0].request_id, id);
    assert_eq!(receipt.items[0].answer_sha256, entry.answer_sha256);
    assert_eq!(receipt.eligibility_sha256, entry.eligibility_sha256);
    let (others, end_of_others) = all(&second).await;
    assert_eq!((others, end_of_others), (Vec::new(), end));
    // Beyond the end there is nothing, and nothing breaks.
    for from in [end, end + 1_000, u64::MAX] {
        let page = ask(own, from).await;
        assert_eq!((page.receipts.len(), page.next_bundle), (0, from));
    }
}

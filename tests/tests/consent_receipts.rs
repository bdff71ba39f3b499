//! Consents as the requester sees them (clause 4.3.1): the list, the signed receipt, and who may not consent at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use common::{clock::Clock as _, terms::RequestKind};
use data_encoding::{BASE64, HEXLOWER};
use devkit::{
    client::{CallError, Frontend, Session, Term},
    pki::ed25519_key,
    process::Binaries,
    registers::Scenario,
    story::Cast,
};
use integration_tests::{Pair, stored};
use koseki_proto::portal::v1::{Capacity, Consent, ConsentState};
use portal_gateway::receipt::{NotGood, Receipt, ReceiptKeys};
use serde_json::{Value, json};
use tokio::process::Command;

const KIND: RequestKind = RequestKind::CertificateRequest;
const OTHER: RequestKind = RequestKind::Notification;
const AN_HOUR: Term = Term::For(Duration::from_secs(3_600));

async fn login(cast: &Cast, scenario: Scenario) -> Session {
    let (_, card) = cast.person(scenario).unwrap();
    cast.frontend.login(&card).await.unwrap()
}

async fn consents(frontend: &Frontend, session: &Session) -> Vec<Consent> {
    let mut consents = Vec::new();
    let mut token = Vec::new();
    loop {
        let page = frontend.consents(session, 2, &token).await.unwrap();
        assert!(page.consents.len() <= 2);
        consents.extend(page.consents);
        token = page.next_page_token;
        if token.is_empty() {
            return consents;
        }
    }
}

#[tokio::test]
async fn the_list_has_each_consent_and_what_became_of_it() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = login(&cast, Scenario::Ordinary).await;
    assert_eq!(consents(frontend, &session).await, []);
    let text = frontend.consent_text(KIND).await.unwrap();
    let texts = frontend.consent_texts().await.unwrap();
    let english = texts
        .iter()
        .find(|text| text.kind() == OTHER.to_proto() && text.language == "en")
        .unwrap();

    let began = pair.clock.now();
    let spent = frontend.consent(&session, &text, Term::OneTime).await.unwrap();
    frontend.copy_info(&session, KIND, "").await.unwrap();
    let withdrawn = frontend.consent(&session, &text, AN_HOUR).await.unwrap();
    frontend.withdraw(&session, &withdrawn).await.unwrap();
    let short = Term::For(Duration::from_secs(60));
    let expired = frontend.consent(&session, &text, short).await.unwrap();
    let given = frontend.consent(&session, english, AN_HOUR).await.unwrap();
    let unused = frontend.consent(&session, &text, Term::OneTime).await.unwrap();
    pair.clock.advance(Duration::from_secs(61));

    let listed = consents(frontend, &session).await;
    let states: BTreeSet<_> = listed
        .iter()
        .map(|consent| {
            (
                consent.consent_id.as_str(),
                consent.state().as_str_name(),
                consent.one_time,
            )
        })
        .collect();
    let name = |state: ConsentState| state.as_str_name();
    assert_eq!(
        states,
        BTreeSet::from([
            (spent.as_str(), name(ConsentState::Spent), true),
            (withdrawn.as_str(), name(ConsentState::Withdrawn), false),
            (expired.as_str(), name(ConsentState::Expired), false),
            (given.as_str(), name(ConsentState::Given), false),
            (unused.as_str(), name(ConsentState::Given), true),
        ])
    );
    assert_eq!(listed.len(), 5);
    let at = |at: &Option<prost_types::Timestamp>| {
        common::clock::Timestamp::from_proto(at.as_ref().unwrap()).unwrap()
    };
    assert!(listed.is_sorted_by_key(|consent| std::cmp::Reverse(at(&consent.given_at))));
    for consent in &listed {
        assert!(at(&consent.given_at) >= began && at(&consent.expires_at) > at(&consent.given_at));
        let is_withdrawn = consent.consent_id == withdrawn;
        assert_eq!(consent.withdrawn_at.is_some(), is_withdrawn);
        let of = if consent.consent_id == given {
            english
        } else {
            &text
        };
        assert_eq!(
            (consent.kind, &consent.text_sha256, &consent.language),
            (of.kind, &of.text_sha256, &of.language)
        );
    }

    // Nobody else's.
    frontend.wait_until_providing().await.unwrap();
    let other = login(&cast, Scenario::Plane2).await;
    assert_eq!(consents(frontend, &other).await, []);
    let token = frontend.consents(&session, 2, &[]).await.unwrap().next_page_token;
    for (session, size, token, reason) in [
        (&other, 2, &token[..], "MALFORMED"),
        (&session, 2, &token[1..], "MALFORMED"),
        (&session, 201, &[], "MALFORMED"),
        (&Session::invented(), 2, &[], "SESSION_INVALID"),
    ] {
        let refused = frontend.consents(session, size, token).await.unwrap_err();
        assert_eq!(refused.reason(), Some(reason));
    }
}

/// What a receipt says, verified with the keys that the deployment has published.
fn verified(pair: &Pair, receipt: &[u8]) -> Receipt {
    let keys = ReceiptKeys::load(&pair.deployment.consent_receipt_keys()).unwrap();
    keys.verify(receipt).unwrap()
}

#[tokio::test]
async fn a_receipt_is_signed_says_what_was_consented_to_and_is_given_again() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = login(&cast, Scenario::Ordinary).await;
    let text = frontend.consent_text(KIND).await.unwrap();
    let granted = frontend
        .grant(&session, &text, Term::OneTime, Capacity::Self_)
        .await
        .unwrap();
    let receipt = verified(&pair, &granted.receipt);
    assert_eq!(receipt.record_id, granted.consent_id);
    let processing = &receipt.pii_processing;
    assert_eq!(
        processing.privacy_notice,
        format!("sha256:{}", HEXLOWER.encode(&text.text_sha256))
    );
    assert_eq!(processing.language, "ja");
    assert_eq!(processing.purposes[0].purpose, "certificate_request");
    assert_eq!(receipt.events.len(), 1);
    assert_eq!(
        (
            receipt.events[0].event_state.as_str(),
            receipt.events[0].event_type.as_str()
        ),
        ("given", "explicit")
    );
    let validity = receipt.events[0].validity_duration.as_ref().unwrap();
    assert!(validity.one_time);

    // The same bytes again, also when the consent is spent; it says when it is withdrawn.
    let again = frontend.receipt(&session, &granted.consent_id).await.unwrap();
    assert_eq!(again, granted.receipt);
    frontend.copy_info(&session, KIND, "").await.unwrap();
    let again = frontend.receipt(&session, &granted.consent_id).await.unwrap();
    assert_eq!(again, granted.receipt);
    let second = frontend
        .grant(&session, &text, AN_HOUR, Capacity::Self_)
        .await
        .unwrap();
    frontend.withdraw(&session, &second.consent_id).await.unwrap();
    let after = frontend.receipt(&session, &second.consent_id).await.unwrap();
    let after = verified(&pair, &after);
    let states: Vec<_> = after
        .events
        .iter()
        .map(|event| event.event_state.as_str())
        .collect();
    assert_eq!(states, ["given", "withdrawn"]);
    assert_ne!(after.receipt_id, verified(&pair, &second.receipt).receipt_id);

    // One pseudonym for one requester, which is not that of the log.
    assert_eq!(after.pii_principal_id, receipt.pii_principal_id);
    let other = login(&cast, Scenario::Plane2).await;
    let others = frontend
        .grant(&other, &text, AN_HOUR, Capacity::Self_)
        .await
        .unwrap();
    assert_ne!(
        verified(&pair, &others.receipt).pii_principal_id,
        receipt.pii_principal_id
    );
    let bundles = integration_tests::log::bundles(&pair.deployment.gateway_database()).await;
    let pseudonym = HEXLOWER.decode(receipt.pii_principal_id.as_bytes()).unwrap();
    let logged = bundles
        .iter()
        .flat_map(|bundle| &bundle.entries)
        .map(|entry| prost::Message::encode_to_vec(&entry.stored))
        .collect::<Vec<_>>()
        .concat();
    assert!(!logged.windows(16).any(|window| window == pseudonym));

    for (session, id, reason) in [
        (&other, granted.consent_id.as_str(), "CONSENT_UNKNOWN"),
        (
            &session,
            "0190b0b0-0000-7000-8000-000000000001",
            "CONSENT_UNKNOWN",
        ),
        (&session, "x", "MALFORMED"),
        (&Session::invented(), &granted.consent_id, "SESSION_INVALID"),
    ] {
        let refused = frontend.receipt(session, id).await.unwrap_err();
        assert_eq!(refused.reason(), Some(reason));
    }
}

#[tokio::test]
async fn a_block_closes_receipts_with_the_register_refusal() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = login(&cast, Scenario::Ordinary).await;
    let text = frontend.consent_text(KIND).await.unwrap();
    let consent = frontend.consent(&session, &text, AN_HOUR).await.unwrap();
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let [alice, _] = &pair.offices().portal;
    alice
        .block(&frontend.ids().next(), &card.public_key_sha256)
        .await
        .unwrap();
    let session = frontend.login(&card).await.unwrap();
    let CallError::Refused(of_request) = frontend.copy_info(&session, KIND, "").await.unwrap_err() else {
        panic!("no answer")
    };
    // Whether there is such a consent is not told either.
    for consent in [consent.as_str(), "0190b0b0-0000-7000-8000-000000000001"] {
        let started = pair.clock.monotonic();
        let CallError::Refused(refused) = frontend.receipt(&session, consent).await.unwrap_err() else {
            panic!("no answer")
        };
        let took = pair.clock.monotonic() - started;
        assert_eq!(refused.reason, "NOT_PROVIDED");
        assert!(took >= Duration::from_secs(1), "it left after {took:?}");
        assert_eq!(refused.wire, of_request.wire);
    }
    // Consents never consult blocks.
    assert_eq!(consents(frontend, &session).await.len(), 1);
    frontend.withdraw(&session, &consent).await.unwrap();
}

#[tokio::test]
async fn who_does_not_act_for_themself_is_refused_with_a_reason_of_its_own() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = login(&cast, Scenario::Ordinary).await;
    let text = frontend.consent_text(KIND).await.unwrap();
    let database = pair.deployment.gateway_database();
    let before = stored(&database).await["consent"].clone();
    for (capacity, reason) in [
        (Capacity::Unspecified, "MALFORMED"),
        (Capacity::Representative, "REPRESENTED_NOT_SUPPORTED"),
        (Capacity::Incapable, "REPRESENTED_NOT_SUPPORTED"),
    ] {
        let refused = frontend
            .grant(&session, &text, AN_HOUR, capacity)
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some(reason), "{capacity:?}");
    }
    assert_eq!(stored(&database).await["consent"], before);
    frontend.consent(&session, &text, AN_HOUR).await.unwrap();
    for (capacity, reason) in [
        (Capacity::Unspecified, "MALFORMED"),
        (Capacity::Representative, "REPRESENTED_NOT_SUPPORTED"),
        (Capacity::Incapable, "REPRESENTED_NOT_SUPPORTED"),
    ] {
        let id = frontend.ids().next();
        let refused = frontend
            .copy_info_in(capacity, &id, &session, KIND, "")
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some(reason), "{capacity:?}");
        let CallError::Refused(refused) = refused else {
            unreachable!()
        };
        assert!(refused.japanese.chars().any(|c| c > '\u{3000}'));
    }
    frontend.copy_info(&session, KIND, "").await.unwrap();
}

struct Ended {
    code: Option<i32>,
    out: String,
}

async fn verify(file: &Path, keys: &Path, json: bool) -> Ended {
    let mut command = Command::new(Binaries::kosekictl().unwrap());
    command
        .args(["receipt", "verify"])
        .arg(file)
        .arg("--keys")
        .arg(keys);
    if json {
        command.args(["--output", "json"]);
    }
    let ended = command.output().await.unwrap();
    Ended {
        code: ended.status.code(),
        out: String::from_utf8(ended.stdout).unwrap(),
    }
}

#[tokio::test]
async fn kosekictl_tells_a_good_receipt_from_any_other() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let session = login(&cast, Scenario::Ordinary).await;
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    let granted = cast
        .frontend
        .grant(&session, &text, AN_HOUR, Capacity::Self_)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("receipt.json");
    fs::write(&file, &granted.receipt).unwrap();
    let keys = pair.deployment.consent_receipt_keys();

    let good = verify(&file, &keys, false).await;
    assert_eq!(good.code, Some(0), "{}", good.out);
    for shown in [&granted.consent_id, "certificate_request", "デジタル庁", "P7Y"] {
        assert!(good.out.contains(shown), "{shown} in {}", good.out);
    }
    let good = verify(&file, &keys, true).await;
    let told: Value = serde_json::from_str(&good.out).unwrap();
    assert_eq!(told["good"], true);
    assert_eq!(told["receipt"]["record_id"], granted.consent_id.as_str());

    let envelope: Value = serde_json::from_slice(&granted.receipt).unwrap();
    let payload = BASE64
        .decode(envelope["payload"].as_str().unwrap().as_bytes())
        .unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = envelope.clone();
        change(&mut changed);
        changed.to_string().into_bytes()
    };
    let other_content = String::from_utf8(payload.clone())
        .unwrap()
        .replace("certificate_request", "notification");
    let same = changed(&|_| {});
    let bad: Vec<(&str, Vec<u8>)> = vec![
        (
            "signature",
            changed(&|envelope| envelope["payload"] = BASE64.encode(other_content.as_bytes()).into()),
        ),
        (
            "signature",
            changed(&|envelope| envelope["signatures"][0]["sig"] = BASE64.encode(&[7; 64]).into()),
        ),
        (
            "among the given",
            changed(&|envelope| envelope["signatures"][0]["keyid"] = "2".into()),
        ),
        (
            "not a consent receipt",
            changed(&|envelope| envelope["payloadType"] = "application/json".into()),
        ),
        (
            "not a consent receipt",
            changed(&|envelope| envelope["signatures"] = json!([])),
        ),
        ("not a consent receipt", same[..same.len() - 1].to_vec()),
        ("not a consent receipt", vec![b' '; 20_000]),
        ("not a consent receipt", Vec::new()),
    ];
    for (number, (said, content)) in bad.iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        fs::write(&file, content).unwrap();
        let told = verify(&file, &keys, false).await;
        assert_eq!(told.code, Some(1), "{number}: {}", told.out);
        assert!(told.out.contains(said), "{number}: {}", told.out);
        assert!(
            !told.out.contains(&granted.consent_id),
            "what is not good is not shown"
        );
    }

    // Another key of the same id, and what the deployment's other key has signed as something else.
    let strangers = folder.path().join("keys");
    fs::create_dir(&strangers).unwrap();
    fs::write(strangers.join("1.pem"), ed25519_key().unwrap().public_pem).unwrap();
    let told = verify(&file, &strangers, true).await;
    assert_eq!(told.code, Some(1));
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&told["good"], told.get("receipt")), (&json!(false), None));
    let strange = ReceiptKeys::load(&strangers).unwrap();
    assert_eq!(strange.verify(&granted.receipt), Err(NotGood::Signature));

    // What cannot be checked is neither.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (file, keys) in [
        (folder.path().join("missing.json"), keys.clone()),
        (file.clone(), folder.path().join("missing")),
        (file.clone(), empty),
    ] {
        assert_eq!(verify(&file, &keys, false).await.code, Some(2));
    }
}

//! The requester's own records: each of their requests with what came of it, nothing of anybody else's, and nothing that
//! tells one refusal for the register from another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{collections::BTreeMap, fs, time::Duration};

use common::{
    authorisation::Listener,
    clock::{Clock as _, Timestamp},
    digest,
    evidence::{Checkpoint, LogKeys, is_countersigned},
    terms::RequestKind,
};
use data_encoding::HEXLOWER;
use devkit::{
    client::{CallError, Frontend, Session, Term},
    deployment::FRONTEND,
    registers::Scenario,
    story::{self, Cast, Teller},
};
use integration_tests::{Pair, address, hooks::Places, start_gateway, stores};
use koseki_proto::{
    koseki::{
        common::v1::{CopyInfoItem, LiftBlock, RequestKind as ProtoKind, opening_act::Act},
        evidence::v1::{Public, public::Event},
    },
    portal::v1::{ListProvisionRecordsResponse, ProvisionOutcome, ProvisionRecord, RecordProof},
};
use portal_gateway::store::OldData;
use prost::Message as _;
use serde_json::{Value, json};

const KIND: RequestKind = RequestKind::CertificateRequest;
const OTHER: RequestKind = RequestKind::ProvisionCodeRequest;
const AN_HOUR: Term = Term::For(Duration::from_secs(3_600));
/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);

async fn consented(cast: &Cast, scenario: Scenario) -> Session {
    let (_, card) = cast.person(scenario).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    consent(&cast.frontend, &session).await;
    session
}

async fn consent(frontend: &Frontend, session: &Session) {
    let text = frontend.consent_text(KIND).await.unwrap();
    frontend.consent(session, &text, AN_HOUR).await.unwrap();
}

/// A page; the first one has everything from before now.
async fn page(
    frontend: &Frontend,
    session: &Session,
    size: u32,
    token: &[u8],
) -> ListProvisionRecordsResponse {
    let asked = match token {
        [] => frontend.ids().clock().now(),
        _ => Timestamp::from_unix_ms(0),
    };
    let waited = async {
        loop {
            match frontend.own_records(session, size, token).await {
                Ok(page) if moment(page.complete_until.as_ref()) >= asked => return page,
                Ok(_) => {}
                // The clock was moved on, and the index was not looked at since.
                Err(error) => assert_eq!(error.reason(), Some("UNAVAILABLE"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap()
}

fn moment(at: Option<&prost_types::Timestamp>) -> Timestamp {
    Timestamp::from_proto(at.unwrap()).unwrap()
}

/// The whole list, page by page.
async fn all(frontend: &Frontend, session: &Session, size: u32) -> Vec<ProvisionRecord> {
    let mut records = Vec::new();
    let mut token = Vec::new();
    loop {
        let page = page(frontend, session, size, &token).await;
        assert!(page.records.len() <= usize::try_from(size).unwrap());
        records.extend(page.records);
        token = page.next_page_token;
        if token.is_empty() {
            return records;
        }
    }
}

fn ids(records: &[ProvisionRecord]) -> Vec<String> {
    records.iter().map(|record| record.request_id.clone()).collect()
}

#[tokio::test]
async fn each_request_is_listed_with_what_came_of_it() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = consented(&cast, Scenario::Ordinary).await;
    assert_eq!(page(frontend, &session, 0, &[]).await.records, []);

    let began = pair.clock.now();
    let mut expected: Vec<(String, ProtoKind, ProvisionOutcome, &str)> = Vec::new();
    let mut expect = |id: &str, kind: RequestKind, outcome, reason| {
        expected.push((id.to_owned(), kind.to_proto(), outcome, reason));
    };
    let provided = frontend.ids().next();
    frontend
        .copy_info_as(&provided, &session, KIND, "")
        .await
        .unwrap();
    expect(&provided, KIND, ProvisionOutcome::Provided, "");

    let refused = frontend
        .copy_info_as(&provided, &session, KIND, "")
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("REQUEST_ID_USED"));
    expect(&provided, KIND, ProvisionOutcome::Refused, "REQUEST_ID_USED");

    let id = frontend.ids().next();
    let refused = frontend
        .copy_info_as(&id, &session, RequestKind::Notification, "name_kana")
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("CONSENT_REQUIRED"));
    expect(
        &id,
        RequestKind::Notification,
        ProvisionOutcome::Refused,
        "CONSENT_REQUIRED",
    );

    let [alice, _] = &pair.offices().portal;
    alice.suspend(&frontend.ids().next(), Some(OTHER)).await.unwrap();
    let id = frontend.ids().next();
    let refused = frontend.copy_info_as(&id, &session, OTHER, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some("PROVISION_SUSPENDED"));
    expect(&id, OTHER, ProvisionOutcome::Refused, "PROVISION_SUSPENDED");

    // What has no session belongs to nobody.
    let refused = frontend
        .copy_info(&Session::invented(), KIND, "")
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("SESSION_INVALID"));

    pair.provider.drain(Duration::from_secs(1)).await;
    let id = frontend.ids().next();
    let refused = frontend.copy_info_as(&id, &session, KIND, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some("UNAVAILABLE"));
    expect(&id, KIND, ProvisionOutcome::Unavailable, "UNAVAILABLE");

    let records = all(frontend, &session, 200).await;
    expected.reverse();
    let came: Vec<_> = records
        .iter()
        .map(|record| {
            let reason = expected.iter().map(|(.., reason)| *reason);
            let reason = reason.into_iter().find(|reason| *reason == record.reason);
            (
                record.request_id.clone(),
                record.kind(),
                record.outcome(),
                reason.unwrap(),
            )
        })
        .collect();
    assert_eq!(came, expected);
    for record in &records {
        assert_eq!(record.frontend, FRONTEND);
        let at = moment(record.at.as_ref());
        assert_eq!(at.unix_ms() % 1_000, 0);
        assert!(at >= began.before(Duration::from_secs(1)) && at <= pair.clock.now());
        let items: Vec<_> = record.items().collect();
        match record.outcome() {
            ProvisionOutcome::Provided => assert_eq!(
                items,
                [
                    CopyInfoItem::RegisteredDomicile,
                    CopyInfoItem::FirstEnteredPerson,
                    CopyInfoItem::MunicipalityCode
                ]
            ),
            _ => assert_eq!(items, []),
        }
    }
    assert_eq!(records[2].procedure, "name_kana");
}

/// Another member of a scenario person's register, who logs in with the card of nobody.
async fn link_another_member(pair: &Pair, cast: &Cast, of: Scenario) -> Session {
    let text = fs::read_to_string(pair.deployment.persons()).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (person, _) = cast.person(of).unwrap();
    let entered = lines
        .iter()
        .find(|line| line["type"] == "person" && line["person_id"] == person.person_id.as_str())
        .unwrap()["members"][0]
        .clone();
    let code = entered["municipality_code"].as_str().unwrap();
    let (_, copies) = pair
        .deployment
        .copies()
        .unwrap()
        .into_iter()
        .find(|(of, _)| of == code)
        .unwrap();
    let copies = fs::read_to_string(copies).unwrap();
    let member = copies
        .lines()
        .filter_map(|line| {
            let copy: Value = serde_json::from_str(line).unwrap();
            let members = copy["members"].as_array().unwrap().clone();
            let is = |member: &Value| member["reference"] == entered["reference"];
            members
                .iter()
                .any(is)
                .then(|| members.into_iter().find(|member| !is(member)).unwrap())
        })
        .next()
        .unwrap();
    let of_member = lines
        .iter()
        .find(|line| {
            line["type"] == "person"
                && line["members"][0]["municipality_code"] == code
                && line["members"][0]["reference"] == member["reference"]
        })
        .unwrap();
    let (_, card) = cast.person(Scenario::NoLinkage).unwrap();
    let mut linkage = json!({
        "type": "linkage",
        "linkage_code": data_encoding::BASE64URL_NOPAD.encode(&[0x5b; 32]),
        "person_id": of_member["person_id"],
        "card_key_sha256": HEXLOWER.encode(&card.public_key_sha256),
        "state": "ACTIVE",
    });
    let offices = pair.offices();
    let file = format!("{linkage}\n").into_bytes();
    assert!(
        offices.registry[0]
            .load(std::io::Cursor::new(file))
            .await
            .is_whole()
    );
    linkage.as_object_mut().unwrap().remove("person_id");
    let file = format!("{linkage}\n").into_bytes();
    assert!(
        offices.portal[0]
            .load(std::io::Cursor::new(file))
            .await
            .is_whole()
    );
    let session = cast.frontend.login(&card).await.unwrap();
    consent(&cast.frontend, &session).await;
    session
}

#[tokio::test]
async fn a_family_sees_nothing_of_each_others_acts() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let one = consented(&cast, Scenario::Ordinary).await;
    let other = link_another_member(&pair, &cast, Scenario::Ordinary).await;
    let mut own: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut registers = Vec::new();
    for _ in 0..3 {
        for (name, session) in [("one", &one), ("other", &other)] {
            let id = frontend.ids().next();
            let info = frontend.copy_info_as(&id, session, KIND, "").await.unwrap();
            registers.push(info.registers[0].registered_domicile.clone());
            own.entry(name).or_default().insert(0, id);
        }
    }
    registers.dedup();
    assert_eq!(registers.len(), 1, "they are in one register");
    assert_eq!(ids(&all(frontend, &one, 2).await), own["one"]);
    assert_eq!(ids(&all(frontend, &other, 2).await), own["other"]);

    // A token is good for who got it.
    let token = page(frontend, &one, 1, &[]).await.next_page_token;
    assert_eq!(
        page(frontend, &one, 1, &token).await.records[0].request_id,
        own["one"][1]
    );
    let refused = frontend.own_records(&other, 1, &token).await.unwrap_err();
    assert_eq!(refused.reason(), Some("MALFORMED"));
}

#[tokio::test]
async fn refusals_for_the_register_are_alike() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let mut teller = Teller::new(|_| {});
    story::record(&cast.persons, &pair.offices(), &mut teller)
        .await
        .unwrap();
    assert_eq!(teller.failed().count(), 0);
    let mut alike: Option<Vec<u8>> = None;
    for scenario in [
        Scenario::Suppressed,
        Scenario::RegisterSuppressed,
        Scenario::RequesterAgainstRegister,
        Scenario::NoLinkage,
        Scenario::SuspendedLinkage,
        Scenario::TwoCurrentRegisters,
        Scenario::ImageOnly,
        Scenario::InMotion,
        Scenario::RemovedPerson,
    ] {
        let session = consented(&cast, scenario).await;
        let id = cast.frontend.ids().next();
        let refused = cast
            .frontend
            .copy_info_as(&id, &session, KIND, "")
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some("NOT_PROVIDED"), "{scenario:?}");
        let mut page = page(&cast.frontend, &session, 0, &[]).await;
        page.request_id = String::new();
        page.complete_until = None;
        let [record] = &mut page.records[..] else {
            panic!("{scenario:?}: {} records", page.records.len())
        };
        assert_eq!(record.request_id, id);
        assert_eq!(record.outcome(), ProvisionOutcome::NotProvided);
        record.request_id = "0".repeat(36);
        record.at = None;
        // Where it stands in the log says nothing of it; what may be shown of its entry must not, either, in length or in words.
        let proof = record.proof.take().unwrap();
        page.checkpoints.clear();
        let mut public = Public::decode(proof.public_part.as_slice()).unwrap();
        let Some(Event::Provision(provision)) = &mut public.event else {
            panic!("{scenario:?}: another event")
        };
        assert_eq!(provision.request_id, id);
        provision.request_id = "0".repeat(36);
        public.at_unix_s = 0;
        // Suspensions and loads are no acts of the requester, but of others: the epoch is as public as they are.
        public.epoch = 0;
        let mut bytes = page.encode_to_vec();
        bytes.extend(public.encode_to_vec());
        bytes.push(u8::try_from(proof.public_part.len()).unwrap());
        bytes.push(u8::try_from(proof.commitment.len()).unwrap());
        assert_eq!(*alike.get_or_insert_with(|| bytes.clone()), bytes, "{scenario:?}");
    }
}

#[tokio::test]
async fn paging_gives_each_record_once_while_new_ones_come() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = consented(&cast, Scenario::Ordinary).await;
    let mut asked = Vec::new();
    for _ in 0..11 {
        // Several of one batch have one moment.
        let batch: Vec<String> = (0..3).map(|_| frontend.ids().next()).collect();
        let calls = batch
            .iter()
            .map(|id| frontend.copy_info_as(id, &session, KIND, ""));
        for outcome in futures_util::future::join_all(calls).await {
            outcome.unwrap();
        }
        asked.extend(batch);
    }
    let mut listed = Vec::new();
    let mut token = Vec::new();
    loop {
        let page = page(frontend, &session, 4, &token).await;
        listed.extend(ids(&page.records));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        frontend.copy_info(&session, KIND, "").await.unwrap();
    }
    listed.sort();
    asked.sort();
    assert_eq!(listed, asked);
    let all = all(frontend, &session, 200).await;
    assert!(all.len() > asked.len());
    assert!(all.is_sorted_by_key(|record| std::cmp::Reverse(moment(record.at.as_ref()))));
}

#[tokio::test]
async fn a_token_that_we_did_not_make_for_this_is_malformed() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = consented(&cast, Scenario::Ordinary).await;
    for _ in 0..3 {
        consent(frontend, &session).await;
        frontend.copy_info(&session, KIND, "").await.unwrap();
    }
    let token = page(frontend, &session, 1, &[]).await.next_page_token;
    assert!(!token.is_empty() && token.len() <= 512);
    let of_consents = frontend.consents(&session, 1, &[]).await.unwrap().next_page_token;
    assert!(!of_consents.is_empty());
    let mut bad = vec![
        of_consents,
        vec![0],
        vec![0; 513],
        [token.as_slice(), &[0]].concat(),
    ];
    for at in 0..token.len() {
        let mut altered = token.clone();
        altered[at] ^= 1;
        bad.push(altered);
    }
    for bad in &bad {
        let refused = frontend.own_records(&session, 1, bad).await.unwrap_err();
        assert_eq!(refused.reason(), Some("MALFORMED"));
    }
    let refused = frontend.consents(&session, 1, &token).await.unwrap_err();
    assert_eq!(refused.reason(), Some("MALFORMED"));
    for size in [201, u32::MAX] {
        let refused = frontend.own_records(&session, size, &[]).await.unwrap_err();
        assert_eq!(refused.reason(), Some("MALFORMED"));
    }
    let refused = frontend
        .own_records(&Session::invented(), 1, &[])
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some("SESSION_INVALID"));
    frontend.logout(&session).await.unwrap();
    let refused = frontend.own_records(&session, 1, &token).await.unwrap_err();
    assert_eq!(refused.reason(), Some("SESSION_INVALID"));

    // Another requester's session of the same frontend gets no further with it.
    let other = consented(&cast, Scenario::Plane2).await;
    let refused = frontend.own_records(&other, 1, &token).await.unwrap_err();
    assert_eq!(refused.reason(), Some("MALFORMED"));
}

#[tokio::test]
async fn a_block_closes_them_with_the_register_refusal() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = consented(&cast, Scenario::Ordinary).await;
    frontend.copy_info(&session, KIND, "").await.unwrap();
    let token = {
        frontend.copy_info(&session, KIND, "").await.unwrap();
        page(frontend, &session, 1, &[]).await.next_page_token
    };
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let [alice, bob] = &pair.offices().portal;
    alice
        .block(&frontend.ids().next(), &card.public_key_sha256)
        .await
        .unwrap();
    // Login never consults blocks.
    let session = frontend.login(&card).await.unwrap();
    let CallError::Refused(of_request) = frontend.copy_info(&session, KIND, "").await.unwrap_err() else {
        panic!("no answer")
    };
    for token in [&[][..], &token, &[0; 100]] {
        let started = pair.clock.monotonic();
        let CallError::Refused(refused) = frontend.own_records(&session, 1, token).await.unwrap_err() else {
            panic!("no answer")
        };
        let took = pair.clock.monotonic() - started;
        assert_eq!(refused.reason, "NOT_PROVIDED");
        assert!(took >= Duration::from_secs(1), "it left after {took:?}");
        assert_eq!(refused.wire, of_request.wire);
    }

    let act = Act::LiftBlock(LiftBlock {
        card_key_sha256: card.public_key_sha256.to_vec(),
    });
    let proposed = alice.propose(act).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    let session = frontend.login(&card).await.unwrap();
    assert_eq!(all(frontend, &session, 1).await.len(), 3);
}

#[tokio::test]
async fn the_index_is_made_anew_from_the_log_and_is_the_same() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let (one, other) = (
        consented(&cast, Scenario::Ordinary).await,
        consented(&cast, Scenario::NoLinkage).await,
    );
    for _ in 0..40 {
        cast.frontend.copy_info(&one, KIND, "").await.unwrap();
    }
    cast.frontend.copy_info(&one, OTHER, "").await.unwrap_err();
    cast.frontend.copy_info(&other, KIND, "").await.unwrap_err();
    let before = [
        all(&cast.frontend, &one, 7).await,
        all(&cast.frontend, &other, 7).await,
    ];
    assert_eq!((before[0].len(), before[1].len()), (41, 1));

    let Pair {
        deployment,
        clock,
        provider,
        gateway,
        portal_store,
        ..
    } = pair;
    gateway.drain(Duration::from_secs(5)).await;
    drop(portal_store);
    stores::change(
        &deployment.gateway_database(),
        "DELETE FROM provision_record; DELETE FROM indexed_log",
    )
    .await;
    deployment
        .point_gateway_at(&address(&provider, Listener::Linkage))
        .unwrap();
    let gateway = start_gateway(&deployment, clock.clone()).await;
    let access = devkit::client::Access::new(&deployment, clock);
    let frontend = Frontend::new(&access, &address(&gateway, Listener::Portal)).unwrap();
    let mut after = [all(&frontend, &one, 7).await, all(&frontend, &other, 7).await];
    let mut before = before;
    for record in before.iter_mut().chain(&mut after).flatten() {
        // The log has grown meanwhile, and was countersigned again.
        let proof = record.proof.as_mut().unwrap();
        (proof.tree_size, proof.inclusion_proof) = (0, Vec::new());
    }
    assert_eq!(after, before);
}

/// The root of a tree of this size that has this leaf at this place, by an inclusion proof (RFC 6962 section 2.1.1).
fn root_of(leaf: &[u8], proof: &RecordProof) -> Option<Vec<u8>> {
    let mut path = proof.inclusion_proof.iter();
    let node = |left: &[u8], right: &[u8]| digest::sha256(&[&[1], left, right]).to_vec();
    let mut hash = digest::sha256(&[&[0], leaf]).to_vec();
    let (mut at, mut last) = (proof.index, proof.tree_size.checked_sub(1)?);
    while last > 0 {
        if at % 2 == 1 {
            hash = node(path.next()?, &hash);
        } else if at < last {
            hash = node(&hash, path.next()?);
        }
        (at, last) = (at / 2, last / 2);
    }
    path.next().is_none().then_some(hash)
}

#[tokio::test]
async fn each_record_has_a_proof_that_it_stands_in_a_countersigned_log() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = consented(&cast, Scenario::Ordinary).await;
    let refused = consented(&cast, Scenario::ImageOnly).await;
    for _ in 0..5 {
        frontend.copy_info(&session, KIND, "").await.unwrap();
    }
    frontend.copy_info(&refused, KIND, "").await.unwrap_err();
    let keys = LogKeys::load(&pair.deployment.log_keys()).unwrap();
    for (session, count) in [(&session, 5), (&refused, 1)] {
        let proven = async {
            loop {
                let page = page(frontend, session, 0, &[]).await;
                assert_eq!(page.records.len(), count);
                let proofs = page.records.iter().map(|record| record.proof.as_ref().unwrap());
                // What is not countersigned yet says so.
                let (waiting, proven): (Vec<_>, Vec<_>) = proofs.partition(|proof| proof.tree_size == 0);
                assert!(waiting.iter().all(|proof| proof.inclusion_proof.is_empty()));
                assert!(proven.iter().all(|proof| proof.tree_size > proof.index));
                if waiting.is_empty() {
                    return page;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let page = tokio::time::timeout(PATIENCE, proven).await.unwrap();
        let [note] = &page.checkpoints[..] else {
            panic!("{} checkpoints", page.checkpoints.len())
        };
        let checkpoint = Checkpoint::open(note, &keys).unwrap();
        assert!(is_countersigned(note, "koseki.example/koseki-provider", &keys));
        for record in &page.records {
            let proof = record.proof.as_ref().unwrap();
            assert_eq!(
                (&proof.origin, proof.tree_size),
                (&checkpoint.origin, checkpoint.size)
            );
            let leaf = [proof.public_part.as_slice(), &proof.commitment].concat();
            assert_eq!(root_of(&leaf, proof).unwrap(), checkpoint.root);
            for at in 0..leaf.len() {
                let mut altered = leaf.clone();
                altered[at] ^= 1;
                assert_ne!(root_of(&altered, proof).unwrap(), checkpoint.root);
            }
            let public = Public::decode(proof.public_part.as_slice()).unwrap();
            let Some(Event::Provision(provision)) = public.event else {
                panic!("another event")
            };
            assert_eq!(provision.request_id, record.request_id);
            assert_eq!(provision.reason, record.reason);
            assert_eq!(provision.items, record.items);
            assert_eq!(
                i64::try_from(public.at_unix_s).unwrap(),
                record.at.as_ref().unwrap().seconds
            );
        }
    }
}

#[tokio::test]
async fn an_index_that_is_too_far_behind_is_not_shown() {
    let portal = Places::default();
    let pair = Pair::start_hooked(&Places::default(), &portal).await.load().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = consented(&cast, Scenario::Ordinary).await;
    assert_eq!(page(frontend, &session, 0, &[]).await.records, []);
    portal.let_indexing_fail(true);
    frontend.copy_info(&session, KIND, "").await.unwrap();
    // It says up to when it is whole.
    let asked = pair.clock.now();
    let shown = frontend.own_records(&session, 0, &[]).await.unwrap();
    assert!(moment(shown.complete_until.as_ref()) <= asked);
    pair.clock.advance(Duration::from_secs(11));
    let refused = frontend.own_records(&session, 0, &[]).await.unwrap_err();
    assert_eq!(refused.reason(), Some("UNAVAILABLE"));
    portal.let_indexing_fail(false);
    assert_eq!(page(frontend, &session, 0, &[]).await.records.len(), 1);
}

#[tokio::test]
async fn records_past_retention_are_removed_and_others_stay() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let frontend = &cast.frontend;
    let session = consented(&cast, Scenario::Ordinary).await;
    frontend.copy_info(&session, KIND, "").await.unwrap();
    assert_eq!(page(frontend, &session, 0, &[]).await.records.len(), 1);
    pair.clock.advance(Duration::from_secs(5));
    let between = pair.clock.now();
    pair.clock.advance(Duration::from_secs(5));
    frontend.wait_until_providing().await.unwrap();
    let id = frontend.ids().next();
    frontend.copy_info_as(&id, &session, KIND, "").await.unwrap();
    assert_eq!(page(frontend, &session, 0, &[]).await.records.len(), 2);
    assert_eq!(
        pair.portal_store.remove(OldData::Records, between).await.unwrap(),
        1
    );
    assert_eq!(
        pair.portal_store.remove(OldData::Records, between).await.unwrap(),
        0
    );
    assert_eq!(ids(&page(frontend, &session, 0, &[]).await.records), [id]);
}

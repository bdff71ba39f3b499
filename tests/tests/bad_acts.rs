//! Bad input to the acts of operators and of municipalities' officers, through their listeners: each is refused with the
//! field and the rule that it breaks, never with the value, and changes nothing that is stored.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use common::{identity::Role, refusal::Reason};
use devkit::{
    client::CallError,
    deployment::{OFFICER, OPERATORS},
    registers::Scenario,
    story::ask_once,
};
use integration_tests::{Pair, log, stored};
use koseki_proto::{
    koseki::{
        admin::v1::{
            ListNonProvisionRequest, RecordNonProvisionRequest, RegisterRef,
            koseki_admin_client::KosekiAdminClient,
        },
        common::v1::{
            ApproveRequest, CloseLogRequest, ClosePeerLogRequest, ConfirmRequest, LiftBlock, OpeningAct,
            ProposeRequest, ReactivateLinkage, ReleaseNonProvision, ResumeProvision, ShortenNonProvision,
            SuspendProvisionRequest, opening_act::Act,
        },
        ingest::v1::{RecordOwnNonProvisionRequest, ingest_client::IngestClient},
    },
    portal::admin::v1::{SetBlockRequest, portal_admin_client::PortalAdminClient},
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

const ID: &str = "0192f0c1-2b6e-7c41-8a55-0d3c5e0a1b2c";
const UUID: &str = "a UUID in its 36-character form";
const HOUR_MS: i64 = 3_600_000;

/// A request with one field changed, the field, and words of its rule.
type Bad<T> = (fn(&mut T), &'static str, &'static str);

/// What a refusal says, after it was looked at that it says nothing else.
fn violation(status: &Status) -> (String, String) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some(Reason::Malformed.name()), "{status:?}");
    let shown = format!("{status:?}");
    assert!(!shown.contains("PLANTED"), "the value is told: {shown}");
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1);
    (violations[0].field.clone(), violations[0].description.clone())
}

/// Sends each bad request and compares what comes back.
async fn each<T: Clone, R>(good: &T, bad: &[Bad<T>], mut send: impl AsyncFnMut(T) -> Result<R, Status>) {
    for (change, field, rule) in bad {
        let mut request = good.clone();
        change(&mut request);
        let Err(status) = send(request).await else {
            panic!("{field} ({rule}) was taken");
        };
        let (told, description) = violation(&status);
        assert_eq!(told, *field, "{description}");
        assert!(description.contains(rule), "{field}: {description} is not {rule}");
    }
}

fn at(ms: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: ms / 1_000,
        nanos: 0,
    })
}

struct Callers {
    registry: KosekiAdminClient<Channel>,
    portal: PortalAdminClient<Channel>,
}

fn callers(pair: &Pair) -> Callers {
    let (access, reach) = (pair.access(), pair.reach());
    let [alice, _] = OPERATORS;
    let registry = access
        .to_provider(Role::Operator, alice, &reach.registry_admin)
        .unwrap();
    let portal = access
        .to_gateway(Role::Operator, alice, &reach.portal_admin)
        .unwrap();
    Callers {
        registry: KosekiAdminClient::new(registry),
        portal: PortalAdminClient::new(portal),
    }
}

fn officer(pair: &Pair, code: &str) -> IngestClient<Channel> {
    let name = format!("{code}/{OFFICER}");
    let channel = pair
        .access()
        .to_provider(Role::Municipality, &name, &pair.reach().ingest);
    IngestClient::new(channel.unwrap())
}

async fn kept(pair: &Pair) -> [std::collections::BTreeMap<String, Vec<String>>; 2] {
    [
        stored(&pair.deployment.provider_database()).await,
        stored(&pair.deployment.gateway_database()).await,
    ]
}

fn good_record(person_id: &str) -> RecordNonProvisionRequest {
    RecordNonProvisionRequest {
        act_id: ID.to_owned(),
        person_id: person_id.to_owned(),
        authority: "an authority".to_owned(),
        document_number: "1".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn non_provision_records_name_the_field_and_the_rule() {
    let pair = Pair::start_loaded().await;
    let before = kept(&pair).await;
    let bad: &[Bad<RecordNonProvisionRequest>] = &[
        (|r| r.act_id = String::new(), "act_id", UUID),
        (|r| r.act_id = "PLANTED".to_owned(), "act_id", UUID),
        (|r| r.act_id = ID.to_uppercase(), "act_id", UUID),
        (
            |r| r.person_id = "PLANTED 埋込値".to_owned(),
            "person_id",
            "printable ASCII",
        ),
        (|r| r.person_id = "x".repeat(65), "person_id", "1 to 64"),
        (
            |r| r.person_id = String::new(),
            "person_id",
            "a person, a register, or both",
        ),
        (
            |r| r.register = Some(register("131017", "1")),
            "register.municipality_code",
            "check digit",
        ),
        (
            |r| r.register = Some(register("131016", "")),
            "register.local_number",
            "1 to 64 bytes",
        ),
        (
            |r| r.register = Some(register("131016", "PLANTED\n")),
            "register.local_number",
            "without control characters",
        ),
        (|r| r.valid_until = at(HOUR_MS), "valid_until", "later than now"),
        (
            |r| {
                r.valid_from = at(4_000_000_000_000);
                r.valid_until = at(3_999_999_999_000);
            },
            "valid_until",
            "later than now and than valid_from",
        ),
        (
            |r| {
                r.valid_from = Some(prost_types::Timestamp {
                    seconds: 0,
                    nanos: -1,
                })
            },
            "valid_from",
            "a valid timestamp",
        ),
        (|r| r.authority = String::new(), "authority", "1 to 256 bytes"),
        (|r| r.authority = "x".repeat(257), "authority", "1 to 256 bytes"),
        (
            |r| r.document_number = String::new(),
            "document_number",
            "1 to 128 bytes",
        ),
        (
            |r| r.document_number = "x".repeat(129),
            "document_number",
            "1 to 128 bytes",
        ),
    ];
    let client = callers(&pair).registry;
    each(&good_record("P-1"), bad, async |request| {
        client.clone().record_non_provision(request).await
    })
    .await;
    // A record about somebody who is not stored would forbid nothing and look as if it did.
    let unknown = client
        .clone()
        .record_non_provision(good_record("nobody"))
        .await
        .unwrap_err();
    assert_eq!(
        CallError::from(unknown).reason(),
        Some(Reason::UnknownReference.name())
    );

    let asked: &[Bad<ListNonProvisionRequest>] = &[
        (|_| {}, "person_id", "a person, a register, or both"),
        (
            |r| r.person_id = "PLANTED 埋".to_owned(),
            "person_id",
            "printable ASCII",
        ),
        (
            |r| r.register = Some(register("PLANTED", "1")),
            "register.municipality_code",
            "six digits",
        ),
    ];
    each(&ListNonProvisionRequest::default(), asked, async |request| {
        client.clone().list_non_provision(request).await
    })
    .await;
    assert_eq!(kept(&pair).await, before);
}

fn register(code: &str, number: &str) -> RegisterRef {
    RegisterRef {
        municipality_code: code.to_owned(),
        local_number: number.to_owned(),
    }
}

#[tokio::test]
async fn suspensions_blocks_proposals_approvals_and_confirmations_do_on_both_sides() {
    let pair = Pair::start_loaded().await;
    let before = kept(&pair).await;
    let Callers { registry, portal } = callers(&pair);

    let suspend = SuspendProvisionRequest {
        act_id: ID.to_owned(),
        kind: 1,
        reason: "test".to_owned(),
    };
    let bad: &[Bad<SuspendProvisionRequest>] = &[
        (|r| r.act_id = "PLANTED".to_owned(), "act_id", UUID),
        (|r| r.kind = 99, "kind", "request kinds"),
        (|r| r.reason = String::new(), "reason", "1 to 256 bytes"),
        (
            |r| r.reason = "PLANTED\u{7}".to_owned(),
            "reason",
            "without control characters",
        ),
        (|r| r.reason = "x".repeat(257), "reason", "1 to 256 bytes"),
    ];
    each(&suspend, bad, async |request| {
        registry.clone().suspend_provision(request).await
    })
    .await;
    each(&suspend, bad, async |request| {
        portal.clone().suspend_provision(request).await
    })
    .await;

    let close = CloseLogRequest {
        act_id: ID.to_owned(),
        reason: "test".to_owned(),
    };
    let bad: &[Bad<CloseLogRequest>] = &[
        (|r| r.act_id = "PLANTED".to_owned(), "act_id", UUID),
        (|r| r.reason = String::new(), "reason", "1 to 256 bytes"),
    ];
    each(&close, bad, async |request| {
        registry.clone().close_log(request).await
    })
    .await;
    each(&close, bad, async |request| {
        portal.clone().close_log(request).await
    })
    .await;

    let close = ClosePeerLogRequest {
        act_id: ID.to_owned(),
        instance: "instance-1".to_owned(),
        reason: "test".to_owned(),
    };
    let bad: &[Bad<ClosePeerLogRequest>] = &[
        (|r| r.act_id = String::new(), "act_id", UUID),
        (|r| r.instance = String::new(), "instance", "1 to 128 letters"),
        (
            |r| r.instance = "PLANTED/1".to_owned(),
            "instance",
            "1 to 128 letters",
        ),
        (|r| r.instance = "x".repeat(129), "instance", "1 to 128 letters"),
        (|r| r.reason = "x".repeat(257), "reason", "1 to 256 bytes"),
    ];
    each(&close, bad, async |request| {
        registry.clone().close_peer_log(request).await
    })
    .await;
    each(&close, bad, async |request| {
        portal.clone().close_peer_log(request).await
    })
    .await;

    let block = SetBlockRequest {
        act_id: ID.to_owned(),
        card_key_sha256: vec![1; 32],
        reason: "test".to_owned(),
    };
    let bad: &[Bad<SetBlockRequest>] = &[
        (|r| r.act_id = String::new(), "act_id", UUID),
        (|r| r.card_key_sha256 = vec![1; 31], "card_key_sha256", "32 bytes"),
        (|r| r.reason = String::new(), "reason", "1 to 256 bytes"),
    ];
    each(&block, bad, async |request| {
        portal.clone().set_block(request).await
    })
    .await;
    let unknown = portal.clone().set_block(block).await.unwrap_err();
    assert_eq!(
        CallError::from(unknown).reason(),
        Some(Reason::UnknownReference.name())
    );

    let propose = ProposeRequest {
        proposal_id: ID.to_owned(),
        act: act(Act::ResumeProvision(ResumeProvision { kind: 1 })),
        reason: "test".to_owned(),
    };
    let bad: &[Bad<ProposeRequest>] = &[
        (|r| r.proposal_id = "PLANTED".to_owned(), "proposal_id", UUID),
        (|r| r.act = None, "act", "one act"),
        (
            |r| r.act = act(Act::ResumeProvision(ResumeProvision { kind: 99 })),
            "act.resume_provision.kind",
            "request kinds",
        ),
        (
            |r| {
                let record_id = "PLANTED".to_owned();
                r.act = act(Act::ReleaseNonProvision(ReleaseNonProvision { record_id }));
            },
            "act.release_non_provision.record_id",
            UUID,
        ),
        (
            |r| {
                r.act = act(Act::ShortenNonProvision(ShortenNonProvision {
                    record_id: ID.to_owned(),
                    valid_until: None,
                }));
            },
            "act.shorten_non_provision.valid_until",
            "a valid timestamp",
        ),
        (
            |r| {
                let card_key_sha256 = vec![0; 5];
                r.act = act(Act::LiftBlock(LiftBlock { card_key_sha256 }));
            },
            "act.lift_block.card_key_sha256",
            "32 bytes",
        ),
        (
            |r| {
                let card_key_sha256 = vec![0; 33];
                r.act = act(Act::ReactivateLinkage(ReactivateLinkage { card_key_sha256 }));
            },
            "act.reactivate_linkage.card_key_sha256",
            "32 bytes",
        ),
        (|r| r.reason = String::new(), "reason", "1 to 256 bytes"),
    ];
    each(&propose, bad, async |request| {
        registry.clone().propose(request).await
    })
    .await;
    each(&propose, bad, async |request| {
        portal.clone().propose(request).await
    })
    .await;

    let approve = ApproveRequest {
        proposal_id: ID.to_owned(),
        act_sha256: vec![0; 32],
    };
    let bad: &[Bad<ApproveRequest>] = &[
        (|r| r.proposal_id = "PLANTED".to_owned(), "proposal_id", UUID),
        (|r| r.act_sha256 = vec![0; 31], "act_sha256", "32 bytes"),
    ];
    each(&approve, bad, async |request| {
        registry.clone().approve(request).await
    })
    .await;
    each(&approve, bad, async |request| {
        portal.clone().approve(request).await
    })
    .await;

    let confirm = ConfirmRequest::default();
    let bad: &[Bad<ConfirmRequest>] = &[(|r| r.act_id = "PLANTED".to_owned(), "act_id", UUID)];
    each(&confirm, bad, async |request| {
        registry.clone().confirm(request).await
    })
    .await;
    each(&confirm, bad, async |request| {
        portal.clone().confirm(request).await
    })
    .await;
    assert_eq!(kept(&pair).await, before);
}

fn act(act: Act) -> Option<OpeningAct> {
    Some(OpeningAct { act: Some(act) })
}

#[tokio::test]
async fn an_officer_records_for_registers_of_their_own_municipality_only() {
    let pair = Pair::start_loaded().await;
    let before = kept(&pair).await;
    let cast = pair.cast().await;
    let (code, copy) = first_copy_of(&pair, Scenario::Ordinary);
    let good = RecordOwnNonProvisionRequest {
        act_id: ID.to_owned(),
        municipality_code: code.clone(),
        local_number: copy["local_number"].as_str().unwrap().to_owned(),
        requester_reference: String::new(),
        valid_from: None,
        valid_until: None,
        authority: "an authority".to_owned(),
        document_number: "1".to_owned(),
    };
    let own = officer(&pair, &code);
    let bad: &[Bad<RecordOwnNonProvisionRequest>] = &[
        (|r| r.act_id = "PLANTED".to_owned(), "act_id", UUID),
        (
            |r| r.municipality_code = "PLANTED".to_owned(),
            "municipality_code",
            "six digits",
        ),
        (
            |r| r.local_number = String::new(),
            "local_number",
            "1 to 64 bytes",
        ),
        (
            |r| r.requester_reference = "x".repeat(65),
            "requester_reference",
            "1 to 64 bytes",
        ),
        (|r| r.valid_until = at(HOUR_MS), "valid_until", "later than now"),
        (|r| r.authority = String::new(), "authority", "1 to 256 bytes"),
        (
            |r| r.document_number = "x".repeat(129),
            "document_number",
            "1 to 128 bytes",
        ),
    ];
    each(&good, bad, async |request| {
        own.clone().record_own_non_provision(request).await
    })
    .await;

    let other_code = pair.deployment.copies().unwrap();
    let (other_code, _) = other_code.iter().find(|(other, _)| *other != code).unwrap();
    let refused = |status: Status| CallError::from(status).reason().unwrap().to_owned();
    let other = officer(&pair, other_code)
        .record_own_non_provision(good.clone())
        .await;
    assert_eq!(refused(other.unwrap_err()), Reason::NotOwnRegister.name());
    let unknown = RecordOwnNonProvisionRequest {
        local_number: "no such register".to_owned(),
        ..good.clone()
    };
    let unknown = own.clone().record_own_non_provision(unknown).await;
    assert_eq!(refused(unknown.unwrap_err()), Reason::UnknownReference.name());
    let unknown = RecordOwnNonProvisionRequest {
        requester_reference: "nobody".to_owned(),
        ..good.clone()
    };
    let unknown = own.clone().record_own_non_provision(unknown).await;
    assert_eq!(refused(unknown.unwrap_err()), Reason::UnknownReference.name());
    assert_eq!(
        kept(&pair).await,
        before,
        "nothing was changed by what was refused"
    );

    // For one requester, named by the municipality's own reference.
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    let kind = common::terms::RequestKind::CertificateRequest;
    ask_once(&cast.frontend, &card, kind, "").await.unwrap();
    let for_one = RecordOwnNonProvisionRequest {
        requester_reference: own_reference(&pair, Scenario::Ordinary),
        ..good
    };
    let epoch = own
        .clone()
        .record_own_non_provision(for_one.clone())
        .await
        .unwrap()
        .into_inner()
        .epoch;
    let again = own
        .clone()
        .record_own_non_provision(for_one)
        .await
        .unwrap()
        .into_inner()
        .epoch;
    assert_eq!(again, epoch, "the same act again changes nothing");
    let refused = ask_once(&cast.frontend, &card, kind, "").await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::NotProvided.name()));
    let (recorded, _) = log::guard_act(&pair.deployment.provider_database(), "RECORD_NON_PROVISION")
        .await
        .unwrap();
    assert_eq!(recorded, epoch);
}

/// How their municipality refers to a scenario person.
fn own_reference(pair: &Pair, scenario: Scenario) -> String {
    let line = line_of(pair, scenario);
    line["members"][0]["reference"].as_str().unwrap().to_owned()
}

/// The line by which a scenario person is loaded.
fn line_of(pair: &Pair, scenario: Scenario) -> serde_json::Value {
    let person = pair.deployment.scenarios().unwrap();
    let person = person
        .iter()
        .find(|person| person.name == scenario.name())
        .unwrap();
    let persons = std::fs::read_to_string(pair.deployment.persons()).unwrap();
    persons
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|line| line["type"] == "person" && line["person_id"] == person.person_id.as_str())
        .unwrap()
}

/// The current register of a scenario person and the municipality that keeps it.
fn first_copy_of(pair: &Pair, scenario: Scenario) -> (String, serde_json::Value) {
    let line = line_of(pair, scenario);
    let own = &line["members"][0];
    for (code, file) in pair.deployment.copies().unwrap() {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let copy: serde_json::Value = serde_json::from_str(line).unwrap();
            let entered = copy["municipality_code"] == own["municipality_code"]
                && copy["members"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|member| member["reference"] == own["reference"]);
            if entered && copy["kind"] == "current" {
                return (code, copy);
            }
        }
    }
    panic!("{} has no register", scenario.name());
}

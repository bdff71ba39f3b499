//! `prove`, `reconcile` and `who-received` on logs of both sides that the test writes itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod writer;

use audit::{Asked, Language};
use data_encoding::BASE64;
use koseki_proto::koseki::evidence::v1::{GuardActDetail, Outcome, Provision, ProvisionDetail};
use serde_json::Value;
use tlog_tiles::tlog;
use writer::{
    BEGIN, Desk, GATEWAY, Log, PROVIDER, assert_clean, assert_finds, assert_not_checked, guard, lost, named,
    ordinary, provision, release, request_id,
};

type Recorded = (Provision, ProvisionDetail);

/// As the registry side records it.
fn there(number: u8) -> Recorded {
    let (provision, mut detail) = release(number);
    detail.peer = "portal-gateway/gateway-1".to_owned();
    detail.subject_pseudonym = named(41);
    detail.session_pseudonym = named(42);
    detail.card_pseudonym = named(43);
    (provision, detail)
}

/// As the portal side records it, with the answer of this bundle.
fn here(number: u8, bundle: u64) -> Recorded {
    let (provision, mut detail) = release(number);
    detail.register_pseudonyms.clear();
    detail.municipality_codes.clear();
    detail.provider_log = "provider-1".to_owned();
    detail.provider_bundle = bundle;
    (provision, detail)
}

/// Refused on the portal side with this cause, without an answer.
fn unanswered(number: u8, cause: &str) -> Recorded {
    let (mut provision, mut detail) = here(number, 0);
    provision.outcome = Outcome::Unavailable.into();
    provision.items.clear();
    detail.cause = cause.to_owned();
    detail.provider_log.clear();
    detail.answer_sha256.clear();
    (provision, detail)
}

/// Logs of both sides, with requests 1 to 4 that both have alike.
fn both() -> (Log, Log) {
    let (mut provider, mut gateway) = (Log::new(PROVIDER, "provider-1"), Log::new(GATEWAY, "gateway-1"));
    provider.commit(0, vec![ordinary("OPEN_LOG")]);
    gateway.commit(0, vec![ordinary("OPEN_LOG")]);
    provider.commit(0, vec![provision(there(1)), provision(there(2))]);
    gateway.commit(0, vec![provision(here(1, 1)), provision(here(2, 1))]);
    provider.commit(0, vec![provision(there(3))]);
    gateway.commit(0, vec![provision(here(3, 2))]);
    let mut refused = (there(4), here(4, 3));
    for (provision, detail) in [&mut refused.0, &mut refused.1] {
        provision.outcome = Outcome::NotProvided.into();
        detail.answer_sha256.clear();
    }
    provider.commit(0, vec![provision(refused.0)]);
    gateway.commit(0, vec![provision(refused.1)]);
    (provider, gateway)
}

/// Lets the logs go on for so long that nothing in them is too young to be judged.
fn later(log: &mut Log) {
    for _ in 0..10 {
        log.commit(0, vec![ordinary("LOGIN")]);
    }
}

fn reconciled(provider: &Log, gateway: &Log) -> audit::Report {
    let desk = Desk::of(&[provider, gateway]);
    audit::reconcile(desk.files(), &desk.keys())
}

#[test]
fn answers_that_both_sides_have_alike_are_clean() {
    let (provider, gateway) = both();
    let json = assert_clean(&reconciled(&provider, &gateway));
    assert_eq!(json["result"]["twins"], 4);
    assert_eq!(json["result"]["differences_total"], 0);
    assert_eq!(json["counts"]["twins"]["checked"], 4);
}

#[test]
fn one_side_alone_cannot_be_reconciled() {
    let (provider, gateway) = both();
    for log in [&provider, &gateway] {
        let desk = Desk::of(&[log]);
        assert_not_checked(&audit::reconcile(desk.files(), &desk.keys()), "SIDE_NOT_GIVEN");
    }
}

#[test]
fn an_answer_that_differs_is_found() {
    let (provider, mut gateway) = both();
    let mut other = here(9, 2);
    other.0.request_id = request_id(3);
    other.1.eligibility_sha256 = there(3).1.eligibility_sha256;
    gateway.bundles.truncate(2);
    gateway.commit(0, vec![provision(other)]);
    assert_finds(&reconciled(&provider, &gateway), "ANSWER_DIFFERS");
}

#[test]
fn what_was_released_here_and_not_provided_there_is_found() {
    let (provider, mut gateway) = both();
    gateway.bundles.truncate(3);
    let mut released = here(4, 3);
    released.1.answer_sha256.clear();
    gateway.commit(0, vec![provision(released)]);
    assert_finds(&reconciled(&provider, &gateway), "OUTCOME_DIFFERS");
}

#[test]
fn a_release_of_the_portal_side_that_the_registry_side_never_made_is_found() {
    let (mut provider, mut gateway) = both();
    gateway.commit(0, vec![provision(here(5, 2))]);
    assert_finds(&reconciled(&provider, &gateway), "NO_TWIN_AT_PROVIDER");
    let (_, mut gateway) = both();
    // Without saying whose answer it was.
    let (released, mut detail) = here(5, 0);
    detail.provider_log.clear();
    gateway.commit(0, vec![provision((released, detail))]);
    assert_finds(&reconciled(&provider, &gateway), "NO_TWIN_AT_PROVIDER");
    // In a bundle that the file does not have yet.
    let (_, mut gateway) = both();
    gateway.commit(0, vec![provision(here(5, 4))]);
    assert_not_checked(&reconciled(&provider, &gateway), "TWIN_NOT_YET");
    provider.commit(0, vec![provision(there(5))]);
    assert_clean(&reconciled(&provider, &gateway));
}

#[test]
fn an_answer_that_the_portal_side_has_no_trace_of_is_found_when_it_is_old_enough() {
    let (mut provider, mut gateway) = both();
    provider.commit(0, vec![provision(there(5))]);
    assert_not_checked(&reconciled(&provider, &gateway), "TWIN_NOT_YET");
    later(&mut gateway);
    let json = assert_finds(&reconciled(&provider, &gateway), "NO_TWIN_AT_GATEWAY");
    assert_eq!(json["findings"][0]["about"], request_id(5));
    assert_eq!(
        json["findings"][0]["log"],
        "koseki.example/koseki-provider/provider-1"
    );
}

#[test]
fn what_was_lost_withheld_or_never_came_is_listed_with_its_cause() {
    let (mut provider, mut gateway) = both();
    provider.commit(
        0,
        vec![provision(there(5)), provision(there(6)), provision(there(7))],
    );
    gateway.commit(0, vec![lost(5)]);
    gateway.commit(0, vec![provision(unanswered(6, "UNAVAILABLE"))]);
    let mut withheld = here(7, 4);
    withheld.0.outcome = Outcome::Refused.into();
    withheld.1.cause = "CONSENT_REQUIRED".to_owned();
    gateway.commit(0, vec![provision(withheld)]);
    later(&mut gateway);
    let json = assert_clean(&reconciled(&provider, &gateway));
    let differences = json["result"]["differences"].as_array().unwrap();
    let causes: Vec<(&str, &str)> = differences
        .iter()
        .map(|one| {
            (
                one["request_id"].as_str().unwrap(),
                one["cause"].as_str().unwrap(),
            )
        })
        .collect();
    let ids = [7, 5, 6].map(request_id);
    assert_eq!(
        causes,
        [
            (ids[0].as_str(), "CONSENT_REQUIRED"),
            (&ids[1], "LOST_ANSWER"),
            (&ids[2], "NO_ANSWER_CAME: UNAVAILABLE"),
        ]
    );
}

#[test]
fn a_lost_answer_must_have_been_given() {
    let (mut provider, mut gateway) = both();
    gateway.commit(0, vec![lost(5)]);
    later(&mut provider);
    later(&mut provider);
    assert_finds(&reconciled(&provider, &gateway), "NO_TWIN_AT_PROVIDER");
    provider.bundles.truncate(4);
    assert_not_checked(&reconciled(&provider, &gateway), "TWIN_NOT_YET");
}

/// The proofs hold for the library's check, by the root in the checkpoint that comes with them.
#[test]
fn both_entries_of_a_request_are_proved() {
    let (provider, gateway) = both();
    let desk = Desk::of(&[&provider, &gateway]);
    let json = assert_clean(&audit::prove(desk.files(), &desk.keys(), &request_id(3)));
    let entries = json["result"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        let bytes = |value: &Value| BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap();
        let hash = |value: &Value| tlog::Hash(bytes(value).try_into().unwrap());
        let leaf = [bytes(&entry["public"]), bytes(&entry["commitment"])].concat();
        let checkpoint = entry["proof"]["checkpoint"].as_str().unwrap();
        let root = BASE64
            .decode(checkpoint.lines().nth(2).unwrap().as_bytes())
            .unwrap();
        let hashes = entry["proof"]["hashes"]
            .as_array()
            .unwrap()
            .iter()
            .map(hash)
            .collect();
        tlog::check_record(
            &hashes,
            entry["proof"]["size"].as_u64().unwrap(),
            tlog::Hash(root.try_into().unwrap()),
            entry["index"].as_u64().unwrap(),
            tlog::record_hash(&leaf),
        )
        .unwrap();
        assert_eq!(entry["entry"]["request_id"], request_id(3));
    }
    assert_eq!(
        entries[0]["entry"]["answer_sha256"],
        entries[1]["entry"]["answer_sha256"]
    );
    let unknown = audit::prove(desk.files(), &desk.keys(), &request_id(99));
    assert_not_checked(&unknown, "REQUEST_NOT_FOUND");
}

fn received(asked: Asked) -> Vec<String> {
    let (provider, gateway) = both();
    let desk = Desk::of(&[&provider, &gateway]);
    let json = assert_clean(&audit::who_received(desk.files(), &desk.keys(), &asked));
    let rows = json["result"]["releases"].as_array().unwrap();
    for row in rows {
        assert_eq!(row["portal"].as_array().unwrap().len(), 1);
        assert_eq!(row["registry"].as_array().unwrap().len(), 1);
    }
    rows.iter()
        .map(|row| row["request_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn releases_are_found_by_whatever_is_known_on_either_side() {
    let all: Vec<String> = (1..=3).map(request_id).collect();
    let pseudonym = |number: u8| Some(<[u8; 16]>::try_from(named(number)).unwrap());
    let found = [
        Asked::default(),
        Asked {
            card: pseudonym(3),
            ..Asked::default()
        },
        Asked {
            card: pseudonym(43),
            ..Asked::default()
        },
        Asked {
            session: pseudonym(2),
            ..Asked::default()
        },
        Asked {
            subject: pseudonym(41),
            ..Asked::default()
        },
        Asked {
            frontend: Some("demo".to_owned()),
            ..Asked::default()
        },
        Asked {
            municipality_code: Some("131016".to_owned()),
            ..Asked::default()
        },
        Asked {
            frontend: Some("demo".to_owned()),
            municipality_code: Some("131016".to_owned()),
            subject: pseudonym(1),
            ..Asked::default()
        },
    ];
    for asked in found {
        assert_eq!(received(asked.clone()), all, "{asked:?}");
    }
    let none = [
        Asked {
            card: pseudonym(9),
            ..Asked::default()
        },
        Asked {
            frontend: Some("other".to_owned()),
            ..Asked::default()
        },
        Asked {
            municipality_code: Some("011002".to_owned()),
            ..Asked::default()
        },
        Asked {
            frontend: Some("demo".to_owned()),
            card: pseudonym(9),
            ..Asked::default()
        },
        Asked {
            request_id: Some(request_id(4)),
            ..Asked::default()
        },
        Asked {
            until_ms: Some(BEGIN * 1_000),
            ..Asked::default()
        },
    ];
    for asked in none {
        assert!(received(asked.clone()).is_empty(), "{asked:?}");
    }
    let one = Asked {
        request_id: Some(request_id(2)),
        ..Asked::default()
    };
    assert_eq!(received(one), [request_id(2)]);
    // Bundles are 10 s apart.
    let window = Asked {
        from_ms: Some((BEGIN + 15) * 1_000),
        until_ms: Some((BEGIN + 25) * 1_000),
        ..Asked::default()
    };
    assert_eq!(received(window), [request_id(3)]);
}

/// The Japanese text of a report with everything in it; `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn the_japanese_text_is_the_golden_one() {
    let (mut provider, mut gateway) = both();
    provider.commit(1, vec![guard("SUSPEND_PROVISION", 0, GuardActDetail::default())]);
    provider.commit(1, vec![provision(there(5)), provision(there(6))]);
    gateway.commit(0, vec![lost(6)]);
    later(&mut gateway);
    let mut desk = Desk::of(&[&provider, &gateway]);
    desk.trust(&Log::new(GATEWAY, "gateway-2"));
    let mut text = String::new();
    let keys = desk.keys();
    for report in [
        audit::verify(desk.files(), &keys),
        audit::reconcile(desk.files(), &keys),
        audit::prove(desk.files(), &keys, &request_id(3)),
        audit::who_received(
            desk.files(),
            &keys,
            &Asked {
                request_id: Some(request_id(3)),
                ..Asked::default()
            },
        ),
    ] {
        text.push_str(&report.to_text(Language::Ja));
        text.push('\n');
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/report.ja.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}

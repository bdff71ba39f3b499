//! What the registry side keeps an eye on: persons in a second current register, linkages that nobody has confirmed for too
//! long, and instances that hold an older policy than another one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{fs, io::Cursor, path::Path, time::Duration};

use common::{
    alarm::Alarm, clock::Clock as _, policy::Policy, refusal::Reason, terms::RequestKind::CertificateRequest,
};
use devkit::{
    client::CallError,
    registers::{Scenario, canonical_digest},
    story::{Cast, ask_once},
};
use integration_tests::{Pair, identity, log};
use koseki_proto::koseki::common::v1::{LineOutcome, RequesterCopyInfo};
use serde_json::{Value, json};

async fn ask(cast: &Cast, scenario: Scenario) -> Result<RequesterCopyInfo, CallError> {
    let (_, card) = cast.person(scenario).unwrap();
    ask_once(&cast.frontend, &card, CertificateRequest, "").await
}

fn reason(outcome: Result<RequesterCopyInfo, CallError>) -> String {
    outcome.unwrap_err().reason().unwrap_or("NO_ANSWER").to_owned()
}

async fn until_second_register_alarm(pair: &Pair, stands: bool) {
    for _ in 0..300 {
        let standing = pair.provider.alarms().standing();
        if standing
            .iter()
            .any(|(alarm, _)| *alarm == Alarm::SecondCurrentRegister)
            == stands
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", pair.provider.alarms().standing());
}

/// Every current register of a person: the municipality, the line, and the person's place among the members.
fn current_registers(pair: &Pair, person_id: &str) -> Vec<(String, Value, usize)> {
    let persons = fs::read_to_string(pair.deployment.persons()).unwrap();
    let person: Value = persons
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["type"] == "person" && line["person_id"] == person_id)
        .unwrap();
    let mut found = Vec::new();
    for (code, file) in pair.deployment.copies().unwrap() {
        for line in fs::read_to_string(file).unwrap().lines() {
            let copy: Value = serde_json::from_str(line).unwrap();
            let place = copy["members"].as_array().unwrap().iter().position(|member| {
                person["members"].as_array().unwrap().iter().any(|own| {
                    own["municipality_code"] == copy["municipality_code"]
                        && own["reference"] == member["reference"]
                })
            });
            if let (Some(place), "current") = (place, copy["kind"].as_str().unwrap()) {
                found.push((code.clone(), copy, place));
            }
        }
    }
    found
}

/// The next revision of a copy in which a member is removed.
fn removed(mut copy: Value, place: usize) -> Vec<u8> {
    copy["revision"] = json!(copy["revision"].as_u64().unwrap() + 1);
    copy["members"][place]["removed"] = json!(true);
    copy.as_object_mut().unwrap().remove("digest");
    copy["digest"] = canonical_digest(&copy.to_string()).into();
    copy.to_string().into_bytes()
}

#[tokio::test]
async fn a_second_current_register_alarms_until_the_municipality_has_settled_it() {
    let pair = Pair::start_loaded().await;
    until_second_register_alarm(&pair, true).await;
    let bundles = log::bundles(&pair.deployment.provider_database()).await;
    let entries = bundles.iter().flat_map(|bundle| &bundle.entries);
    let told = entries.filter(
        |entry| matches!(&entry.event, Some(log::Event::OrdinaryAct(act)) if act.act == "SECOND_CURRENT_REGISTER"),
    );
    assert_eq!(told.count(), 1, "one entry for the one person, once");

    let cast = pair.cast().await;
    let (person, _) = cast.person(Scenario::TwoCurrentRegisters).unwrap();
    let person_id = person.person_id.clone();
    assert_eq!(
        reason(ask(&cast, Scenario::TwoCurrentRegisters).await),
        Reason::NotProvided.name()
    );
    let registers = current_registers(&pair, &person_id);
    assert_eq!(registers.len(), 2);
    let (code, copy, place) = &registers[1];
    let offices = pair.offices();
    let sent = offices.municipalities[code]
        .send(Cursor::new(removed(copy.clone(), *place)))
        .await;
    assert_eq!(sent.lines[0].outcome, LineOutcome::Stored, "{sent:?}");
    until_second_register_alarm(&pair, false).await;
    ask(&cast, Scenario::TwoCurrentRegisters).await.unwrap();
}

/// Writes both sides' policy anew, before they start.
fn change_policy(pair: &Pair, change: impl Fn(&str) -> String) -> std::path::PathBuf {
    let folder = pair.deployment.dir().join("another-policy");
    copy_folder(&pair.deployment.provider().join("policy"), &folder);
    let file = folder.join("provision-policy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let changed = change(&text);
    assert_ne!(changed, text);
    fs::write(&file, changed).unwrap();
    file
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_linkage_lapses_on_either_side_until_it_is_confirmed() {
    let pair = Pair::start_loaded().await;
    let day = Duration::from_secs(24 * 3_600);
    // A next policy by which a linkage counts for a day: revocation lists do not hold for a month in this test.
    let file = change_policy(&pair, |text| {
        let moment = pair.clock.now().after(Duration::from_secs(60)).to_rfc3339();
        text.replacen("2024-03-01T00:00:00+09:00", &moment, 1).replacen(
            "linkage_confirmed_days = 31",
            "linkage_confirmed_days = 1",
            1,
        )
    });
    for side in [pair.deployment.provider(), pair.deployment.gateway()] {
        let next = side.join("next-policy");
        copy_folder(&file.parent().unwrap().join("consent"), &next.join("consent"));
        fs::copy(&file, next.join("new")).unwrap();
        fs::rename(next.join("new"), next.join("provision-policy.toml")).unwrap();
    }
    let offices = pair.offices();
    for _ in 0..200 {
        let told = offices.registry[0]
            .status()
            .await
            .unwrap()
            .side
            .unwrap()
            .next_policy;
        let here = offices.portal[0]
            .status()
            .await
            .unwrap()
            .side
            .unwrap()
            .next_policy;
        if told.is_some() && here.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.clock.advance(day + Duration::from_secs(120));
    let cast = pair.cast().await;
    assert_eq!(
        reason(ask(&cast, Scenario::Ordinary).await),
        Reason::NotProvided.name()
    );

    let (person, _) = cast.person(Scenario::Ordinary).unwrap();
    let of_card = format!("\"card_key_sha256\":\"{}\"", person.card_key_sha256);
    let persons = fs::read_to_string(pair.deployment.persons()).unwrap();
    let line: Value =
        serde_json::from_str(persons.lines().find(|line| line.contains(&of_card)).unwrap()).unwrap();
    // A day begins in Japan nine hours before it does in Greenwich.
    let today = pair
        .clock
        .now()
        .after(Duration::from_secs(9 * 3_600))
        .to_rfc3339();
    let confirm = || {
        let line = json!({
            "type": "confirm", "linkage_code": line["linkage_code"], "confirmed_on": today[..10],
        });
        Cursor::new(line.to_string().into_bytes())
    };
    let confirmed = offices.portal[0].load(confirm()).await;
    assert_eq!(confirmed.lines[0].outcome, LineOutcome::Stored, "{confirmed:?}");
    assert_eq!(
        reason(ask(&cast, Scenario::Ordinary).await),
        Reason::NotProvided.name(),
        "the registry side's has lapsed, too"
    );
    let confirmed = offices.registry[0].load(confirm()).await;
    assert_eq!(confirmed.lines[0].outcome, LineOutcome::Stored, "{confirmed:?}");
    ask(&cast, Scenario::Ordinary).await.unwrap();
    let again = offices.registry[0].load(confirm()).await;
    assert_eq!(again.lines[0].outcome, LineOutcome::Unchanged);
}

#[tokio::test]
async fn an_instance_whose_policy_is_behind_releases_nothing() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    ask(&cast, Scenario::Ordinary).await.unwrap();
    let newer = |ago: Duration| {
        let moment = pair.clock.now().before(ago).to_rfc3339();
        let file = change_policy(&pair, |text| {
            text.replacen("2024-03-01T00:00:00+09:00", &moment, 1)
        });
        Policy::load(&file).unwrap()
    };
    let other = identity("koseki-provider/provider-2");
    let registry = pair.registry_store.side().database();
    // Within the skew of clocks the one before may still be named; deploy/policy has 5 s.
    registry
        .take_policy(&newer(Duration::ZERO), &other, pair.clock.now())
        .await
        .unwrap();
    ask(&cast, Scenario::Ordinary).await.unwrap();
    pair.clock.advance(Duration::from_secs(6));
    let behind = reason(ask(&cast, Scenario::Ordinary).await);
    assert_eq!(behind, Reason::Unavailable.name());
    let (_, act) = log::guard_act(&pair.deployment.provider_database(), "TAKE_POLICY")
        .await
        .unwrap();
    assert_eq!(act.act, "TAKE_POLICY");
}

#[tokio::test]
async fn a_gateway_whose_policy_is_behind_releases_nothing() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    ask(&cast, Scenario::Ordinary).await.unwrap();
    let moment = pair.clock.now().before(Duration::from_secs(60)).to_rfc3339();
    let file = change_policy(&pair, |text| {
        text.replacen("2024-03-01T00:00:00+09:00", &moment, 1)
    });
    let other = identity("portal-gateway/gateway-2");
    let portal = pair.portal_store.side().database();
    portal
        .take_policy(&Policy::load(&file).unwrap(), &other, pair.clock.now())
        .await
        .unwrap();
    assert_eq!(
        reason(ask(&cast, Scenario::Ordinary).await),
        Reason::Unavailable.name()
    );
}

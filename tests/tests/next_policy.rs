//! The policy in force and the next one (clause 5), through both services: it takes over at its moment, a side that lacks
//! it is told of in time, and what the two sides hold is compared always. And I7 at the portal side: an answer that is
//! more than the policy lists is withheld.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{fs, path::Path, time::Duration};

use common::{alarm::Alarm, clock::Clock as _, refusal::Reason, server::Server, terms::RequestKind};
use devkit::{
    registers::Scenario,
    story::{Cast, ask_once},
};
use integration_tests::{Pair, played_registry::PlayedRegistry};
use koseki_proto::koseki::common::v1::{ProvidedRegister, RegisterKind, RequesterCopyInfo, RequesterItems};

const KIND: RequestKind = RequestKind::CertificateRequest;
const MINUTE: Duration = Duration::from_secs(60);

/// Puts a next policy into a side's folder, its consent texts first and the file at once.
fn put(side: &Path, text: &str) {
    let folder = side.join("next-policy");
    fs::create_dir_all(folder.join("consent")).unwrap();
    for entry in fs::read_dir(side.join("policy/consent")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join("consent").join(entry.file_name())).unwrap();
    }
    fs::write(folder.join("new"), text).unwrap();
    fs::rename(folder.join("new"), folder.join("provision-policy.toml")).unwrap();
}

/// The policy in force with another moment, and without the municipality's code for the plain request.
fn next(pair: &Pair, ahead: Duration) -> String {
    let moment = pair.clock.now().after(ahead).to_rfc3339();
    let in_force = pair.deployment.provider().join("policy/provision-policy.toml");
    fs::read_to_string(in_force)
        .unwrap()
        .replacen("2024-03-01T00:00:00+09:00", &moment, 1)
        .replacen(", \"municipality_code\"]", "]", 1)
}

fn stands(server: &Server, alarm: Alarm) -> bool {
    server
        .alarms()
        .standing()
        .iter()
        .any(|(standing, _)| *standing == alarm)
}

/// Waits until an alarm stands, or does not, on both sides.
async fn until(pair: &Pair, alarm: Alarm, standing: bool) {
    for _ in 0..200 {
        if [&pair.provider, &pair.gateway]
            .iter()
            .all(|server| stands(server, alarm) == standing)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!(
        "{}: {:?} {:?}",
        alarm.name(),
        pair.provider.alarms().standing(),
        pair.gateway.alarms().standing()
    );
}

/// The municipality's code in the ordinary person's answer, or the reason for which there is none.
async fn ask(cast: &Cast) -> Result<String, String> {
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    match ask_once(&cast.frontend, &card, KIND, "").await {
        Ok(info) => Ok(info.registers[0].municipality_code.clone()),
        Err(error) => Err(error.reason().unwrap_or("no reason").to_owned()),
    }
}

#[tokio::test]
async fn it_takes_over_on_both_sides_at_its_moment_and_a_side_that_lacks_it_is_told_of_an_hour_before() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    assert_eq!(ask(&cast).await, Ok("131016".to_owned()));

    // More than an hour before, nobody has to have it yet.
    let next = next(&pair, 90 * MINUTE);
    put(&pair.deployment.provider(), &next);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!stands(&pair.provider, Alarm::NextPolicyMissingAtPeer));
    pair.clock.advance(31 * MINUTE);
    until(&pair, Alarm::NextPolicyMissingAtPeer, true).await;

    put(&pair.deployment.gateway(), &next);
    until(&pair, Alarm::NextPolicyMissingAtPeer, false).await;
    cast.frontend.wait_until_providing().await.unwrap();
    assert_eq!(ask(&cast).await, Ok("131016".to_owned()), "not yet in force");

    // A file that cannot be taken leaves what is held.
    for side in [pair.deployment.provider(), pair.deployment.gateway()] {
        fs::write(
            side.join("next-policy/provision-policy.toml"),
            "effective_at = 1\n",
        )
        .unwrap();
    }
    until(&pair, Alarm::NextPolicyUnreadable, true).await;

    pair.clock.advance(60 * MINUTE);
    cast.frontend.wait_until_providing().await.unwrap();
    assert_eq!(ask(&cast).await, Ok(String::new()), "in force");
    for server in [&pair.provider, &pair.gateway] {
        assert!(!stands(server, Alarm::PolicyMismatch));
    }
}

#[tokio::test]
async fn a_difference_in_force_stops_provision_and_alarms_on_both_sides_until_it_is_gone() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let next = next(&pair, 10 * MINUTE);
    put(&pair.deployment.provider(), &next);
    until(&pair, Alarm::NextPolicyMissingAtPeer, true).await;
    pair.clock.advance(11 * MINUTE);
    until(&pair, Alarm::PolicyMismatch, true).await;
    assert_eq!(ask(&cast).await, Err(Reason::Unavailable.name().to_owned()));

    put(&pair.deployment.gateway(), &next);
    until(&pair, Alarm::PolicyMismatch, false).await;
    cast.frontend.wait_until_providing().await.unwrap();
    assert_eq!(ask(&cast).await, Ok(String::new()));
}

/// Within the mask; then with something more each.
fn answers() -> Vec<RequesterCopyInfo> {
    let register = ProvidedRegister {
        register_kind: RegisterKind::Current.into(),
        registered_domicile: "本籍".to_owned(),
        first_entered_person: "筆頭者".to_owned(),
        municipality_code: "131016".to_owned(),
        copy_revision: 1,
        ..ProvidedRegister::default()
    };
    let plain = RequesterCopyInfo {
        registers: vec![register.clone()],
        requester: None,
    };
    let mut with_handle = plain.clone();
    with_handle.registers[0].register_handle = vec![7; 32];
    let mut with_entry = plain.clone();
    with_entry.requester = Some(RequesterItems {
        name: "氏名".to_owned(),
        ..RequesterItems::default()
    });
    let mut with_removed = plain.clone();
    with_removed.registers.push(ProvidedRegister {
        register_kind: RegisterKind::Removed.into(),
        ..register
    });
    vec![plain, with_handle, with_entry, with_removed]
}

#[tokio::test]
async fn an_answer_outside_the_mask_is_withheld_and_alarms() {
    let played = PlayedRegistry::start().await;
    let mut answers = answers().into_iter();
    played.says(|says| says.info = answers.next().unwrap());
    assert_eq!(
        ask(&played.cast).await,
        Ok("131016".to_owned()),
        "within the mask"
    );
    assert!(played.gateway.alarms().standing().is_empty());
    for (number, more) in answers.enumerate() {
        played.says(|says| says.info = more);
        assert_eq!(
            ask(&played.cast).await,
            Err(Reason::Unavailable.name().to_owned()),
            "{number}"
        );
        assert!(stands(&played.gateway, Alarm::AnswerOutsideMask));
    }
}

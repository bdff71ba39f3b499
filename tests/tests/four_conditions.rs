//! The four conditions (clause 4.3), each missing in turn, and all of them there: through both services, over mutual TLS.

use std::{collections::BTreeSet, fs};

use common::{keyring::Keyring, refusal::Reason, terms::RequestKind};
use devkit::{
    registers::{Outcome, Scenario},
    story::{self, Teller, ask_once},
};
use integration_tests::Pair;

/// Plays every scene of the story: each scenario person, each refusal, suspension at either side.
#[tokio::test]
async fn every_step_of_the_story_comes_out_as_it_must() {
    let pair = Pair::start().await;
    let (cast, offices) = (pair.cast().await, pair.offices());
    let mut teller = Teller::new(|line| println!("{line}"));
    story::play(&cast, &offices, &mut teller).await.unwrap();
    let failed: Vec<_> = teller.failed().collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(
        teller.steps().len() > 70,
        "the story has become short: {} steps",
        teller.steps().len()
    );
}

/// The handle of a code request follows from the register alone, under a key that only the registry side has; all
/// statuses of a reading are among the scenario persons who are provided.
#[tokio::test]
async fn a_register_handle_is_the_hmac_of_the_register_and_of_nothing_else() {
    let pair = Pair::start_loaded().await;
    let keyring = Keyring::load(&pair.deployment.provider().join("keyring.toml")).unwrap();
    let handles = keyring.handle.unwrap();
    let cast = pair.cast().await;
    let mut seen = BTreeSet::new();
    let mut statuses = BTreeSet::new();
    for person in &cast.persons {
        let Outcome::Provided { registers, requester } = &person.expected else {
            continue;
        };
        statuses.insert(format!("{:?}", requester.name_kana_status));
        let copies = pair.deployment.data().join("copies");
        let copies = copies.join(format!("{}.jsonl", registers[0].municipality_code));
        let local_numbers: Vec<String> = fs::read_to_string(copies)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|record| {
                record["registered_domicile"] == registers[0].registered_domicile.as_str()
                    && record["first_entered_person"] == registers[0].first_entered_person.as_str()
                    && record["kind"] == "current"
            })
            .map(|record| record["local_number"].as_str().unwrap().to_owned())
            .collect();
        let [local_number] = local_numbers.as_slice() else {
            panic!("{} current registers", local_numbers.len());
        };
        let card = pair.deployment.card(person).unwrap();
        let kind = RequestKind::ProvisionCodeRequest;
        let came = ask_once(&cast.frontend, &card, kind, "").await.unwrap();
        let expected = handles.register(&registers[0].municipality_code, local_number);
        assert_eq!(came.registers[0].register_handle, expected);
        assert_eq!(came.registers[0].municipality_code, "");
        seen.insert(expected);
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(statuses.len(), 4, "{statuses:?}");
}

/// What the policy does not have is not a procedure, whatever else is in order.
#[tokio::test]
async fn an_unknown_procedure_is_malformed() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let (_, card) = cast.person(Scenario::Ordinary).unwrap();
    for (kind, procedure) in [
        (RequestKind::CertificateRequest, "name_kana"),
        (RequestKind::Notification, ""),
        (RequestKind::Notification, "lineage"),
        (RequestKind::ProvisionCodeRequest, "general"),
    ] {
        let refused = ask_once(&cast.frontend, &card, kind, procedure)
            .await
            .unwrap_err();
        assert_eq!(
            refused.reason(),
            Some(Reason::Malformed.name()),
            "{kind:?} {procedure}"
        );
    }
}

//! I5: nothing personal outside the answer. The whole story is played against real processes that log everything they
//! can, then every log line and every byte of both databases is searched for what is in the registers, for the persons'
//! ids and for the linkage codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    sync::Arc,
};

use common::{clock::ShiftedClock, terms::LinkageCode};
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair},
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{REGISTERS, SEED};

/// Length of the shortest secret: shorter ones stand in anything by chance.
const START: usize = 6;

/// What must not be found, as text and, for codes, as bytes.
fn secrets(deployment: &Deployment) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut add = |text: &str| {
        if text.len() >= START {
            found.insert(text.as_bytes().to_vec());
        }
    };
    let values = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    for (_, file) in deployment.copies().unwrap() {
        for line in fs::read_to_string(file).unwrap().lines() {
            let record = values(line);
            for field in [
                "registered_domicile",
                "first_entered_person",
                "local_number",
                "digest",
            ] {
                add(record[field].as_str().unwrap());
            }
            for member in record["members"].as_array().unwrap() {
                for field in ["name", "name_kana", "reference", "father", "mother"] {
                    add(member[field].as_str().unwrap_or_default());
                }
                add(member["birth_date"]["written"].as_str().unwrap());
            }
        }
    }
    for file in [deployment.persons(), deployment.linkages()] {
        for line in fs::read_to_string(file).unwrap().lines() {
            let record = values(line);
            for field in ["person_id", "linkage_code", "card_key_sha256"] {
                add(record[field].as_str().unwrap_or_default());
            }
        }
    }
    for line in fs::read_to_string(deployment.linkages()).unwrap().lines() {
        let code = LinkageCode::parse_text(values(line)["linkage_code"].as_str().unwrap()).unwrap();
        found.insert(code.expose().to_vec());
        found.insert(code.handle().expose().to_vec());
    }
    found
}

/// Every secret that stands in a file of the folder, and how many bytes were looked at.
fn search(folder: &Path, secrets: &BTreeSet<Vec<u8>>) -> (usize, Vec<String>) {
    let mut by_start: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    for secret in secrets {
        by_start.entry(&secret[..START]).or_default().push(secret);
    }
    let mut hits = Vec::new();
    let mut bytes = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        bytes += content.len();
        for (at, start) in content.windows(START).enumerate() {
            let candidates = by_start.get(start).into_iter().flatten();
            for secret in candidates.filter(|secret| content[at..].starts_with(secret)) {
                hits.push(format!(
                    "{} at {at}: {}",
                    path.display(),
                    String::from_utf8_lossy(secret)
                ));
            }
        }
    }
    (bytes, hits)
}

#[tokio::test]
async fn logs_and_databases_hold_nothing_of_the_registers() {
    let directory = tempfile::TempDir::new().unwrap();
    let plan = Plan {
        seed: SEED,
        registers: REGISTERS,
        addresses: Addresses::loopback(),
    };
    let deployment = Deployment::create(directory.path(), &plan).unwrap();
    for config in [deployment.provider_config(), deployment.gateway_config()] {
        let text = fs::read_to_string(&config)
            .unwrap()
            .replace("filter = \"info\"", "filter = \"trace\"");
        assert!(text.contains("filter = \"trace\""));
        fs::write(&config, text).unwrap();
    }
    let pair = Pair::start(&Binaries::locate().unwrap(), &deployment)
        .await
        .unwrap();
    let access = Access::new(&deployment, Arc::new(ShiftedClock::default()));
    let reach = pair.reach().unwrap();
    let cast = Cast::new(&deployment, &access, &reach.portal).unwrap();
    cast.frontend.wait_until_providing().await.unwrap();
    let offices = Offices::new(&deployment, &access, &reach).unwrap();
    let mut teller = Teller::new(|_| {});
    story::play(&cast, &offices, &mut teller).await.unwrap();
    assert_eq!(teller.failed().count(), 0);

    let secrets = secrets(&deployment);
    assert!(secrets.len() > 300, "only {} secrets", secrets.len());
    // The search finds what is there.
    let (_, in_the_data) = search(&deployment.data().join("copies"), &secrets);
    assert!(in_the_data.len() > 100);
    for folder in [
        deployment.logs(),
        deployment.provider_state(),
        deployment.gateway_state(),
    ] {
        let (bytes, hits) = search(&folder, &secrets);
        assert!(bytes > 10_000, "{}: only {bytes} bytes", folder.display());
        assert!(hits.is_empty(), "{hits:#?}");
    }
    pair.stop().await.unwrap();
}

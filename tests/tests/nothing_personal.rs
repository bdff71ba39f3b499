//! I5: nothing personal outside the answer. The whole story is played against real processes that log everything they
//! can, then every log line and every byte of both databases is searched for what is in the registers, for the persons'
//! ids and for the linkage codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    sync::Arc,
};

use common::{clock::ShiftedClock, terms::LinkageCode};
use data_encoding::HEXLOWER;
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair},
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{REGISTERS, SEED, stores};

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
    // A session keeps the proof of its login.
    for person in deployment.scenarios().unwrap() {
        found.insert(deployment.card(&person).unwrap().certificate_der);
    }
    found
}

/// Finds secrets in bytes.
struct Search<'a> {
    by_start: HashMap<&'a [u8], Vec<&'a [u8]>>,
    /// Whether a secret begins with these three bytes: nearly nothing else has to be looked at closely.
    begins: Vec<bool>,
}

impl<'a> Search<'a> {
    fn new(secrets: &'a BTreeSet<Vec<u8>>) -> Self {
        let mut by_start: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        let mut begins = vec![false; 1 << 24];
        for secret in secrets {
            by_start.entry(&secret[..START]).or_default().push(secret);
            begins[three(secret)] = true;
        }
        Self { by_start, begins }
    }

    /// Every secret that stands in a file of the folder or below it, and how many bytes were looked at.
    fn below(&self, path: &Path) -> (usize, Vec<String>) {
        if path.is_file() {
            let content = fs::read(path).unwrap();
            return (content.len(), self.within(&content, path));
        }
        let (mut bytes, mut hits) = (0, Vec::new());
        for entry in fs::read_dir(path).unwrap() {
            let (more, found) = self.below(&entry.unwrap().path());
            bytes += more;
            hits.extend(found);
        }
        (bytes, hits)
    }

    fn within(&self, content: &[u8], path: &Path) -> Vec<String> {
        let mut hits = Vec::new();
        let mut at = 0;
        while at + START <= content.len() {
            if self.begins[three(&content[at..])] {
                let candidates = self.by_start.get(&content[at..at + START]).into_iter().flatten();
                for secret in candidates.filter(|secret| content[at..].starts_with(secret)) {
                    let secret = String::from_utf8_lossy(secret);
                    hits.push(format!("{} at {at}: {secret}", path.display()));
                }
            }
            at += 1;
        }
        hits
    }
}

fn three(bytes: &[u8]) -> usize {
    (usize::from(bytes[0]) << 16) | (usize::from(bytes[1]) << 8) | usize::from(bytes[2])
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
    stores::place(&deployment).await;
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

    let mut secrets = secrets(&deployment);
    assert!(secrets.len() > 300, "only {} secrets", secrets.len());
    // A dump has bytes as hexadecimal text.
    let in_hex = secrets.iter().map(|secret| HEXLOWER.encode(secret).into_bytes());
    secrets.extend(in_hex.collect::<Vec<_>>());
    let search = Search::new(&secrets);
    // The search finds what is there.
    let (_, in_the_data) = search.below(&deployment.data().join("copies"));
    assert!(in_the_data.len() > 100);
    let mut places = vec![deployment.logs()];
    for database in [deployment.provider_database(), deployment.gateway_database()] {
        let all = stores::all_bytes(&database).await;
        // The look itself is no empty one: who acted may be read.
        let open = BTreeSet::from([b"operator/alice".to_vec()]);
        let there = all.iter().map(|place| Search::new(&open).below(place).1.len());
        assert!(there.sum::<usize>() > 0, "{}", database.display());
        places.extend(all);
    }
    for place in BTreeSet::from_iter(places) {
        let (bytes, hits) = search.below(&place);
        println!("{bytes} bytes of {}", place.display());
        assert!(hits.is_empty(), "{hits:#?}");
    }
    pair.stop().await.unwrap();
}

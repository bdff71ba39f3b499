//! I5: nothing personal outside the answer. The whole story is played against real processes that log everything they
//! can, then every log line, every byte of both databases, the metrics, and all that came back with refusals are searched
//! for what is in the registers, for the persons' ids, for the linkage codes, for what cards say and sign, for sessions'
//! tokens, and for what a consent receipt says of a requester.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

mod requester;
mod search;
mod secrets;

use std::{collections::BTreeSet, fs, sync::Arc};

use common::{clock::ShiftedClock, terms::RequestKind};
use data_encoding::{BASE64, HEXUPPER};
use devkit::{
    card::CardProfile,
    client::{Access, CallError},
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair, Service},
    registers::Scenario,
    story::{self, Cast, Offices, Teller},
};
use futures_util::future::join_all;
use integration_tests::{REGISTERS, SEED, stores};
use requester::Requester;
use search::Search;
use secrets::Secrets;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Subject of a card: nothing else has this number.
const SUBJECT: &str = "7305961842073519";

/// What a service's operations port tells that it has counted.
async fn metrics(service: &Service) -> Vec<u8> {
    let mut stream = TcpStream::connect(service.address("ops").unwrap()).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200"));
    answer
}

/// What comes back when every scenario person asks whom something refuses.
async fn refusals_of_scenarios(cast: &Cast) -> Vec<Vec<u8>> {
    let cards: Vec<_> = cast
        .persons
        .iter()
        .map(|person| cast.deployment.card(person).unwrap())
        .collect();
    let ask = |card| story::ask_once(&cast.frontend, card, RequestKind::CertificateRequest, "");
    let came = join_all(cards.iter().map(ask)).await;
    let refused = came.into_iter().filter_map(|came| match came {
        Err(CallError::Refused(refused)) => Some(refused.wire),
        Err(CallError::NoAnswer { message, .. }) => panic!("no answer: {message}"),
        Ok(_) => None,
    });
    refused.collect()
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
    assert_eq!(
        teller.failed().count(),
        0,
        "{:#?}",
        teller.failed().collect::<Vec<_>>()
    );

    let mut requester = Requester::new(&cast, &access, &reach.portal);
    let (_, card) = cast.person(Scenario::Plane2).unwrap();
    assert_eq!(requester.play(&deployment, &card).await, None);
    let stranger = CardProfile::user_authentication(SUBJECT);
    let stranger = deployment.issue_card(&stranger).unwrap();
    requester.secrets.text(SUBJECT);
    let outcome = requester.play(&deployment, &stranger).await;
    assert_eq!(outcome.as_deref(), Some("NOT_PROVIDED"));
    let mut refusals = std::mem::take(&mut requester.refusals);
    refusals.extend(refusals_of_scenarios(&cast).await);
    assert!(refusals.len() > 20, "only {} refusals", refusals.len());

    let of_data = Secrets::of(&deployment);
    let everywhere: BTreeSet<_> = of_data.all().union(requester.secrets.all()).cloned().collect();
    assert!(everywhere.len() > 1_000, "only {} secrets", everywhere.len());
    let search = Search::new(&everywhere);
    let while_it_lasts = Search::new(requester.kept_a_while.all());
    // The search finds what is there.
    let (_, in_the_data) = search.below(&deployment.data().join("copies"));
    assert!(in_the_data.len() > 100);
    for before in 0..3 {
        let message = [&vec![b'x'; before], stranger.serial.as_slice(), b"x"].concat();
        for text in [
            BASE64.encode(&message),
            HEXUPPER.encode(&message),
            format!("{message:?}"),
        ] {
            assert!(!search.within(text.as_bytes(), "a message").is_empty(), "{text}");
        }
    }

    let mut told: Vec<_> = refusals.into_iter().map(|wire| ("a refusal", wire)).collect();
    for service in [&pair.provider, &pair.gateway] {
        told.push(("metrics", metrics(service).await));
    }
    for (what, content) in &told {
        for search in [&search, &while_it_lasts] {
            let hits = search.within(content, what);
            assert!(hits.is_empty(), "{hits:#?}");
        }
    }
    let mut places = vec![deployment.logs()];
    let (_, hits) = while_it_lasts.below(&deployment.logs());
    assert!(hits.is_empty(), "{hits:#?}");
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

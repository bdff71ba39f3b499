//! Both services, and on PostgreSQL their servers, are killed with SIGKILL again and again, at seeded random moments, while
//! municipalities and operators load files, requesters ask, and operators forbid. Whatever was acknowledged is there
//! afterwards, both logs are whole and what was countersigned, and every difference between them has its cause.
//!
//! A moment is a number of acknowledgements: the kill comes right after one that the seed picks, while the next things are
//! under way. What is under way then is not deterministic. `KOSEKI_SEED` repeats the choices of a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

mod audit;
mod forbidders;
mod ledger;
mod loaders;
mod reconcile;
mod requesters;
mod services;

use std::{env, ops::RangeInclusive, sync::Arc, time::Duration};

use common::clock::{Clock as _, SystemClock};
use devkit::{
    client::Access,
    deployment::{Deployment, Plan},
    postgres::Cluster,
    process::{Binaries, Pair},
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{countersigned::Countersigned, stores};
use ledger::{Ledger, Side, Thing};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use services::{Services, Victim};
use tokio::task::JoinSet;

/// Kills in the share that every run of the tests has, and at the stated size: on SQLite, and on PostgreSQL.
const FEW_KILLS: [usize; 2] = [4, 6];
const MANY_KILLS: [usize; 2] = [100, 200];
/// What a side acknowledges between its start and its kill: so many of one of these.
const BEFORE_A_KILL: [(Thing, RangeInclusive<u64>); 3] = [
    (Thing::Line, 1..=300),
    (Thing::Request, 1..=40),
    (Thing::Act, 1..=2),
];
/// Without an acknowledgement for this long, nothing works any more.
const STANDSTILL: Duration = Duration::from_secs(60);
/// The scenario persons' registers and some others; what is loaded under fire comes on top.
const REGISTERS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_kills() {
    let seed = match env::var("KOSEKI_SEED") {
        Ok(seed) => seed.parse().expect("KOSEKI_SEED is a number"),
        Err(_) => rand::random::<u64>(),
    };
    let soak = env::var("KOSEKI_SOAK").is_ok_and(|value| value == "1");
    let kills = if soak { MANY_KILLS } else { FEW_KILLS };
    let kills = kills[usize::from(stores::on_postgres())];
    println!("seed {seed} (KOSEKI_SEED repeats it), {kills} kills");
    let clock = Arc::new(SystemClock::new());

    let dir = tempfile::tempdir().unwrap();
    let addresses = services::fixed_addresses(&mut ChaCha8Rng::seed_from_u64(seed));
    let plan = Plan {
        seed,
        registers: REGISTERS,
        addresses,
    };
    let deployment = Deployment::create(dir.path(), &plan).unwrap();
    let servers = stores::on_postgres().then(|| [(); 2].map(|()| Arc::new(Cluster::start().unwrap())));
    if let Some(servers) = &servers {
        stores::place_on(&deployment, servers).await;
    }
    let binaries = Binaries::locate().unwrap();
    let pair = Pair::start(&binaries, &deployment).await.unwrap();
    let reach = pair.reach().unwrap();
    let access = Access::new(&deployment, clock.clone());
    let cast = Arc::new(Cast::new(&deployment, &access, &reach.portal).unwrap());
    let offices = Arc::new(Offices::new(&deployment, &access, &reach).unwrap());
    let mut teller = Teller::new(|_| {});
    story::load(&deployment, &offices, &mut teller).await.unwrap();
    assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());
    cast.frontend.wait_until_providing().await.unwrap();

    // Work goes on while services are killed and started again.
    let ledger = Arc::new(Ledger::new(clock.clone()));
    let mut work = JoinSet::new();
    loaders::start(&mut work, &ledger, &offices, seed);
    requesters::start(&mut work, &ledger, &cast, seed);
    forbidders::start(&mut work, &ledger, &cast, &offices, kills);
    let mut services = Services::new(binaries, deployment.clone(), pair, servers.clone());
    let databases = [deployment.provider_database(), deployment.gateway_database()];
    let mut countersigned = Countersigned::default();
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
    let mut killed = [0; 3];
    for number in 1..=kills {
        let victim = services.victim(&mut rng);
        let side = victim.side();
        let (thing, more) = &BEFORE_A_KILL[rng.random_range(0..BEFORE_A_KILL.len())];
        let more = rng.random_range(more.clone());
        ledger.wait_for_more(side, *thing, more, STANDSTILL).await;
        ledger.goes_down(side);
        services.kill_and_start(victim).await;
        ledger.is_up(side);
        for database in &databases {
            countersigned.note(database).await;
        }
        killed[match victim {
            Victim::Service(side) => side as usize,
            Victim::Server(_) => 2,
        }] += 1;
        ledger.has_killed(number);
        println!(
            "{number}: {victim:?} was killed, after {} s",
            clock.monotonic().as_secs()
        );
    }
    forbidders::finish(&ledger, STANDSTILL).await;
    ledger.stop();
    while let Some(ended) = work.join_next().await {
        ended.unwrap();
    }

    println!("all are up after {} s", clock.monotonic().as_secs());
    // Everything is up: look at what was promised.
    cast.frontend.wait_until_decided().await.unwrap();
    let resent = loaders::check(&ledger, &offices).await;
    requesters::check(&ledger, &cast).await;
    forbidders::check(&ledger, &cast).await;
    let mut teller = Teller::new(|_| {});
    story::load(&deployment, &offices, &mut teller).await.unwrap();
    assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());
    reconcile::until_lost_answers_are_recorded(&databases).await;
    services.stop().await;
    for database in &databases {
        countersigned.note(database).await;
    }
    let provider = audit::check(&deployment.provider_database(), "provider-1").await;
    let gateway = audit::check(&deployment.gateway_database(), "gateway-1").await;
    let checkpoints = [
        countersigned.assert_are_of("koseki-provider", &provider.bundles),
        countersigned.assert_are_of("portal-gateway", &gateway.bundles),
    ];
    let counts = ledger.compare_with_logs(&provider, &gateway);
    let causes = reconcile::reconcile(&provider, &gateway);

    let figures = json!({
        "seed": seed,
        "kills": kills,
        "kills_of_the_provider": killed[Side::Provider as usize],
        "kills_of_the_gateway": killed[Side::Gateway as usize],
        "kills_of_postgresql": killed[2],
        "checkpoints_countersigned_of_the_provider_and_the_gateway": checkpoints,
        "released_by_the_provider_and_not_by_the_gateway": causes,
        "acknowledged_lines_sent_again": resent,
        "acknowledged": counts,
        "entries_in_the_providers_log": provider.size,
        "entries_in_the_gateways_log": gateway.size,
        "seconds": clock.monotonic().as_secs(),
    });
    println!("{figures:#}");
    if let Ok(file) = env::var("KOSEKI_SOAK_FIGURES") {
        std::fs::write(file, format!("{figures:#}\n")).unwrap();
    }
    ledger.assert_nothing_was_broken();
}

//! One refusal for the register, measured (I6): whatever its cause, it has the same bytes, and its latency as the client
//! measures it does not tell the causes apart. What is measured is an effect size, the area under the ROC curve of every pair
//! of causes (tests/src/timing.rs), and not whether chance could explain a difference. Also under overload, and where the
//! registry side is slow, stopped, stalled or suspended. The same measure finds what it should when refusals are not held back.
//!
//! Causes are interleaved, each request begins at a moment of its own, and both are drawn from a seed that is printed; what the
//! machine makes of it is not repeated. `cargo xtask soak refusals` takes 1,000 samples of each cause, also under overload;
//! every run takes a few.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

mod causes;
mod measure;

use std::{sync::LazyLock, time::Duration};

use integration_tests::{
    Pair, Setting,
    hooks::Places,
    proxy::{Line, Proxy},
    soak, timing,
};
use measure::{Measured, Size};
use portal_gateway::hold_back::HoldBack;
use serde_json::json;
use tokio::sync::Mutex;

/// One measurement at a time: they would be each other's noise.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Of all measurements of a run.
static RUN_SEED: LazyLock<u64> = LazyLock::new(|| {
    let seed = soak::seed();
    println!("seed {seed}");
    seed
});

/// Samples of each cause in every run; at the stated size there are 1,000, whose band is 0.05. That of 42 is 0.28: enough to
/// find what tells two causes apart nearly always.
const FEW: usize = 42;
/// Where a cause takes another time than the others, what is to be found is its effect: the band of 150 is 0.15, so that a
/// pair passes only with an area from 0.35 to 0.65.
const SOME: usize = 150;
/// Requests at the same time: most of the time each waits, for a second altogether.
const AT_ONCE: usize = 96;
const PHASE: Duration = Duration::from_millis(60);
/// How much longer it takes the registry side when it finds somebody; and how much longer answers are on a slow line.
const SLOW: Duration = Duration::from_millis(60);

/// A pair of causes that differ by `SLOW` where finds are slow: for the first a linkage is found, for the second none is looked up.
const FOUND: &str = "ambiguous";
const COVER: &str = "not linked";

/// Of a measurement that is repeated under other conditions.
fn size(few: usize) -> Size {
    Size {
        samples: if soak::is_soak() { timing::STATED } else { few },
        at_once: AT_ONCE,
        phase: PHASE,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cause_is_told_from_another() {
    let _alone = ALONE.lock().await;
    let seed = *RUN_SEED;
    let proxy = Proxy::start().await;
    let registry = Places::default();
    let pair = Pair::start_set(&Setting {
        registry: registry.clone(),
        proxy: Some(&proxy),
        ..Setting::default()
    })
    .await
    .load()
    .await;
    let stage = causes::Stage::set(&pair, 4).await;
    let mut figures = json!({});
    let mut check = |what: &str, measured: &Measured| {
        println!("{what}: {measured}");
        figures[what] = measured.to_json();
        soak::add_figures(seed, "no_cause_is_told_from_another", &figures);
        measured.cannot_be_told_apart(what);
    };

    let refused = measure::run(&stage, size(FEW), seed).await;
    refused.all_are("NOT_PROVIDED");
    check("as it is", &refused);
    // Each for its own reason: otherwise nothing was compared.
    stage.causes_were(&pair).await;

    // Those who are found take longer than those who are not: it shows in nothing.
    registry.slow_finds_down(SLOW);
    let refused = measure::run(&stage, size(SOME), seed).await;
    refused.all_are("NOT_PROVIDED");
    check("slow finds", &refused);
    // Without hold-back this pair is told apart (below).
    let held_back = refused.pair(FOUND, COVER);
    assert!(held_back.is_within_band(), "{held_back}");
    registry.slow_finds_down(Duration::ZERO);

    proxy.set(Line::Slow(SLOW));
    let refused = measure::run(&stage, size(SOME), seed).await;
    refused.all_are("NOT_PROVIDED");
    check("slow line", &refused);
    proxy.set(Line::Open);

    let [operator, _] = pair.offices().registry;
    operator
        .suspend(&operator.ids().next(), Some(causes::KIND))
        .await
        .unwrap();
    let refused = measure::run(&stage, size(FEW), seed).await;
    refused.all_are("PROVISION_SUSPENDED");
    check("suspended", &refused);

    for (what, line) in [("stalled", Line::Stalled), ("stopped", Line::Cut)] {
        proxy.set(line);
        let refused = measure::run(&stage, size(FEW), seed).await;
        refused.all_are("UNAVAILABLE");
        check(what, &refused);
    }
}

/// More than the queue takes: whoever is refused for it is refused whatever else there is, and those who get in are alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_hits_all_alike() {
    let _alone = ALONE.lock().await;
    let seed = *RUN_SEED;
    let change = |deployment: &devkit::deployment::Deployment| {
        let path = deployment.gateway_config();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut config: toml::Table = text.parse().unwrap();
        config["provision"]["queue"] = 4.into();
        config["provision"]["per_caller"] = 4.into();
        config["provision"]["batch"] = 4.into();
        std::fs::write(path, config.to_string()).unwrap();
    };
    let pair = Pair::start_set(&Setting {
        change,
        ..Setting::default()
    })
    .await
    .load()
    .await;
    let stage = causes::Stage::set(&pair, 4).await;
    let size = Size {
        phase: Duration::from_millis(5),
        ..size(2 * FEW)
    };
    let measured = measure::run(&stage, size, seed).await;
    println!("overload: {measured}");
    soak::add_figures(seed, "overload_hits_all_alike", &measured.to_json());
    assert!(measured.share_of("OVERLOADED") > 0.02, "{measured}");
    assert!(measured.share_of("NOT_PROVIDED") > 0.02, "{measured}");
    measured.cannot_be_told_apart("overload");
}

/// The measure has power: what is not held back is found, and so is what does not go over the line. Each by one pair that must
/// differ: of many pairs chance alone makes some differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_held_back_is_found() {
    let _alone = ALONE.lock().await;
    let seed = *RUN_SEED;
    let registry = Places::default();
    let proxy = Proxy::start().await;
    let pair = Pair::start_set(&Setting {
        registry: registry.clone(),
        proxy: Some(&proxy),
        hold_back: HoldBack::Never,
        ..Setting::default()
    })
    .await
    .load()
    .await;
    let mut stage = causes::Stage::set(&pair, 1).await;
    // One at a time: a batch's requests wait for each other.
    let size = Size {
        samples: FEW,
        at_once: 1,
        phase: Duration::ZERO,
    };
    let without_consent = stage.without_consent(&pair).await;
    stage.causes.retain(|cause| [FOUND, COVER].contains(&cause.name));
    registry.slow_finds_down(SLOW);
    let found = measure::run(&stage, size, seed).await;
    println!("not held back: {found}");
    let slower = found.pair(FOUND, COVER);
    registry.slow_finds_down(Duration::ZERO);

    // A refusal that the gateway does not send over a line that is slow: what cover items would be if they did not go over it.
    stage.causes.retain(|cause| cause.name == COVER);
    stage.causes.push(without_consent);
    proxy.set(Line::Slow(SLOW));
    let kept = measure::run(&stage, size, seed).await;
    println!("not sent: {kept}");
    let sent = kept.pair(COVER, causes::KEPT);

    let figures = json!({ "not held back": slower.to_json(), "not sent": sent.to_json() });
    soak::add_figures(seed, "what_is_not_held_back_is_found", &figures);
    assert!(slower.is_effect(), "not held back: {slower}; {found}");
    assert!(sent.is_effect(), "not sent: {sent}; {kept}");
}

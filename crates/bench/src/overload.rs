//! More than can be done: services on one processor, callers on the other, and the peak that is found there asked for several
//! times over.

use std::time::Duration;

use anyhow::Result;
use common::clock::Clock as _;
use serde_json::{Value, json};

use crate::{
    ladder::round,
    load::{Calls, Target, closed, open, percentile_ms},
    machine,
    sizes::Sizes,
    world::World,
};

/// Numbers of callers among which the peak is looked for.
const CALLERS: [usize; 4] = [64, 128, 256, 512];
/// As many streams as the generator may have under way.
const CONNECTIONS: usize = 64;
/// How many times the peak's callers, and its rate.
const MORE_CALLERS: usize = 3;
const MORE: [f64; 2] = [1.5, 3.0];
/// A stretch in which it is seen whether the peak is back, and the most of them.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: usize = 20;
/// Back is within so much of the peak.
const BACK: f64 = 0.9;

/// Measures it; afterwards everything runs everywhere again.
pub(crate) async fn measure(world: &World, sizes: &Sizes) -> Result<Value> {
    let everything = |world: &World| -> Result<Vec<u32>> {
        let services = world.services()?.into_iter();
        Ok(services.chain(world.database_processes()).collect())
    };
    machine::pin(&everything(world)?, "0")?;
    machine::pin(&[std::process::id()], "1")?;
    let measured = measure_pinned(world, sizes).await;
    let all = format!(
        "0-{}",
        std::thread::available_parallelism().map_or(1, usize::from).max(2) - 1
    );
    machine::pin(&everything(world)?, &all)?;
    machine::pin(&[std::process::id()], &all)?;
    measured
}

async fn measure_pinned(world: &World, sizes: &Sizes) -> Result<Value> {
    let target = Target::new(&world.access, &world.reach.portal, CONNECTIONS, None)?;
    let crowd = &world.crowd;
    let (mut peak, mut peak_callers) = (0.0, 0);
    for callers in CALLERS {
        let calls = closed(&target, crowd, callers, sizes.warm_up, sizes.slice).await?;
        if calls.rate() > peak {
            (peak, peak_callers) = (calls.rate(), callers);
        }
    }
    let mut memory = vec![now_mib(world)?];
    let callers = peak_callers * MORE_CALLERS;
    let mut calls = closed(&target, crowd, callers, sizes.warm_up, sizes.overload).await?;
    let closed_loop = told(&mut calls, peak, json!({"callers": callers}));
    memory.push(now_mib(world)?);
    let mut open_loop = Vec::new();
    for more in MORE {
        let generator = machine::cpu_us(std::process::id());
        let began = crowd.clock.monotonic();
        let mut calls = open(&target, crowd, peak * more, sizes.overload).await?;
        let generator = machine::cpu_us(std::process::id()).saturating_sub(generator);
        let took = crowd.clock.monotonic().saturating_sub(began);
        memory.push(now_mib(world)?);
        let back = back_after(world, &target, peak, peak_callers).await?;
        let asked = json!({
            "times_capacity": more,
            "rate": round(peak * more, 0),
            // At 1 the generator itself had no time left, and what it measured is its own.
            "generator_load": round(generator as f64 / took.as_micros() as f64, 2),
            "back_after_s": back,
        });
        open_loop.push(told(&mut calls, peak, asked));
    }
    Ok(json!({
        "peak_rps": round(peak, 0),
        "peak_callers": peak_callers,
        "closed": closed_loop,
        "open": open_loop,
        // Before, after the closed loop, and after each rate.
        "rss_mib": memory,
    }))
}

fn now_mib(world: &World) -> Result<Value> {
    let [gateway, provider] = world.services()?;
    Ok(json!({
        "gateway": round(machine::now_mib(gateway)?, 1),
        "provider": round(machine::now_mib(provider)?, 1),
    }))
}

fn told(calls: &mut Calls, peak: f64, mut asked: Value) -> Value {
    asked["goodput_rps"] = json!(round(calls.rate(), 0));
    asked["goodput_to_peak"] = json!(round(calls.rate() / peak, 3));
    asked["answer_p99_ms"] = json!(percentile_ms(&mut calls.answered_us, 0.99).map(|ms| round(ms, 1)));
    asked["overloaded"] = json!(calls.overloaded_us.len());
    asked["refusal_p50_ms"] = json!(percentile_ms(&mut calls.overloaded_us, 0.5).map(|ms| round(ms, 1)));
    asked["refusal_p99_ms"] = json!(percentile_ms(&mut calls.overloaded_us, 0.99).map(|ms| round(ms, 1)));
    asked["unavailable"] = json!(calls.unavailable);
    asked["not_made"] = json!(calls.not_made);
    asked
}

/// Seconds after which the peak's callers are served at the peak's rate again; none when they are not in all looks.
async fn back_after(
    world: &World,
    target: &std::sync::Arc<Target>,
    peak: f64,
    callers: usize,
) -> Result<Option<f64>> {
    let clock = &world.crowd.clock;
    let began = clock.monotonic();
    for _ in 0..LOOKS {
        let calls = closed(target, &world.crowd, callers, Duration::ZERO, LOOK).await?;
        if calls.rate() >= peak * BACK {
            return Ok(Some(round(
                clock.monotonic().saturating_sub(began).as_secs_f64(),
                1,
            )));
        }
    }
    Ok(None)
}

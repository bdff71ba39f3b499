//! Product and floor in turns, at one number of callers: whatever else the machine does slows both down.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    load::{Calls, Target, closed, percentile_ms},
    machine,
    sizes::Sizes,
    world::World,
};

/// What was measured at one number of callers.
pub(crate) struct Step {
    pub(crate) concurrency: usize,
    pub(crate) rps: f64,
    pub(crate) floor_rps: f64,
    /// The median of the rounds' own ratios.
    pub(crate) ratio: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) floor_p50_ms: f64,
    pub(crate) batch_mean: f64,
    /// By process, for one answer.
    pub(crate) cpu: Cpu,
    /// Of gateway and provider, at most so far.
    pub(crate) rss_mib: [f64; 2],
}

/// CPU time, in microseconds: of everything, or for one answer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) gateway: f64,
    pub(crate) provider: f64,
    pub(crate) database: f64,
    pub(crate) client: f64,
    pub(crate) forwarder: f64,
    pub(crate) echo: f64,
    pub(crate) floor_client: f64,
}

/// What was used in one slice by the three or two processes, and by the callers.
struct Slice {
    calls: Calls,
    used_us: Vec<u64>,
}

impl World {
    fn cpu_us(&self, of: Side) -> Result<Vec<u64>> {
        let mut used: Vec<u64> = match of {
            Side::Product => {
                let database = self.database().map_or(0, machine::cpu_us_with_children);
                self.services()?
                    .map(machine::cpu_us)
                    .into_iter()
                    .chain([database])
                    .collect()
            }
            Side::Floor => self.floor_ids()?.map(machine::cpu_us).to_vec(),
        };
        used.push(machine::cpu_us(std::process::id()));
        Ok(used)
    }

    fn target(&self, of: Side) -> &Arc<Target> {
        match of {
            Side::Product => &self.product,
            Side::Floor => &self.floor,
        }
    }

    async fn slice(&self, of: Side, callers: usize, sizes: &Sizes) -> Result<Slice> {
        let target = self.target(of);
        // The warm-up is a run of its own, so that CPU and answers are of the same stretch.
        closed(
            target,
            &self.crowd,
            callers,
            std::time::Duration::ZERO,
            sizes.warm_up,
        )
        .await?;
        let before = self.cpu_us(of)?;
        let calls = closed(
            target,
            &self.crowd,
            callers,
            std::time::Duration::ZERO,
            sizes.slice,
        )
        .await?;
        calls.must_be_whole(match of {
            Side::Product => "product",
            Side::Floor => "floor",
        })?;
        let used_us = self.cpu_us(of)?;
        Ok(Slice {
            calls,
            used_us: used_us
                .iter()
                .zip(&before)
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
        })
    }

    /// Measures at one number of callers.
    pub(crate) async fn step(&self, callers: usize, sizes: &Sizes) -> Result<Step> {
        let (mut rates, mut floor_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut product, mut floor) = (Calls::default(), Calls::default());
        let (mut used, mut floor_used) = (vec![0; 4], vec![0; 3]);
        let mut logged = [0, 0];
        for _ in 0..sizes.rounds {
            let before = self.logged().await?;
            let slice = self.slice(Side::Product, callers, sizes).await?;
            let after = self.logged().await?;
            for ((sum, after), before) in logged.iter_mut().zip(after).zip(before) {
                *sum += after - before;
            }
            let rate = slice.calls.rate();
            add(&mut used, &slice.used_us);
            product.merge(slice.calls);
            let slice = self.slice(Side::Floor, callers, sizes).await?;
            let floor_rate = slice.calls.rate();
            add(&mut floor_used, &slice.used_us);
            floor.merge(slice.calls);
            rates.push(rate);
            floor_rates.push(floor_rate);
            ratios.push(rate / floor_rate);
        }
        let (answers, floor_answers) = (product.answered_us.len() as f64, floor.answered_us.len() as f64);
        let each =
            |used: &[u64], at: usize, answers: f64| used.get(at).copied().unwrap_or(0) as f64 / answers;
        let [entries, bundles] = logged;
        let [gateway, provider] = self.services()?;
        Ok(Step {
            concurrency: callers,
            rps: median(rates),
            floor_rps: median(floor_rates),
            ratio: median(ratios),
            p50_ms: percentile_ms(&mut product.answered_us, 0.5).unwrap_or_default(),
            p99_ms: percentile_ms(&mut product.answered_us, 0.99).unwrap_or_default(),
            floor_p50_ms: percentile_ms(&mut floor.answered_us, 0.5).unwrap_or_default(),
            batch_mean: entries as f64 / bundles.max(1) as f64,
            cpu: Cpu {
                gateway: each(&used, 0, answers),
                provider: each(&used, 1, answers),
                database: each(&used, 2, answers),
                client: each(&used, 3, answers),
                forwarder: each(&floor_used, 0, floor_answers),
                echo: each(&floor_used, 1, floor_answers),
                floor_client: each(&floor_used, 2, floor_answers),
            },
            rss_mib: [machine::peak_mib(gateway)?, machine::peak_mib(provider)?],
        })
    }
}

#[derive(Clone, Copy)]
enum Side {
    Product,
    Floor,
}

fn add(sums: &mut [u64], values: &[u64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

impl Cpu {
    /// What serves an answer.
    pub(crate) fn product(&self) -> f64 {
        self.gateway + self.provider + self.database
    }

    /// What the floor takes for one.
    pub(crate) fn floor(&self) -> f64 {
        self.forwarder + self.echo
    }
}

impl Step {
    pub(crate) fn to_json(&self, world: &World) -> Value {
        let cpu = &self.cpu;
        let [gateway, provider] = self.rss_mib;
        json!({
            "store": world.engine.name(),
            "persons": world.persons,
            "concurrency": self.concurrency,
            "rps": round(self.rps, 0),
            "floor_rps": round(self.floor_rps, 0),
            "ratio": round(self.ratio, 3),
            "p50_ms": round(self.p50_ms, 2),
            "p99_ms": round(self.p99_ms, 2),
            "floor_p50_ms": round(self.floor_p50_ms, 2),
            "commit_ms": round(world.commit_ms, 3),
            "cpu_us": {
                "gateway": round(cpu.gateway, 1),
                "provider": round(cpu.provider, 1),
                "database": round(cpu.database, 1),
                "client": round(cpu.client, 1),
                "floor_forwarder": round(cpu.forwarder, 1),
                "floor_echo": round(cpu.echo, 1),
                "floor_client": round(cpu.floor_client, 1),
            },
            "rss_mib": {"gateway": round(gateway, 1), "provider": round(provider, 1)},
            "batch_mean": round(self.batch_mean, 1),
        })
    }
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// To so many decimal places.
pub(crate) fn round(value: f64, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    (value * scale).round() / scale
}

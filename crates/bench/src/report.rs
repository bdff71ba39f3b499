//! What was measured: a table for the person at the terminal, and target/bench/report.json for everybody else.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{ladder::Step, world::World};

/// The bare two-hop echo at 256 callers on a machine of this kind, answers a second; a floor that is much weaker has been
/// disturbed, or is not bare.
const KNOWN_FLOOR: f64 = 17_320.0;
const MUCH_WEAKER: f64 = 0.6;

/// Everything that was found so far.
pub(crate) struct Report {
    content: Value,
    targets: Vec<Target>,
}

/// A target, and whether it was met.
struct Target {
    what: String,
    found: String,
    met: bool,
}

impl Report {
    pub(crate) fn new(seed: u64, quick: bool, machine: &str) -> Self {
        Self {
            content: json!({
                "seed": seed, "quick": quick, "machine": machine,
                "runs": [], "visits": {}, "growth": [], "overload": {}, "targets": [],
            }),
            targets: Vec::new(),
        }
    }

    /// Adds a figure and says whether it is met.
    fn target(&mut self, what: &str, found: f64, met: bool) {
        self.targets.push(Target {
            what: what.to_owned(),
            found: format!("{found:.3}")
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned(),
            met,
        });
    }

    /// One number of callers on one database. Targets are of PostgreSQL.
    pub(crate) fn add_run(&mut self, step: &Step, world: &World) {
        let run = step.to_json(world);
        if let Some(runs) = self.content["runs"].as_array_mut() {
            runs.push(run.clone());
        }
        for service in ["gateway", "provider"] {
            if let (256, Some(mib)) = (step.concurrency, run["rss_mib"][service].as_f64()) {
                let what = format!("{}: peak memory of the {service} ≤ 128 MiB", world.engine.name());
                self.target(&what, mib, mib <= 128.0);
            }
        }
        if world.engine.name() != "postgres" {
            return;
        }
        match step.concurrency {
            1 => {
                let most = step.floor_p50_ms + 2.0 * world.commit_ms + 1.5;
                let what = format!("p50 alone ≤ the floor's + 2 commits + 1.5 ms = {most:.2} ms");
                self.target(&what, step.p50_ms, step.p50_ms <= most);
            }
            64 => self.target("ratio at 64 ≥ 0.6", step.ratio, step.ratio >= 0.6),
            256 => {
                self.target("ratio at 256 ≥ 1.0", step.ratio, step.ratio >= 1.0);
                let (product, floor) = (step.cpu.product(), step.cpu.floor());
                let what = format!("CPU of an answer at 256 ≤ the floor's {floor:.0} µs");
                self.target(&what, product, product <= floor);
                let what = format!("floor at 256 ≥ {MUCH_WEAKER} × {KNOWN_FLOOR}/s (or the run is void)");
                self.target(&what, step.floor_rps, step.floor_rps >= MUCH_WEAKER * KNOWN_FLOOR);
            }
            512 => self.target("ratio at 512 ≥ 1.25", step.ratio, step.ratio >= 1.25),
            _ => {}
        }
    }

    pub(crate) fn add_visits(&mut self, visits: Value) {
        for beside in visits["beside_provisions"]
            .as_array()
            .cloned()
            .unwrap_or_default()
        {
            let rate = &beside["asked_visits_per_s"];
            if let Some(loss) = beside["loss"].as_f64() {
                self.target(&format!("loss beside {rate} visits/s ≤ 0.2"), loss, loss <= 0.2);
            }
            for act in ["withdrawal", "logout", "non_provision_record"] {
                if let Some(ms) = beside[act]["p99_ms"].as_f64() {
                    self.target(
                        &format!("p99 of a {act} beside {rate} visits/s ≤ 50 ms"),
                        ms,
                        ms <= 50.0,
                    );
                }
            }
        }
        self.content["visits"] = visits;
    }

    pub(crate) fn add_growth(&mut self, step: &Step, world: &World) {
        let run = step.to_json(world);
        if let Some(growth) = self.content["growth"].as_array_mut() {
            growth.push(run);
            growth.sort_by_key(|run| run["persons"].as_u64());
            if let [few, many] = growth.as_slice()
                && let (Some(few), Some(many)) = (few["ratio"].as_f64(), many["ratio"].as_f64())
            {
                let kept = many / few;
                self.target("ratio kept as persons grow ≥ 0.9", kept, kept >= 0.9);
            }
        }
    }

    pub(crate) fn add_overload(&mut self, overload: Value) {
        let mut goodput = |of: &Value, what: &str, least: f64| {
            if let Some(found) = of["goodput_to_peak"].as_f64() {
                self.target(
                    &format!("{what}: goodput ≥ {least} of the peak"),
                    found,
                    found >= least,
                );
            }
            if let Some(ms) = of["refusal_p99_ms"].as_f64() {
                self.target(&format!("{what}: p99 of refusals ≤ 50 ms"), ms, ms <= 50.0);
            }
            if let Some(seconds) = of.get("back_after_s") {
                let found = seconds.as_f64().unwrap_or(f64::INFINITY);
                self.target(
                    &format!("{what}: back at the peak within 2 s"),
                    found,
                    found <= 2.0,
                );
            }
        };
        goodput(&overload["closed"], "3 × the callers", 0.9);
        goodput(&overload["open"][0], "1.5 × the rate", 0.75);
        goodput(&overload["open"][1], "3 × the rate", 0.4);
        self.content["overload"] = overload;
    }

    /// The report's file.
    pub(crate) fn write(&mut self, path: &Path) -> Result<()> {
        let targets = self.targets.iter();
        self.content["targets"] = targets
            .map(|target| json!({"what": target.what, "found": target.found, "met": target.met}))
            .collect();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(path, format!("{:#}\n", self.content))?)
    }

    /// Prints the targets.
    pub(crate) fn print_targets(&self) {
        println!("\ntargets");
        for target in &self.targets {
            let met = if target.met { "met" } else { "NOT met" };
            println!("  {met:8} {:>10}  {}", target.found, target.what);
        }
    }
}

/// The table's first lines.
pub(crate) fn print_head(world: &World) {
    println!(
        "\n{}, {} persons, {} sessions, a bare commit {:.2} ms; CPU in µs for one answer, memory in MiB at most",
        world.engine.name(),
        world.persons,
        world.crowd.len(),
        world.commit_ms
    );
    println!(
        "callers     rps   floor  ratio  p50 ms  p99 ms  floor p50  batch  gateway  provider  database  = all  floor  MiB g/p"
    );
}

/// One line of the table.
pub(crate) fn print_step(step: &Step) {
    let (cpu, [gateway, provider]) = (&step.cpu, step.rss_mib);
    println!(
        "{:7} {:7.0} {:7.0} {:6.2} {:7.2} {:7.2} {:10.2} {:6.1} {:8.0} {:9.0} {:9.0} {:6.0} {:6.0}  {:.0}/{:.0}",
        step.concurrency,
        step.rps,
        step.floor_rps,
        step.ratio,
        step.p50_ms,
        step.p99_ms,
        step.floor_p50_ms,
        step.batch_mean,
        cpu.gateway,
        cpu.provider,
        cpu.database,
        cpu.product(),
        cpu.floor(),
        gateway,
        provider,
    );
}

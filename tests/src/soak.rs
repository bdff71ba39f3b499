//! Long checks: their seed, whether they run at their stated size, and where their figures go (CONTRIBUTING.md).

use std::env;

use serde_json::{Value, json};

/// The seed of this run: that of `KOSEKI_SEED`, or a new one. It is to be printed.
pub fn seed() -> u64 {
    match env::var("KOSEKI_SEED") {
        Ok(seed) => seed.parse().expect("KOSEKI_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// Whether it runs at its stated size.
pub fn is_soak() -> bool {
    env::var("KOSEKI_SOAK").is_ok_and(|value| value == "1")
}

/// Writes the figures, the seed among them, to where the soak wants them.
pub fn write_figures(figures: &Value) {
    if let Ok(file) = env::var("KOSEKI_SOAK_FIGURES") {
        std::fs::write(file, format!("{figures:#}\n")).unwrap();
    }
}

/// Adds a test's figures, under its name, to those of the others of its target. One test at a time.
pub fn add_figures(seed: u64, test: &str, figures: &Value) {
    if let Ok(file) = env::var("KOSEKI_SOAK_FIGURES") {
        let before = std::fs::read_to_string(file).ok();
        let mut all = before.map_or_else(|| json!({}), |text| serde_json::from_str(&text).unwrap());
        all["seed"] = seed.into();
        all[test] = figures.clone();
        write_figures(&all);
    }
}

//! Sending a part of the copies, and what it took.

use std::{collections::BTreeMap, time::Duration};

use common::clock::{Clock as _, SystemClock};
use devkit::{
    client::{Access, Municipality},
    registers::MUNICIPALITIES,
};
use futures_util::{StreamExt as _, stream};
use koseki_proto::koseki::common::v1::LineOutcome;
use serde_json::{Value, json};

use crate::{
    copies::Part,
    usage::{Cpu, Usage},
};

/// Municipalities that send at the same time.
pub(crate) const SENDERS: usize = 4;

/// All municipalities, each with a connection of its own.
pub(crate) struct Senders(BTreeMap<&'static str, Municipality>);

impl Senders {
    pub(crate) fn new(access: &Access, address: &str) -> Self {
        let of = |code| (code, Municipality::new(access, code, address).unwrap());
        Self(
            MUNICIPALITIES
                .iter()
                .map(|municipality| of(municipality.code))
                .collect(),
        )
    }

    /// Sends a part; every line must come out like this. How many lines it had.
    async fn send(&self, part: &Part, outcome: LineOutcome) -> usize {
        stream::iter(part)
            .map(|(code, file)| async move {
                let loaded = self.0[code.as_str()].send_file(file).await.unwrap();
                assert!(
                    loaded.is_whole(),
                    "{:?} {:?}",
                    loaded.broken,
                    loaded.refused().next()
                );
                assert_eq!(loaded.count(outcome), loaded.lines.len(), "{outcome:?}");
                loaded.lines.len()
            })
            .buffer_unordered(SENDERS)
            .fold(0, |sum, lines| async move { sum + lines })
            .await
    }
}

/// What was loaded in one way, all parts together.
#[derive(Default)]
pub(crate) struct Phase {
    pub(crate) copies: usize,
    took: Duration,
    rates: Vec<f64>,
    cpu: Option<Cpu>,
}

impl Phase {
    pub(crate) async fn run(&mut self, senders: &Senders, part: &Part, outcome: LineOutcome, usage: &Usage) {
        let clock = SystemClock::new();
        let (before, began) = (usage.now(), clock.monotonic());
        let copies = senders.send(part, outcome).await;
        self.add(copies, clock.monotonic().saturating_sub(began));
        let used = usage.now().since(before);
        self.cpu = Some(self.cpu.map_or(used, |cpu| cpu.plus(used)));
    }

    pub(crate) fn add(&mut self, copies: usize, took: Duration) {
        self.copies += copies;
        self.took += took;
        self.rates.push(copies as f64 / took.as_secs_f64());
    }

    pub(crate) fn last_rate(&self) -> f64 {
        self.rates.last().copied().unwrap_or_default()
    }

    /// Copies a second.
    pub(crate) fn rate(&self) -> f64 {
        self.copies as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn figures(&self) -> Value {
        let rates: Vec<f64> = self.rates.iter().map(|rate| rate.round()).collect();
        let mut figures = json!({
            "copies_per_second": self.rate().round(),
            "by_part": rates,
            "seconds": self.took.as_secs(),
        });
        if let Some(cpu) = self.cpu {
            figures["cpu_ms_per_1000_copies"] = cpu.per_thousand(self.copies);
        }
        figures
    }
}

//! What the processes take of the machine, from /proc.

use std::fs;

use devkit::postgres::Cluster;
use serde_json::{Value, json};

use crate::Engine;

/// The processes that are looked at.
pub(crate) struct Usage {
    provider: u32,
    database: Option<u32>,
}

/// CPU time, in ticks of the kernel's clock.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    sender: u64,
    provider: u64,
    /// Of a database that is a program of its own.
    database: Option<u64>,
}

/// The kernel tells CPU times in hundredths of a second, whatever its own clock.
const MS_PER_TICK: u64 = 10;

impl Usage {
    pub(crate) fn of(engine: Engine, provider: u32) -> Self {
        let database = match engine {
            Engine::Postgres => Cluster::shared().unwrap().pid(),
            Engine::Sqlite => None,
        };
        Self { provider, database }
    }

    pub(crate) fn now(&self) -> Cpu {
        Cpu {
            sender: ticks(std::process::id()),
            provider: ticks(self.provider),
            database: self.database.map(|pid| {
                let ended = |pid| times(pid).map_or(0, |times| times[2] + times[3]);
                let children =
                    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                let running = children.split_whitespace().map(|pid| ticks(pid.parse().unwrap()));
                ticks(pid) + ended(pid) + running.sum::<u64>()
            }),
        }
    }

    /// The most memory that the provider ever had.
    pub(crate) fn peak_of_provider_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.provider)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// User and system time, its own and that of its ended children. A process may end while it is looked at.
fn times(pid: u32) -> Option<[u64; 4]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may have blanks in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields
        .split_whitespace()
        .skip(11)
        .map(|field| field.parse().unwrap());
    Some([(); 4].map(|()| fields.next().unwrap()))
}

fn ticks(pid: u32) -> u64 {
    times(pid).map_or(0, |times| times[0] + times[1])
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        let database = self.database.zip(before.database);
        Self {
            sender: self.sender.saturating_sub(before.sender),
            provider: self.provider.saturating_sub(before.provider),
            database: database.map(|(now, before)| now.saturating_sub(before)),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let database = self.database.zip(other.database);
        Self {
            sender: self.sender + other.sender,
            provider: self.provider + other.provider,
            database: database.map(|(one, other)| one + other),
        }
    }

    pub(crate) fn per_thousand(self, copies: usize) -> Value {
        let ms = |ticks: u64| (ticks * MS_PER_TICK * 1000) as f64 / copies as f64;
        let round = |ms: f64| (ms * 10.0).round() / 10.0;
        match self.database {
            Some(database) => json!({
                "sender": round(ms(self.sender)),
                "provider": round(ms(self.provider)),
                "database": round(ms(database)),
            }),
            None => json!({
                "sender": round(ms(self.sender)),
                "provider_with_database": round(ms(self.provider)),
            }),
        }
    }
}

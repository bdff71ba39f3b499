//! What processes take of the machine, from /proc.

use std::fs;

use anyhow::{Context as _, Result};

/// The kernel tells CPU times in hundredths of a second, whatever its own clock.
const US_PER_TICK: u64 = 10_000;

/// CPU time of a process so far, in microseconds.
pub(crate) fn cpu_us(pid: u32) -> u64 {
    times(pid).map_or(0, |[user, system, ..]| (user + system) * US_PER_TICK)
}

/// CPU time of a process, of its children, and of those that have ended, in microseconds: a PostgreSQL server.
pub(crate) fn cpu_us_with_children(pid: u32) -> u64 {
    let own = times(pid).map_or(0, |times| times.iter().sum());
    let running: u64 = children(pid).iter().map(|pid| cpu_us(*pid)).sum();
    own * US_PER_TICK + running
}

/// The processes that a process has started and that still run.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// The most memory that a process ever had, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmHWM:")
}

/// The memory that a process has now, in MiB.
pub(crate) fn now_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmRSS:")
}

fn status_mib(pid: u32, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .find(|text| text.starts_with(line))
        .and_then(|text| text.split_whitespace().nth(1))
        .with_context(|| format!("/proc/{pid}/status has no {line}"))?;
    Ok(value.parse::<f64>()? / 1024.0)
}

/// User and system time, its own and that of its ended children. A process may end while it is looked at.
fn times(pid: u32) -> Option<[u64; 4]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may have blanks in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields
        .split_whitespace()
        .skip(11)
        .filter_map(|field| field.parse().ok());
    Some([fields.next()?, fields.next()?, fields.next()?, fields.next()?])
}

/// Puts all threads of processes on these CPUs.
pub(crate) fn pin(pids: &[u32], cpus: &str) -> Result<()> {
    for pid in pids {
        let status = std::process::Command::new("taskset")
            .args(["-acp", cpus, &pid.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .context("taskset (package util-linux) cannot be run")?;
        // A process may end meanwhile.
        anyhow::ensure!(
            status.success() || times(*pid).is_none(),
            "taskset could not put process {pid} on CPU {cpus}"
        );
    }
    Ok(())
}

/// What the machine is, for the report.
pub(crate) fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name"))
        .filter_map(|line| line.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or_default();
    format!(
        "{} × {}, {} GiB of memory",
        models.len(),
        models.first().unwrap_or(&"unknown CPU"),
        kib / 1024 / 1024
    )
}

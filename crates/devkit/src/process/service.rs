//! One running service.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use common::ops;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::{interval, timeout},
};

use super::{Binaries, ProcessError};

/// Until a service must be ready. Debug builds on a busy machine take their time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Until a service must have ended after SIGTERM: longer than its own drain deadline.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at the operations port.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Name of the operations port in a service's log.
const OPS: &str = "ops";
/// Lines of a log that are shown when a service fails.
const LAST_WORDS: usize = 15;

/// A program of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// koseki-provider.
    Provider,
    /// portal-gateway.
    Gateway,
}

impl Program {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Provider, Self::Gateway];

    /// Its name, which is also its package's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provider => "koseki-provider",
            Self::Gateway => "portal-gateway",
        }
    }

    /// What it opens, the operations port included.
    fn listeners(self) -> &'static [&'static str] {
        match self {
            Self::Provider => &[OPS, "linkage", "ingest", "koseki-admin"],
            Self::Gateway => &[OPS, "portal", "portal-admin"],
        }
    }
}

/// Addresses by listener, as the service has told them so far.
type Told = BTreeMap<String, SocketAddr>;

/// A running service. It is killed when this is dropped.
#[derive(Debug)]
pub struct Service {
    program: Program,
    child: Child,
    log: PathBuf,
    addresses: watch::Receiver<Told>,
}

impl Service {
    /// Starts a service and waits until it is ready. Its log is appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready in time.
    pub async fn start(
        binaries: &Binaries,
        program: Program,
        config: &Path,
        log: &Path,
    ) -> Result<Self, ProcessError> {
        let mut this = Self::spawn(binaries, program, config, log)?;
        this.wait_until_ready().await?;
        Ok(this)
    }

    /// Starts a service and does not wait for anything.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        binaries: &Binaries,
        program: Program,
        config: &Path,
        log: &Path,
    ) -> Result<Self, ProcessError> {
        let failed = |doing| {
            move |source| ProcessError::Io {
                program: program.name(),
                doing,
                source,
            }
        };
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).map_err(failed("the folder of its log cannot be made"))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(failed("its log cannot be opened"))?;
        let mut child = Command::new(binaries.path(program))
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed("cannot be started"))?;
        let (told, addresses) = watch::channel(Told::new());
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_log(stderr, file, told));
        }
        Ok(Self {
            program,
            child,
            log: log.to_owned(),
            addresses,
        })
    }

    /// Waits until it has opened a listener.
    ///
    /// # Errors
    /// When it ends before, or does not in time.
    pub async fn wait_until_listening(&mut self, listener: &str) -> Result<SocketAddr, ProcessError> {
        let mut addresses = self.addresses.clone();
        let told = addresses.wait_for(|told| told.contains_key(listener));
        match timeout(READY_WITHIN, told).await {
            Ok(Ok(_)) => self.address(listener),
            Ok(Err(_)) => {
                let status = self.child.wait().await;
                Err(self.ended(status).await)
            }
            Err(_) => Err(self.late("listening", READY_WITHIN)),
        }
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends before, or is not ready in time.
    pub async fn wait_until_ready(&mut self) -> Result<(), ProcessError> {
        let mut addresses = self.addresses.clone();
        let program = self.program;
        let ready = async {
            // The sender is gone when the process is: the arm below tells that.
            let all = |told: &Told| program.listeners().iter().all(|name| told.contains_key(*name));
            let told = addresses.wait_for(all).await.ok();
            let Some(ops) = told.and_then(|told| told.get(OPS).copied()) else {
                return std::future::pending().await;
            };
            let mut looks = interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                if matches!(ops::is_ready(ops).await, Ok(true)) {
                    return;
                }
            }
        };
        let outcome = tokio::select! {
            outcome = timeout(READY_WITHIN, ready) => outcome.map_err(|_| None),
            status = self.child.wait() => Err(Some(status)),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(None) => Err(self.late("ready", READY_WITHIN)),
            Err(Some(status)) => Err(self.ended(status).await),
        }
    }

    /// Which program it is.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Its process id.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where a listener (`common::authorisation::Listener::name`, or `ops`) listens.
    ///
    /// # Errors
    /// When the service does not have it.
    pub fn address(&self, listener: &str) -> Result<SocketAddr, ProcessError> {
        self.addresses
            .borrow()
            .get(listener)
            .copied()
            .ok_or_else(|| ProcessError::NoListener {
                program: self.program.name(),
                listener: listener.to_owned(),
            })
    }

    /// Stops it with SIGTERM: it drains.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
    pub async fn stop(mut self) -> Result<(), ProcessError> {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|error| self.io("cannot be stopped", error.into()))?;
        }
        match timeout(STOPPED_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => {
                self.log_is_whole().await;
                Ok(())
            }
            Ok(status) => Err(self.ended(status).await),
            Err(_) => Err(self.late("stopped", STOPPED_WITHIN)),
        }
    }

    /// Kills it with SIGKILL, and waits until it is gone: its database is free then.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn kill(mut self) -> Result<(), ProcessError> {
        let killed = self.child.kill().await;
        killed.map_err(|source| self.io("cannot be killed", source))?;
        self.log_is_whole().await;
        Ok(())
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> ProcessError {
        ProcessError::Io {
            program: self.program.name(),
            doing,
            source,
        }
    }

    fn late(&self, state: &'static str, limit: Duration) -> ProcessError {
        let (program, log) = (self.program.name(), self.log.clone());
        ProcessError::Late {
            program,
            state,
            seconds: limit.as_secs(),
            log,
        }
    }

    /// After the process has ended: waits until the rest of what it said is in its log.
    async fn log_is_whole(&mut self) {
        // The task that keeps the log drops the sender then.
        while self.addresses.changed().await.is_ok() {}
    }

    async fn ended(&mut self, status: std::io::Result<ExitStatus>) -> ProcessError {
        self.log_is_whole().await;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last_words = lines.iter().skip(lines.len().saturating_sub(LAST_WORDS)).copied();
        ProcessError::Ended {
            program: self.program.name(),
            status: status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            log: self.log.clone(),
            last_words: last_words.collect::<Vec<_>>().join("\n"),
        }
    }
}

/// The log line that tells an address.
#[derive(Deserialize)]
struct Listening {
    message: String,
    listener: String,
    address: SocketAddr,
}

/// Writes the log to its file, and reads addresses from it on the way. It goes on until the process closes its end.
async fn keep_log(stderr: ChildStderr, mut file: File, told: watch::Sender<Told>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A log that cannot be kept must not stop the service by a full pipe.
        let _ = writeln!(file, "{line}");
        if let Ok(line) = serde_json::from_str::<Listening>(&line)
            && line.message == "listening"
        {
            told.send_modify(|told| {
                told.insert(line.listener, line.address);
            });
        }
    }
}

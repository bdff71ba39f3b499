//! What every command has at hand.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use common::{
    clock::{Clock, SystemClock, Timestamp},
    config::{self, ConfigError},
};

use crate::{
    command_line::CommandLine,
    connection::Profiled,
    failure::{Failure, Kind, Result},
    profile::Profile,
    terminal::Terminal,
};

/// Names the profile when `--config` does not.
const PROFILE_VARIABLE: &str = "KOSEKICTL_CONFIG";

/// What every command has at hand.
pub(crate) struct Context {
    config: Option<PathBuf>,
    pub(crate) terminal: Terminal,
    pub(crate) command_line: CommandLine,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Context {
    pub(crate) fn new(config: Option<PathBuf>, terminal: Terminal, words: Vec<OsString>) -> Self {
        Self {
            config,
            terminal,
            command_line: CommandLine::new(words),
            clock: Arc::new(SystemClock::new()),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads the connection profile and the files that it names. Opens no connection.
    pub(crate) fn profile(&self) -> Result<Profiled> {
        let variable = || std::env::var_os(PROFILE_VARIABLE).map(PathBuf::from);
        let Some(path) = self.config.clone().or_else(variable) else {
            return Err(Failure::new(
                Kind::Usage,
                format!("no connection profile: neither --config nor {PROFILE_VARIABLE} names one"),
                "give --config FILE; deploy/config/kosekictl.toml is a commented sample",
            ));
        };
        let next = format!(
            "correct {}; deploy/config/kosekictl.toml is a commented sample",
            path.display()
        );
        let profile: Profile = config::load(&path).map_err(|error| match error {
            // The chain has the file already: here it is the rule that is missing.
            ConfigError::Toml { message, .. } => Failure::file(&path, message.trim_end(), next.clone()),
            error => Failure::file(&path, common::telemetry::chain(&error), next.clone()),
        })?;
        Profiled::load(profile, path, self.clock.clone())
    }
}

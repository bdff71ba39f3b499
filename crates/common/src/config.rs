//! Configuration: TOML, strict, wholly checked before a port opens. Secrets are paths.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    files::{self, FileError},
    identity::TrustDomain,
};

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not the TOML that the service takes.
    #[error("{path}: {message}")]
    Toml {
        /// The file.
        path: std::path::PathBuf,
        /// Place and rule.
        message: String,
    },
    /// A value breaks a rule.
    #[error("{key}: {rule}")]
    Value {
        /// Dotted key.
        key: &'static str,
        /// The rule.
        rule: String,
    },
}

impl ConfigError {
    /// The value of `key` breaks `rule`.
    pub fn value(key: &'static str, rule: impl ToString) -> Self {
        Self::Value {
            key,
            rule: rule.to_string(),
        }
    }
}

/// Takes a trust domain.
pub fn trust_domain(key: &'static str, name: &str) -> Result<TrustDomain, ConfigError> {
    let rule = "must be 1 to 255 of a-z, 0-9, -, _ and .";
    TrustDomain::parse(name).map_err(|_| ConfigError::value(key, rule))
}

/// Reads a configuration file.
pub fn load<C: DeserializeOwned>(path: &Path) -> Result<C, ConfigError> {
    let text = files::read_text(path)?;
    toml::from_str(&text).map_err(|error| ConfigError::Toml {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

/// The dotted keys of a configuration, sorted: what the sample files are compared with.
pub fn keys<C: Serialize>(config: &C) -> Vec<String> {
    fn walk(prefix: &str, value: &toml::Value, out: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if prefix.is_empty() {
                        key.clone()
                    } else {
                        format!("{prefix}.{key}")
                    };
                    walk(&path, value, out);
                }
            }
            // Tables of a list have its name and their number in it.
            toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
                for (number, value) in values.iter().enumerate() {
                    walk(&format!("{prefix}.{number}"), value, out);
                }
            }
            _ => out.push(prefix.to_owned()),
        }
    }
    let mut out = Vec::new();
    if let Ok(value) = toml::Value::try_from(config) {
        walk("", &value, &mut out);
    }
    out.sort();
    out
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Logs, written to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// How lines are written.
    pub format: LogFormat,
    /// What is written: a tracing filter such as `info` or `info,koseki_provider=debug`.
    pub filter: String,
}

/// Bounds of every gRPC listener of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerLimits {
    /// How long a TLS handshake may take, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// Open connections on a listener.
    pub max_connections: usize,
    /// Calls at the same time on one connection.
    pub max_streams_per_connection: u32,
    /// Longest time that a call may take, in milliseconds; a file stream is not cut by it.
    pub max_call_ms: u64,
}

impl ListenerLimits {
    /// Checks the bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = |key, ok: bool| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::value(key, "must be at least 1"))
            }
        };
        positive("limits.handshake_timeout_ms", self.handshake_timeout_ms > 0)?;
        positive("limits.max_connections", self.max_connections > 0)?;
        positive(
            "limits.max_streams_per_connection",
            self.max_streams_per_connection > 0,
        )?;
        positive("limits.max_call_ms", self.max_call_ms > 0)
    }

    /// The handshake's time-out.
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// The longest time of a call.
    pub fn max_call(&self) -> Duration {
        Duration::from_millis(self.max_call_ms)
    }
}

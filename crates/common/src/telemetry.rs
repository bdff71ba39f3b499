//! Structured logs on standard error, and a panic hook that says where and not what: a panic's text could carry what
//! it choked on (I5).

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Checks the filter without installing anything.
pub fn check(config: &LogConfig) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(&config.filter).map_err(|error| ConfigError::value("log.filter", error))
}

/// Installs the log for this process.
pub fn install(config: &LogConfig) -> Result<(), ConfigError> {
    let registry = tracing_subscriber::registry().with(check(config)?);
    let installed = match config.format {
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Text => registry
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
            .try_init(),
    };
    installed.map_err(|error| ConfigError::value("log", error))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|place| format!("{}:{}", place.file(), place.line()))
            .unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    Ok(())
}

/// An error with its sources, for a log line: each error says its own part only.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

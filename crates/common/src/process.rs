//! The frame of a service's program: command line, configuration, log, start, signal, drain.

use std::{
    future::Future, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use serde::{Serialize, de::DeserializeOwned};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    clock::{Clock, SystemClock},
    config::{self, ConfigError, LogConfig},
    ops,
    server::Server,
    store::{Database, DatabaseConfig, SchemaStep},
    telemetry,
};

/// A boxed error with its chain, for the top of a program.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// A service that [`main`] can run.
pub trait Service: Send + 'static {
    /// Name of the program.
    const NAME: &'static str;
    /// Its configuration.
    type Config: Serialize + DeserializeOwned + Send;

    /// Checks everything that can be checked without opening a port or a store.
    fn check(config: &Self::Config) -> Result<(), StartError>;
    /// How it logs.
    fn log(config: &Self::Config) -> &LogConfig;
    /// Its operations port.
    fn ops(config: &Self::Config) -> SocketAddr;
    /// How long a drain may take.
    fn drain_deadline(config: &Self::Config) -> Duration;
    /// Its database, and the schema that it has on it.
    fn database(config: &Self::Config) -> (&DatabaseConfig, &'static [SchemaStep]);
    /// Starts it.
    fn start(
        config: Self::Config,
        clock: Arc<dyn Clock>,
    ) -> impl Future<Output = Result<Server, StartError>> + Send;
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Run {
    /// The configuration file (TOML); deploy/config/ has a commented sample
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Check the configuration and every file that it names, print the effective values, and exit
    #[arg(long)]
    check_config: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Ask the running service's operations port whether it is ready: exit code 0 when it is
    Healthcheck,
    /// Bring the PostgreSQL schema up to date, as the role that owns it; a SQLite file needs none of this
    Migrate {
        /// A file with the URL of the owner's role
        #[arg(long)]
        owner_url_file: PathBuf,
    },
    /// Drop the bodies of old bundles of an audit log, below its retention mark: on PostgreSQL as the role that owns the tables;
    /// on SQLite while the service does not run
    Archive {
        /// A file with the URL of the owner's role; SQLite has none
        #[arg(long)]
        owner_url_file: Option<PathBuf>,
        /// The log: the name of its instance
        #[arg(long)]
        log: String,
        /// Number of the first bundle that keeps its body
        #[arg(long)]
        before_bundle: u64,
    },
}

/// Runs a service until SIGTERM or SIGINT. Exit code 0 after a drain, 1 when it could not run, 2 for a wrong command line.
pub fn main<S: Service>() -> ExitCode {
    let command = Cli::command()
        .name(S::NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(format!("{} service", S::NAME));
    let cli = match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run::<S>(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be installed yet; the whole chain is told once, here.
            let text = telemetry::chain(&*error);
            let _ = writeln!(std::io::stderr(), "{}: {text}", S::NAME);
            ExitCode::FAILURE
        }
    }
}

fn run<S: Service>(cli: Cli) -> Result<(), StartError> {
    let path = cli.run.config.ok_or("--config FILE is missing")?;
    let config: S::Config = config::load(&path)?;
    let runtime = tokio::runtime::Runtime::new()?;
    match cli.command {
        Some(Command::Healthcheck) => {
            return match runtime.block_on(ops::is_ready(S::ops(&config)))? {
                true => Ok(()),
                false => Err("not ready".into()),
            };
        }
        Some(Command::Migrate { owner_url_file }) => {
            let (DatabaseConfig::Postgres { .. }, steps) = S::database(&config) else {
                return Err("database.kind is sqlite: its schema is brought up to date at the start".into());
            };
            runtime.block_on(Database::migrate(&owner_url_file, steps))?;
            return Ok(());
        }
        Some(Command::Archive {
            owner_url_file,
            log,
            before_bundle,
        }) => {
            let (database, steps) = S::database(&config);
            if owner_url_file.is_none() && matches!(database, DatabaseConfig::Postgres { .. }) {
                return Err(
                    "--owner-url-file FILE is missing: the service's role cannot change the log".into(),
                );
            }
            let archived = Database::archive(database, owner_url_file.as_deref(), steps, &log, before_bundle);
            let dropped = runtime.block_on(archived)?;
            writeln!(
                std::io::stdout(),
                "{dropped} bodies of {log} were dropped; what they hash to stays"
            )?;
            return Ok(());
        }
        None => {}
    }
    telemetry::check(S::log(&config))?;
    S::check(&config)?;
    if cli.run.check_config {
        let text = toml::to_string(&config).map_err(|error| ConfigError::value("configuration", error))?;
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    telemetry::install(S::log(&config))?;
    let deadline = S::drain_deadline(&config);
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = S::start(config, Arc::new(SystemClock::new())).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        server.drain(deadline).await;
        tracing::info!("stopped");
        Ok::<(), StartError>(())
    })?;
    // What still runs (a task that does not end) must not hold up the exit.
    runtime.shutdown_background();
    Ok(())
}

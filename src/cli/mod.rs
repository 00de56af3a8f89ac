//! The command line: one file per command. Data goes to standard output, logs and errors to standard error.
//!
//! Exit codes: 0 done, 1 a check or run failed, 2 wrong usage or configuration.

mod ask;
mod check;
mod config;
mod dlq;
mod events;
mod lake;
mod print;
mod quarantine;
mod reconcile;
mod replay;
mod run;
mod sandbox;
mod schemas;
mod send;
mod spool;
mod targets;
mod topics;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::app;
use crate::config::Config;
use crate::kafka::admin::AdminError;
use crate::kafka::layout::{Ground, LayoutError};
use crate::telemetry::logs;

/// Business webhooks in, durable on Kafka, once, and on to the systems of record.
#[derive(Debug, Parser)]
#[command(name = "ledgerhook", version, max_term_width = 110)]
struct Cli {
    /// Configuration file [default: ledgerhook.toml where there is one, then the embedded defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all roles in this process, or some; SIGHUP reads the configuration again
    Run(run::Args),
    /// Check the configuration, and with --online what it points at
    Check(check::Args),
    /// Create or compare the topics
    #[command(subcommand)]
    Topics(topics::Command),
    /// Register or compare the schemas
    #[command(subcommand)]
    Schemas(schemas::Command),
    /// Send events as a provider would: signed, with its timeouts and repeats
    Send(Box<send::Args>),
    /// Show or drain what a receiver keeps on disk while Kafka is away
    #[command(subcommand)]
    Spool(spool::Command),
    /// Find out where an event is
    #[command(subcommand)]
    Events(events::Command),
    /// Show, replay or discard what the router set aside
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Show, replay or discard what could not be delivered
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Have records delivered to one target again, counted and shown first
    Replay(replay::Args),
    /// Account for every event and record, or name those that do not add up
    Reconcile(reconcile::Args),
    /// List, pause, resume or try targets
    #[command(subcommand)]
    Targets(targets::Command),
    /// Keep the lake's tables small, or make one anew
    #[command(subcommand)]
    Lake(lake::Command),
    /// Run a local stand-in for ERP, CLM and ticketing
    Sandbox(sandbox::Args),
    /// Show configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Failed,
}

/// Why a command could not be done.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Run(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// The ground of a configuration. Client settings that the library does not take are a fault of the configuration; nothing
/// is connected to yet.
fn ground(config: &Config) -> Result<Ground, Failure> {
    app::ground(config).map_err(|error| match error {
        LayoutError::Admin(AdminError::Settings(_)) => Failure::Usage(error.to_string()),
        error => error.into(),
    })
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Err(Failure::Usage(what)) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
        Err(Failure::Run(error)) => {
            eprintln!("error: {}", told(&error));
            ExitCode::from(1)
        }
    }
}

/// An error with those of its causes that it does not tell itself.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn execute(cli: Cli) -> Result<Verdict, Failure> {
    // These need no configuration, and must work when it is at fault.
    match &cli.command {
        Command::Config(command) => return config::execute(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "ledgerhook", &mut script);
            print::text(String::from_utf8_lossy(&script));
            return Ok(Verdict::Done);
        }
        _ => {}
    }
    let config = Config::load(cli.config.as_deref()).map_err(|faults| Failure::Usage(faults.to_string()))?;
    let format = match config.log.format {
        crate::config::LogFormat::Text => logs::Format::Text,
        crate::config::LogFormat::Json => logs::Format::Json,
    };
    logs::start(format, &config.log.level);
    // A second provider in one process would make every TLS client ambiguous.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdict = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::execute(config, cli.config, args).await,
            Command::Check(args) => check::execute(&config, &args, cli.json).await,
            Command::Topics(command) => topics::execute(&config, &command).await,
            Command::Schemas(command) => schemas::execute(&config, &command).await,
            Command::Send(args) => send::execute(&config, *args, cli.json).await,
            Command::Spool(command) => spool::execute(&config, command, cli.json).await,
            Command::Events(command) => events::execute(&config, command, cli.json).await,
            Command::Quarantine(command) => quarantine::execute(&config, command, cli.json).await,
            Command::Dlq(command) => dlq::execute(&config, command, cli.json).await,
            Command::Replay(args) => replay::execute(&config, args, cli.json).await,
            Command::Reconcile(args) => reconcile::execute(&config, &args, cli.json).await,
            Command::Targets(command) => targets::execute(&config, command, cli.json).await,
            Command::Lake(command) => lake::execute(&config, command, cli.json).await,
            Command::Sandbox(args) => sandbox::execute(&config, args).await,
            Command::Config(_) | Command::Completions { .. } => Ok(Verdict::Done),
        }
    });
    // Threads inside client libraries must not keep a finished command from leaving.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    verdict
}

/// A token that is cancelled by SIGTERM or SIGINT. A second signal ends the process at once.
fn stop_on_signals() -> std::io::Result<tokio_util::sync::CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = tokio_util::sync::CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(1);
            }
            token.cancel();
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_arguments_of_a_command_have_one_name() {
        Cli::command().debug_assert();
    }
}

//! `ledgerhook run`.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Failure, Verdict};
use crate::app::{self, AppError};
use crate::config::{Config, Faults};
use crate::lifecycle::on_thread;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Roles to run [default: all]
    #[arg(long = "role", value_delimiter = ',', value_parser = app::ROLES)]
    roles: Vec<String>,
}

pub(super) async fn execute(config: Config, file: Option<PathBuf>, args: Args) -> Result<Verdict, Failure> {
    let asked = |role: &&'static str| args.roles.is_empty() || args.roles.iter().any(|r| r == role);
    let roles: Vec<&'static str> = app::ROLES.into_iter().filter(asked).collect();
    drop(super::ground(&config)?);
    let stop = super::stop_on_signals()?;
    let reloads = reads_on_hangup(file)?;
    match app::run(config, &roles, stop, reloads).await {
        Ok(()) => Ok(Verdict::Done),
        Err(error @ AppError::NoSources) => Err(Failure::Usage(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Reads the configuration again on each SIGHUP. Signals that come while it is being read count as one.
fn reads_on_hangup(file: Option<PathBuf>) -> std::io::Result<mpsc::Receiver<Result<Config, Faults>>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (say, heard) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let file = file.clone();
            let read = match on_thread("reload", move || Config::load(file.as_deref())).await {
                Ok(read) => read,
                Err(panicked) => {
                    tracing::error!(%panicked, "the configuration was not read again");
                    continue;
                }
            };
            if say.send(read).await.is_err() {
                return;
            }
        }
    });
    Ok(heard)
}

//! `ledgerhook spool`: a receiver's spool without the receiver.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::{Failure, Verdict, print};
use crate::config::Config;
use crate::receiver;
use crate::spool::{self, Options, Spool, Status};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show what a spool holds; beside a running receiver, with what it has drained of files not yet removed
    Status {
        /// The spool's folder [default: this configuration's]
        dir: Option<PathBuf>,
    },
    /// Send everything in a spool to Kafka; the receiver must not run
    Drain {
        /// The spool's folder [default: this configuration's]
        dir: Option<PathBuf>,
    },
}

pub(super) async fn execute(config: &Config, command: Command, json: bool) -> Result<Verdict, Failure> {
    let usual = || config.receiver.spool.dir.clone().unwrap_or_else(|| config.data_dir.join("spool"));
    match command {
        Command::Status { dir } => status(&dir.unwrap_or_else(usual), json),
        Command::Drain { dir } => drain(config, dir.unwrap_or_else(usual), json).await,
    }
}

fn status(dir: &Path, json: bool) -> Result<Verdict, Failure> {
    let (status, is_used) = tokio::task::block_in_place(|| spool::look(dir))?;
    if json {
        let mut shown = status.to_json();
        shown["folder"] = dir.display().to_string().into();
        shown["in_use"] = is_used.into();
        print::line(shown);
    } else {
        let at_most = if is_used { "at most " } else { "" };
        print::line(format_args!("{at_most}{}", told(dir, &status)));
        if is_used {
            print::line("a receiver uses it: its metrics tell what it has drained of these");
        }
        warn(&status);
    }
    Ok(Verdict::Done)
}

async fn drain(config: &Config, folder: PathBuf, json: bool) -> Result<Verdict, Failure> {
    // A misspelt folder would be made, found empty and called drained.
    if !folder.is_dir() {
        return Err(Failure::Usage(format!("there is no spool in {}", folder.display())));
    }
    let section = &config.receiver.spool;
    let (max_size, segment_size) = (section.max_size, section.segment_size);
    let options = Options { folder: folder.clone(), max_size, segment_size };
    let spool = Arc::new(tokio::task::block_in_place(|| Spool::open(&options))?);
    tokio::task::block_in_place(|| spool.reader().survey())?;
    let before = spool.status();
    let ground = super::ground(config)?;
    let mut drained = 0;
    let mut failed = None;
    if !before.is_empty() {
        if !json {
            eprintln!("{}", told(&folder, &before));
        }
        let (encoders, _) = ground.look().await?;
        let stop = super::stop_on_signals()?;
        match receiver::drain(Arc::clone(&spool), &ground.cluster, encoders, section.drain_rate, &stop).await {
            Ok(events) => drained = events,
            Err(error) => failed = Some(error),
        }
    }
    tokio::task::block_in_place(|| spool.close());
    let status = spool.status();
    let gone = before.events.saturating_sub(status.events).saturating_sub(status.undrainable);
    if json {
        print::line(json!({
            "folder": folder.display().to_string(),
            "drained": gone.max(drained),
            "left": status.to_json(),
        }));
    } else {
        print::line(format_args!("{} events drained; {}", gone.max(drained), told(&folder, &status)));
        warn(&status);
    }
    match failed {
        Some(error) => Err(error.into()),
        None if status.is_empty() && status.undrainable == 0 => Ok(Verdict::Done),
        None => Ok(Verdict::Failed),
    }
}

fn told(dir: &Path, status: &Status) -> String {
    let oldest = status.oldest_received_at.filter(|_| !status.is_empty());
    let oldest = oldest.map(|at| format!(", the oldest received not before {at}")).unwrap_or_default();
    format!(
        "{} events in {} files, {} bytes, in {}{oldest}",
        status.events,
        status.segments,
        status.bytes,
        dir.display()
    )
}

fn warn(status: &Status) {
    if status.undrainable > 0 {
        eprintln!("warning: {} events could not be sent to Kafka and were set aside", status.undrainable);
    }
    if status.lost_events > 0 || status.damaged_bytes > 0 {
        eprintln!("warning: {} events lost in {} damaged bytes", status.lost_events, status.damaged_bytes);
    }
    for aside in &status.set_aside {
        let reason = if aside.reason.is_empty() { "set aside before" } else { &aside.reason };
        eprintln!("warning: {}: {reason}", aside.file);
    }
}

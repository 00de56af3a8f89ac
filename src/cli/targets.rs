//! `ledgerhook targets`: where deliveries go, and an operator's word on it.

mod trial;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::{Failure, Verdict, print};
use crate::config::{Config, Target};
use crate::event::{OpenWindow, Timestamp};
use crate::operate::open::{self, Open};
use crate::operate::targets::{self, Known};
use crate::topics;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the targets, and what all instances know of each
    List,
    /// Send nothing to a target; returns when no instance has anything under way, or names those that do not answer
    Pause(Word),
    /// Let a target go on
    Resume(Word),
    /// Show what a target would be sent, and ask it whether it is there and lets us in; nothing is created
    Test {
        /// The target
        name: String,
        /// Only show the requests; ask nothing
        #[arg(long)]
        offline: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Word {
    /// The target
    name: String,
    /// Why; it stands in the audit and in the logs of all instances
    #[arg(long)]
    reason: Option<String>,
    /// Longest wait for the instances, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: u64,
}

pub(super) async fn execute(config: &Config, command: Command, json: bool) -> Result<Verdict, Failure> {
    match command {
        Command::List => list(config, json),
        Command::Pause(word) => say(config, word, true, json).await,
        Command::Resume(word) => say(config, word, false, json).await,
        Command::Test { name, offline } => trial::execute(config, &name, offline, json).await,
    }
}

fn list(config: &Config, json: bool) -> Result<Verdict, Failure> {
    let ground = super::ground(config)?;
    let runtime = Handle::current();
    // Asked first, since it tells at once where no broker is there.
    drop(block_in_place(|| ground.partitions_of(topics::CONTROL))?);
    let known = block_in_place(|| targets::known(&ground, &runtime))?;
    let mut rows = Vec::new();
    for (name, target) in &config.targets {
        let known = known.get(name).cloned().unwrap_or_default();
        let instances = block_in_place(|| targets::instances(&ground, name))?;
        // Where a topic was made anew under a position, the rest is what an operator needs all the more.
        let oldest = block_in_place(|| open::oldest(&ground, &runtime, name)).unwrap_or_else(|error| {
            tracing::warn!(target_name = name, %error, "its oldest open record cannot be told");
            None
        });
        if json {
            rows.push(row(target, &known, &instances, oldest.as_ref()));
        } else {
            print::line(line(target, &known, &instances, oldest.as_ref()));
        }
    }
    if json {
        print::line(json!({ "targets": rows }));
    } else if config.targets.is_empty() {
        print::line("no targets are configured");
    }
    Ok(Verdict::Done)
}

fn state(known: &Known) -> &str {
    match (&known.pause, known.windows.open()) {
        (Some(pause), _) if pause.paused => "paused",
        (_, Some(window)) => &window.trouble,
        _ => "active",
    }
}

fn row(target: &Target, known: &Known, instances: &[String], oldest: Option<&Open>) -> Value {
    json!({
        "name": target.name,
        "preset": target.description.name,
        "records": target.records,
        "state": state(known),
        "pause": known.pause.as_ref().filter(|pause| pause.paused).map(|pause| json!({
            "by": pause.by,
            "reason": pause.reason,
            "at": pause.at.to_string(),
        })),
        "window": known.windows.open().map(|window| json!({
            "trouble": window.trouble,
            "until": window.until.to_string(),
            "found_by": window.instance,
        })),
        "instances": instances,
        "oldest_open": oldest.map(|open| json!({
            "topic": open.topic,
            "partition": open.partition,
            "offset": open.offset,
            "recorded_at": open.recorded.to_string(),
            "deleted_at": open.deleted.map(|at| at.to_string()),
        })),
    })
}

fn line(target: &Target, known: &Known, instances: &[String], oldest: Option<&Open>) -> String {
    let mut line = format!("{}: {}, takes {}", target.name, state(known), target.records.join(", "));
    if let Some(pause) = known.pause.as_ref().filter(|pause| pause.paused) {
        let why = pause.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
        line = format!("{line}; paused by {} at {}{why}", pause.by, pause.at);
    }
    if let Some(OpenWindow { trouble, until, instance }) = known.windows.open() {
        let when = if *until > Timestamp::now() { "next try at" } else { "tried one by one since" };
        line = format!("{line}; {trouble} as {instance} found, {when} {until}");
    }
    if let Some(Open { topic, partition, offset, recorded, deleted }) = oldest {
        let until = deleted.map_or_else(String::new, |at| format!(", which retention deletes at {at}"));
        line = format!("{line}; waiting for it since {recorded}: {topic}/{partition}@{offset}{until}");
    }
    match instances {
        [] => format!("{line}; nobody delivers to it now"),
        instances => format!("{line}; delivered to by {}", instances.join(", ")),
    }
}

/// The target of this name.
pub(super) fn configured<'a>(config: &'a Config, name: &str) -> Result<&'a Target, Failure> {
    config.targets.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.targets.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
        Failure::Usage(format!("no target is called {name}; there are: {known}"))
    })
}

async fn say(config: &Config, word: Word, paused: bool, json: bool) -> Result<Verdict, Failure> {
    let Word { name, reason, wait } = word;
    configured(config, &name)?;
    let ground = super::ground(config)?;
    let runtime = Handle::current();
    let (encoders, _) = ground.look().await?;
    let word = block_in_place(|| targets::pause(&ground, &encoders, &name, paused, reason))?;
    let wait = Duration::from_secs(wait);
    let missing = block_in_place(|| targets::unconfirmed(&ground, &runtime, &name, &word, wait))?;
    let done = if paused { "paused" } else { "resumed" };
    if json {
        print::line(json!({ "target": name, "operation": word.id, "state": done, "unconfirmed": missing }));
    } else if missing.is_empty() {
        print::line(format_args!("{name}: {done}"));
    } else {
        print::line(format_args!(
            "{name}: {done}, but not yet confirmed by {}; `targets list` tells who is there",
            missing.join(", ")
        ));
    }
    Ok(if missing.is_empty() { Verdict::Done } else { Verdict::Failed })
}

//! `ledgerhook topics`.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Failure, Verdict, print};
use crate::config::Config;
use crate::kafka::admin::Change;
use crate::kafka::identity::{self, IdentityError};
use crate::kafka::layout::LayoutError;
use crate::lifecycle;
use crate::operate::grow;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create what is missing and correct what breaks a promise; never shrinks, resets or deletes
    Apply,
    /// Give `received` and `seen` of every source the partitions that `kafka.partitions` says, where they have fewer, and
    /// move what is known of event ids to their new places; routers have to be stopped, receivers go on
    Grow,
    /// Compare without changing anything
    Check,
}

pub(super) async fn execute(config: &Config, command: &Command) -> Result<Verdict, Failure> {
    let ground = super::ground(config)?;
    if matches!(command, Command::Apply) {
        let done = ground.admin().apply(&ground.topics).await?;
        done.iter().for_each(print::line);
        let created: Vec<String> = done
            .iter()
            .filter_map(|change| match change {
                Change::Created(topic) => Some(topic.clone()),
                Change::Corrected(_) => None,
            })
            .collect();
        // Without registered schemas it is `schemas apply` that does it.
        match identity::give(&ground, &created).await {
            Ok(_) => {}
            Err(IdentityError::Layout(LayoutError::Registry(error))) if error.is_away() => {
                eprintln!("warning: {error}; identities of new topics were not written, apply again when it is there");
            }
            Err(error) => return Err(error.into()),
        }
        if done.is_empty() {
            print::line("nothing to do");
        }
    }
    if matches!(command, Command::Grow) {
        let sources: Vec<String> = config.sources.keys().cloned().collect();
        let partitions = usize::try_from(config.kafka.partitions).unwrap_or(0);
        let ground = Arc::new(super::ground(config)?);
        let runtime = Handle::current();
        let work = move || grow::grow(&ground, &runtime, &sources, partitions);
        let grown = lifecycle::on_thread("topics-grow", work).await??;
        grown.iter().for_each(print::line);
        if grown.is_empty() {
            print::line("nothing to do");
        }
    }
    let report = ground.admin().check(&ground.topics).await?;
    report.warnings.iter().for_each(|warning| eprintln!("warning: {}", warning.0));
    report.faults.iter().for_each(|fault| eprintln!("error: {fault}"));
    let (faults, warnings) = (report.faults.len(), report.warnings.len());
    print::line(format_args!("{} topics, {faults} faults, {warnings} warnings", ground.topics.len()));
    Ok(if report.faults.is_empty() { Verdict::Done } else { Verdict::Failed })
}

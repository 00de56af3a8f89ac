//! `ledgerhook topics`.

use super::{Failure, Verdict, print};
use crate::app;
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create what is missing and correct what breaks a promise; never shrinks, resets or deletes
    Apply,
    /// Compare without changing anything
    Check,
}

pub(super) async fn execute(config: &Config, command: &Command) -> Result<Verdict, Failure> {
    let ground = app::ground(config)?;
    if matches!(command, Command::Apply) {
        let done = ground.admin().apply(&ground.topics).await?;
        done.iter().for_each(print::line);
        if done.is_empty() {
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

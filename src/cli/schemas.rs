//! `ledgerhook schemas`.

use super::{Failure, Verdict, print};
use crate::config::Config;
use crate::kafka::identity;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Register what is missing, every subject fixed to FULL_TRANSITIVE
    Apply,
    /// Compare without changing anything
    Check,
}

pub(super) async fn execute(config: &Config, command: &Command) -> Result<Verdict, Failure> {
    let ground = super::ground(config)?;
    if matches!(command, Command::Apply) {
        for (subject, id) in ground.apply_schemas().await? {
            print::line(format_args!("{subject} {id}"));
        }
        if !ground.admin().check(&ground.topics).await.is_ok_and(|report| report.faults.is_empty()) {
            eprintln!("warning: identities of topics were not written; `ledgerhook topics apply` does it");
        } else {
            identity::give(&ground, &[]).await?;
        }
        return Ok(Verdict::Done);
    }
    let mut faults = 0;
    for topic in &ground.topics {
        let subject = topic.subject(ground.cluster.prefix());
        match ground.registry.lookup(&subject, topic.schema).await? {
            Some(id) => print::line(format_args!("{subject} {id}")),
            None => {
                faults += 1;
                let compatible = ground.registry.is_compatible(&subject, topic.schema).await?;
                let why = if compatible {
                    "not registered; register it with `ledgerhook schemas apply`"
                } else {
                    "not FULL_TRANSITIVE compatible with what is registered"
                };
                eprintln!("error: {subject}: {} is {why}", topic.schema);
            }
        }
    }
    Ok(if faults == 0 { Verdict::Done } else { Verdict::Failed })
}

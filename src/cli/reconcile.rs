//! `ledgerhook reconcile`.

use std::sync::Arc;

use super::{Failure, Verdict, print};
use crate::config::{self, Config};
use crate::event::Timestamp;
use crate::ledger::{self, Report, Scope, Span, Target};

/// Faults that are shown one by one; `--json` names all.
const SHOWN: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Events received, and records written, at this time (RFC 3339) or later
    #[arg(long, value_parser = Timestamp::parse)]
    from: Option<Timestamp>,
    /// The same before this time
    #[arg(long, value_parser = Timestamp::parse)]
    to: Option<Timestamp>,
}

pub(super) async fn execute(config: &Config, args: &Args, json: bool) -> Result<Verdict, Failure> {
    let ground = Arc::new(super::ground(config)?);
    let target = |target: &config::Target| Target {
        name: target.name.clone(),
        takes: target.records.clone(),
        from_oldest: target.start == config::Start::Earliest,
    };
    let scope = Scope {
        sources: config.sources.keys().cloned().collect(),
        targets: config.targets.values().map(target).collect(),
        dedupe_window: config.router.dedupe_window,
        span: Span { from: args.from, to: args.to },
    };
    let report = ledger::reconcile(&ground, scope).await?;
    if json {
        print::line(report.to_json());
    } else {
        print::text(text(&report));
    }
    Ok(if report.faults.is_empty() { Verdict::Done } else { Verdict::Failed })
}

fn text(report: &Report) -> String {
    let sums = |named: &[(&str, u64)]| {
        let some = named.iter().filter(|(_, sum)| *sum > 0).map(|(name, sum)| format!("{sum} {name}"));
        some.collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    for (name, s) in &report.sources {
        lines.push(format!("source {name}: {} rows received: {}", s.rows, sums(&s.named())));
    }
    for (name, s) in &report.targets {
        lines.push(format!("target {name}: {} records: {}", s.records, sums(&s.named())));
    }
    for held in &report.spooled {
        let ledger::Held { receiver, events, at } = held;
        lines.push(format!("receiver {receiver}: {events} acknowledged events in its spool, as of {at}"));
    }
    lines.extend(report.faults.iter().take(SHOWN).map(ToString::to_string));
    lines.push(match report.faults.len() {
        0 => "balanced: every row has its outcome, every record its state at every target".to_owned(),
        n if n > SHOWN => format!("not balanced: {n} faults; `--json` names those that are not shown"),
        n => format!("not balanced: {n} faults"),
    });
    lines.join("\n") + "\n"
}

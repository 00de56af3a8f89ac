//! `ledgerhook events`.

use std::sync::Arc;

use serde_json::json;

use super::{Failure, Verdict, print};
use crate::config::Config;
use crate::event::Mark;
use crate::ledger::{self, Standing, Trace};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show one event's whole life: received, routed or set aside, delivered
    Show {
        /// The provider's event id, or the request id of an event without one
        id: String,
    },
}

pub(super) async fn execute(config: &Config, command: Command, json: bool) -> Result<Verdict, Failure> {
    let Command::Show { id } = command;
    let ground = Arc::new(super::ground(config)?);
    let sources: Vec<String> = config.sources.keys().cloned().collect();
    let targets: Vec<_> = config.targets.values().map(|t| (t.name.clone(), t.records.clone())).collect();
    let traces = ledger::trace(&ground, &sources, &targets, &id).await?;
    if json {
        print::line(json!({ "event_id": id, "found": traces.iter().map(Trace::to_json).collect::<Vec<_>>() }));
    } else {
        for trace in &traces {
            print::text(text(&id, trace));
        }
    }
    if traces.is_empty() {
        eprintln!(
            "no event {id} in {}: it waits in a receiver's spool, was never acknowledged, or is past the retention of received",
            sources.join(", ")
        );
        for held in ledger::spooled(&ground).await? {
            eprintln!("receiver {} held {} events in its spool at {}", held.receiver, held.events, held.at);
        }
        eprintln!("`ledgerhook spool status` on a receiver's machine tells what its spool holds now");
        return Ok(Verdict::Failed);
    }
    Ok(Verdict::Done)
}

fn text(id: &str, trace: &Trace) -> String {
    let mut lines = vec![format!("{id} of {}", trace.source)];
    for row in &trace.received {
        let e = &row.value;
        if let Some(mark) = &row.mark {
            let at = row.at.map(|at| at.to_string()).unwrap_or_default();
            let (what, accepted) = match mark {
                Mark::Replay { accept_revision: true, .. } => ("replay", "  accepted as a revision"),
                Mark::Replay { read_again: true, .. } => ("replay", "  read again"),
                Mark::Replay { .. } => ("replay", ""),
                Mark::Discard { .. } => ("discard", ""),
            };
            let place = format_args!("{}/{}@{}", row.topic, row.partition, row.offset);
            lines.push(format!("  {what:<10} {at}  {place}  operation {}{accepted}", mark.id()));
            continue;
        }
        lines.push(format!(
            "  received   {}  {}  {}/{}@{}  from {} key {} request {}{}",
            e.received_at,
            e.event_type,
            row.topic,
            row.partition,
            row.offset,
            e.evidence.remote_address,
            e.evidence.key_id,
            e.evidence.request_id,
            e.unusable.as_ref().map(|why| format!("  unusable: {why}")).unwrap_or_default(),
        ));
    }
    if let Some(seen) = &trace.seen {
        lines.push(format!("  {:<10} {}", seen.value.state.symbol().to_lowercase(), seen.value.first_routed_at));
    }
    for row in &trace.records {
        lines.push(format!("  record     {}  {}/{}@{}", row.value.key(), row.topic, row.partition, row.offset));
    }
    for row in &trace.quarantined {
        let detail = row.value.detail.as_deref().unwrap_or_default();
        let what = if row.value.settled.is_some() { "settled" } else { "quarantine" };
        lines.push(format!("  {what:<10} {}  {} {detail}", row.value.quarantined_at, row.value.reason));
    }
    for row in &trace.attempts {
        let a = &row.value;
        let status = a.status.map_or_else(|| "-".to_owned(), |s| s.to_string());
        let ms = a.duration_us / 1000;
        lines.push(format!(
            "  attempt    {}  {} #{} {} {status} {ms} ms  {}{}",
            a.started_at,
            a.target,
            a.n,
            a.outcome.symbol(),
            a.reason,
            a.replay_id.as_ref().map(|id| format!("  replay {id}")).unwrap_or_default()
        ));
    }
    for row in &trace.dead_letters {
        let what = if row.value.settled.is_some() { "settled" } else { "dead" };
        let reason = row.value.settled.as_ref().unwrap_or(&row.value.reason);
        lines.push(format!("  {what:<10} {}  {} {reason}", row.value.dead_at, row.value.target));
    }
    for (target, state) in trace.states() {
        lines.push(match state {
            Standing::State(state) => format!("  at {target}: {state}"),
            Standing::Past => format!("  at {target}: past it: from before its start, or its tries are no longer kept"),
        });
    }
    lines.join("\n") + "\n"
}

//! `ledgerhook replay`: records delivered to one target again.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::ask::{Pace, is_meant};
use super::{Failure, Verdict, print};
use crate::config::Config;
use crate::event::{Timestamp, ToJson as _};
use crate::operate::replay::{self, Chosen, Range};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these events
    #[arg(value_name = "EVENT_ID")]
    ids: Vec<String>,
    /// The target; no other one is sent anything
    #[arg(long)]
    target: String,
    /// Recorded at this time (RFC 3339) or later
    #[arg(long, value_parser = Timestamp::parse)]
    from: Option<Timestamp>,
    /// Recorded before this time
    #[arg(long, value_parser = Timestamp::parse)]
    to: Option<Timestamp>,
    /// Of this entity: its id, or SOURCE/ID
    #[arg(long)]
    entity: Option<String>,
    /// Only count and show
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pace: Pace,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn execute(config: &Config, args: Args, json: bool) -> Result<Verdict, Failure> {
    let Args { ids, target, from, to, entity, dry_run, pace, yes } = args;
    let range = Range { ids, from, to, entity };
    let takes = &super::targets::configured(config, &target)?.records;
    let ground = super::ground(config)?;
    let runtime = Handle::current();
    let planned = block_in_place(|| replay::plan(&ground, &runtime, &target, takes, &range))?;
    let (mut chosen, unfinished) = (planned.chosen, planned.unfinished);
    let found = chosen.len();
    if !pace.allow_stale {
        chosen.retain(|one| !one.is_stale);
    }
    let stale = found - chosen.len();
    if unfinished > 0 {
        eprintln!("{unfinished} records are left out: {target} has still to be sent them, they come by themselves");
    }
    if stale > 0 {
        eprintln!(
            "{stale} records are left out, since {target} has had newer ones of their entities: `--allow-stale` takes them in"
        );
    }
    if chosen.is_empty() {
        eprintln!("no such record is there to be delivered again");
        return Ok(Verdict::Failed);
    }
    let counted = format!("{}; {}", summed(&chosen), pace.told(chosen.len()));
    if dry_run {
        if json {
            let records: Vec<_> = chosen.iter().map(row).collect();
            print::line(json!({ "target": target, "records": records, "stale": stale, "unfinished": unfinished }));
        } else {
            chosen.iter().for_each(|one| print::line(line(one)));
            print::line(counted);
        }
        return Ok(Verdict::Done);
    }
    if !is_meant(yes, "replay", &counted)? {
        return Ok(Verdict::Failed);
    }
    let (encoders, _) = ground.look().await?;
    let done = block_in_place(|| replay::act(&ground, &encoders, &runtime, &target, &chosen, &range, pace.pace()))?;
    if json {
        print::line(
            json!({ "operation": done.id, "action": "replay", "events": done.events, "stale": stale, "unfinished": unfinished }),
        );
    } else {
        print::line(format_args!(
            "replay: {} records asked for again as operation {}; `ledgerhook events show` tells what became of each",
            done.events, done.id
        ));
    }
    Ok(Verdict::Done)
}

fn summed(chosen: &[Chosen]) -> String {
    let topics: BTreeSet<&str> = chosen.iter().map(|one| one.place.0.as_str()).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let dead = chosen.iter().filter(|one| one.is_dead).count();
    format!("{} records of {}, {dead} of them dead letters", chosen.len(), topics.join(", "))
}

fn row(one: &Chosen) -> serde_json::Value {
    let (topic, partition, offset) = &one.place;
    json!({
        "event_id": one.event_id,
        "record_topic": topic,
        "record_partition": partition,
        "record_offset": offset,
        "recorded_at": one.recorded_at.to_json(),
        "occurred_at": one.occurred_at.to_json(),
        "dead": one.is_dead,
        "stale": one.is_stale,
    })
}

fn line(one: &Chosen) -> String {
    let (topic, partition, offset) = &one.place;
    let (dead, stale) = (if one.is_dead { "  dead" } else { "" }, if one.is_stale { "  stale" } else { "" });
    format!("{}  {}  {topic}/{partition}@{offset}{dead}{stale}", one.recorded_at, one.event_id)
}

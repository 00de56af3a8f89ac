//! What an operator's word is about, and whether it is meant.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, print};
use crate::event::Timestamp;
use crate::operate::{Done, Selection};

/// Which of the events that wait.
#[derive(Debug, clap::Args)]
pub(super) struct Waiting {
    /// These events
    #[arg(value_name = "EVENT_ID")]
    ids: Vec<String>,
    /// There for this reason, as `list` names it
    #[arg(long)]
    reason: Option<String>,
    /// There since this time (RFC 3339) or later
    #[arg(long, value_parser = Timestamp::parse)]
    from: Option<Timestamp>,
    /// There since before this time
    #[arg(long, value_parser = Timestamp::parse)]
    to: Option<Timestamp>,
    /// All that wait
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl Waiting {
    /// The same for the operation, and whether all are meant.
    pub(super) fn selection(self) -> (Selection, bool) {
        let Self { ids, reason, from, to, all } = self;
        (Selection { ids, reason, from, to, ..Selection::default() }, all)
    }
}

/// Warns where what is selected by is no name of the configuration. It may be one that was there before.
pub(super) fn known<'a>(what: &str, name: Option<&str>, configured: impl Iterator<Item = &'a String>) {
    let configured: Vec<&str> = configured.map(String::as_str).collect();
    if let Some(name) = name.filter(|name| !configured.contains(name)) {
        eprintln!("warning: no {what} {name} is configured; there are: {}", configured.join(", "));
    }
}

/// What is to be changed has to be named, by one of these ways or by `all`.
pub(super) fn named((selection, all): (Selection, bool), ways: &str) -> Result<Selection, Failure> {
    if selection.is_everything() && !all {
        return Err(Failure::Usage(format!("say which events: EVENT_ID, {ways}, --reason, --from, --to, or --all")));
    }
    Ok(selection)
}

/// Prints what waits: for programs, or as lines for people.
pub(super) fn list(json: bool, waiting: impl Iterator<Item = Value>, lines: impl Iterator<Item = String>) {
    if json {
        print::line(json!({ "waiting": waiting.collect::<Vec<_>>() }));
    } else {
        lines.for_each(print::line);
    }
}

/// So many of something, and how many for each reason.
pub(super) fn counted<'a>(what: &str, reasons: impl IntoIterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let colon = if each.is_empty() { "" } else { ": " };
    format!("{} {what}{colon}{}", counts.values().sum::<usize>(), each.join(", "))
}

/// Whether it is meant: said beforehand, or when asked. Says so where it is not.
pub(super) fn is_meant(yes: bool, what: &str, counted: &str) -> Result<bool, Failure> {
    if yes || asked(what, counted)? {
        return Ok(true);
    }
    eprintln!("nothing was done");
    Ok(false)
}

/// Asks on the terminal. Nobody there is no answer.
fn asked(what: &str, counted: &str) -> Result<bool, Failure> {
    eprintln!("{counted}");
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::Usage(format!("nobody to ask whether to {what} them: say --yes")));
    }
    eprint!("{what} them? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Prints what was done: for programs, or for people in words, with what may be done `then`.
pub(super) fn report(json: bool, action: &str, done: &Done, words: &str, then: &str) {
    let Done { id, events } = done;
    if json {
        print::line(json!({ "operation": id, "action": action, "events": events }));
    } else {
        print::line(format_args!("{action}: {events} {words} as operation {id}{then}"));
    }
}

/// How fast records of a replay go.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Pace {
    /// Most records a second, all instances together; live records go first in any case
    #[arg(long, value_name = "R", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Also records older than what the target has had of their entity since
    #[arg(long)]
    pub(super) allow_stale: bool,
}

impl Pace {
    /// The same for the operation.
    pub(super) fn pace(self) -> crate::operate::replay::Pace {
        let interval = Duration::from_secs_f64(1.0 / self.rate);
        crate::operate::replay::Pace { allow_stale: self.allow_stale, interval }
    }

    /// The same for people, for so many records.
    pub(super) fn told(self, count: usize) -> String {
        let seconds = (count as f64 / self.rate).ceil();
        format!("at most {} a second: {seconds} s or more", self.rate)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.001..=100_000.0).contains(&rate) { Ok(rate) } else { Err("is not within 0.001 and 100000".to_owned()) }
}

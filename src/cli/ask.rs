//! What an operator's word is about, and whether it is meant.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use super::Failure;
use crate::operate::Selection;

/// What is to be changed has to be named, by one of these ways or by `all`.
pub(super) fn named(selection: Selection, all: bool, ways: &str) -> Result<Selection, Failure> {
    if selection.is_everything() && !all {
        return Err(Failure::Usage(format!("say which events: EVENT_ID, {ways}, --reason, --from, --to, or --all")));
    }
    Ok(selection)
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

/// Asks on the terminal. Nobody there is no answer.
pub(super) fn asked(what: &str, counted: &str) -> Result<bool, Failure> {
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

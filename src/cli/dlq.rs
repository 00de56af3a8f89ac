//! `ledgerhook dlq`: what could not be delivered, and an operator's word on it.

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::ask::{Pace, Waiting, counted, is_meant, known, list, named, report};
use super::{Failure, Verdict};
use crate::config::Config;
use crate::event::ToJson;
use crate::lake;
use crate::operate::Selection;
use crate::operate::dlq::{self, Letter};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the dead letters that wait, all or a selection
    List(Which),
    /// Show dead letters with record and attempts
    Show(Which),
    /// Have records delivered again, each to its target alone, once
    Replay {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        pace: Pace,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let records go for good; their dead letters are listed no longer
    Discard {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    waiting: Waiting,
    /// For this target
    #[arg(long)]
    target: Option<String>,
}

impl Which {
    /// A target that is not configured any more may have letters; a misspelt one has none.
    fn selection(self, config: &Config) -> (Selection, bool) {
        known("target", self.target.as_deref().filter(|target| *target != lake::TARGET), config.targets.keys());
        let (selection, all) = self.waiting.selection();
        (Selection { target: self.target, ..selection }, all)
    }

    fn named(self, config: &Config) -> Result<Selection, Failure> {
        named(self.selection(config), "--target")
    }
}

pub(super) async fn execute(config: &Config, command: Command, json: bool) -> Result<Verdict, Failure> {
    let ground = super::ground(config)?;
    let runtime = Handle::current();
    let found = |selection: &Selection| block_in_place(|| dlq::waiting(&ground, &runtime, selection));
    match command {
        Command::List(which) => {
            let waiting = found(&which.selection(config).0)?;
            let lines = waiting.iter().map(line).chain([summed(&waiting)]);
            list(json, waiting.iter().map(Letter::to_json), lines);
            Ok(Verdict::Done)
        }
        Command::Show(which) => {
            let waiting = found(&which.named(config)?)?;
            let letters = block_in_place(|| dlq::bodies(&ground, &runtime, &waiting))?;
            let rows = || letters.iter().map(ToJson::to_json);
            list(json, rows(), rows().map(|row| format!("{row:#}")));
            Ok(if waiting.is_empty() { nothing() } else { Verdict::Done })
        }
        Command::Replay { which, pace, yes } => {
            let selection = which.named(config)?;
            let (mut waiting, elsewhere): (Vec<Letter>, Vec<Letter>) =
                found(&selection)?.into_iter().partition(|letter| config.targets.contains_key(&letter.target));
            if !elsewhere.is_empty() {
                eprintln!("{} are for no configured target and are left out", summed(&elsewhere));
            }
            if !pace.allow_stale && !waiting.is_empty() {
                let (fresh, stale) = block_in_place(|| dlq::part_stale(&ground, &runtime, waiting))?;
                if !stale.is_empty() {
                    eprintln!(
                        "{} are left out, since their target has had newer records of their entities: `discard` them, or `replay --allow-stale`",
                        summed(&stale)
                    );
                }
                waiting = fresh;
            }
            if waiting.is_empty() {
                return Ok(nothing());
            }
            if !is_meant(yes, "replay", &format!("{}; {}", summed(&waiting), pace.told(waiting.len())))? {
                return Ok(Verdict::Failed);
            }
            let (encoders, _) = ground.look().await?;
            let done = block_in_place(|| dlq::replay(&ground, &encoders, &runtime, &waiting, &selection, pace.pace()))?;
            report(json, "replay", &done, "records asked for again", "; `ledgerhook dlq list` tells which are left");
            Ok(Verdict::Done)
        }
        Command::Discard { which, yes } => {
            let selection = which.named(config)?;
            let waiting = found(&selection)?;
            if waiting.is_empty() {
                return Ok(nothing());
            }
            if !is_meant(yes, "discard", &summed(&waiting))? {
                return Ok(Verdict::Failed);
            }
            let (encoders, _) = ground.look().await?;
            let done = block_in_place(|| dlq::discard(&ground, &encoders, &waiting, &selection))?;
            report(json, "discard", &done, "dead letters let go", "");
            Ok(Verdict::Done)
        }
    }
}

fn nothing() -> Verdict {
    eprintln!("no such dead letter waits");
    Verdict::Failed
}

fn line(letter: &Letter) -> String {
    let Letter { target, event_id, place: (topic, partition, offset), reason, dead_at, attempts, .. } = letter;
    let detail = letter.detail.as_deref().unwrap_or_default();
    let event_id = if event_id.is_empty() { "-" } else { event_id };
    format!("{dead_at}  {target}  {event_id}  {topic}/{partition}@{offset}  {reason} after {attempts} tries  {detail}")
}

fn summed(waiting: &[Letter]) -> String {
    counted("dead letters", waiting.iter().map(|letter| letter.reason.as_str()))
}

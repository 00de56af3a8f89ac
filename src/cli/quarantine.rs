//! `ledgerhook quarantine`: what was set aside, and an operator's word on it.

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::ask::{Waiting, counted, is_meant, known, list, named, report};
use super::{Failure, Verdict};
use crate::config::Config;
use crate::event::{Mark, ToJson};
use crate::operate::{self, Aside, Selection};
use crate::outcome::QuarantineReason;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the events that wait, all or a selection
    List(Which),
    /// Show events with body and evidence
    Show(Which),
    /// Have events decided again; one that can be routed by now becomes a record, once
    Replay {
        #[command(flatten)]
        which: Which,
        /// Take events set aside as body_mismatch as new revisions: one more record under the same event id
        #[arg(long)]
        accept_revision: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let events go for good; they and the provider's repeats are never routed
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
    /// Of this source
    #[arg(long)]
    source: Option<String>,
}

impl Which {
    /// A source that is not configured any more may have events here; a misspelt one has none.
    fn selection(self, config: &Config) -> (Selection, bool) {
        known("source", self.source.as_deref(), config.sources.keys());
        let (selection, all) = self.waiting.selection();
        (Selection { source: self.source, ..selection }, all)
    }

    fn named(self, config: &Config) -> Result<Selection, Failure> {
        named(self.selection(config), "--source")
    }
}

pub(super) async fn execute(config: &Config, command: Command, json: bool) -> Result<Verdict, Failure> {
    let ground = super::ground(config)?;
    let runtime = Handle::current();
    let found = |selection: &Selection| block_in_place(|| operate::waiting(&ground, &runtime, selection));
    let (selection, mark, yes) = match command {
        Command::List(which) => {
            let waiting = found(&which.selection(config).0)?;
            let lines = waiting.iter().map(line).chain([summed(&waiting)]);
            list(json, waiting.iter().map(Aside::to_json), lines);
            return Ok(Verdict::Done);
        }
        Command::Show(which) => {
            let selection = which.named(config)?;
            let waiting = found(&selection)?;
            let rows = block_in_place(|| operate::bodies(&ground, &runtime, &waiting))?;
            let rows = || rows.iter().map(ToJson::to_json);
            list(json, rows(), rows().map(|row| format!("{row:#}")));
            return Ok(if waiting.is_empty() { nothing() } else { Verdict::Done });
        }
        Command::Replay { which, accept_revision, yes } => {
            (which.named(config)?, Mark::Replay { id: operation(), accept_revision, read_again: false }, yes)
        }
        Command::Discard { which, yes } => (which.named(config)?, Mark::Discard { id: operation() }, yes),
    };
    let mut waiting = found(&selection)?;
    if matches!(mark, Mark::Replay { accept_revision: false, .. }) {
        let before = waiting.len();
        // Of bytes nobody knows yet whether they are another body.
        waiting.retain(|aside| aside.reason != QuarantineReason::BodyMismatch.name() || aside.is_undecodable);
        if before > waiting.len() {
            let left = before - waiting.len();
            eprintln!(
                "{left} events with another body than their id was first taken with are left out: `discard` them, or `replay --accept-revision`"
            );
        }
    }
    if waiting.is_empty() {
        return Ok(nothing());
    }
    let what = if matches!(mark, Mark::Discard { .. }) { "discard" } else { "replay" };
    if !is_meant(yes, what, &summed(&waiting))? {
        return Ok(Verdict::Failed);
    }
    let (encoders, _) = ground.look().await?;
    let done = block_in_place(|| operate::act(&ground, &encoders, &runtime, &waiting, &mark, &selection))?;
    let then = "; `ledgerhook events show` tells what became of each";
    report(json, what, &done, "events given to the router", then);
    Ok(Verdict::Done)
}

fn operation() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn nothing() -> Verdict {
    eprintln!("no such event waits in quarantine");
    Verdict::Failed
}

fn line(aside: &Aside) -> String {
    let detail = aside.detail.as_deref().unwrap_or_default();
    let Aside { quarantined_at, source, event_id, event_type, reason, .. } = aside;
    format!("{quarantined_at}  {source}  {event_id}  {event_type}  {reason}  {detail}")
}

fn summed(waiting: &[Aside]) -> String {
    counted("events wait", waiting.iter().map(|aside| aside.reason.as_str()))
}

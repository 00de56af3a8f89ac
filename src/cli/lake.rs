//! `ledgerhook lake`: tables kept small, and made anew.

use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;

use super::{Failure, Verdict, print};
use crate::config::{Config, duration};
use crate::lake::{self, Maintain};
use crate::lifecycle::on_thread;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Expire old snapshots, and remove old files that belong to nothing
    Maintain {
        /// Expire snapshots older than this
        #[arg(long, default_value = "7d", value_parser = duration)]
        snapshots_older_than: Duration,
        /// Keep this many of the newest snapshots in any case
        #[arg(long, default_value_t = 10)]
        keep: usize,
        /// Remove files that belong to nothing and are older than this; never those of the last hour
        #[arg(long, default_value = "3d", value_parser = duration)]
        orphans_older_than: Duration,
        /// Say what would be removed, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Make a table anew from what Kafka holds, and compare it with the one that is there
    Rebuild {
        /// events, or a record topic
        table: String,
        /// Give it the table's name; the old one is set aside under another
        #[arg(long)]
        replace: bool,
    },
}

pub(super) async fn execute(config: &Config, command: Command, as_json: bool) -> Result<Verdict, Failure> {
    if !config.lake.enabled {
        return Err(Failure::Usage("no [lake] is configured: there are no tables of ours".to_owned()));
    }
    match command {
        Command::Maintain { snapshots_older_than, keep, orphans_older_than, dry_run } => {
            let how = Maintain { snapshots_older_than, keep, orphans_older_than, dry_run };
            let done = lake::maintain(&config.lake, how).await?;
            for of in &done {
                if as_json {
                    print::line(json!({
                        "table": of.table, "snapshots": of.snapshots, "files": of.files, "note": of.note,
                    }));
                } else {
                    let note = of.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
                    let (table, snapshots, files) = (&of.table, of.snapshots, of.files);
                    let would = if dry_run { "to be removed" } else { "removed" };
                    print::line(format_args!("{table}: {snapshots} snapshots expired, {files} files {would}{note}"));
                }
            }
            Ok(Verdict::Done)
        }
        Command::Rebuild { table, replace } => {
            let ground = std::sync::Arc::new(super::ground(config)?);
            let (settings, runtime) = (config.lake.clone(), Handle::current());
            let sources: Vec<String> = config.sources.keys().cloned().collect();
            let work = move || lake::rebuild(&settings, &sources, &ground, &table, replace, &runtime);
            let done = on_thread("lake.rebuild", work).await??;
            let right = done.compared.as_ref().is_none_or(lake::Compared::is_right);
            if as_json {
                let compared = done.compared.as_ref().map(|of| {
                    json!({
                        "same": of.same, "differ": of.differ, "missing": of.missing,
                        "double": of.double, "surplus": of.surplus, "older": of.older,
                    })
                });
                print::line(json!({
                    "table": done.table, "rows": done.rows, "unfit": done.unfit,
                    "compared": compared, "set_aside": done.set_aside,
                }));
            } else {
                print::line(format_args!("{}: {} rows, {} records do not fit", done.table, done.rows, done.unfit));
                if let Some(of) = &done.compared {
                    print::line(format_args!(
                        "the old table: {} rows the same, {} differ, {} missing, {} double, {} that Kafka never had, {} older than what Kafka holds",
                        of.same, of.differ, of.missing, of.double, of.surplus, of.older
                    ));
                }
                if let Some(aside) = &done.set_aside {
                    print::line(format_args!("the old table stands as {aside} now"));
                }
            }
            Ok(if right { Verdict::Done } else { Verdict::Failed })
        }
    }
}

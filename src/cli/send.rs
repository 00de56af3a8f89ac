//! `ledgerhook send`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Failure, Verdict, print};
use crate::config::{Config, Secret};
use crate::simulate::{self, SendPlan};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Source whose provider is played, as in [sources.<name>]
    source: String,
    /// Event type, or `all` for every type in turn
    event_type: String,
    /// Whole address to send to [default: this configuration's receiver and the source's path]
    #[arg(long)]
    url: Option<String>,
    /// Distinct events to send
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Events per second [default: as fast as they are answered]
    #[arg(long)]
    rate: Option<f64>,
    /// Share of events to send again on top, e.g. 0.2 or 20%
    #[arg(long, default_value = "0", value_parser = share)]
    duplicates: f64,
    /// Requests under way at once
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
    /// Authorities (PEM) that prove the receiver's certificate [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate (PEM) to show to the receiver
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Send this file's bytes as the body
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Seed of the events; the same seed makes the same events [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds after which an event not accepted is no longer repeated
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    max_wait: u64,
    /// Print what would be sent as a curl command, and send nothing
    #[arg(long)]
    dry_run: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    match parsed {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a share from 0 to 1, or a percentage such as 20%".to_owned()),
    }
}

fn read(option: &str, file: Option<&Path>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let failed = |error| Failure::Usage(format!("{option}: cannot read {}: {error}", file.display()));
    std::fs::read(file).map(Some).map_err(failed)
}

pub(super) async fn execute(config: &Config, args: Args, json: bool) -> Result<Verdict, Failure> {
    let source = config.sources.get(&args.source).cloned().ok_or_else(|| {
        let known: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let there = if known.is_empty() { " none".to_owned() } else { format!(": {}", known.join(", ")) };
        Failure::Usage(format!("no source {} is configured; there are{there}", args.source))
    })?;
    let body = read("--body", args.body.as_deref())?;
    let scheme = if config.receiver.tls.is_some() { "https" } else { "http" };
    let url = args.url.unwrap_or_else(|| format!("{scheme}://{}{}", config.receiver.listen, source.path));
    let usage = |error: simulate::SendError| Failure::Usage(error.to_string());
    let mut plan = SendPlan::new(source, &args.event_type, url, body).map_err(usage)?;
    plan.ca = read("--ca", args.ca.as_deref())?;
    let certificate = read("--client-cert", args.client_cert.as_deref())?;
    let key = read("--client-key", args.client_key.as_deref())?;
    plan.identity = certificate.zip(key).map(|(certificate, key)| Secret::new([certificate, key].concat()));
    plan.count = args.count;
    plan.rate = args.rate;
    plan.duplicates = args.duplicates;
    plan.concurrency = args.concurrency;
    plan.max_wait = Duration::from_secs(args.max_wait);
    plan.seed = args.seed.unwrap_or(plan.seed);
    if args.dry_run {
        print::line(simulate::dry_run(plan).map_err(usage)?);
        return Ok(Verdict::Done);
    }
    plan.stop = super::stop_on_signals()?;
    let report = simulate::send(plan).await.map_err(usage)?;
    if json {
        print::line(report.to_json());
    } else {
        print::line(&report);
    }
    Ok(if report.all_accepted() { Verdict::Done } else { Verdict::Failed })
}

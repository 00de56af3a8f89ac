//! `ledgerhook check`.

use serde_json::json;

use super::{Failure, Verdict, print};
use crate::config::Config;
use crate::event::Timestamp;
use crate::kafka::layout::LayoutError;
use crate::router::mapping::Mapper;
use crate::targets::{Client, Trial};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also ask broker and registry whether topics and schemas are as they should be, and targets whether they let us in
    #[arg(long)]
    online: bool,
}

pub(super) async fn execute(config: &Config, args: &Args, json: bool) -> Result<Verdict, Failure> {
    let mut errors: Vec<String> = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    if config.sources.is_empty() {
        warnings.push("no sources are configured: nothing can be received".to_owned());
    }
    if config.targets.is_empty() {
        warnings.push("no targets are configured: records stay in their topics".to_owned());
    }
    let tls = config.receiver.tls.as_ref();
    if let Some(why) = tls.and_then(|tls| tls.identity.outdated(jiff::Timestamp::now())) {
        warnings.push(format!("receiver.tls.certificate: {why}"));
    }
    let families = config.sources.values().map(|source| (source.name.as_str(), source.routes.as_str()));
    if let Err(fault) = Mapper::new(families, &config.routes) {
        return Err(Failure::Usage(format!("routes: {fault}")));
    }
    for target in config.targets.values() {
        if let Err(fault) = Client::new(target) {
            return Err(Failure::Usage(format!("targets.{}: {fault}", target.name)));
        }
        let description = &target.description;
        if description.experimental {
            let (name, preset, proved) = (&target.name, &description.name, &description.proved_on);
            warnings.push(format!("targets.{name}: preset `{preset}` is experimental: proved on {proved}"));
        }
    }
    let ground = super::ground(config)?;
    if args.online {
        for (name, target) in &config.targets {
            match Client::new(target)?.probe(Timestamp::now()).await {
                Trial { connected: true, let_in: Some(true) | None, .. } => {}
                Trial { answer, .. } => {
                    let why = answer.fault.or(answer.excerpt).map(|why| format!(": {why}")).unwrap_or_default();
                    errors.push(format!("target {name}: {}{why}", answer.verdict.reason));
                }
            }
        }
        match ground.look().await {
            Ok((_, found)) => warnings.extend(found.into_iter().map(|warning| warning.0)),
            Err(LayoutError::Topics(faults)) => errors.extend(faults.iter().map(ToString::to_string)),
            Err(error) => errors.push(error.to_string()),
        }
        // Kafka and registry are told apart: one being away says nothing of the other.
        if let Some(topic) = ground.topics.first().filter(|_| !errors.is_empty())
            && let Err(error) = ground.registry.lookup(&topic.subject(ground.cluster.prefix()), topic.schema).await
        {
            let text = error.to_string();
            if !errors.contains(&text) {
                errors.push(text);
            }
        }
    }
    if json {
        print::line(json!({ "ok": errors.is_empty(), "errors": errors, "warnings": warnings }));
    } else {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        errors.iter().for_each(|error| eprintln!("error: {error}"));
        if errors.is_empty() {
            let what = if args.online {
                "configuration, broker, registry, topics, schemas and targets"
            } else {
                "configuration"
            };
            print::line(format_args!("ok: {what}"));
        }
    }
    Ok(if errors.is_empty() { Verdict::Done } else { Verdict::Failed })
}

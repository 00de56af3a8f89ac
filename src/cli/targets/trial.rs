//! `ledgerhook targets test`: what a target would be sent, and whether it lets us in.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::{Failure, Verdict, print};
use crate::config::{Config, Target};
use crate::event::{Envelope, Evidence, Origin, Record, Sha256, Timestamp};
use crate::router::mapping::Mapper;
use crate::simulate::fixtures::{FIXTURES, Fixture};
use crate::targets::{Client, Trial};

/// What one sample record would lead to.
struct Sample {
    event_type: String,
    topic: &'static str,
    shown: Result<Vec<(String, String)>, String>,
    notes: Vec<String>,
}

pub(super) async fn execute(config: &Config, name: &str, offline: bool, json: bool) -> Result<Verdict, Failure> {
    let target = super::configured(config, name)?;
    let client = Client::new(target).map_err(|error| Failure::Usage(format!("target {name}: {error}")))?;
    let samples = samples(config, target, &client)?;
    let trial = if offline { None } else { Some(client.probe(Timestamp::now()).await) };
    let refused = samples.iter().any(|sample| sample.shown.is_err());
    let failed = trial.as_ref().is_some_and(|trial| !trial.connected || trial.let_in == Some(false));
    if json {
        print::line(to_json(target, &samples, trial.as_ref()));
    } else {
        samples.iter().for_each(|sample| print::text(text(sample)));
        if let Some(trial) = &trial {
            print::line(told(&client, trial));
        }
    }
    Ok(if refused || failed { Verdict::Failed } else { Verdict::Done })
}

/// One record of each event type that the target takes, made from the simulator's events.
fn samples(config: &Config, target: &Target, client: &Client) -> Result<Vec<Sample>, Failure> {
    let providers = FIXTURES.iter().map(|fixture| (fixture.provider, fixture.provider));
    let mapper = Mapper::new(providers, &config.routes)?;
    let mut samples = Vec::new();
    for fixture in FIXTURES {
        let Ok(record) = mapper.map(&envelope(fixture)?).map(Arc::new) else { continue };
        if target.records.iter().any(|topic| topic == record.topic()) {
            samples.push(sample(fixture, &record, client));
        }
    }
    Ok(samples)
}

fn envelope(fixture: &Fixture) -> Result<Envelope, Failure> {
    let event = fixture.template()?.event(0, 0);
    let at = Timestamp::now();
    Ok(Envelope {
        event_id: event.id,
        source: fixture.provider.to_owned(),
        event_type: fixture.event_type.to_owned(),
        occurred_at: Some(at),
        received_at: at,
        content_type: None,
        body_sha256: Sha256::of(&event.body),
        body: event.body.into(),
        unusable: None,
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    })
}

fn sample(fixture: &Fixture, record: &Arc<Record>, client: &Client) -> Sample {
    let (shown, notes) = match client.show(record) {
        Ok((shown, notes)) => {
            let shown = shown.into_iter().map(|shown| (shown.name, client.text_of(&shown.request)));
            (Ok(shown.collect()), notes)
        }
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    Sample { event_type: fixture.event_type.to_owned(), topic: record.topic(), shown, notes }
}

fn text(sample: &Sample) -> String {
    let mut text = format!("# {} ({})\n", sample.event_type, sample.topic);
    match &sample.shown {
        Ok(requests) => {
            for (name, request) in requests {
                text.push_str(&format!("\n## {name}\n{request}\n"));
            }
        }
        Err(why) => text.push_str(&format!("\nwould be refused: {why}\n")),
    }
    sample.notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}\n")));
    text.push('\n');
    text
}

/// What the target answered, in a line.
fn told(client: &Client, trial: &Trial) -> String {
    let status = trial.answer.status.map_or_else(|| trial.answer.verdict.reason.to_string(), |s| format!("HTTP {s}"));
    let words = [trial.answer.fault.as_deref(), trial.answer.excerpt.as_deref()].into_iter().flatten().next();
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    match (trial.connected, trial.let_in) {
        (true, Some(true)) => format!("ok: it lets us in ({}; {status})", client.access()),
        (true, Some(false)) => format!("failed: it does not let us in ({}; {status}){words}", client.access()),
        (true, None) => format!(
            "ok: something answers there ({status}); whether it lets us in ({}) only a record would show",
            client.access()
        ),
        (false, _) => format!("failed: it cannot be reached ({status}){words}"),
    }
}

fn to_json(target: &Target, samples: &[Sample], trial: Option<&Trial>) -> Value {
    let samples = samples.iter().map(|sample| {
        let requests = sample.shown.as_ref().map(|requests| {
            requests.iter().map(|(name, text)| json!({"name": name, "request": text})).collect::<Vec<_>>()
        });
        json!({
            "event_type": sample.event_type, "record": sample.topic, "requests": requests.as_ref().ok(),
            "refused": requests.err(), "notes": sample.notes,
        })
    });
    json!({
        "target": target.name,
        "preset": target.description.name,
        "experimental": target.description.experimental,
        "samples": samples.collect::<Vec<_>>(),
        "trial": trial.map(|trial| json!({
            "connected": trial.connected, "let_in": trial.let_in, "status": trial.answer.status,
            "outcome": trial.answer.verdict.outcome.symbol(), "reason": trial.answer.verdict.reason.to_string(),
            "fault": trial.answer.fault, "answer": trial.answer.excerpt,
        })),
    })
}

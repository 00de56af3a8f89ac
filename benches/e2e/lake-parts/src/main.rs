//! Writes envelopes and their records, as receiver and router leave them in the topics that the lake reads.
//!
//! `lake-fill CONFIG FIRST EVENTS RATE` writes the events of the numbers from FIRST on, of every type of both providers
//! in turn: one row of `received.<source>` and one of a record topic for each. Event n is due at n / RATE, with RATE 0 as
//! soon as may be, and says that it was received when it is written. Bodies are filled up so that an envelope has about
//! [`ENVELOPE`] bytes. Prints rows and bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ledgerhook::event::{Envelope, Evidence, Origin, Sha256, Timestamp};
use ledgerhook::kafka::codec::Encoder;
use ledgerhook::router::mapping::Mapper;
use ledgerhook::simulate::fixtures::{FIXTURES, Template};
use router_parts::{ENVELOPE, Writer, ground};

/// Of the events' ids and amounts.
const SEED: u64 = 1;
/// What fills a body up: text that packs about as well as a provider's prose.
const WORDS: [&str; 16] = [
    "invoice",
    "approved",
    "by",
    "the",
    "controller",
    "after",
    "review",
    "of",
    "purchase",
    "order",
    "terms",
    "net",
    "delivery",
    "note",
    "matched",
    "against",
];
const PAD: &str = r#","note":""#;
/// Half of what an envelope has beside its body, so that envelopes and records have [`ENVELOPE`] bytes in the middle.
const AROUND: usize = 210;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, first, events, rate] = args.as_slice() else { bail!("lake-fill CONFIG FIRST EVENTS RATE") };
    let (first, events, rate): (u64, u64, f64) = (first.parse()?, events.parse()?, rate.parse()?);
    let (config, ground) = ground(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (encoders, _) = runtime.block_on(ground.look())?;
    let sources = config.sources.values().map(|source| (source.name.as_str(), source.routes.as_str()));
    let mapper = Mapper::new(sources, &config.routes)?;
    let templates = FIXTURES.iter().map(|fixture| Ok((fixture.provider, fixture.event_type, fixture.template()?)));
    let templates: Vec<_> = templates.collect::<anyhow::Result<_>>()?;

    let brokers = config.kafka.bootstrap_servers.join(",");
    let linger = if rate > 0.0 { 1 } else { 50 };
    let mut topics: BTreeMap<String, (Encoder, Writer, u64, usize)> = BTreeMap::new();
    let mut write = |topic: &str, key: &str, encode: &dyn Fn(&Encoder) -> anyhow::Result<Vec<u8>>| {
        if !topics.contains_key(topic) {
            let encoder = encoders.of(topic).cloned().with_context(|| format!("no schema for {topic}"))?;
            let writer = Writer::new(&brokers, &ground.cluster.topic(topic), linger)?;
            topics.insert(topic.to_owned(), (encoder, writer, 0, 0));
        }
        let (encoder, writer, rows, bytes) = topics.get_mut(topic).context("it was put there")?;
        let value = encode(encoder)?;
        (*rows, *bytes) = (*rows + 1, *bytes + value.len());
        writer.write(key.as_bytes(), &value, None)
    };
    let began = Timestamp::now().as_micros();
    for n in 0..events {
        let due = began + if rate > 0.0 { (n as f64 / rate * 1e6) as i64 } else { 0 };
        if let early @ 1.. = due - Timestamp::now().as_micros() {
            std::thread::sleep(Duration::from_micros(early.unsigned_abs()));
        }
        let (provider, event_type, template) = &templates[n as usize % templates.len()];
        let envelope = envelope(provider, event_type, template, first + n, Timestamp::now());
        let record = mapper.map(&envelope).map_err(|fault| anyhow::anyhow!("{event_type}: {}", fault.detail))?;
        let received = format!("received.{provider}");
        write(&received, &envelope.event_id, &|encoder| Ok(encoder.encode(&envelope)?))?;
        write(record.topic(), &record.key(), &|encoder| Ok(encoder.encode(&record)?))?;
    }
    let (mut rows, mut bytes) = (0, 0);
    for (topic, (_, writer, n, size)) in topics {
        writer.done()?;
        eprintln!("{topic}: {n} rows of {} bytes", size as u64 / n);
        (rows, bytes) = (rows + n, bytes + size);
    }
    println!("rows={rows} bytes={bytes} each={}", bytes as u64 / rows.max(1));
    Ok(())
}

/// The event as a receiver would have written it.
fn envelope(source: &str, event_type: &str, template: &Template, n: u64, received_at: Timestamp) -> Envelope {
    let event = template.event(SEED, n);
    let mut body = event.body;
    let room = ENVELOPE.saturating_sub(body.len() + PAD.len() + AROUND);
    // At the end of the members that become the record, so that it is as long as its envelope, about.
    let end = body.iter().rposition(|byte| *byte == b'}').and_then(|last| body.get(..last));
    if let Some(at) = end.and_then(|body| body.iter().rposition(|byte| *byte == b'}')).filter(|_| room > 0) {
        let mut pad = PAD.as_bytes().to_vec();
        let mut state = n;
        while pad.len() < room + PAD.len() {
            // SplitMix64: the same text at every run.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            pad.extend_from_slice(WORDS[(z >> 60) as usize].as_bytes());
            pad.push(b' ');
        }
        pad.push(b'"');
        body.splice(at..at, pad);
    }
    Envelope {
        event_id: event.id,
        source: source.to_owned(),
        event_type: event_type.to_owned(),
        occurred_at: Some(received_at),
        received_at,
        content_type: Some("application/json".to_owned()),
        body_sha256: Sha256::of(&body),
        body: body.into(),
        unusable: None,
        test: None,
        evidence: Evidence {
            signature_header: "x-signature".to_owned(),
            signature_value: Sha256::of(&n.to_be_bytes()).to_string(),
            algorithm: "hmac-sha256".to_owned(),
            key_id: "bench".to_owned(),
            remote_address: "127.0.0.1".to_owned(),
            client_certificate_sha256: None,
            request_id: format!("01980000-0000-7000-8000-{n:012x}"),
            receiver_id: "receiver-1".to_owned(),
            headers: BTreeMap::from([("user-agent".to_owned(), "provider/1.0".to_owned())]),
        },
        origin: Origin::Live,
    }
}

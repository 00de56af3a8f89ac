//! Events of known numbers as a receiver would have written them, and writing them fast.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ledgerhook::app;
use ledgerhook::config::Config;
use ledgerhook::event::{Envelope, Evidence, Origin, Seen, SeenState, Sha256, Timestamp};
use ledgerhook::kafka::codec::Encoder;
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::layout::Ground;
use ledgerhook::simulate::fixtures::of_provider;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

/// The source whose topics are filled.
pub const SOURCE: &str = "accelex";
/// Bytes of an envelope in its topic.
pub const ENVELOPE: usize = 1536;
/// Longest wait for the broker.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Different bodies of each event type, and so entities.
const BODIES: u64 = 100;
const PREFIX: &str = "evt_ax_";
const DIGITS: usize = 26;
const PAD: &str = r#","note":"""#;

/// The event id of this number.
#[must_use]
pub fn id(n: u64) -> String {
    format!("{PREFIX}{n:0DIGITS$}")
}

/// The number of an event id.
#[must_use]
pub fn number(id: &[u8]) -> Option<u64> {
    std::str::from_utf8(id).ok()?.strip_prefix(PREFIX)?.parse().ok()
}

/// The number of the event in row `row`, where one of ten rows repeats an earlier event.
#[must_use]
pub const fn with_repeats(row: u64) -> u64 {
    let fresh = row - row / 10;
    if row % 10 == 9 {
        // Anywhere before it, the same at every run.
        (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % fresh
    } else {
        fresh
    }
}

struct Template {
    envelope: Envelope,
    /// Where the id stands in the body.
    id_at: usize,
}

/// Makes events.
pub struct Events {
    templates: Vec<Template>,
    envelopes: Encoder,
    markers: Encoder,
}

/// A row of `received`.
pub struct Row {
    /// The event id.
    pub key: String,
    /// The envelope.
    pub value: Vec<u8>,
    /// CloudEvents headers.
    pub headers: OwnedHeaders,
}

/// The installation of this configuration file.
///
/// # Errors
/// When it is at fault, or the servers are away.
pub fn ground(config: &str) -> anyhow::Result<(Config, Ground)> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = Config::load(Some(Path::new(config))).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let ground = app::ground(&config)?;
    Ok((config, ground))
}

impl Events {
    /// Events in turn of every type of the source, filled up to [`ENVELOPE`] bytes.
    ///
    /// # Errors
    /// When the registry is away.
    pub fn new(ground: &Ground) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (encoders, _) = runtime.block_on(ground.look())?;
        let encoder = |topic: &str| encoders.of(topic).cloned().with_context(|| format!("no schema for {topic}"));
        let envelopes = encoder(&format!("received.{SOURCE}"))?;
        let mut templates = Vec::new();
        for n in 0..BODIES {
            for fixture in of_provider(SOURCE) {
                templates.push(template(fixture.event_type, &fixture.template()?.event(1, n).body, &envelopes)?);
            }
        }
        Ok(Self { templates, envelopes, markers: encoder(&format!("seen.{SOURCE}"))? })
    }

    /// The event of this number: always the same id and body.
    ///
    /// # Errors
    /// When it does not fit its schema.
    pub fn row(&mut self, n: u64) -> anyhow::Result<Row> {
        let event = self.event(n)?;
        event.received_at = Timestamp::now();
        let event = event.clone();
        let headers = Headers::of_received(&event, None);
        let headers =
            headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        Ok(Row { value: self.envelopes.encode(&event)?, key: event.event_id, headers })
    }

    /// Id and marker of the event of this number, as routed.
    ///
    /// # Errors
    /// When it does not fit its schema.
    pub fn marker(&mut self, n: u64, now: Timestamp) -> anyhow::Result<(String, Vec<u8>)> {
        let event = self.event(n)?;
        let seen = Seen {
            state: SeenState::Routed,
            body_sha256: vec![event.body_sha256],
            first_routed_at: now,
            record_topic: Some("invoices".to_owned()),
            record_key: Some(format!("{SOURCE}/inv_{:010}", n / 4)),
            decided: Vec::new(),
        };
        let key = event.event_id.clone();
        Ok((key, self.markers.encode(&seen)?))
    }

    fn event(&mut self, n: u64) -> anyhow::Result<&mut Envelope> {
        let which = n as usize % self.templates.len();
        let Template { envelope, id_at } = self.templates.get_mut(which).context("no templates")?;
        envelope.event_id = id(n);
        let mut body = Vec::from(std::mem::take(&mut envelope.body));
        let place = body.get_mut(*id_at..*id_at + PREFIX.len() + DIGITS).context("a body without its id")?;
        place.copy_from_slice(envelope.event_id.as_bytes());
        envelope.body = body.into();
        envelope.body_sha256 = Sha256::of(&envelope.body);
        Ok(envelope)
    }
}

fn template(event_type: &str, body: &[u8], encoder: &Encoder) -> anyhow::Result<Template> {
    let text = std::str::from_utf8(body)?;
    let id_at = text.find(PREFIX).context("an event without an id")?;
    let mut envelope = Envelope {
        event_id: id(0),
        source: SOURCE.to_owned(),
        event_type: event_type.to_owned(),
        occurred_at: Some(Timestamp::now()),
        received_at: Timestamp::now(),
        content_type: Some("application/json".to_owned()),
        body: body.to_vec().into(),
        body_sha256: Sha256::of(body),
        unusable: None,
        test: None,
        evidence: Evidence {
            signature_header: "x-accelex-signature".to_owned(),
            signature_value: "0".repeat(64),
            algorithm: "hmac-sha256".to_owned(),
            key_id: "bench".to_owned(),
            remote_address: "127.0.0.1".to_owned(),
            client_certificate_sha256: None,
            request_id: "01980000-0000-7000-8000-000000000001".to_owned(),
            receiver_id: "receiver-1".to_owned(),
            headers: BTreeMap::from([("user-agent".to_owned(), "provider/1.0".to_owned())]),
        },
        origin: Origin::Live,
    };
    let room = ENVELOPE.saturating_sub(encoder.encode(&envelope)?.len() + PAD.len());
    let mut body = body.to_vec();
    body.pop();
    body.extend_from_slice(format!(r#","note":"{}"}}"#, "n".repeat(room)).as_bytes());
    envelope.body = body.into();
    Ok(Template { envelope, id_at })
}

/// Counts what was not acknowledged.
#[derive(Clone, Default)]
struct Failed(Arc<AtomicU64>);

impl ClientContext for Failed {}

impl ProducerContext for Failed {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if delivered.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes rows.
pub struct Writer {
    producer: ThreadedProducer<Failed>,
    failed: Failed,
    topic: String,
}

impl Writer {
    /// For this topic; rows are placed by their key, as Ledgerhook places them.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn new(brokers: &str, topic: &str, linger_ms: u32) -> anyhow::Result<Self> {
        let failed = Failed::default();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            // An idempotent client asks for its id half a second after it was made, and what is due until then is late. A
            // row that is not acknowledged fails the run.
            .set("message.send.max.retries", "0")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", linger_ms.to_string())
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "200000")
            .create_with_context(failed.clone())?;
        Ok(Self { producer, failed, topic: topic.to_owned() })
    }

    /// Takes a row; waits while there are too many.
    ///
    /// # Errors
    /// When the client refuses it.
    pub fn write(&self, key: &[u8], value: &[u8], headers: Option<OwnedHeaders>) -> anyhow::Result<()> {
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value);
        record.headers = headers;
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => {
                    std::thread::sleep(Duration::from_millis(1));
                    record
                }
                Err((error, _)) => return Err(error).context("writing a row"),
            }
        }
    }

    /// Waits until all rows are acknowledged.
    ///
    /// # Errors
    /// When one was not.
    pub fn done(self) -> anyhow::Result<()> {
        self.producer.flush(PATIENCE)?;
        let failed = self.failed.0.load(Ordering::Relaxed);
        ensure!(failed == 0, "{failed} rows were not acknowledged");
        Ok(())
    }
}

//! Records of known numbers as the router would have written them.

use anyhow::Context as _;
use ledgerhook::event::{Envelope, Evidence, InvoiceRecord, Origin, Record, Sha256, Timestamp};
use ledgerhook::kafka::codec::Encoder;
use ledgerhook::kafka::layout::Ground;
use ledgerhook::router::mapping::Mapper;
use ledgerhook::simulate::fixtures::of_provider;
use rdkafka::message::{Header, OwnedHeaders};
use router_parts::{SOURCE, id};

/// The topic that is filled.
pub const TOPIC: &str = "invoices";
const TYPE: &str = "invoice.resolved";

/// How records fall to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// How many there are.
    pub all: u64,
    /// The first of them that nine of ten records go to; 0: all alike.
    pub crowded: u64,
}

impl Keys {
    /// The key of this record: anyhow, the same at every run. Key 0 has one at least among as many records as there are
    /// keys.
    #[must_use]
    pub const fn of(self, n: u64) -> u64 {
        let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)) >> 8;
        match self.crowded {
            0 if n % self.all == 0 => 0,
            0 => mixed % self.all,
            crowded if n % 10 == 0 => crowded + mixed % (self.all - crowded),
            crowded => mixed % crowded,
        }
    }
}

/// Makes records.
pub struct Records {
    encoder: Encoder,
    template: InvoiceRecord,
    keys: Keys,
}

/// A row of the topic.
pub struct Row {
    /// Its key.
    pub key: String,
    /// The record.
    pub value: Vec<u8>,
    /// With its event's id.
    pub headers: OwnedHeaders,
}

impl Records {
    /// Invoices as the simulator's event is mapped to them.
    ///
    /// # Errors
    /// When the registry is away.
    pub fn new(ground: &Ground, keys: Keys) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (encoders, _) = runtime.block_on(ground.look())?;
        let encoder = encoders.of(TOPIC).cloned().context("no schema of invoices")?;
        let fixture = of_provider(SOURCE).into_iter().find(|fixture| fixture.event_type == TYPE).context("no fixture")?;
        let body = fixture.template()?.event(1, 1).body;
        let envelope = Envelope {
            event_id: id(0),
            source: SOURCE.to_owned(),
            event_type: TYPE.to_owned(),
            occurred_at: Some(Timestamp::now()),
            received_at: Timestamp::now(),
            content_type: Some("application/json".to_owned()),
            body_sha256: Sha256::of(&body),
            body: body.to_vec().into(),
            unusable: None,
            test: None,
            evidence: Evidence::absent(),
            origin: Origin::Live,
        };
        let routes = ledgerhook::config::Config::defaults().map_err(|faults| anyhow::anyhow!("{faults}"))?.routes;
        let mapped = Mapper::new([(SOURCE, SOURCE)], &routes)?.map(&envelope);
        let Ok(Record::Invoice(template)) = mapped else { anyhow::bail!("the fixture is no invoice") };
        Ok(Self { encoder, template, keys })
    }

    /// The record of this number.
    ///
    /// # Errors
    /// When it does not fit its schema.
    pub fn row(&mut self, n: u64) -> anyhow::Result<Row> {
        let record = &mut self.template;
        record.event_id = id(n);
        record.entity_id = format!("inv_{:08}", self.keys.of(n));
        record.received_at = Timestamp::now();
        let headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some(&record.event_id) });
        Ok(Row { key: format!("{SOURCE}/{}", record.entity_id), value: self.encoder.encode(record)?, headers })
    }
}

//! A writer that finds far more than it may hold: the memory of the process stays within what config/default.toml says.

use std::collections::BTreeMap;

use ledgerhook::config::Config;
use ledgerhook::event::{Envelope, Evidence, Origin, Sha256, Timestamp};
use ledgerhook::router::mapping::Mapper;
use ledgerhook::simulate::fixtures::{FIXTURES, Template};
use rand::distr::{Alphanumeric, SampleString as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::readers::count;
use super::{local, rows, start, write};
use crate::common::records::encoded;
use crate::common::{Installation, install};

const SEED: u64 = 7;
/// `lake.memory`.
const MEMORY: u64 = 16 << 20;
/// Rows, half of them envelopes, and what each has about: ten times the memory together.
const EVENTS: u64 = 8_000;
const ROW: usize = 10 << 10;
const MIB: u64 = 1 << 20;

/// An event of each type in turn, filled up with text that hardly packs.
fn event(template: &Template, provider: &str, event_type: &str, n: u64, rng: &mut StdRng) -> Envelope {
    let event = template.event(SEED, n);
    let mut body = event.body;
    let length = rng.random_range(ROW / 2..ROW + ROW / 2);
    let filler = Alphanumeric.sample_string(rng, length);
    // Into the members that become the record.
    let last = body.iter().rposition(|byte| *byte == b'}').unwrap();
    let at = body[..last].iter().rposition(|byte| *byte == b'}').unwrap();
    body.splice(at..at, format!(r#","note":"{filler}""#).into_bytes());
    Envelope {
        event_id: event.id,
        source: provider.to_owned(),
        event_type: event_type.to_owned(),
        occurred_at: None,
        received_at: Timestamp::from_micros(super::DAY + i64::try_from(n).unwrap()),
        content_type: None,
        body_sha256: Sha256::of(&body),
        body: body.into(),
        unusable: None,
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    }
}

/// Fills every topic; rows by table.
async fn fill(installation: &Installation) -> BTreeMap<String, i64> {
    let routes = Config::defaults().unwrap_or_else(|faults| panic!("{faults}")).routes;
    let mapper = Mapper::new([("accelex", "accelex"), ("accbooks", "accbooks")], &routes).unwrap();
    let templates: Vec<Template> = FIXTURES.iter().map(|fixture| fixture.template().unwrap()).collect();
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut tables = BTreeMap::new();
    let all = (0..EVENTS).flat_map(|n| {
        let which = usize::try_from(n).unwrap() % FIXTURES.len();
        let fixture = &FIXTURES[which];
        let envelope = event(&templates[which], fixture.provider, fixture.event_type, n, &mut rng);
        let record = mapper.map(&envelope).unwrap_or_else(|fault| panic!("{}", fault.detail));
        let (topic, key) = (record.topic().to_owned(), record.key());
        for table in ["events", &topic] {
            *tables.entry(table.to_owned()).or_insert(0) += 1;
        }
        let value = encoded(installation, &record);
        let received = format!("received.{}", envelope.source);
        let raw = installation.encoders.of(&received).unwrap().encode(&envelope).unwrap();
        [(topic, key, value), (received, envelope.event_id, raw)]
    });
    write(installation, all).await;
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_takes_no_more_memory_than_is_stated() {
    let (_dir, lake) = local("rows = 1000000, bytes = \"4GiB\", every = \"1h\"");
    let lake = lake.replacen("[lake]\n", &format!("[lake]\nmemory = \"{}MiB\"\n", MEMORY / MIB), 1);
    let installation = install(&lake).await;
    let tables = fill(&installation).await;
    assert_eq!(tables.len(), 8, "{tables:?}");
    let mut writer = start(&installation.file(), "");
    writer.line(&["ready", "lake"]).await;
    let idle = (writer.peak_memory() - writer.code_memory()) / MIB;
    // Nothing but memory makes it write: the rest is for one that writes often.
    let most = i64::try_from(EVENTS - MEMORY / u64::try_from(ROW).unwrap()).unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    let mut seen = None;
    while seen.is_none_or(|seen| seen < most) {
        assert!(tokio::time::Instant::now() < deadline, "{seen:?} rows of {most}");
        seen = count(&installation, "events").await;
    }
    let peak = (writer.peak_memory() - writer.code_memory()) / MIB;
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
    // As config/default.toml has it.
    let bound = 2 * MEMORY / MIB + 8 * 8 + 100;
    println!(
        "at most {peak} MiB ({idle} at its start), stated {bound}, of {} MiB",
        EVENTS * 2 * u64::try_from(ROW).unwrap() / MIB
    );
    assert!(peak < bound, "{peak} MiB of {bound}");
    let often = installation.data_dir.path().join("often.toml");
    std::fs::write(&often, installation.toml.replacen("every = \"1h\"", "every = \"1s\"", 1)).unwrap();
    let writer = start(&often, "");
    for (table, count) in tables {
        let read = rows(&installation, &table, count).await;
        assert!(read.engines.iter().all(|engine| (engine.rows, engine.places) == (count, count)), "{table}: {read:?}");
    }
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
}

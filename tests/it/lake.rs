//! The lake against real Kafka, real catalogs and stores, read back by other implementations.

mod away;
mod faults;
mod memory;
mod readers;
mod remote;
mod rewrites;
mod storm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ledgerhook::event::{
    Date, Decimal, Direction, Envelope, Evidence, InvoiceLine, InvoiceRecord, InvoiceStatus, Origin, Provenance,
    Record, Sha256, Supplier, Timestamp, Validation,
};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use ledgerhook::outcome::DeadLetterReason;

use crate::common::process::Process;
use crate::common::records::dead_letters;
use crate::common::{Installation, eventually, install};
use readers::{Read, read};

/// A day that rows are received on, and the microseconds of one.
const DAY: i64 = 1_777_680_000_000_000;
const MICROS_OF_DAY: i64 = 86_400_000_000;

/// An invoice whose every kind of column holds something; `n` spreads them over entities, days and amounts.
pub(crate) fn invoice(n: i64) -> InvoiceRecord {
    let decimal = |text: String| Some(text.parse::<Decimal>().unwrap());
    InvoiceRecord {
        event_id: format!("evt-{n:07}"),
        source: if n % 2 == 0 { "accelex" } else { "accbooks" }.to_owned(),
        event_type: "invoice.resolved".to_owned(),
        entity_id: format!("inv-{:03}", n % 97),
        occurred_at: (n % 3 > 0).then(|| Timestamp::from_micros(DAY + n)),
        received_at: Timestamp::from_micros(DAY + (n % 3) * MICROS_OF_DAY + n),
        body_sha256: Sha256::of(&n.to_be_bytes()),
        work_unit_id: None,
        provenance: (n % 2 == 0).then(|| Provenance {
            pipeline: Some("finance".to_owned()),
            pipeline_version: None,
            document_uri: Some(format!("s3://intake/{n}.pdf")),
            document_sha256: None,
            processed_at: Some(Timestamp::from_micros(DAY - 1)),
        }),
        validation: (0..n % 3)
            .map(|i| Validation {
                rule: Some(format!("rule-{i}")),
                result: None,
                score: decimal(format!("0.{:09}", n % 1_000_000_000)),
                detail: None,
            })
            .collect(),
        attributes: format!("{{\"n\":{n},\"text\":\"ünïcode 😀\"}}"),
        direction: Direction::Payable,
        status: InvoiceStatus::Resolved,
        invoice_id: Some(format!("inv-{:03}", n % 97)),
        invoice_number: None,
        customer_id: None,
        supplier: (n % 5 == 0).then(|| Supplier {
            id: Some("s".to_owned()),
            name: None,
            tax_id: Some("GB1".to_owned()),
        }),
        purchase_order: None,
        issue_date: Some(Date::from_days(20_575)),
        due_date: None,
        currency: Some("EUR".to_owned()),
        total_amount: decimal(format!("{}.{:09}", n * 1_000_003, (n * 7) % 1_000_000_000)),
        tax_amount: (n % 4 == 0).then(|| decimal("-99999999999999999999999999999.999999999".to_owned())).flatten(),
        lines: (0..n % 4)
            .map(|i| InvoiceLine {
                description: Some(format!("line {i}")),
                quantity: decimal(format!("{i}")),
                unit_price: None,
                amount: decimal(format!("{n}.5")),
                account: None,
            })
            .collect(),
        decision: None,
        anomalies: (0..n % 2).map(|_| "late".to_owned()).collect(),
        issued_at: None,
        sent_at: None,
        paid_at: None,
        due_at: None,
    }
}

/// The envelope that [`invoice`] came in.
pub(crate) fn envelope(n: i64) -> Envelope {
    let record = invoice(n);
    Envelope {
        event_id: record.event_id,
        source: record.source,
        event_type: record.event_type,
        occurred_at: record.occurred_at,
        received_at: record.received_at,
        content_type: Some("application/json".to_owned()),
        body: vec![u8::try_from(n % 256).unwrap(); 300].into(),
        body_sha256: record.body_sha256,
        unusable: None,
        test: None,
        evidence: Evidence {
            signature_header: "X-Sig".to_owned(),
            signature_value: format!("sha256={n:064x}"),
            algorithm: "hmac-sha256".to_owned(),
            key_id: "k".to_owned(),
            remote_address: "127.0.0.1".to_owned(),
            client_certificate_sha256: None,
            request_id: format!("req-{n}"),
            receiver_id: "r-1".to_owned(),
            headers: BTreeMap::from([("user-agent".to_owned(), "test".to_owned())]),
        },
        origin: Origin::Live,
    }
}

/// Writes invoices and their envelopes to the topics, in transactions as the router does, so that marks lie between.
pub(crate) async fn produce(installation: &Installation, numbers: impl IntoIterator<Item = i64>) {
    let rows = numbers.into_iter().flat_map(|n| {
        let (record, envelope) = (invoice(n), envelope(n));
        let received = format!("received.{}", envelope.source);
        let encoded = installation.encoders.of("invoices").unwrap().encode(&record).unwrap();
        let raw = installation.encoders.of(&received).unwrap().encode(&envelope).unwrap();
        let key = Record::from(record).key();
        [("invoices".to_owned(), key, encoded), (received, envelope.event_id, raw)]
    });
    write(installation, rows).await;
}

pub(crate) async fn write(installation: &Installation, rows: impl IntoIterator<Item = (String, String, Vec<u8>)>) {
    let cluster = &installation.ground.cluster;
    let producer = Producer::new(cluster, Duration::from_secs(60), Duration::from_millis(20)).unwrap();
    let mut sending = Vec::new();
    for (topic, key, value) in rows {
        let row = Outgoing {
            topic: cluster.topic(&topic),
            partition: None,
            key: key.into_bytes(),
            value,
            headers: Headers::default(),
            timestamp_ms: None,
        };
        sending.push(producer.enqueue(&row).unwrap());
        if sending.len() >= 1000 {
            for sent in sending.drain(..) {
                sent.await.unwrap();
            }
        }
    }
    for sent in sending {
        sent.await.unwrap();
    }
}

/// Sum of the invoices' total amounts, to the last digit.
pub(crate) fn total(numbers: impl IntoIterator<Item = i64>) -> Decimal {
    let sum = numbers.into_iter().map(|n| invoice(n).total_amount.unwrap().unscaled()).sum();
    Decimal::from_unscaled(sum).unwrap()
}

/// `[lake]` with tables in a folder of the installation's own; `more` goes behind it.
pub(crate) fn local(commit: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let toml = format!(
        "[lake]\nwarehouse = \"file:{at}/warehouse\"\ncatalog = {{ uri = \"sqlite:{at}/catalog.db\" }}\ncommit = {{ {commit} }}\n"
    );
    (dir, toml)
}

/// Starts the role as a process of its own.
pub(crate) fn start(config: &std::path::Path, failpoint: &str) -> Process {
    Process::start(config, &["run", "--role", "lake"], &[("LEDGERHOOK_FAILPOINT", failpoint)])
}

/// A configuration for one more instance, with a data directory of its own.
pub(crate) fn instance(installation: &Installation, number: usize) -> PathBuf {
    let folder = installation.data_dir.path().join(format!("lake-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    let whole = format!("data_dir = \"{}\"", installation.data_dir.path().display());
    let own = format!("data_dir = \"{}\"", folder.display());
    let file = folder.join("ledgerhook.toml");
    std::fs::write(&file, installation.toml.replacen(&whole, &own, 1)).unwrap();
    file
}

/// Waits until PyIceberg sees this many rows in the table, and returns what all readers see of it.
pub(crate) async fn rows(installation: &Installation, table: &str, count: i64) -> Read {
    for _ in 0..120 {
        if readers::count(installation, table).await == Some(count) {
            return read(installation, table).await;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let seen = readers::count(installation, table).await;
    panic!("{table} has {seen:?} rows, not {count}");
}

/// Every row once, in every reader's eyes, and every amount.
pub(crate) fn assert_exact(read: &Read, numbers: std::ops::Range<i64>) {
    let count = numbers.end - numbers.start;
    for engine in &read.engines {
        assert_eq!((engine.rows, engine.places, engine.events), (count, count, count), "{}", engine.name);
        if let Some(sum) = &engine.total {
            assert_eq!(sum.parse::<Decimal>().unwrap(), total(numbers.clone()), "{}", engine.name);
        }
    }
    assert_eq!(
        read.engines.iter().map(|engine| engine.name.as_str()).collect::<Vec<_>>(),
        ["pyiceberg", "duckdb", "polars"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_hold_every_record_as_other_engines_read_them() {
    let (_dir, lake) = local("rows = 700, every = \"1s\"");
    let installation = install(&lake).await;
    produce(&installation, 0..2_000).await;
    let lake = installation.config.lake.clone();
    let sources = vec!["accelex".to_owned(), "accbooks".to_owned()];
    let settings = ledgerhook::lake::Settings { lake, sources };
    let (ground, role) = (installation.ground.clone(), installation.role("lake"));
    let running = tokio::spawn(ledgerhook::lake::run(settings, ground, role));
    installation.ready("lake").await;

    let invoices = rows(&installation, "invoices", 2_000).await;
    assert_exact(&invoices, 0..2_000);
    let events = rows(&installation, "events", 2_000).await;
    assert_exact(&events, 0..2_000);
    assert_eq!(events.bodies, Some(2_000 * 300), "raw bodies are whole");

    // As written: types, the largest decimals, nested values, text.
    let row = invoices.sample.iter().find(|row| row["event_id"] == "'evt-0000004'").unwrap();
    let expected = [
        ("tax_amount", "Decimal('-99999999999999999999999999999.999999999')"),
        ("total_amount", "Decimal('4000012.000000028')"),
        ("received_at", "datetime.datetime(2026, 5, 3, 0, 0, 0, 4, tzinfo=UTC)"),
        ("issue_date", "datetime.date(2026, 5, 2)"),
        ("currency", "'EUR'"),
        ("status", "'RESOLVED'"),
        ("attributes", "'{\"n\":4,\"text\":\"ünïcode 😀\"}'"),
        ("supplier", "None"),
        ("anomalies", "[]"),
        ("kafka_topic", "'invoices'"),
    ];
    for (column, value) in expected {
        assert_eq!(row[column], value, "{column}");
    }
    assert!(row["validation"].contains("'score': Decimal('4E-9')"), "{}", row["validation"]);
    assert!(row["provenance"].contains("'document_uri': 's3://intake/4.pdf'"), "{}", row["provenance"]);

    // Files are by day, sorted, packed with zstd, and bounded.
    assert_eq!(invoices.files.days, ["2026-05-02", "2026-05-03", "2026-05-04"]);
    assert!(invoices.files.sorted, "rows of a file are sorted by source and entity");
    assert_eq!((invoices.files.codecs.as_slice(), invoices.files.bounded), (&["ZSTD".to_owned()][..], true));
    // In the form that Parquet's library for Java takes apart, or else it believes no bounds of texts.
    assert_eq!(invoices.files.writers, [format!("ledgerhook version {}", env!("CARGO_PKG_VERSION"))]);

    let shown = installation.metrics.render();
    assert!(shown.contains(r#"ledgerhook_lake_rows_total{table="invoices"} 2000"#), "{shown}");

    // What comes later is added; what stands in the batch when the role stops is committed.
    produce(&installation, 2_000..2_010).await;
    rows(&installation, "invoices", 2_010).await;
    installation.stop.cancel();
    running.await.unwrap().unwrap();
    assert_exact(&rows(&installation, "invoices", 2_010).await, 0..2_010);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_goes_to_the_dead_letters_and_the_rest_on() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    let encoder = installation.encoders.of("invoices").unwrap();
    let mut far = invoice(7);
    far.received_at = Timestamp::from_micros(i64::MAX);
    let mut cut = encoder.encode(&invoice(8)).unwrap();
    cut.truncate(cut.len() - 3);
    let bad = [encoder.encode(&far).unwrap(), cut, b"no frame".to_vec(), vec![0, 0x7f, 0xff, 0xff, 0xff, 1]];
    produce(&installation, 0..3).await;
    write(&installation, bad.iter().map(|value| ("invoices".to_owned(), "k".to_owned(), value.clone()))).await;
    produce(&installation, 3..6).await;
    let mut lake = start(&installation.file(), "");
    lake.line(&["ready", "lake"]).await;
    assert_exact(&rows(&installation, "invoices", 6).await, 0..6);

    let decoder = installation.ground.decoder();
    let mut letters = Vec::new();
    for row in installation.records("dead-letters").await {
        letters.push(decoder.decode::<ledgerhook::event::DeadLetter>(row.value.as_deref()).await.unwrap());
    }
    letters.sort_by_key(|letter| letter.record_offset);
    let said: Vec<(&str, &str)> =
        letters.iter().map(|letter| (letter.reason.as_str(), letter.detail.as_deref().unwrap())).collect();
    let (misfit, undecodable) = (DeadLetterReason::DoesNotFit.name(), DeadLetterReason::Undecodable.name());
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(said[0], (misfit, "column received_at: a time is outside the years 1 to 9999"));
    assert_eq!(said[1].0, misfit);
    assert_eq!(said[2], (undecodable, "not in Confluent's wire format: first byte is not 0"));
    assert!(said[3].0 == undecodable && said[3].1.contains("knows no schema"), "{:?}", said[3]);
    for (letter, value) in letters.iter().zip(&bad) {
        assert_eq!((letter.target.as_str(), letter.undecodable.as_ref()), ("lake", Some(value)));
    }
    eventually("the role stays ready", || !lake.lines(&["ready"]).is_empty()).await;
}

/// With the names that a dead letter has beside its record, or its key, Kafka would not take it.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_record_as_large_as_kafka_takes_holds_up_no_table() {
    // What a batch of one record has beside its key and value.
    const MOST: usize = ledgerhook::topics::MAX_RECORD_BYTES as usize - 100;
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    let bad = [("k".to_owned(), vec![b'x'; MOST]), ("k".repeat(MOST - 10), b"no frame".to_vec())];
    produce(&installation, 0..3).await;
    write(&installation, bad.into_iter().map(|(key, value)| ("invoices".to_owned(), key, value))).await;
    produce(&installation, 3..6).await;
    let mut lake = start(&installation.file(), "");
    lake.line(&["ready", "lake"]).await;
    assert_exact(&rows(&installation, "invoices", 6).await, 0..6);
    assert!(lake.lines(&["not ready", "invoices"]).is_empty());

    let there = installation.records("invoices").await;
    let mut letters = dead_letters(&installation).await;
    letters.sort_by_key(|letter| letter.undecodable.as_ref().map(Vec::len));
    let [of_long_key, of_long_value] = letters.as_slice() else { panic!("{} letters", letters.len()) };
    for (letter, said) in [(of_long_key, "bytes of its key)"), (of_long_value, "all stand in the record topic)")] {
        let (kept, detail) = (letter.undecodable.as_ref().unwrap(), letter.detail.as_ref().unwrap());
        assert!(letter.reason == "undecodable" && detail.ends_with(said), "{detail}");
        let place = (letter.record_partition, letter.record_offset);
        let whole = there.iter().find(|row| (row.partition.number, row.offset) == place).unwrap();
        assert!(whole.value.as_ref().unwrap().starts_with(kept), "what it stands for is where it says");
    }
    assert_eq!(of_long_key.undecodable.as_ref().unwrap(), b"no frame");
    assert!(of_long_value.undecodable.as_ref().unwrap().len() > MOST - (256 << 10));
}

//! Tables that others changed, topics that are others, disks that are full: said, never silently doubled or skipped.

use std::time::Duration;

use ledgerhook::event::Record;
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};

use super::readers::{count, python};
use super::{assert_exact, invoice, local, produce, rows, start, write};
use crate::common::process::{Process, run};
use crate::common::{Installation, install};

pub(super) async fn change(installation: &Installation, args: &[&str]) -> String {
    python(installation, args).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Starts the role until the table has this many rows, then stops it.
pub(super) async fn fill(installation: &Installation, to: i64) {
    let writer = start(&installation.file(), "");
    rows(installation, "invoices", to).await;
    rows(installation, "events", to).await;
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
}

/// Starts the role and returns it when its table of invoices has stopped, with the line that says so.
async fn stopped(installation: &Installation) -> (Process, String) {
    let mut writer = start(&installation.file(), "");
    let line = writer.line(&["ERROR", "table=\"invoices\""]).await;
    (writer, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_rolled_back_stops_until_it_is_decided() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    produce(&installation, 0..50).await;
    fill(&installation, 50).await;
    produce(&installation, 50..80).await;
    fill(&installation, 80).await;
    change(&installation, &["rollback", "invoices"]).await;
    produce(&installation, 80..90).await;
    let (writer, line) = stopped(&installation).await;
    assert!(line.contains("was moved to another snapshot") && line.contains("ledgerhook.position"), "{line}");
    // The others go on.
    rows(&installation, "events", 90).await;
    let left = count(&installation, "invoices").await.unwrap();
    assert!(left < 80, "{left}");
    drop(writer);
    // What the message says to do: the position that the rows are at.
    let to = line.split("set the property to ").nth(1).and_then(|rest| rest.split("; to keep").next()).unwrap();
    // Spelt otherwise, as a person or another engine may.
    let to: serde_json::Value = serde_json::from_str(&to.replace("\\\"", "\"")).unwrap();
    let to = serde_json::to_string_pretty(&to).unwrap();
    change(&installation, &["set", "invoices", "ledgerhook.position", &to]).await;
    fill(&installation, 90).await;
    assert_exact(&rows(&installation, "invoices", 90).await, 0..90);
}

/// The property that says how far the table is stays as it was, and the writer knows no better until it commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rolled_back_under_a_writer_loses_no_row_unseen() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    let mut writer = start(&installation.file(), "");
    for n in 0..3 {
        produce(&installation, n * 10..(n + 1) * 10).await;
        rows(&installation, "invoices", (n + 1) * 10).await;
    }
    change(&installation, &["rollback", "invoices"]).await;
    let left = count(&installation, "invoices").await.unwrap();
    produce(&installation, 30..40).await;
    let line = writer.line(&["ERROR", "table=\"invoices\""]).await;
    assert!(line.contains("was moved to another snapshot"), "{line}");
    assert!(left < 30, "{left}");
    assert_eq!(count(&installation, "invoices").await, Some(left), "nothing was put behind the gap");
    rows(&installation, "events", 40).await;
}

/// Whoever comes first makes the catalog's own tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_another_engine_made_is_written_to() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    change(&installation, &["make", "invoices"]).await;
    assert_eq!(count(&installation, "invoices").await, None);
    let _writer = start(&installation.file(), "");
    produce(&installation, 0..10).await;
    assert_exact(&rows(&installation, "invoices", 10).await, 0..10);
}

/// Offsets of partitions that came later are read from their first record on.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_under_a_writer_are_read() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    let mut writer = start(&installation.file(), "");
    produce(&installation, 0..10).await;
    rows(&installation, "invoices", 10).await;
    let cluster = &installation.ground.cluster;
    let topic = cluster.topic("invoices");
    installation.grow("invoices", 5).await;
    let producer = Producer::new(cluster, Duration::from_secs(30), Duration::ZERO).unwrap();
    for n in 10..14 {
        let value = installation.encoders.of("invoices").unwrap().encode(&invoice(n)).unwrap();
        let (partition, key) = (Some(4), Record::from(invoice(n)).key().into_bytes());
        let row =
            Outgoing { topic: topic.clone(), partition, key, value, headers: Headers::default(), timestamp_ms: None };
        producer.send(&row).await.unwrap();
    }
    assert_exact(&rows(&installation, "invoices", 14).await, 0..14);
    writer.line(&["topics have more partitions", "invoices"]).await;
    assert!(writer.lines(&["not ready"]).is_empty(), "the role stays ready");
    produce(&installation, 14..20).await;
    assert_exact(&rows(&installation, "invoices", 20).await, 0..20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_is_missed_and_can_be_made_anew() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    produce(&installation, 0..40).await;
    fill(&installation, 40).await;
    change(&installation, &["drop", "invoices"]).await;
    let (writer, line) = stopped(&installation).await;
    assert!(line.contains("is gone") && line.contains("lake rebuild invoices"), "{line}");
    drop(writer);
    let rebuilt = run(&installation.file(), &["lake", "rebuild", "invoices", "--json"]).await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    produce(&installation, 40..45).await;
    fill(&installation, 45).await;
    assert_exact(&rows(&installation, "invoices", 45).await, 0..45);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_that_adds_rows_is_named_and_comes_to_light() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    produce(&installation, 0..30).await;
    fill(&installation, 30).await;
    change(&installation, &["append", "invoices"]).await;
    produce(&installation, 30..35).await;
    let mut writer = start(&installation.file(), "");
    let line = writer.line(&["another engine changed the table"]).await;
    assert!(line.contains("invoices") && line.contains("append"), "{line}");
    let read = rows(&installation, "invoices", 36).await;
    assert_eq!(read.engines[0].places, 35, "theirs stays theirs, ours is once");
    drop(writer);

    // And compared with Kafka it comes to light.
    let compared = run(&installation.file(), &["lake", "rebuild", "invoices", "--json"]).await;
    assert_eq!(compared.code, Some(1), "{compared:?}");
    let said: serde_json::Value = serde_json::from_str(&compared.stdout).unwrap();
    assert_eq!((&said["compared"]["same"], &said["compared"]["double"]), (&35.into(), &1.into()), "{said}");
    let replaced = run(&installation.file(), &["lake", "rebuild", "invoices", "--replace"]).await;
    assert!(replaced.stdout.contains("the old table stands as invoices__before_"), "{replaced:?}");
    produce(&installation, 35..40).await;
    fill(&installation, 40).await;
    assert_exact(&rows(&installation, "invoices", 40).await, 0..40);
}

/// Ids and hashes of bodies are as they were; what counts of a row are its amounts.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_another_engine_altered_come_to_light() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    produce(&installation, 0..30).await;
    fill(&installation, 30).await;
    for (table, event, column) in [
        ("invoices", "evt-0000004", "total_amount"),
        ("invoices", "evt-0000007", "lines.amount"),
        ("events", "evt-0000005", "evidence.receiver_id"),
    ] {
        change(&installation, &["alter", table, event, column]).await;
    }
    // All other rows were written anew by another library, and are what they were.
    for (table, differ) in [("invoices", 2), ("events", 1)] {
        let compared = run(&installation.file(), &["lake", "rebuild", table, "--json"]).await;
        assert_eq!(compared.code, Some(1), "{compared:?}");
        let said: serde_json::Value = serde_json::from_str(&compared.stdout).unwrap();
        let expected = serde_json::json!({
            "same": 30 - differ, "differ": differ, "missing": 0, "double": 0, "surplus": 0, "older": 0,
        });
        assert_eq!(said["compared"], expected, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_another_engine_dropped_is_missed() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    produce(&installation, 0..5).await;
    fill(&installation, 5).await;
    change(&installation, &["drop-column", "invoices", "currency"]).await;
    let (writer, line) = stopped(&installation).await;
    assert!(line.contains("had a column currency that another engine dropped"), "{line}");
    drop(writer);

    // Under a running writer: no row goes in without it.
    let mut writer = start(&installation.file(), "");
    rows(&installation, "events", 5).await;
    change(&installation, &["drop-column", "events", "content_type"]).await;
    produce(&installation, 5..9).await;
    let line = writer.line(&["ERROR", "table=\"events\""]).await;
    assert!(line.contains("had a column content_type"), "{line}");
    assert_eq!(count(&installation, "events").await, Some(5));
}

/// A field that a newer Ledgerhook adds: rows of both versions are read together.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_older_version_gets_the_columns_it_lacks() {
    let (_dir, lake) = local("every = \"300ms\"");
    let installation = install(&lake).await;
    produce(&installation, 0..5).await;
    fill(&installation, 5).await;
    let tree: serde_json::Value = serde_json::from_str(ledgerhook::avro::source("InvoiceRecord").unwrap()).unwrap();
    let mut newer = tree.clone();
    newer["fields"].as_array_mut().unwrap().push(serde_json::json!({
        "name": "project", "type": ["null", "string"], "default": null,
    }));
    let subject = format!("{}invoices-value", installation.ground.cluster.prefix());
    let url = &installation.config.schema_registry.url;
    let answer = reqwest::Client::new()
        .post(format!("{url}/subjects/{subject}/versions"))
        .json(&serde_json::json!({"schema": newer.to_string()}))
        .send()
        .await
        .unwrap();
    let id: serde_json::Value = answer.json().await.unwrap();
    let id = u32::try_from(id["id"].as_u64().unwrap_or_else(|| panic!("{id}"))).unwrap();
    // What a newer version writes: the same fields, then the new one.
    let mut value = installation.encoders.of("invoices").unwrap().encode(&invoice(5)).unwrap();
    value[1..5].copy_from_slice(&id.to_be_bytes());
    value.extend([2, 6]);
    value.extend(b"p-1");
    write(&installation, [("invoices".to_owned(), "k".to_owned(), value)]).await;
    let writer = start(&installation.file(), "");
    // This version does not know the field: the record fits, and `attributes` has every member.
    let read = rows(&installation, "invoices", 6).await;
    assert_exact(&read, 0..6);
    assert!(!read.columns.contains(&"project".to_owned()));
    drop(writer);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_removes_what_is_old_and_nothing_else() {
    let (dir, lake) = local("rows = 20, every = \"300ms\"");
    let installation = install(&lake).await;
    for n in 0..4 {
        produce(&installation, n * 10..(n + 1) * 10).await;
        fill(&installation, (n + 1) * 10).await;
    }
    let data = dir.path().join("warehouse/ledgerhook/invoices/data");
    let orphan = |name: &str, age: u64| {
        let path = data.join(name);
        std::fs::write(&path, "left behind").unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        path
    };
    // Of an unknown commit, perhaps; and of a crash of long ago.
    let (young, old) = (orphan("young.parquet", 3_000), orphan("old.parquet", 8_000));
    let before: serde_json::Value =
        serde_json::from_str(&change(&installation, &["snapshots", "invoices"]).await).unwrap();
    assert!(before.as_array().unwrap().len() >= 4, "{before}");
    let args = ["lake", "maintain", "--snapshots-older-than", "0s", "--keep", "1", "--orphans-older-than", "0s"];
    let dry = run(&installation.file(), &[&args[..], &["--dry-run"]].concat()).await;
    assert!(dry.stdout.contains("invoices: 0 snapshots expired, 1 files to be removed"), "{dry:?}");
    let done = run(&installation.file(), &args).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let expired = format!("invoices: {} snapshots expired, 1 files removed", before.as_array().unwrap().len() - 1);
    assert!(done.stdout.contains(&expired), "{done:?}");
    assert!(young.exists() && !old.exists());
    assert_exact(&rows(&installation, "invoices", 40).await, 0..40);
    // And the writer goes on behind what was expired.
    produce(&installation, 40..50).await;
    fill(&installation, 50).await;
    assert_exact(&rows(&installation, "invoices", 50).await, 0..50);
}

//! What the lake stands on, away or short: a full disk, a database that is cut off, a topic on which nothing comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use ledgerhook::event::Record;
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::Outgoing;
use ledgerhook::kafka::transaction::Transactions;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::readers::{count, python};
use super::{assert_exact, invoice, local, produce, rows, start};
use crate::common::{ENV, Installation, cannot, install};

/// A file system of its own, so small that it fills.
struct Small(PathBuf);

impl Small {
    /// None where this user may not make one.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        if made.as_ref().is_ok_and(|made| made.status.success()) {
            return Some(Self(at.to_owned()));
        }
        cannot(&format!("no file system of its own may be mounted here: {made:?}"));
        None
    }

    /// Takes what is left of the space but for this much.
    fn fill(&self, but: usize) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut left = 0;
        while std::fs::write(&ballast, vec![1; left + (64 << 10)]).is_ok() {
            left += 64 << 10;
        }
        std::fs::write(&ballast, vec![1; left.saturating_sub(but)]).unwrap();
        ballast
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn parquet(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(parquet(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_rows_back_and_leaves_no_half_files() {
    let (dir, lake) = local("every = \"300ms\"");
    let warehouse = dir.path().join("warehouse");
    let Some(small) = Small::mount(&warehouse, "8m") else { return };
    let installation = install(&lake).await;
    produce(&installation, 0..60).await;
    let mut writer = start(&installation.file(), "");
    rows(&installation, "events", 60).await;
    rows(&installation, "invoices", 60).await;

    let ballast = small.fill(16 << 10);
    // Larger than the space, packed.
    produce(&installation, 60..3_000).await;
    writer.line(&["not ready", "No space left on device"]).await;
    let seen = count(&installation, "invoices").await.unwrap();
    assert!(seen < 3_000, "the disk is not full");
    // It tries again, and again nothing stays of it.
    let failed = writer.lines(&["No space left on device"]).len();
    crate::common::eventually("one more attempt", || writer.lines(&["No space left on device"]).len() > failed).await;
    std::fs::remove_file(ballast).unwrap();

    assert_exact(&rows(&installation, "invoices", 3_000).await, 0..3_000);
    assert_exact(&rows(&installation, "events", 3_000).await, 0..3_000);
    for file in parquet(&warehouse) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.ends_with(b"PAR1"), "{} is half a file of {} bytes", file.display(), bytes.len());
    }
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
}

/// Invoices in one transaction, as the router writes them: behind the last stands a mark.
async fn transaction(installation: &Installation, numbers: std::ops::Range<i64>) {
    let cluster = installation.ground.cluster.clone();
    let encoder = installation.encoders.of("invoices").unwrap();
    let rows: Vec<Outgoing> = numbers
        .map(|n| Outgoing {
            topic: cluster.topic("invoices"),
            partition: None,
            key: Record::from(invoice(n)).key().into_bytes(),
            value: encoder.encode(&invoice(n)).unwrap(),
            headers: Headers::default(),
            timestamp_ms: None,
        })
        .collect();
    let written = tokio::task::spawn_blocking(move || {
        let transactions = Transactions::open(&cluster, "lake-test", Duration::from_secs(30)).unwrap();
        transactions.begin().unwrap();
        rows.iter().for_each(|row| transactions.send(row).unwrap());
        transactions.commit(&|_| {}).unwrap();
    });
    written.await.unwrap();
}

/// Where each partition of the invoices ends.
fn ends(installation: &Installation) -> BTreeMap<i32, i64> {
    let brokers = installation.config.kafka.bootstrap_servers.join(",");
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topic = installation.ground.cluster.topic("invoices");
    let end = |number| consumer.fetch_watermarks(&topic, number, Duration::from_secs(30)).unwrap().1;
    tokio::task::block_in_place(|| {
        let partitions = installation.ground.partitions_of("invoices").unwrap();
        partitions.iter().map(|partition| (partition.number, end(partition.number))).collect()
    })
}

/// How far the table of invoices is.
async fn position(installation: &Installation) -> BTreeMap<i32, i64> {
    let text = python(installation, &["get", "invoices", "ledgerhook.position"]).await.unwrap();
    let position: serde_json::Value = serde_json::from_str(&text).unwrap();
    let next = position.pointer("/topics/invoices/next").unwrap().as_object().unwrap();
    next.iter().map(|(number, next)| (number.parse().unwrap(), next.as_i64().unwrap())).collect()
}

/// Waits until the idle table was brought past the marks behind its records; where that is.
async fn idle(installation: &Installation) -> BTreeMap<i32, i64> {
    let ends = ends(installation);
    let mut reached = BTreeMap::new();
    for _ in 0..240 {
        reached = position(installation).await;
        if reached == ends {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(reached, ends, "the idle table is brought past the marks");
    ends
}

/// Retention takes all of a topic on which nothing came for long, and the marks behind its records too. The table had
/// every record; that what follows the last of them is gone as well must not look like a loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_table_outlives_the_retention_of_its_topic() {
    let (_dir, lake) = local("every = \"100ms\"");
    let installation = install(&lake).await;
    transaction(&installation, 0..20).await;
    let writer = start(&installation.file(), "");
    rows(&installation, "invoices", 20).await;
    let ends = idle(&installation).await;
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));

    installation.delete_before("invoices", &ends).await;
    let writer = start(&installation.file(), "");
    transaction(&installation, 20..25).await;
    let read = rows(&installation, "invoices", 25).await;
    assert_exact(&read, 0..25);
    assert!(writer.lines(&["ERROR"]).is_empty());
    // No commits were made while nothing came but those that the marks asked for.
    assert!(read.files.count <= 20, "{} files of 25 rows", read.files.count);
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
}

/// A writer that slept while records were written, and deleted for their age, wakes up before a topic that is as empty as
/// if nothing had come. It is idle by then, and would be brought past what it finds.
#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_before_an_idle_writer_read_it_is_missed() {
    let (_dir, lake) = local("every = \"100ms\"");
    let installation = install(&lake).await;
    transaction(&installation, 0..20).await;
    let mut writer = start(&installation.file(), "");
    rows(&installation, "invoices", 20).await;
    let before = idle(&installation).await;
    writer.signal("-STOP");
    // The question for records that is under way is answered in half a second at most: with none.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    transaction(&installation, 20..25).await;
    installation.delete_before("invoices", &ends(&installation)).await;
    // Sixty times `every` without a record is idle.
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    writer.signal("-CONT");
    let line = writer.line(&["ERROR", "table=\"invoices\""]).await;
    println!("{line}");
    assert!(line.contains("cannot go on") && line.contains("lake rebuild"), "{line}");
    assert_eq!(position(&installation).await, before, "the position stays before the gap");
    assert_eq!(count(&installation, "invoices").await, Some(20));
    // The other tables go on.
    produce(&installation, 25..30).await;
    rows(&installation, "events", 5).await;
}

/// A Postgres of the test's own.
struct Postgres(PathBuf);

impl Postgres {
    fn run(&self, what: &str) -> ExitStatus {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lake");
        let login = ENV.iter().find(|(name, _)| *name == "TEST_LOGIN").unwrap().1;
        let mut command = Command::new(script);
        command.args([what, "--dir"]).arg(&self.0).env("LEDGERHOOK_POSTGRES_LOGIN", login);
        command.status().unwrap()
    }

    fn uri(&self) -> String {
        let env = std::fs::read_to_string(self.0.join("postgres.env")).unwrap();
        env.trim().strip_prefix("POSTGRES=").unwrap().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_in_postgres_that_is_cut_off_has_every_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres(dir.path().join("postgres"));
    let up = tokio::task::block_in_place(|| postgres.run("postgres"));
    if up.code() == Some(77) {
        return cannot("no Postgres can be had here, and none is installed (Debian: postgresql)");
    }
    assert!(up.success(), "{up}");
    let lake = format!(
        "[lake]\nwarehouse = \"file:{}/warehouse\"\ncatalog = {{ uri = \"{}\", login = \"env:TEST_LOGIN\", timeout = \"5s\" }}\ncommit = {{ rows = 100, every = \"200ms\" }}\n",
        dir.path().display(),
        postgres.uri()
    );
    let installation = install(&lake).await;
    produce(&installation, 0..300).await;
    let mut writer = start(&installation.file(), "");
    rows(&installation, "invoices", 300).await;
    let mut to = 300;
    for _ in 0..3 {
        produce(&installation, to..to + 400).await;
        to += 400;
        // In the middle of commits, or between them.
        tokio::task::block_in_place(|| assert!(postgres.run("cut").success()));
        produce(&installation, to..to + 100).await;
        to += 100;
        writer.line(&["not ready"]).await;
        tokio::task::block_in_place(|| assert!(postgres.run("postgres").success()));
        assert_exact(&rows(&installation, "invoices", to).await, 0..to);
    }
    assert_exact(&rows(&installation, "events", to).await, 0..to);
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
}

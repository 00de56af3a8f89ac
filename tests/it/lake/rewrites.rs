//! Files that another engine writes anew, and columns that come later: rows as they were.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ledgerhook::event::{Decimal, InvoiceLine, InvoiceRecord, Timestamp};

use super::faults::{change, fill};
use super::{DAY, assert_exact, invoice, local, produce, rows, start, total, write};
use crate::common::process::run;
use crate::common::{Installation, install};

/// PyIceberg can rewrite files as an overwrite only, with the position carried along or not; Spark and Trino call it a
/// replacement. Under a running writer and before it starts, the rows stay those of Kafka, each once.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_another_engine_rewrote_are_gone_on_behind() {
    let (dir, lake) = local("every = \"200ms\"");
    let installation = install(&lake).await;
    let mut to = 0;
    for (how, is_named) in [("overwrite", true), ("kept", false), ("replace", false)] {
        let writer = start(&installation.file(), "");
        for _ in 0..2 {
            produce(&installation, to..to + 9).await;
            to += 9;
            rows(&installation, "invoices", to).await;
        }
        let before = rows(&installation, "invoices", to).await.files.count;
        change(&installation, &["compact", "invoices", how]).await;
        let after = rows(&installation, "invoices", to).await;
        assert!(before > 3, "{before} files: nothing to compact");
        assert_eq!((after.files.count, after.files.days.len()), (3, 3), "{how}: one file a day");
        assert_exact(&after, 0..to);
        // The writer knew the table as it was before.
        produce(&installation, to..to + 9).await;
        to += 9;
        assert_exact(&rows(&installation, "invoices", to).await, 0..to);
        writer.terminate();
        assert_eq!(writer.ended().await.code, Some(0));

        change(&installation, &["compact", "invoices", how]).await;
        produce(&installation, to..to + 9).await;
        to += 9;
        let mut writer = start(&installation.file(), "");
        if is_named {
            let line = writer.line(&["another engine changed the table", "invoices"]).await;
            assert!(line.contains("overwrite"), "{line}");
        }
        assert_exact(&rows(&installation, "invoices", to).await, 0..to);
        assert_eq!(writer.lines(&["another engine changed", "invoices"]).len(), usize::from(is_named), "{how}");
        writer.terminate();
        assert_eq!(writer.ended().await.code, Some(0));
    }
    let compared = run(&installation.file(), &["lake", "rebuild", "invoices", "--json"]).await;
    assert_eq!(compared.code, Some(0), "{compared:?}");

    // What was replaced is removed when it is old, and nothing else.
    let data = dir.path().join("warehouse/ledgerhook/invoices/data");
    let parquet = || {
        let days = std::fs::read_dir(&data).unwrap().flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap());
        days.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    for file in parquet() {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(8_000);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(then).unwrap();
    }
    let before = parquet().len();
    let args = ["lake", "maintain", "--snapshots-older-than", "0s", "--keep", "1", "--orphans-older-than", "0s"];
    let done = run(&installation.file(), &args).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let left = rows(&installation, "invoices", to).await;
    assert_exact(&left, 0..to);
    assert_eq!(left.files.count, parquet().len(), "of {before}: {}", done.stdout);
    assert!(parquet().len() < before, "{before}: nothing to remove");
    fill(&installation, to).await;
}

/// Rows of a version without some columns, then those of this one, in one table.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_a_schema_gained_is_read_beside_rows_without_it() {
    let (_dir, lake) = local("every = \"300ms\"");
    let mut installation = install(&lake).await;
    produce(&installation, 0..8).await;
    fill(&installation, 8).await;
    change(&installation, &["older", "invoices", "older", "paid_at", "lines.account"]).await;
    installation.toml = installation.toml.replacen("[lake]\n", "[lake]\nnamespace = \"older\"\n", 1);
    installation.config.lake.namespace = "older".to_owned();
    let old = rows(&installation, "invoices", 8).await;
    assert!(!old.columns.contains(&"paid_at".to_owned()), "{:?}", old.columns);

    let paid = |n: i64| InvoiceRecord {
        paid_at: Some(Timestamp::from_micros(DAY + n)),
        lines: vec![InvoiceLine {
            description: None,
            quantity: None,
            unit_price: None,
            amount: None,
            account: Some(format!("acc-{n}")),
        }],
        ..invoice(n)
    };
    let encoder = installation.encoders.of("invoices").unwrap();
    let rows_of = (8..12).map(|n| ("invoices".to_owned(), "k".to_owned(), encoder.encode(&paid(n)).unwrap()));
    write(&installation, rows_of.collect::<Vec<_>>()).await;
    let mut writer = start(&installation.file(), "");
    writer.line(&["adding columns that newer records have", "older.invoices"]).await;
    assert_exact(&rows(&installation, "invoices", 12).await, 0..12);

    let expected = |new: &dyn Fn(i64) -> String, old: &dyn Fn(i64) -> String| {
        let value = |n: i64| if n < 8 { old(n) } else { new(n) };
        (0..12).map(|n| (format!("evt-{n:07}"), value(n))).collect::<BTreeMap<_, _>>()
    };
    let time = |n: i64| format!("datetime.datetime(2026, 5, 2, 0, 0, 0, {n}, tzinfo=UTC)");
    let nones = |n: i64| format!("[{}]", vec!["None"; usize::try_from(n % 4).unwrap()].join(", "));
    for (column, expected) in [
        ("paid_at", expected(&time, &|_| "None".to_owned())),
        ("lines.account", expected(&|n| format!("['acc-{n}']"), &nones)),
    ] {
        let text = change(&installation, &["values", "invoices", column]).await;
        let seen: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
        assert_eq!(seen.len(), 3, "{text}");
        for (engine, values) in seen {
            assert_eq!(values, expected, "{column} by {engine}");
        }
    }
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));

    // Beside a table whose every file has all columns.
    let compared = run(&installation.file(), &["lake", "rebuild", "invoices", "--json"]).await;
    let said: serde_json::Value = serde_json::from_str(&compared.stdout).unwrap();
    assert_eq!((compared.code, &said["compared"]["same"]), (Some(0), &12.into()), "{compared:?}");
}

/// The statements for Spark as docs/lake.md has them, one a line.
fn documented() -> Vec<String> {
    let docs = include_str!("../../../docs/lake.md");
    let blocks = docs.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let statements = blocks.flat_map(|block| block.split(";\n")).map(|statement| statement.replace('\n', " "));
    statements.filter(|statement| statement.starts_with("CALL ")).collect()
}

/// Runs statements in Spark; the rows that they give.
fn spark(installation: &Installation, statements: &[String]) -> Vec<serde_json::Value> {
    let lake = &installation.config.lake;
    let mut child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lake"))
        .args(["spark", lake.catalog.uri.strip_prefix("sqlite:").unwrap(), &lake.warehouse])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", statements.join("\n")).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{statements:#?}");
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What docs/lake.md tells to do in Spark, under a running writer and word for word.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long. Spark is 280 MB to fetch"]
async fn long_files_that_spark_rewrote_are_gone_on_behind() {
    let (_dir, lake) = local("every = \"200ms\"");
    let installation = install(&lake).await;
    let mut to = 0;
    let writer = start(&installation.file(), "");
    for _ in 0..6 {
        produce(&installation, to..to + 9).await;
        to += 9;
        rows(&installation, "invoices", to).await;
        rows(&installation, "events", to).await;
    }
    let before = rows(&installation, "invoices", to).await.files.count;
    let mut statements = documented();
    assert_eq!(statements.len(), 4, "{statements:#?}");
    let expire = |table: &str| {
        format!(
            "CALL ledgerhook.system.expire_snapshots(table => 'ledgerhook.ledgerhook.{table}', older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1)"
        )
    };
    statements.extend(["invoices", "events"].map(expire));
    statements.extend(
        ["count(*)", "sum(total_amount)"].map(|what| format!("SELECT {what} AS n FROM ledgerhook.ledgerhook.invoices")),
    );
    let said = tokio::task::block_in_place(|| spark(&installation, &statements));
    let rewritten = |at: usize| said[at]["rewritten_data_files_count"].as_u64().unwrap();
    assert!(before >= 15 && rewritten(0) >= 15 && rewritten(2) >= 15, "{before} files: nothing to rewrite");
    assert_eq!(said[6]["n"], to);
    assert_eq!(said[7]["n"].to_string().parse::<Decimal>().unwrap(), total(0..to));

    for table in ["invoices", "events"] {
        let after = rows(&installation, table, to).await;
        assert_eq!(
            (after.files.count, after.files.days.len(), after.files.sorted),
            (3, 3, true),
            "{table}: one file a day"
        );
        assert_exact(&after, 0..to);
    }
    // The writer knew the tables as they were before.
    produce(&installation, to..to + 9).await;
    to += 9;
    rows(&installation, "invoices", to).await;
    rows(&installation, "events", to).await;
    let args = ["lake", "maintain", "--snapshots-older-than", "0s", "--keep", "1", "--orphans-older-than", "0s"];
    let done = run(&installation.file(), &args).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    writer.terminate();
    for words in ["ERROR", "another engine changed", "not ready"] {
        assert!(writer.lines(&[words]).is_empty(), "{words}");
    }
    assert_eq!(writer.ended().await.code, Some(0));

    produce(&installation, to..to + 9).await;
    to += 9;
    fill(&installation, to).await;
    assert_exact(&rows(&installation, "invoices", to).await, 0..to);
    assert_exact(&rows(&installation, "events", to).await, 0..to);
    let compared = run(&installation.file(), &["lake", "rebuild", "invoices", "--json"]).await;
    assert_eq!(compared.code, Some(0), "{compared:?}");
}

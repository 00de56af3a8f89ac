//! PyIceberg, DuckDB and Polars: they share nothing with what wrote the tables. `scripts/lake` brings them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::common::Installation;

/// What the readers see of a table.
#[derive(Debug, Deserialize)]
pub(crate) struct Read {
    pub(crate) engines: Vec<Engine>,
    /// The first rows by event id; column to its value as Python shows it.
    pub(crate) sample: Vec<BTreeMap<String, String>>,
    pub(crate) files: Files,
    /// Bytes of all bodies, where the table has them.
    pub(crate) bodies: Option<i64>,
    pub(crate) columns: Vec<String>,
}

/// What one of them counts.
#[derive(Debug, Deserialize)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) rows: i64,
    /// Distinct places in Kafka.
    pub(crate) places: i64,
    /// Distinct event ids.
    pub(crate) events: i64,
    /// Sum of its amounts, where the table has some: a column that is the same for every table of a name.
    pub(crate) total: Option<String>,
}

/// How a table's files are.
#[derive(Debug, Deserialize)]
pub(crate) struct Files {
    pub(crate) count: usize,
    pub(crate) days: Vec<String>,
    pub(crate) codecs: Vec<String>,
    pub(crate) writers: Vec<String>,
    pub(crate) sorted: bool,
    pub(crate) bounded: bool,
}

/// The process that serves all tests; it ends when its standard input does, with this one.
struct Python {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

static PYTHON: Mutex<Option<Python>> = Mutex::new(None);

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ok(String),
    Error(String),
}

#[expect(clippy::zombie_processes, reason = "it lives as long as this process, and is waited for with every answer")]
fn ask(args: &[String]) -> Result<String, String> {
    let mut python = PYTHON.lock().unwrap_or_else(PoisonError::into_inner);
    let python = python.get_or_insert_with(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(root.join("scripts/lake"));
        command.arg("python").arg(root.join("tests/lake/read.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Python { to: child.stdin.take().unwrap(), from: BufReader::new(child.stdout.take().unwrap()) }
    });
    writeln!(python.to, "{}", serde_json::to_string(args).unwrap()).unwrap();
    let mut line = String::new();
    python.from.read_line(&mut line).unwrap();
    match serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")) {
        Reply::Ok(text) => Ok(text),
        Reply::Error(text) => Err(text),
    }
}

/// Asks `tests/lake/read.py` this of the installation's catalog; what it prints.
pub(crate) async fn python(installation: &Installation, args: &[&str]) -> Result<String, String> {
    let lake = &installation.config.lake;
    let uri = &lake.catalog.uri;
    let uri = if let Some(path) = uri.strip_prefix("sqlite:") {
        format!("sqlite:///{path}")
    } else if let Some(place) = uri.strip_prefix("postgres://") {
        // TEST_LOGIN, percent-encoded.
        format!("postgresql+psycopg2://lake:p%40ss%2Fword%201@{place}")
    } else {
        uri.clone()
    };
    let mut all = vec!["--uri", &uri, "--warehouse", &lake.warehouse, "--namespace", &lake.namespace];
    if let Some(endpoint) = &lake.s3.endpoint {
        all.extend(["--s3", endpoint]);
    }
    let all: Vec<String> = all.iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    tokio::task::spawn_blocking(move || ask(&all)).await.unwrap()
}

/// Rows of the table; none where there is no such table yet.
pub(crate) async fn count(installation: &Installation, table: &str) -> Option<i64> {
    match python(installation, &["count", table]).await {
        Ok(text) => Some(text.trim().parse().unwrap()),
        Err(error) if error.contains("NoSuchTableError") || error.contains("no such table") => None,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn read(installation: &Installation, table: &str) -> Read {
    let text = python(installation, &["read", table]).await.unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

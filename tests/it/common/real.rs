//! Real business systems, each started by the first test that asks (`scripts/targets`) and shared by the test binary.
//! Tests keep apart by ids of their own. Nothing of them outlives the test process.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use ledgerhook::config::Config;
use ledgerhook::targets::Client;
use serde_json::Value;

use super::servers::after_our_death;

/// A running system: what `scripts/targets` wrote of it.
pub(crate) struct Real {
    name: &'static str,
    values: BTreeMap<String, String>,
    folder: PathBuf,
}

/// The system of this name.
///
/// # Panics
/// When it cannot be installed or started.
pub(crate) async fn real(name: &'static str) -> &'static Real {
    tokio::task::spawn_blocking(move || start(name)).await.unwrap()
}

fn start(name: &'static str) -> &'static Real {
    static STARTED: Mutex<BTreeMap<&str, &OnceLock<Real>>> = Mutex::new(BTreeMap::new());
    // The lock is not held while one starts: several may.
    let cell: &'static OnceLock<Real> =
        STARTED.lock().unwrap().entry(name).or_insert_with(|| Box::leak(Box::default()));
    cell.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/targets");
        let folder = tempfile::Builder::new().prefix("ledgerhook-target-").tempdir().unwrap().keep();
        after_our_death("\"$1\" down --dir \"$2\"; rm -rf \"$2\"", &[script.clone(), folder.clone()]).unwrap();
        let started = Command::new(&script)
            .args([Path::new("up"), Path::new(name), Path::new("--dir"), &folder])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(started.status.success(), "scripts/targets up {name}: {}", String::from_utf8_lossy(&started.stderr));
        let written = std::fs::read_to_string(folder.join(format!("{name}.env"))).unwrap();
        let values = written.lines().filter_map(|line| line.split_once('='));
        let values: BTreeMap<_, _> = values.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        for secret in ["PASSWORD", "TOKEN"] {
            if let Some(value) = values.get(secret) {
                std::fs::write(folder.join(secret), value).unwrap();
            }
        }
        Real { name, values, folder }
    })
}

impl Real {
    /// A value, e.g. `URL`.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.values.get(key).unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }

    /// A reference to a secret.
    pub(crate) fn secret(&self, key: &str) -> String {
        format!("file:{}", self.folder.join(key).display())
    }

    /// A table `[targets.<preset>]` for this system, which takes these records; `more` is added at its end.
    pub(crate) fn table(&self, records: &str, url: &str, more: &str) -> String {
        format!(
            r#"
[targets.{name}]
records = {records}
start = "earliest"
url = "{url}"
allow_private_addresses = true
settle = "200ms"
retry = {{ first = "100ms", max = "400ms", give_up_after = "1h" }}
{more}
"#,
            name = self.name,
        )
    }

    /// A client by such a table.
    pub(crate) fn client(&self, table: &str) -> Client {
        self.client_of(self.name, table)
    }

    /// A client by a table of this name.
    pub(crate) fn client_of(&self, name: &str, table: &str) -> Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        let config = Config::parse(table, "test.toml", &|_| None, &[]).unwrap_or_else(|faults| panic!("{faults}"));
        Client::new(&config.targets[name]).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What it answers to a request of our own, past everything that is tested: status and body as JSON.
    pub(crate) async fn ask(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

/// An HTTP client of the tests' own.
pub(crate) fn http() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

//! The whole program killed at random moments under load: what it acknowledged comes out exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledgerhook::config::Source;
use ledgerhook::signature;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::common::{ENV, eventually, install, routed};

const SEED: u64 = 20_261_122;
const SENDERS: u64 = 8;
/// Entities, so that records of one entity follow each other closely.
const ENTITIES: u64 = 40;

/// What the senders know: the oracle.
#[derive(Default)]
struct Oracle {
    /// Events answered 200 at least once.
    acknowledged: Mutex<BTreeSet<String>>,
    /// Requests sent, answered or not.
    requests: AtomicU64,
    /// Repeats of events already acknowledged.
    repeats: AtomicU64,
    stop: AtomicBool,
}

struct Program(Child);

impl Program {
    fn start(config: &std::path::Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ledgerhook"))
            .args(["run", "--config"])
            .arg(config)
            .envs(ENV)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn body(event_id: &str, n: u64) -> String {
    let entity = n % ENTITIES;
    format!(
        r#"{{"id":"{event_id}","type":"invoice.paid","created_at":"2026-04-15T14:32:00Z","data":{{"invoice_id":"inv_{entity}","amount":{n}.01,"currency":"GBP"}}}}"#
    )
}

/// Sends events one after the other and, as the provider does, each one again until it is acknowledged.
async fn sender(number: u64, url: String, source: Source, oracle: Arc<Oracle>) {
    let mut rng = StdRng::seed_from_u64(SEED + number);
    let secret = source.secrets[0].value.clone();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let mut n = number;
    while !oracle.stop.load(Ordering::Relaxed) {
        let again =
            rng.random_bool(0.2).then(|| oracle.acknowledged.lock().unwrap().iter().next_back().cloned()).flatten();
        let (event_id, nth) = match again {
            Some(id) => {
                oracle.repeats.fetch_add(1, Ordering::Relaxed);
                let nth = id["evt_".len()..].parse().unwrap();
                (id, nth)
            }
            None => {
                n += SENDERS;
                (format!("evt_{n:08}"), n)
            }
        };
        let body = body(&event_id, nth);
        loop {
            oracle.requests.fetch_add(1, Ordering::Relaxed);
            let value = signature::sign(&source.scheme, secret.expose(), body.as_bytes());
            let sent = http.post(&url).header(&source.scheme.header, value).body(body.clone()).send().await;
            match sent {
                Ok(answer) if answer.status() == 200 => break,
                // Refused, cut or unanswered: not acknowledged, so it has to come again.
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        oracle.acknowledged.lock().unwrap().insert(event_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_program_acknowledged_comes_out_once() {
    storm(20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_storm_of_kills() {
    storm(200).await;
}

/// Kills the program this often, then counts.
async fn storm(rounds: u32) {
    let sandbox_stop = tokio_util::sync::CancellationToken::new();
    let (bound, address) = tokio::sync::oneshot::channel();
    let sandbox = ledgerhook::config::Sandbox { listen: "127.0.0.1:0".parse().unwrap(), ..defaults().sandbox };
    let stop = sandbox_stop.clone();
    tokio::spawn(async move {
        ledgerhook::simulate::sandbox(sandbox, stop, |address| {
            let _ = bound.send(address);
        })
        .await
    });
    let sandbox = address.await.unwrap();

    let installation = install(&format!(
        "[targets.sandbox]\npreset = \"sandbox\"\nrecords = [\"invoices\"]\nstart = \"earliest\"\nurl = \"http://{sandbox}/\"\nallow_private_addresses = true\n"
    ))
    .await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml = installation.toml.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:{port}\""), 1);
    let file = installation.data_dir.path().join("ledgerhook.toml");
    std::fs::write(&file, toml).unwrap();

    let oracle = Arc::new(Oracle::default());
    let source = installation.config.sources["accbooks"].clone();
    let url = format!("http://127.0.0.1:{port}{}", source.path);
    let senders: Vec<_> =
        (0..SENDERS).map(|n| tokio::spawn(sender(n, url.clone(), source.clone(), Arc::clone(&oracle)))).collect();

    let mut rng = StdRng::seed_from_u64(SEED);
    let count = || oracle.acknowledged.lock().unwrap().len();
    for round in 0..rounds {
        let mut program = Program::start(&file);
        let before = count();
        // Some rounds end before the program is ready, most in the middle of its work.
        if rng.random_bool(0.8) {
            eventually(&format!("round {round} acknowledges (log: {})", file.display()), || count() > before + 20)
                .await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..700))).await;
        program.kill();
    }
    let program = Program::start(&file);
    let before = count();
    eventually("the last start acknowledges", || count() > before + 50).await;
    oracle.stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    let spool = installation.data_dir.path().join("spool");
    eventually("the spool is drained", || ledgerhook::spool::look(&spool).unwrap().0.is_empty()).await;
    routed(&installation).await;

    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for row in installation.records("invoices").await {
        *times.entry(row.headers.get("ce_id").unwrap().to_owned()).or_default() += 1;
    }
    let acknowledged = oracle.acknowledged.lock().unwrap().clone();
    let missing: Vec<_> = acknowledged.iter().filter(|id| !times.contains_key(*id)).collect();
    let double: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    println!(
        "seed {SEED}: {rounds} kills, {} requests, {} repeats, {} acknowledged, {} records, {} missing, {} double",
        oracle.requests.load(Ordering::Relaxed),
        oracle.repeats.load(Ordering::Relaxed),
        acknowledged.len(),
        times.len(),
        missing.len(),
        double.len(),
    );
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(double.is_empty(), "double: {double:?}");
    assert!(acknowledged.len() > 500, "too little load to show anything: {}", acknowledged.len());

    // And at the target: every record a document, once, whatever was repeated on the way.
    let summary =
        || async { reqwest::get(format!("http://{sandbox}/_sandbox/requests")).await.unwrap().text().await.unwrap() };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let documents = format!("\"documents\":{},", times.len());
    while !summary().await.contains(&documents) {
        assert!(tokio::time::Instant::now() < deadline, "no {documents} within 60 s: {}", summary().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(summary().await.contains("\"duplicates_with_other_body\":0"), "{}", summary().await);
    drop(program);
    sandbox_stop.cancel();
}

fn defaults() -> ledgerhook::config::Config {
    ledgerhook::config::Config::defaults().unwrap_or_else(|faults| panic!("{faults}"))
}

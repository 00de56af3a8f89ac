//! SIGHUP: keys and certificates change under load and nobody notices; a broken configuration changes nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ledgerhook::config::Scheme;
use ledgerhook::signature;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::common::certificates::{Authority, client, file};
use crate::common::process::Process;
use crate::common::{ACCBOOKS_SECRET, Installation, eventually, install};

const PATH: &str = "/api/accbooks/webhook";
const SECRETS: &str = r#"secrets = [{ id = "b1", value = "env:TEST_ACCBOOKS_SECRET" }]"#;

/// A receiver of its own process.
struct Receiver {
    process: Process,
    url: String,
    file: PathBuf,
    reloads: usize,
}

impl Receiver {
    async fn start(here: &Installation, toml: &str, scheme: &str) -> Self {
        let file = file(here.data_dir.path(), "reload.toml", toml);
        let mut process = Process::start(&file, &["run", "--role", "receiver"], &[]);
        let at = process.address(&["the receiver listens"]).await;
        process.line(&["role=\"receiver\"", "health: ready"]).await;
        Self { process, url: format!("{scheme}://{at}{PATH}"), file, reloads: 0 }
    }

    /// Has it read this configuration, and waits until it has.
    async fn reload(&mut self, toml: &str, outcome: &str) {
        std::fs::write(&self.file, toml).unwrap();
        self.process.signal("-HUP");
        self.reloads += 1;
        let done = || {
            self.process.lines(&["configuration reloaded"]).len()
                + self.process.lines(&["configuration not reloaded"]).len()
        };
        eventually("the configuration is read again", || done() == self.reloads).await;
        let last = self.process.lines(&["configuration ", "reloaded"]).pop().unwrap();
        assert!(last.contains(outcome), "{last}");
    }

    async fn end(self) {
        self.process.terminate();
        let ended = self.process.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

fn signed(scheme: &Scheme, key: &[u8], n: u64) -> (String, String) {
    let body = format!(r#"{{"id":"evt_{n}","type":"invoice.paid"}}"#);
    let signature = signature::sign(scheme, key, body.as_bytes());
    (body, signature)
}

/// Status and code of one event, or what went wrong.
async fn post(http: &reqwest::Client, url: &str, (body, signature): (String, String)) -> Result<(), String> {
    let request = http.post(url).header("AccBooks-Signature", signature).body(body);
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status().as_u16();
    let body: Value = response.json().await.map_err(|error| error.to_string())?;
    if status == 200 { Ok(()) } else { Err(format!("{status} {}", body["error"]["code"].as_str().unwrap_or_default())) }
}

/// Senders that never rest: on kept connections and on new ones, HTTP/1.1 and HTTP/2.
struct Load {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// By sender.
    begun: Arc<Vec<AtomicU64>>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Load {
    fn start(
        clients: Vec<reqwest::Client>,
        url: &str,
        event: impl Fn(u64) -> (String, String) + Clone + Send + 'static,
    ) -> Self {
        let begun = Arc::new(clients.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        let mut load = Self { tasks: JoinSet::new(), stop: CancellationToken::new(), begun, failed: Arc::default() };
        for (sender, http) in clients.into_iter().enumerate() {
            let (url, event, stop) = (url.to_owned(), event.clone(), load.stop.clone());
            let (begun, failed) = (Arc::clone(&load.begun), Arc::clone(&load.failed));
            load.tasks.spawn(async move {
                while !stop.is_cancelled() {
                    let n = begun[sender].fetch_add(1, Ordering::SeqCst);
                    let id = n * 100 + u64::try_from(sender).unwrap();
                    if let Err(why) = post(&http, &url, event(id)).await {
                        failed.lock().unwrap().push(why);
                    }
                }
            });
        }
        load
    }

    fn begun(&self) -> Vec<u64> {
        self.begun.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// Waits until each sender has begun 25 more: all that was under way before is answered then.
    async fn more(&self) {
        let before = self.begun();
        let done = || self.begun().iter().zip(&before).all(|(now, before)| *now >= before + 25);
        eventually("events are sent", done).await;
    }

    /// Stops, and gives how many were sent and what failed.
    async fn end(mut self) -> (u64, Vec<String>) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        (self.begun().iter().sum(), std::mem::take(&mut *self.failed.lock().unwrap()))
    }
}

fn clients(builder: impl Fn() -> reqwest::ClientBuilder) -> Vec<reqwest::Client> {
    let kept = [builder(), builder().http1_only()];
    let fresh = [builder().pool_max_idle_per_host(0), builder().http1_only().pool_max_idle_per_host(0)];
    kept.into_iter().chain(fresh).map(|builder| builder.build().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_changes_under_load_and_no_request_fails() {
    let here = install("").await;
    let authorities = [Authority::new("first"), Authority::new("second")];
    let folder = here.data_dir.path().to_owned();
    let toml = format!("{}\n{}", here.toml, authorities[0].issue("127.0.0.1").section(&folder));
    let mut receiver = Receiver::start(&here, &toml, "https").await;
    let scheme = here.config.sources["accbooks"].scheme.clone();
    let event = move |n| signed(&scheme, ACCBOOKS_SECRET.as_bytes(), n);
    let both = || client(&[&authorities[0], &authorities[1]]);
    let load = Load::start(clients(both), &receiver.url, event.clone());
    for round in 1..=6 {
        load.more().await;
        let now = &authorities[round % 2];
        now.issue("127.0.0.1").section(&folder);
        receiver.reload(&toml, "configuration reloaded").await;
        // New connections see the new one, and the new one alone.
        let only = |authority| client(&[authority]).build().unwrap();
        let id = 1_000_000 + u64::try_from(round).unwrap();
        assert_eq!(post(&only(now), &receiver.url, event(id)).await, Ok(()), "{round}");
        let other = post(&only(&authorities[(round + 1) % 2]), &receiver.url, event(id)).await;
        assert!(other.is_err_and(|why| why.contains("UnknownIssuer")), "{round}");
    }
    load.more().await;
    let (sent, failed) = load.end().await;
    assert_eq!(failed, Vec::<String>::new(), "of {sent}");
    println!("{sent} requests, none failed");
    receiver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_changes_under_load_and_no_request_is_refused() {
    let here = install("").await;
    let folder = here.data_dir.path().display().to_string();
    let scheme = here.config.sources["accbooks"].scheme.clone();
    for n in 0..3 {
        file(here.data_dir.path(), &format!("key-{n}"), &format!("reload-key-{n}\n"));
    }
    let with = |secrets: String| {
        assert!(here.toml.contains(SECRETS));
        here.toml.replace(SECRETS, &format!("secrets = [{secrets}]"))
    };
    let key = |n: u64, more: &str| format!("{{ id = \"k{n}\", value = \"file:{folder}/key-{n}\"{more} }}");
    let mut receiver = Receiver::start(&here, &with(key(0, "")), "http").await;
    // What the provider signs with.
    let current = Arc::new(AtomicU64::new(0));
    let event = {
        let (scheme, current) = (scheme.clone(), Arc::clone(&current));
        move |n| signed(&scheme, format!("reload-key-{}", current.load(Ordering::SeqCst)).as_bytes(), n)
    };
    let plain = || reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(30));
    let load = Load::start(clients(plain), &receiver.url, event);
    let http = plain().build().unwrap();
    let try_key = async |url: &str, n: u64| {
        post(&http, url, signed(&scheme, format!("reload-key-{n}").as_bytes(), 2_000_000 + n)).await
    };
    for old in 0..2 {
        let new = old + 1;
        load.more().await;
        assert_eq!(try_key(&receiver.url, new).await, Err("401 signature_invalid".to_owned()));
        // Both are taken; then the provider switches; then the old one is kept for evidence alone.
        receiver.reload(&with(format!("{}, {}", key(old, ""), key(new, ""))), "configuration reloaded").await;
        assert_eq!((try_key(&receiver.url, old).await, try_key(&receiver.url, new).await), (Ok(()), Ok(())));
        load.more().await;
        current.store(new, Ordering::SeqCst);
        // Until what was signed before the switch is answered.
        load.more().await;
        let retired = key(old, ", verify_only = true");
        receiver.reload(&with(format!("{retired}, {}", key(new, ""))), "configuration reloaded").await;
        assert_eq!(try_key(&receiver.url, old).await, Err("401 signature_invalid".to_owned()));
        assert_eq!(try_key(&receiver.url, new).await, Ok(()));
    }
    load.more().await;
    let (sent, failed) = load.end().await;
    assert_eq!(failed, Vec::<String>::new(), "of {sent}");
    println!("{sent} requests, none failed");
    // The same reference, and other bytes behind it.
    file(here.data_dir.path(), "key-2", "reload-key-7");
    receiver.reload(&with(key(2, "")), "configuration reloaded").await;
    assert_eq!(try_key(&receiver.url, 7).await, Ok(()));
    assert_eq!(try_key(&receiver.url, 2).await, Err("401 signature_invalid".to_owned()));
    receiver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_leaves_the_old_one_and_says_all_that_is_wrong() {
    let here = install("").await;
    let folder = here.data_dir.path().to_owned();
    let authority = Authority::new("ours");
    let toml = format!("{}\n{}", here.toml, authority.issue("127.0.0.1").section(&folder));
    let mut receiver = Receiver::start(&here, &toml, "https").await;
    let admin = receiver.process.address(&["the admin port listens"]).await;
    let http = client(&[&authority]).build().unwrap();
    let scheme = here.config.sources["accbooks"].scheme.clone();
    let send = async |url: &str, n| post(&http, url, signed(&scheme, ACCBOOKS_SECRET.as_bytes(), n)).await;
    assert_eq!(send(&receiver.url, 1).await, Ok(()));

    let gone = SECRETS.replace("env:TEST_ACCBOOKS_SECRET", "file:/gone");
    for (text, faults) in [
        ("[receiver\n".to_owned(), vec!["reload.toml:1: is not TOML"]),
        // A good part beside a bad one is not taken either.
        (
            toml.replace(SECRETS, &format!("{gone}\nallow_ips = true\nip_ranges = [\"192.0.2.0/33\"]\nmax_bodies = 1")),
            vec![
                "sources.accbooks.secrets[0].value: cannot read secret file",
                "sources.accbooks.ip_ranges[0]: is not an address range",
                "sources.accbooks.max_bodies: is not an option",
            ],
        ),
        (toml.replace(SECRETS, &format!("{SECRETS}\nclient_ca = \"/gone.pem\"")), vec!["client_ca: cannot read file"]),
    ] {
        receiver.reload(&text, "configuration not reloaded").await;
        for fault in faults {
            assert_eq!(receiver.process.lines(&["fault in the new configuration", fault]).len(), 1, "{fault}");
        }
        assert_eq!(send(&receiver.url, 2).await, Ok(()));
    }
    // A key that does not fit the certificate, as a rotation half done leaves it.
    file(&folder, "tls.key", &authority.issue("127.0.0.1").key);
    receiver.reload(&toml, "configuration not reloaded").await;
    receiver.process.line(&["receiver.tls.key: does not fit the certificate"]).await;
    let fresh = client(&[&authority]).build().unwrap();
    assert_eq!(post(&fresh, &receiver.url, signed(&scheme, ACCBOOKS_SECRET.as_bytes(), 3)).await, Ok(()));

    // What needs a restart is named, what does not is taken over.
    authority.issue("127.0.0.1").section(&folder);
    let text = toml
        .replace("partitions = 3", "partitions = 4")
        .replace("[receiver]\n", "[receiver]\nmax_in_flight = 1\n")
        .replace(SECRETS, &format!("{SECRETS}\nallow_ips = true\nip_ranges = [\"192.0.2.0/24\"]"));
    receiver.reload(&text, "configuration reloaded").await;
    let waiting = receiver.process.lines(&["takes effect at the next start"]);
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    assert!(
        waiting[0].contains("option=\"kafka\"") && waiting[1].contains("option=\"receiver.max_in_flight\""),
        "{waiting:?}"
    );
    assert_eq!(send(&receiver.url, 4).await, Err("403 address_not_allowed".to_owned()));
    let shown = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    for line in [
        r#"ledgerhook_config_reloads_total{outcome="applied"} 1"#,
        r#"ledgerhook_config_reloads_total{outcome="refused"} 4"#,
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    receiver.end().await;
}

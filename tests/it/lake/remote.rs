//! Tables on an S3 server, behind Apache Iceberg's own REST catalog: real ones, started for the test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{assert_exact, produce, rows, start};
use crate::common::{install, process};

/// The two servers; gone with the test.
pub(super) struct Remote {
    dir: PathBuf,
    _temp: tempfile::TempDir,
    s3: String,
    pub(super) rest: String,
}

impl Remote {
    pub(super) async fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("servers");
        let (script, to) = (script(), dir.clone());
        let up = move || Command::new(script).args(["up", "--dir"]).arg(to).status();
        assert!(tokio::task::spawn_blocking(up).await.unwrap().unwrap().success());
        let env = std::fs::read_to_string(dir.join("lake.env")).unwrap();
        let of = |name: &str| {
            env.lines()
                .find_map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
                .unwrap()
                .to_owned()
        };
        Self { s3: of("S3"), rest: of("REST"), dir, _temp: temp }
    }

    /// `[lake]` behind the catalog of this address.
    pub(super) fn toml(&self, rest: &str) -> String {
        format!(
            "[lake]\ncatalog = {{ kind = \"rest\", uri = \"{rest}\", timeout = \"20s\" }}\nwarehouse = \"s3://lake/warehouse\"\nnamespace = \"{}\"\ncommit = {{ rows = 500, every = \"1s\" }}\n\
             [lake.s3]\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\naccess_key_id = \"env:TEST_KEY_ID\"\nsecret_access_key = \"env:TEST_KEY\"\n",
            format_args!("t{}", &uuid::Uuid::now_v7().simple().to_string()[20..]),
            self.s3
        )
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(Command::new(script()).args(["down", "--dir"]).arg(&self.dir).status());
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lake")
}

/// What becomes of a request.
enum Fate {
    /// It is passed on.
    Passed,
    /// It is passed on, and where it was done, the answer says 500.
    Forgotten,
    /// It is answered here.
    Answered(hyper::StatusCode, String),
}

/// A proxy before the catalog: what becomes of each request goes by its head and its body. Counts the forgotten ones.
async fn proxy(
    upstream: String,
    decide: impl Fn(&hyper::http::request::Parts, &str) -> Fate + Send + Sync + 'static,
) -> (String, Arc<AtomicU32>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (decide, forgotten) = (Arc::new(decide), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&forgotten);
    // Where this is the first that speaks HTTP in the process.
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::new();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (upstream, http) = (upstream.clone(), http.clone());
            let (decide, forgotten) = (Arc::clone(&decide), Arc::clone(&forgotten));
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (upstream, http) = (upstream.clone(), http.clone());
                    let (decide, forgotten) = (Arc::clone(&decide), Arc::clone(&forgotten));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let fate = decide(&parts, &String::from_utf8_lossy(&body));
                        if let Fate::Answered(status, text) = fate {
                            let mut reply = hyper::Response::new(Full::new(Bytes::from(text)));
                            *reply.status_mut() = status;
                            reply.headers_mut().insert("content-type", "application/json".parse().unwrap());
                            return Ok::<_, std::convert::Infallible>(reply);
                        }
                        let url = format!("{upstream}{}", parts.uri);
                        let sent =
                            http.request(parts.method, url).headers(parts.headers).body(body).send().await.unwrap();
                        let (status, headers) = (sent.status(), sent.headers().clone());
                        let answer = sent.bytes().await.unwrap();
                        let forget = matches!(fate, Fate::Forgotten) && status == 200;
                        let mut reply = hyper::Response::new(Full::new(if forget { Bytes::new() } else { answer }));
                        if forget {
                            forgotten.fetch_add(1, Ordering::Relaxed);
                            *reply.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
                        } else {
                            *reply.status_mut() = status;
                            if let Some(kind) = headers.get("content-type") {
                                reply.headers_mut().insert("content-type", kind.clone());
                            }
                        }
                        Ok(reply)
                    }
                });
                let auto = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(auto.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (address, counted)
}

fn is_commit(parts: &hyper::http::request::Parts, body: &str) -> bool {
    parts.method == "POST" && parts.uri.path().contains("/tables/") && body.contains("add-snapshot")
}

/// A catalog that answers 500 to every third commit after it was done.
pub(super) async fn forgetful(upstream: String) -> (String, Arc<AtomicU32>) {
    let commits = AtomicU32::new(0);
    let decide = move |parts: &hyper::http::request::Parts, body: &str| {
        let third = is_commit(parts, body) && commits.fetch_add(1, Ordering::Relaxed) % 3 == 2;
        if third { Fate::Forgotten } else { Fate::Passed }
    };
    proxy(upstream, decide).await
}

/// Requests that a token is good for: more than opening a table takes, fewer than its commits.
const TOKEN_REQUESTS: u32 = 16;

/// A catalog that wants a token, had by OAuth 2 client credentials and short of life. Counts the tokens that it gave
/// and the requests that it refused.
async fn guarded(upstream: String) -> (String, Arc<AtomicU32>, Arc<AtomicU32>) {
    let (given, refused) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (gave, refuses) = (Arc::clone(&given), Arc::clone(&refused));
    let used: Mutex<BTreeMap<String, u32>> = Mutex::default();
    let decide = move |parts: &hyper::http::request::Parts, body: &str| {
        if parts.uri.path().ends_with("/oauth/tokens") {
            // TEST_LOGIN, as a form has it.
            let known = ["grant_type=client_credentials", "client_id=lake", "client_secret=p%40ss%2Fword+1"];
            if !known.iter().all(|part| body.contains(part)) {
                let error = r#"{"error":"invalid_client"}"#.to_owned();
                return Fate::Answered(hyper::StatusCode::UNAUTHORIZED, error);
            }
            let token = format!("token-{}", gave.fetch_add(1, Ordering::Relaxed));
            used.lock().unwrap().insert(format!("Bearer {token}"), 0);
            let answer = format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600}}"#);
            return Fate::Answered(hyper::StatusCode::OK, answer);
        }
        let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        match used.lock().unwrap().get_mut(bearer) {
            Some(used) if *used < TOKEN_REQUESTS => {
                *used += 1;
                Fate::Passed
            }
            _ => {
                refuses.fetch_add(1, Ordering::Relaxed);
                let error = r#"{"error":{"message":"the token expired","type":"NotAuthorizedException","code":401}}"#;
                Fate::Answered(hyper::StatusCode::UNAUTHORIZED, error.to_owned())
            }
        }
    };
    (proxy(upstream, decide).await.0, given, refused)
}

/// A way to the store that breaks `times` times in the middle of what goes up. Counts them.
async fn breaking(upstream: &str, times: u32) -> (String, Arc<AtomicU32>) {
    /// More than the requests of a reader, less than a file.
    const MIDDLE: usize = 12 << 10;
    let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let broken = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&broken);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let broken = Arc::clone(&broken);
            tokio::spawn(async move {
                let ((mut from, mut to), (mut back, mut answer)) = (client.into_split(), server.into_split());
                let answers = tokio::spawn(async move { tokio::io::copy(&mut back, &mut to).await });
                let (mut bytes, mut sent) = (vec![0; 4096], 0);
                while let Ok(read @ 1..) = from.read(&mut bytes).await {
                    sent += read;
                    if sent > MIDDLE
                        && broken
                            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < times).then_some(n + 1))
                            .is_ok()
                    {
                        answers.abort();
                        return;
                    }
                    if answer.write_all(&bytes[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, counted)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_s3_behind_a_rest_catalog_that_forgets_to_say_what_it_did() {
    let remote = Remote::start().await;
    let (address, forgotten) = forgetful(remote.rest.clone()).await;
    let installation = install(&remote.toml(&address)).await;
    produce(&installation, 0..3_000).await;
    let mut writer = start(&installation.file(), "");
    let invoices = rows(&installation, "invoices", 3_000).await;
    assert_exact(&invoices, 0..3_000);
    assert_eq!(invoices.files.days.len(), 3);
    let events = rows(&installation, "events", 3_000).await;
    assert_exact(&events, 0..3_000);
    assert_eq!(events.bodies, Some(3_000 * 300));
    assert!(forgotten.load(Ordering::Relaxed) >= 2, "it forgot too little to show anything");
    writer.line(&["the commit without an answer is in the table"]).await;
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
    let maintained =
        process::run(&installation.file(), &["lake", "maintain", "--keep", "1", "--snapshots-older-than", "0s"]).await;
    assert_eq!(maintained.code, Some(0), "{maintained:?}");
    assert_exact(&rows(&installation, "invoices", 3_000).await, 0..3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_costs_no_row_and_one_that_is_refused_is_said() {
    let remote = Remote::start().await;
    let (address, given, refused) = guarded(remote.rest.clone()).await;
    let timeout = "timeout = \"20s\"";
    let toml = remote.toml(&address).replacen(timeout, &format!("{timeout}, credential = \"env:TEST_LOGIN\""), 1);
    let mut installation = install(&toml).await;
    produce(&installation, 0..3_000).await;
    let writer = start(&installation.file(), "");
    // Readers go round the guard: theirs is another way in.
    installation.config.lake.catalog.uri.clone_from(&remote.rest);
    assert_exact(&rows(&installation, "invoices", 3_000).await, 0..3_000);
    for n in 0..4 {
        produce(&installation, 3_000 + n * 200..3_200 + n * 200).await;
        rows(&installation, "invoices", 3_200 + n * 200).await;
    }
    assert_exact(&rows(&installation, "invoices", 3_800).await, 0..3_800);
    assert_exact(&rows(&installation, "events", 3_800).await, 0..3_800);
    let (given, refused) = (given.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    assert!(refused >= 2, "no token expired: {given} given, {refused} requests refused");
    assert!(given > 8, "{given} tokens for eight tables: none was had anew");
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));

    // A fixed token that the catalog does not take.
    let stale = toml.replacen("credential = \"env:TEST_LOGIN\"", "token = \"env:TEST_KEY\"", 1);
    installation.toml = installation.toml.replacen(&toml, &stale, 1);
    let mut writer = start(&installation.file(), "");
    // What an answer says besides may hold a token, and is not shown.
    writer.line(&["not ready", "status code 401"]).await;
    assert!(writer.lines(&["the token expired"]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_breaks_off_in_the_middle_of_files_has_every_row_once() {
    let remote = Remote::start().await;
    // More than the store's client repeats: some files cannot be written at all.
    let (store, broken) = breaking(&remote.s3, 12).await;
    let toml = remote.toml(&remote.rest).replacen(&remote.s3, &store, 1).replacen("rows = 500", "rows = 2000", 1);
    let mut installation = install(&toml).await;
    produce(&installation, 0..4_000).await;
    let mut writer = start(&installation.file(), "");
    writer.line(&["not ready", "cannot write"]).await;
    installation.config.lake.s3.endpoint = Some(remote.s3.clone());
    assert_exact(&rows(&installation, "invoices", 4_000).await, 0..4_000);
    assert_exact(&rows(&installation, "events", 4_000).await, 0..4_000);
    assert_eq!(broken.load(Ordering::Relaxed), 12);
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
}

//! Tables on an S3 server, behind Apache Iceberg's own REST catalog: real ones, started for the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{assert_exact, produce, rows, start};
use crate::common::{install, process};

/// The two servers; gone with the test.
struct Remote {
    dir: PathBuf,
    _temp: tempfile::TempDir,
    s3: String,
    rest: String,
}

impl Remote {
    async fn start() -> Self {
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

    fn toml(&self, rest: &str) -> String {
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

/// Passes requests on, and to every third commit answers 500 after it was done.
async fn forgetful(upstream: String) -> (String, Arc<AtomicU32>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (commits, forgotten) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&forgotten);
    let http = reqwest::Client::new();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (upstream, http) = (upstream.clone(), http.clone());
            let (commits, forgotten) = (Arc::clone(&commits), Arc::clone(&forgotten));
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (upstream, http) = (upstream.clone(), http.clone());
                    let (commits, forgotten) = (Arc::clone(&commits), Arc::clone(&forgotten));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let is_commit = parts.method == "POST"
                            && parts.uri.path().contains("/tables/")
                            && String::from_utf8_lossy(&body).contains("add-snapshot");
                        let url = format!("{upstream}{}", parts.uri);
                        let sent =
                            http.request(parts.method, url).headers(parts.headers).body(body).send().await.unwrap();
                        let (status, headers) = (sent.status(), sent.headers().clone());
                        let answer = sent.bytes().await.unwrap();
                        let forget = is_commit && status == 200 && commits.fetch_add(1, Ordering::Relaxed) % 3 == 2;
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
                        Ok::<_, std::convert::Infallible>(reply)
                    }
                });
                let auto = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(auto.serve_connection(TokioIo::new(stream), service).await);
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

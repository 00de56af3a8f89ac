//! The admin port over HTTP.

use std::sync::Arc;

use ledgerhook::config::{Admin, Secret};
use ledgerhook::console;
use ledgerhook::telemetry::{Health, Metrics, RejectedRequests};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_serves_until_told_to_stop() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let admin = Admin { listen: "127.0.0.1:0".parse().unwrap(), token: Some(Secret::new("s3cret")) };
    let (health, stop) = (Health::default(), CancellationToken::new());
    let metrics = Arc::new(Metrics::new().unwrap());
    let (say, heard) = oneshot::channel();
    let running =
        tokio::spawn(console::run(admin, health.clone(), metrics, RejectedRequests::default(), stop.clone(), |at| {
            say.send(at).unwrap()
        }));
    let at = heard.await.unwrap();

    let http = reqwest::Client::new();
    health.role("router").not_ready("Kafka is away");
    let ready = http.get(format!("http://{at}/readyz?role=router")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let closed = http.get(format!("http://{at}/metrics")).send().await.unwrap();
    assert_eq!(closed.status(), 401);
    let open = http.get(format!("http://{at}/metrics")).bearer_auth("s3cret").send().await.unwrap();
    assert_eq!(
        (open.status().as_u16(), &open.headers()["content-type"]),
        (200, &Metrics::CONTENT_TYPE.parse().unwrap())
    );
    let measured = open.text().await.unwrap();
    assert!(measured.contains("ledgerhook_role_ready{role=\"router\"} 0\n"), "{measured}");

    let taken = Admin { listen: at, token: None };
    let metrics = Arc::new(Metrics::new().unwrap());
    let none = RejectedRequests::default();
    let error = console::run(taken, health, metrics, none, stop.clone(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains(&at.to_string()), "{error}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

//! The receiver over HTTP, on real Kafka.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bad_input;
mod connections;
mod deadline;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ledgerhook::event::{Envelope, Origin, Sha256};
use ledgerhook::kafka::layout::Ground;
use ledgerhook::outcome::Answer;
use ledgerhook::receiver::{self, Error, Settings};
use ledgerhook::signature;
use ledgerhook::telemetry::health::State;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::common::{ACCBOOKS_SECRET, ACCELEX_SECRET, Installation, eventually, install};

const PATH: &str = "/api/accbooks/webhook";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Running {
    at: SocketAddr,
    http: reqwest::Client,
    task: JoinHandle<Result<(), Error>>,
}

/// Status, headers and body of an answer.
struct Answered {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

async fn start(here: &Installation) -> Running {
    start_on(here, Arc::clone(&here.ground)).await
}

async fn start_on(here: &Installation, ground: Arc<Ground>) -> Running {
    let (say, heard) = oneshot::channel();
    let task = tokio::spawn(receiver::run(settings(here), ground, here.role("receiver"), |at| say.send(at).unwrap()));
    let at = heard.await.unwrap();
    Running { at, http: reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap(), task }
}

fn settings(here: &Installation) -> Settings {
    let live = receiver::Live::new(&here.config.receiver, here.config.sources.values()).unwrap();
    Settings {
        receiver: here.config.receiver.clone(),
        sources: here.config.sources.values().cloned().collect(),
        live: tokio::sync::watch::channel(Arc::new(live)).1,
        data_dir: here.data_dir.path().to_owned(),
        shutdown_budget: Duration::from_secs(20),
    }
}

fn sign(here: &Installation, body: &[u8]) -> String {
    signature::sign(&here.config.sources["accbooks"].scheme, ACCBOOKS_SECRET.as_bytes(), body)
}

impl Running {
    fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http.post(format!("http://{}{PATH}", self.at)).body(body)
    }

    /// A body with a signature that is right.
    async fn deliver(&self, here: &Installation, body: &[u8]) -> Answered {
        answered(self.post(body.to_vec()).header("AccBooks-Signature", sign(here, body))).await
    }

    async fn get(&self, path: &str) -> Answered {
        answered(self.http.get(format!("http://{}{path}", self.at))).await
    }

    /// Sends these bytes on a connection of their own and reads what comes back until the other side closes.
    async fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_raw(&mut stream).await
    }
}

async fn read_raw(stream: &mut TcpStream) -> (u16, String) {
    let mut text = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut text)).await.unwrap().unwrap();
    let text = String::from_utf8(text).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    Answered { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}

impl Answered {
    /// Asserts the contract's form of an error.
    #[track_caller]
    fn is(&self, answer: Answer) -> &Self {
        assert_eq!((self.status, self.code()), (answer.status(), answer.name()), "{}", self.body);
        assert!(self.body["error"]["message"].is_string() && self.body["request_id"].is_string(), "{}", self.body);
        assert_eq!(self.headers.contains_key("retry-after"), self.status == 503);
        assert_eq!(self.headers["content-type"], "application/json");
        self
    }

    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

/// Envelopes on `received.accbooks` in the order of their reception, each with its record.
async fn received(here: &Installation) -> Vec<(Envelope, ledgerhook::kafka::group::Incoming)> {
    let decoder = here.ground.decoder();
    let mut envelopes = Vec::new();
    for record in here.records("received.accbooks").await {
        envelopes.push((decoder.decode::<Envelope>(record.value.as_deref()).await.unwrap(), record));
    }
    envelopes.sort_by_key(|(envelope, _)| envelope.received_at);
    envelopes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_stands_on_the_topic_as_it_came() {
    let here = install("").await;
    let running = start(&here).await;
    here.ready("receiver").await;
    assert_eq!(running.get("/readyz").await.status, 200);
    assert_eq!(running.get("/healthz").await.status, 200);

    let body = br#"{"id":"evt_1", "type":"invoice.paid",  "created_at":"2026-04-15T14:32:00Z","data":{"amount":1.10}}"#;
    let request = running
        .post(body.to_vec())
        .header("AccBooks-Signature", sign(&here, body))
        .header("content-type", "application/json; charset=utf-8")
        .header("traceparent", TRACE)
        .header("authorization", "Bearer none-of-our-business")
        .header("x-repeated", "1")
        .header("x-repeated", "2");
    let accepted = answered(request).await;
    assert_eq!((accepted.status, &accepted.body["status"]), (200, &"accepted".into()));
    assert_eq!(accepted.body["event_id"], "evt_1");

    let again = running.deliver(&here, body).await;
    assert_eq!((again.status, &again.body["status"]), (200, &"accepted".into()));
    let test = running.deliver(&here, br#"{"id":"evt_2","type":"webhook.test"}"#).await;
    assert_eq!((test.status, &test.body["status"]), (200, &"test".into()));
    let unusable: &[u8] = b"\x00\xff no JSON at all";
    let quarantined = running.deliver(&here, unusable).await;
    assert_eq!((quarantined.status, &quarantined.body["status"]), (200, &"quarantined".into()));
    assert_eq!(quarantined.body["event_id"], quarantined.body["request_id"]);

    let rows = received(&here).await;
    assert_eq!(rows.len(), 4);
    let (envelope, record) = &rows[0];
    assert_eq!(envelope.body, &body[..]);
    assert_eq!(envelope.body_sha256, Sha256::of(body));
    assert_eq!((envelope.event_id.as_str(), envelope.event_type.as_str()), ("evt_1", "invoice.paid"));
    assert_eq!((&envelope.unusable, &envelope.test, envelope.origin), (&None, &None, Origin::Live));
    assert_eq!(envelope.occurred_at.unwrap().to_string(), "2026-04-15T14:32:00.000000Z");
    assert_eq!(envelope.content_type.as_deref(), Some("application/json; charset=utf-8"));
    let evidence = &envelope.evidence;
    assert_eq!(evidence.signature_header, "AccBooks-Signature");
    assert_eq!(evidence.signature_value, sign(&here, body));
    assert_eq!((evidence.algorithm.as_str(), evidence.key_id.as_str()), ("hmac-sha256", "b1"));
    assert_eq!((evidence.remote_address.as_str(), evidence.receiver_id.as_str()), ("127.0.0.1", "receiver-test"));
    assert_eq!(evidence.request_id, accepted.body["request_id"].as_str().unwrap());
    assert_eq!(evidence.headers["x-repeated"], "1, 2");
    assert!(!evidence.headers.contains_key("authorization"));
    assert_eq!(record.key.as_deref(), Some(b"evt_1".as_slice()));
    assert_eq!(record.timestamp_ms, Some(envelope.received_at.as_millis()));
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", "evt_1"),
        ("ce_source", "accbooks"),
        ("ce_type", "invoice.paid"),
        ("ce_time", "2026-04-15T14:32:00.000000Z"),
        ("content-type", "application/avro"),
        ("traceparent", TRACE),
    ] {
        assert_eq!(record.headers.get(name), Some(value), "{name}");
    }
    assert_eq!(rows[1].0.body, &body[..]);
    assert_eq!(rows[2].0.test.as_deref(), Some("event_type"));
    let (envelope, record) = &rows[3];
    assert_eq!((&*envelope.body, envelope.unusable.as_deref()), (unusable, Some("not_json")));
    assert_eq!(envelope.event_id, quarantined.body["request_id"].as_str().unwrap());
    assert_eq!(record.key.as_deref(), Some(envelope.event_id.as_bytes()));
    assert!(record.headers.get("traceparent").is_some_and(|trace| trace.len() == 55 && trace != TRACE));

    let shown = here.metrics.render();
    for line in [
        r#"ledgerhook_receiver_requests_total{outcome="accepted",source="accbooks"} 2"#,
        r#"ledgerhook_receiver_requests_total{outcome="test",source="accbooks"} 1"#,
        r#"ledgerhook_receiver_requests_total{outcome="quarantined",source="accbooks"} 1"#,
        r#"ledgerhook_signature_matches_total{key_id="b1",source="accbooks"} 4"#,
        r#"ledgerhook_receiver_ack_seconds_count{path="kafka",source="accbooks"} 4"#,
    ] {
        assert!(shown.contains(line), "{line}");
    }
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_leave_nothing_on_the_topic() {
    let mut here = install("").await;
    here.config.receiver.body_timeout = Duration::from_secs(1);
    let running = start(&here).await;
    here.ready("receiver").await;
    let body = br#"{"id":"forged","type":"invoice.paid"}"#.as_slice();
    let signed = sign(&here, body);
    let header = "AccBooks-Signature";

    answered(running.post(body)).await.is(Answer::SignatureMissing);
    answered(running.post(body).header(header, sign(&here, b"other"))).await.is(Answer::SignatureInvalid);
    answered(running.post(body).header(header, &signed).header(header, &signed)).await.is(Answer::SignatureInvalid);
    let not_ascii = reqwest::header::HeaderValue::from_bytes(b"sha256=\xff").unwrap();
    answered(running.post(body).header(header, not_ascii)).await.is(Answer::SignatureInvalid);
    answered(running.http.post(format!("http://{}/elsewhere", running.at)).body(body)).await.is(Answer::NotFound);
    let get = running.get(PATH).await;
    assert_eq!(get.is(Answer::MethodNotAllowed).headers["allow"], "POST");
    let gzip = running.post(body).header(header, &signed).header("content-encoding", "gzip");
    answered(gzip).await.is(Answer::EncodingUnsupported);

    let large = vec![b' '; 3 << 20];
    running.deliver(&here, &large).await.is(Answer::BodyTooLarge);
    let expecting = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n"
    );
    let (status, text) = running.raw(expecting.as_bytes()).await;
    assert!(status == 413 && text.contains("body_too_large"), "{text}");
    let mut chunked =
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        chunked.push_str(&format!("10000\r\n{}\r\n", " ".repeat(0x10000)));
    }
    chunked.push_str("0\r\n\r\n");
    let (status, text) = running.raw(chunked.as_bytes()).await;
    assert!(status == 413 && text.contains("body_too_large"), "{text}");

    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let (status, text) = running.raw(format!("{head}content-length: 10\r\n\r\nabc").as_bytes()).await;
    assert!(status == 408 && text.contains("request_timeout"), "{text}");
    let (status, text) = running.raw(format!("{head}transfer-encoding: chunked\r\n\r\nnonsense\r\n").as_bytes()).await;
    assert!(status == 400 && text.contains("body_incomplete"), "{text}");
    let mut ended = TcpStream::connect(running.at).await.unwrap();
    ended.write_all(format!("{head}content-length: 10\r\n\r\nabc").as_bytes()).await.unwrap();
    ended.shutdown().await.unwrap();
    let (status, text) = read_raw(&mut ended).await;
    assert!(status == 400 && text.contains("body_incomplete"), "{text}");
    let (status, _) = running.raw(b"not HTTP at all, and longer than a preface\r\n\r\n").await;
    assert_eq!(status, 400);

    // What comes next on every partition shows that nothing came before.
    for n in 0..20 {
        running.deliver(&here, format!(r#"{{"id":"marker-{n}","type":"invoice.paid"}}"#).as_bytes()).await;
    }
    let rows = received(&here).await;
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|(envelope, _)| envelope.event_id.starts_with("marker-")));
    let partitions: std::collections::BTreeSet<_> = rows.iter().map(|(_, record)| record.partition.number).collect();
    assert_eq!(partitions.len(), 3, "a marker on each");
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_and_spool_it_serves_and_says_no() {
    let here = install("[receiver.spool]\nenabled = false\n").await;
    let mut kafka = here.config.kafka.clone();
    // Port 9 (discard) is closed wherever tests run.
    kafka.bootstrap_servers = vec!["127.0.0.1:9".to_owned()];
    let away = Ground::new(&kafka, &here.config.schema_registry, here.ground.topics.clone()).unwrap();
    let running = start_on(&here, Arc::new(away)).await;

    let before = tokio::time::Instant::now();
    running.deliver(&here, br#"{"id":"e1","type":"invoice.paid"}"#).await.is(Answer::NotDurable);
    assert!(before.elapsed() < Duration::from_secs(5), "known to be away: no waiting");
    answered(running.post("{}")).await.is(Answer::SignatureMissing);
    let ready = running.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["ready"]), (503, &false.into()));
    assert!(ready.body["reason"].is_string());
    assert_eq!(running.get("/healthz").await.status, 200);
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_on_the_way_down() {
    let mut here = install("").await;
    here.config.receiver.max_in_flight = 1;
    let running = start(&here).await;
    here.ready("receiver").await;
    let body = br#"{"id":"last","type":"invoice.paid"}"#;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\naccbooks-signature: {}\r\ncontent-length: {}\r\n\r\n",
        sign(&here, body),
        body.len()
    );
    let mut in_flight = TcpStream::connect(running.at).await.unwrap();
    in_flight.write_all(head.as_bytes()).await.unwrap();
    in_flight.write_all(&body[..10]).await.unwrap();
    // Its place is the only one: once another is refused, it is in flight.
    let overloaded = || async { running.deliver(&here, body).await.code() == "overloaded" };
    while !overloaded().await {}

    let mut late = TcpStream::connect(running.at).await.unwrap();
    late.write_all(&head.as_bytes()[..20]).await.unwrap();
    // Only an answer on a connection after it shows that `late` was accepted.
    running.get("/healthz").await;
    here.stop.cancel();
    eventually("not ready", || here.health.states()["receiver"] != State::Ready).await;
    late.write_all(&head.as_bytes()[20..]).await.unwrap();
    late.write_all(body).await.unwrap();
    let (status, text) = read_raw(&mut late).await;
    assert!(status == 503 && text.contains("shutting_down") && text.contains("retry-after"), "{text}");

    in_flight.write_all(&body[10..]).await.unwrap();
    let (status, text) = read_raw(&mut in_flight).await;
    assert!(status == 200 && text.contains(r#""event_id":"last""#), "{text}");
    assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
    running.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(running.at).await.is_err(), "nobody listens any more");
    let ids: Vec<String> = received(&here).await.into_iter().map(|(envelope, _)| envelope.event_id).collect();
    assert_eq!(ids.iter().filter(|id| *id == "last").count(), ids.len());
    assert!(!ids.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_missing_topics_end_it_with_a_reason() {
    let mut here = install("").await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    here.config.receiver.listen = taken.local_addr().unwrap();
    let error =
        receiver::run(settings(&here), Arc::clone(&here.ground), here.role("receiver"), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains(&here.config.receiver.listen.to_string()), "{error}");

    here.config.receiver.listen = "127.0.0.1:0".parse().unwrap();
    let mut kafka = here.config.kafka.clone();
    kafka.topic_prefix.push_str("nothing-here.");
    let bare = Ground::new(&kafka, &here.config.schema_registry, here.ground.topics.clone()).unwrap();
    let error = receiver::run(settings(&here), Arc::new(bare), here.role("receiver"), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Layout(_)) && error.to_string().contains("received.accbooks"), "{error}");
}

/// Bytes of body that HTTP/2 sends in answer to `HEAD`, frame by frame (RFC 9113).
async fn body_of_head(at: SocketAddr, path: &str) -> usize {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    // HPACK (RFC 7541): `:scheme: http` from the static table, the others as literals under its names.
    let mut block = vec![0x86];
    for (name, value) in [(2, "HEAD"), (4, path), (1, "receiver")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(SETTINGS);
    sent.extend([0, 0, u8::try_from(block.len()).unwrap(), HEADERS, END_STREAM | 4, 0, 0, 0, 1]);
    sent.extend(block);
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&sent).await.unwrap();
    let mut bytes = 0;
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        let length = usize::from(frame[1]) << 8 | usize::from(frame[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        let [_, _, _, kind, flags, .., id] = frame;
        bytes += if (kind, id) == (0, 1) { length } else { 0 };
        if kind <= HEADERS && id == 1 && flags & END_STREAM != 0 {
            return bytes;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_and_silence_is_bounded() {
    let mut here = install("").await;
    here.config.receiver.header_timeout = Duration::from_secs(1);
    here.config.receiver.idle_timeout = Duration::from_secs(1);
    let mut running = start(&here).await;
    here.ready("receiver").await;
    let mut silent = TcpStream::connect(running.at).await.unwrap();
    let mut slow = TcpStream::connect(running.at).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nhost:").await.unwrap();

    running.http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let body = br#"{"id":"h2","type":"invoice.paid"}"#;
    let accepted = running.post(body.to_vec()).header("AccBooks-Signature", sign(&here, body)).send().await.unwrap();
    assert_eq!((accepted.version(), accepted.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    let large = vec![b' '; 3 << 20];
    running.deliver(&here, &large).await.is(Answer::BodyTooLarge);
    for http in [reqwest::Client::new(), running.http.clone()] {
        for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/nowhere", 404), (PATH, 405)] {
            let head = http.head(format!("http://{}{path}", running.at)).send().await.unwrap();
            let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
            assert_eq!((head.status().as_u16(), length > 0), (status, true), "{path}");
            assert!(head.bytes().await.unwrap().is_empty(), "{path}: a look has a length and no body");
        }
    }
    for path in ["/healthz", "/readyz", "/nowhere", PATH] {
        assert_eq!(body_of_head(running.at, path).await, 0, "{path}: a client takes a body for a broken stream");
    }

    let mut nothing = Vec::new();
    for stream in [&mut silent, &mut slow] {
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut nothing)).await;
        assert!(closed.is_ok(), "a connection without a request is closed");
    }
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_goes_away_stops_its_own_source_until_it_is_back() {
    let here = install("[receiver.spool]\nenabled = false\n").await;
    let running = start(&here).await;
    here.ready("receiver").await;
    let body = br#"{"id":"e1","type":"invoice.paid"}"#;
    assert_eq!(running.deliver(&here, body).await.status, 200);
    delete(&here, "received.accbooks").await;
    let said = |what: &str| match here.health.states().get("receiver") {
        Some(State::NotReady(reason)) => reason.contains(what),
        _ => false,
    };
    eventually("the receiver names the source", || said("source accbooks")).await;
    assert_eq!(running.get("/readyz").await.status, 503);
    let before = tokio::time::Instant::now();
    running.deliver(&here, body).await.is(Answer::NotDurable);
    assert!(before.elapsed() < Duration::from_secs(2), "known to be away: no waiting");
    let unusable = br#"{"type":"invoice.paid"}"#;
    running.deliver(&here, unusable).await.is(Answer::NotDurable);
    let horizon = || here.metrics.render().contains("ledgerhook_loss_horizon_seconds{source=\"accbooks\"}");
    eventually("what was refused is told", horizon).await;
    let other = br#"{"event_id":"e1","event_type":"invoice.resolved"}"#;
    let signed = signature::sign(&here.config.sources["accelex"].scheme, ACCELEX_SECRET.as_bytes(), other);
    let accelex = running.http.post(format!("http://{}/api/accelex/webhook", running.at)).body(other.to_vec());
    assert_eq!(answered(accelex.header("X-AccelEx-Signature", signed)).await.status, 200);

    here.ground.admin().apply(&here.ground.topics).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while running.deliver(&here, body).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "taken again once the topic is back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(running.get("/readyz").await.status, 200);
    assert!(horizon(), "one is still missing");
    assert_eq!(running.deliver(&here, unusable).await.status, 200);
    eventually("it has come again, though nothing but its body tells", || !horizon()).await;
    assert!(!received(&here).await.is_empty());
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

async fn delete(here: &Installation, topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    let mut client = rdkafka::ClientConfig::new();
    client.set("bootstrap.servers", here.config.kafka.bootstrap_servers.join(","));
    let client: AdminClient<rdkafka::client::DefaultClientContext> = client.create().unwrap();
    let topic = here.ground.cluster.topic(topic);
    for deleted in client.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap() {
        deleted.unwrap();
    }
}

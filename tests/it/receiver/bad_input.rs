//! What a receiver does with input that is wrong: on the wire, in its signature, or in a body that was signed.

use std::time::Duration;

use ledgerhook::event::Timestamp;
use ledgerhook::outcome::Answer;
use ledgerhook::signature;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PATH, Running, answered, read_raw, received, sign, start};
use crate::common::{Installation, SIGNING_SECRET, install};

/// The head of a POST that the server closes the connection after.
fn head(more: &str) -> String {
    format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n")
}

/// A whole signed request, to be written as it is.
fn signed(here: &Installation, header: &str, body: &str) -> String {
    let value = sign(here, body.as_bytes());
    format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{header}: {value}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_and_unusable_is_kept_with_its_reason() {
    let here = install("").await;
    let running = start(&here).await;
    here.ready("receiver").await;
    let quoted = |id: &str| format!(r#"{{"type":"invoice.paid","id":"{id}"}}"#);
    let nested = format!(r#"{{"id":"deep","type":"t","data":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let cases: Vec<(Vec<u8>, Option<&str>)> = [
        ("id=1&type=invoice.paid".to_owned(), Some("not_json")),
        (String::new(), Some("not_json")),
        ("[{\"id\":\"e1\"}]".to_owned(), Some("not_an_object")),
        (r#"{"type":"invoice.paid"}"#.to_owned(), Some("event_id_missing")),
        (r#"{"type":"invoice.paid","id":{"a":1}}"#.to_owned(), Some("event_id_invalid")),
        (r#"{"type":"invoice.paid","id":1.5}"#.to_owned(), Some("event_id_invalid")),
        (quoted(&"x".repeat(256)), Some("event_id_invalid")),
        (quoted(&"é".repeat(128)), Some("event_id_invalid")),
        (quoted("nul\\u0000"), Some("event_id_invalid")),
        (quoted("surrogate\\ud800"), Some("not_json")),
        (quoted("nul\0"), Some("not_json")),
        (r#"{"id":"a","type":"invoice.paid","id":"b"}"#.to_owned(), Some("duplicate_member")),
        (r#"{"id":"untyped"}"#.to_owned(), Some("event_type_missing")),
        (nested, Some("not_json")),
        (quoted(&"x".repeat(255)), None),
        (r#"{"id":"huge","type":"invoice.paid","data":{"amount":1e400,"rate":-0.0e-999}}"#.to_owned(), None),
        (r#"{"id":"inner","type":"invoice.paid","data":{"a":1,"a":2,"nul":"\u0000"}}"#.to_owned(), None),
    ]
    .map(|(body, unusable)| (body.into_bytes(), unusable))
    .into_iter()
    .chain([(b"{\"id\":\"latin\xe9\",\"type\":\"t\"}".to_vec(), Some("not_json"))])
    .collect();
    for (body, unusable) in &cases {
        let answer = running.deliver(&here, body).await;
        let expected = if unusable.is_some() { "quarantined" } else { "accepted" };
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!((answer.status, answer.body["status"].as_str()), (200, Some(expected)), "{shown}");
    }
    // Answers were waited for, so that the order of reception is that of sending.
    let rows = received(&here).await;
    assert_eq!(rows.len(), cases.len());
    for ((envelope, _), (body, unusable)) in rows.iter().zip(&cases) {
        assert_eq!((&envelope.body.to_vec(), envelope.unusable.as_deref()), (body, *unusable));
    }
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_as_the_wire_may_bring_it() {
    let mut here = install("").await;
    here.config.receiver.body_timeout = Duration::from_secs(1);
    let running = start(&here).await;
    here.ready("receiver").await;

    // Names of headers have no case.
    for (n, header) in ["ACCBOOKS-SIGNATURE", "accbooks-signature", "aCcBoOkS-sIgNaTuRe"].into_iter().enumerate() {
        let body = format!(r#"{{"id":"case-{n}","type":"invoice.paid"}}"#);
        let request = signed(&here, header, &body).replacen("host: x", "host: x\r\nconnection: close", 1);
        let (status, text) = running.raw(request.as_bytes()).await;
        assert!(status == 200 && text.contains("accepted"), "{text}");
    }

    // Several requests before the first answer: each gets its own, in order.
    let bodies = ["p-0", "p-1", "p-2"].map(|id| format!(r#"{{"id":"{id}","type":"invoice.paid"}}"#));
    let pipelined = bodies.each_ref().map(|body| signed(&here, "accbooks-signature", body)).concat();
    let mut stream = TcpStream::connect(running.at).await.unwrap();
    stream.write_all(pipelined.as_bytes()).await.unwrap();
    stream.write_all(head("content-length: 0\r\n").as_bytes()).await.unwrap();
    let (_, text) = read_raw(&mut stream).await;
    let at = ["p-0", "p-1", "p-2", "signature_missing"].map(|what| text.find(what).unwrap_or_else(|| panic!("{text}")));
    assert!(at.is_sorted() && text.matches("HTTP/1.1 200").count() == 3, "{text}");

    // A length that is too short cuts the body: its signature is another one's, and what follows is no request.
    let body = r#"{"id":"cut","type":"invoice.paid"}"#;
    let cut = signed(&here, "accbooks-signature", body).replacen(&format!("length: {}", body.len()), "length: 10", 1);
    let (status, text) = running.raw(cut.as_bytes()).await;
    assert!(status == 401 && text.contains("signature_invalid"), "{text}");
    assert!(!text.contains("accepted") && text.contains("HTTP/1.1 400"), "{text}");
    // Two lengths, or one that is none: the server's own 400, since nobody can tell where the request ends.
    for lengths in ["content-length: 34\r\ncontent-length: 35\r\n", "content-length: -1\r\n", "content-length: x\r\n"] {
        let (status, text) = running.raw(format!("{}{body}", head(lengths)).as_bytes()).await;
        assert_eq!(status, 400, "{text}");
    }

    // Chunks that come for ever: silent, or one byte at a time.
    for pause in [Duration::from_secs(60), Duration::from_millis(50)] {
        let mut stream = TcpStream::connect(running.at).await.unwrap();
        stream.write_all(head("transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let chunks = tokio::spawn(async move {
            while writing.write_all(b"1\r\n \r\n").await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        });
        let mut text = vec![0; 1024];
        let read = tokio::time::timeout(Duration::from_secs(30), reading.read(&mut text)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&text[..read]).into_owned();
        assert!(text.starts_with("HTTP/1.1 408") && text.contains("request_timeout"), "{text}");
        chunks.abort();
    }

    // A head over the limit gets our answer; one far over it the server's bare one.
    let limit = here.config.receiver.max_header_bytes;
    let long = |bytes: usize| head(&format!("x-long: {}\r\n", "a".repeat(bytes)));
    let (status, text) = running.raw(long(limit).as_bytes()).await;
    assert!(status == 431 && text.contains("headers_too_large") && text.contains("request_id"), "{text}");
    assert_eq!(running.raw(long(2 * limit).as_bytes()).await.0, 431);
    let (status, text) = running.raw(long(limit - 512).as_bytes()).await;
    assert!(status == 401 && text.contains("signature_missing"), "{text}");
    let shown = here.metrics.render();
    let counted = r#"ledgerhook_receiver_requests_total{outcome="headers_too_large",source="accbooks"} 1"#;
    assert!(shown.contains(counted), "{shown}");

    let ids: Vec<String> = received(&here).await.into_iter().map(|(envelope, _)| envelope.event_id).collect();
    assert_eq!(ids, ["case-0", "case-1", "case-2", "p-0", "p-1", "p-2"]);
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

const MORE: &str = r#"
[sources.standard]
preset = "standard-webhooks"
path = "/standard"
secrets = [{ id = "s1", value = "env:TEST_SIGNING_SECRET" }]
[sources.github]
secrets = [{ id = "g1", value = "env:TEST_ACCELEX_SECRET" }]
"#;

impl Running {
    async fn send(&self, path: &str, body: &str, headers: &[(String, String)]) -> super::Answered {
        let mut request = self.http.post(format!("http://{}{path}", self.at)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        answered(request).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_times_and_ids_in_headers_are_checked_and_kept() {
    let here = install(MORE).await;
    let running = start(&here).await;
    here.ready("receiver").await;
    let source = &here.config.sources["standard"];
    let key = source.secrets[0].value.expose();
    assert_ne!(key, SIGNING_SECRET.as_bytes(), "the key is what the secret encodes");
    let now_s = Timestamp::now().as_micros() / 1_000_000;
    let body = r#"{"type":"invoice.paid","timestamp":"2026-05-02T09:14:03Z","data":{}}"#;
    let at = |now_s| signature::headers(&source.scheme, key, "msg_1", now_s, body.as_bytes());
    for away in [-600, 600] {
        running.send("/standard", body, &at(now_s + away)).await.is(Answer::TimestampOutOfRange);
    }
    let mut other = at(now_s);
    other[1].1 = "msg_2".to_owned();
    running.send("/standard", body, &other).await.is(Answer::SignatureInvalid);
    other.remove(1);
    running.send("/standard", body, &other).await.is(Answer::SignatureMissing);
    let taken = running.send("/standard", body, &at(now_s)).await;
    assert_eq!((taken.status, &taken.body["event_id"]), (200, &"msg_1".into()));

    let scheme = &here.config.sources["github"].scheme;
    let mut headers = signature::headers(scheme, crate::common::ACCELEX_SECRET.as_bytes(), "", 0, b"{}");
    headers.push(("X-GitHub-Delivery".to_owned(), "d-1".to_owned()));
    headers.push(("X-GitHub-Event".to_owned(), "ping".to_owned()));
    let taken = running.send("/api/github/webhook", "{}", &headers).await;
    assert_eq!((taken.status, &taken.body["status"], &taken.body["event_id"]), (200, &"test".into(), &"d-1".into()));

    let decoder = here.ground.decoder();
    let mut kept = Vec::new();
    for topic in ["received.standard", "received.github"] {
        for record in here.records(topic).await {
            kept.push(decoder.decode::<ledgerhook::event::Envelope>(record.value.as_deref()).await.unwrap());
        }
    }
    let ids: Vec<_> = kept.iter().map(|e| (e.event_id.as_str(), e.event_type.as_str())).collect();
    assert_eq!(ids, [("msg_1", "invoice.paid"), ("d-1", "ping")]);
    let evidence = &kept[0].evidence;
    assert_eq!(evidence.algorithm, "hmac-sha256 {webhook-id}.{webhook-timestamp}.{body}");
    assert_eq!((evidence.headers["webhook-id"].as_str(), evidence.key_id.as_str()), ("msg_1", "s1"));
    assert_eq!(evidence.headers["webhook-timestamp"], now_s.to_string());
    assert_eq!(kept[1].evidence.headers["x-github-delivery"], "d-1");
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_shown_until_newer_ones_come() {
    let here = install("").await;
    let running = start(&here).await;
    here.ready("receiver").await;
    let body = br#"{"id":"e1","type":"invoice.paid"}"#;
    assert_eq!(running.deliver(&here, body).await.status, 200);
    let missing = answered(running.post(body.to_vec())).await;
    let invalid = answered(running.post(body.to_vec()).header("AccBooks-Signature", "sha256=00")).await;
    let unknown = running.get("/nowhere").await;
    let rows = here.rejected.newest();
    let shown: Vec<_> = rows.iter().map(|row| (row.source.as_str(), row.reason, row.request_id.to_string())).collect();
    let id = |answer: &super::Answered| answer.body["request_id"].as_str().unwrap().to_owned();
    assert_eq!(
        shown,
        [
            ("", Answer::NotFound, id(&unknown)),
            ("accbooks", Answer::SignatureInvalid, id(&invalid)),
            ("accbooks", Answer::SignatureMissing, id(&missing)),
        ]
    );
    assert!(rows.iter().all(|row| row.address.is_loopback()));
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

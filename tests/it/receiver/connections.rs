//! What comes before a request, or in place of one: connections that nobody uses, and bytes that are no HTTP.

use std::time::Duration;

use ledgerhook::outcome::Answer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{PATH, answered, read_raw, sign, start};
use crate::common::{eventually, install};

/// What strangers send before they are silent.
const SILENT: [(&str, &[u8]); 4] = [
    ("nothing", b""),
    ("half a head", b"POST / HTTP/1.1\r\nhost:"),
    ("a request, and no other", b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_connections_shuts_nobody_out_and_cuts_no_request_off() {
    const PLACES: usize = 50;
    let mut here = install("").await;
    here.config.receiver.max_connections = PLACES;
    // So long that a place that is had in time was not had by waiting.
    let long = Duration::from_secs(60);
    here.config.receiver.header_timeout = long;
    here.config.receiver.body_timeout = long;
    here.config.sources.get_mut("accbooks").unwrap().deadline = 2 * long;
    let mut running = start(&here).await;
    here.ready("receiver").await;
    let body = br#"{"id":"slow","type":"invoice.paid"}"#;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccbooks-signature: {}\r\ncontent-length: {}\r\n\r\n",
        sign(&here, body),
        body.len()
    );
    let mut slow = TcpStream::connect(running.at).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&body[..10]).await.unwrap();
    // It has its request before others come: an answer on a connection after it shows that it was accepted.
    running.get("/healthz").await;

    for (what, bytes) in SILENT {
        let mut idle = Vec::new();
        for _ in 0..3 * PLACES {
            let mut stream = TcpStream::connect(running.at).await.unwrap();
            // The first may be gone before all are there.
            drop(stream.write_all(bytes).await);
            idle.push(stream);
        }
        let before = here.metrics.receiver_connections_evicted.get();
        let begun = Instant::now();
        running.http = reqwest::Client::new();
        let answer = running.deliver(&here, format!(r#"{{"id":"{what}","type":"invoice.paid"}}"#).as_bytes()).await;
        assert_eq!(answer.status, 200, "{what}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {:?}", begun.elapsed());
        assert!(usize::try_from(here.metrics.receiver_connections.get()).unwrap() <= PLACES, "{what}");
        let evicted = here.metrics.receiver_connections_evicted.get();
        println!("{what}: {:?}, {evicted} evicted, {} of them for this one", begun.elapsed(), evicted - before);
        // Those that came first are gone, each told so, and the last are still there.
        for stream in &mut idle[..PLACES] {
            let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "{what}: the oldest is ended");
        }
        let last = idle.last_mut().unwrap();
        let mut answer = vec![0; 4096];
        // The answer it may have had, then nothing.
        let end = async { while last.read(&mut answer).await.is_ok_and(|read| read > 0) {} };
        assert!(tokio::time::timeout(Duration::from_millis(100), end).await.is_err(), "{what}: the newest stays");
    }
    assert!(here.metrics.receiver_connections_evicted.get() >= u64::try_from(SILENT.len() * 2 * PLACES).unwrap());
    slow.write_all(&body[10..]).await.unwrap();
    let (status, text) = read_raw(&mut slow).await;
    assert!(status == 200 && text.contains(r#""event_id":"slow""#), "{text}");
    drop(running.http);
    eventually("all places are free", || here.metrics.receiver_connections.get() == 0).await;
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_counted_and_shown() {
    let here = install("").await;
    let running = start(&here).await;
    here.ready("receiver").await;
    let limit = here.config.receiver.max_header_bytes;
    let head = |more: &str| format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{more}\r\n").into_bytes();
    let many = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 505]].concat();
    for (bytes, status) in [
        (b"not HTTP at all, and longer than a preface\r\n\r\n".to_vec(), 400),
        (head("content-length: x\r\n"), 400),
        (head("no colon\r\n"), 400),
        (hello, 400),
        (head(&format!("x-long: {}\r\n", "a".repeat(2 * limit))), 431),
        (head(&many), 431),
    ] {
        let (found, text) = running.raw(&bytes).await;
        assert_eq!(found, status, "{}: {text}", bytes[..20].escape_ascii());
    }
    // The second on a connection counts too, and the first is what it was.
    let both = [head("content-length: 0\r\n"), b"garbage\r\n\r\n".to_vec()].concat();
    let (status, text) = running.raw(&both).await;
    assert!(status == 401 && text.contains("HTTP/1.1 400"), "{text}");
    // An end before a whole head is nobody's fault.
    let mut gone = TcpStream::connect(running.at).await.unwrap();
    gone.write_all(b"POST / HTTP/1.1\r\nho").await.unwrap();
    gone.shutdown().await.unwrap();
    drop(read_raw(&mut gone).await);

    // Counted when the connection is over, which its client may know before.
    let count = |reason: Answer| here.metrics.receiver_requests.with_label_values(&["", reason.name()]).get();
    let both = || (count(Answer::RequestMalformed), count(Answer::HeadersTooLarge));
    eventually("all are counted", || both() == (5, 2)).await;
    let rows = here.rejected.newest();
    let shown = |reason: Answer| {
        let rows = rows.iter().filter(|row| row.reason == reason && row.source.is_empty());
        rows.inspect(|row| assert!(row.address.is_loopback())).count()
    };
    assert_eq!((shown(Answer::RequestMalformed), shown(Answer::HeadersTooLarge)), (5, 2), "{rows:?}");
    assert_eq!(answered(running.post("{}")).await.is(Answer::SignatureMissing).status, 401);
    assert_eq!(both(), (5, 2));
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
}

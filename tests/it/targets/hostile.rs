//! A target that answers as none should: what a try makes of it, in its time and without its weight.

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledgerhook::event::{AttemptOutcome, Timestamp};
use ledgerhook::targets::{Answer, Scope};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::Instant;

use super::{client_at, feed};
use crate::common::certificates::{Authority, file};

/// The target's `timeout`.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// What a try may take on top of that on a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// More than is read of any answer, with what fits into the buffers of two sockets.
const MOST: u64 = 32 * 1024 * 1024;

/// A server on TCP that does this with each connection, once a request has come; where it listens, and how often it was
/// asked.
fn server(does: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (asked, does) = (Arc::new(AtomicU64::new(0)), Arc::new(does));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (counted, does) = (Arc::clone(&counted), Arc::clone(&does));
            std::thread::spawn(move || {
                let mut head = [0; 16 * 1024];
                if stream.read(&mut head).is_ok_and(|n| n > 0) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    does(stream);
                }
            });
        }
    });
    (url, asked)
}

/// What a try came to, which took no longer than it may.
async fn send(url: &str, tls: &str) -> Answer {
    let client =
        client_at(url, &format!("connect_timeout = \"1s\"\ntimeout = \"{}ms\"\n{tls}", TIMEOUT.as_millis())).unwrap();
    let began = Instant::now();
    let answer = client.send(&Arc::new(feed()), Timestamp::now(), false).await;
    assert!(began.elapsed() < TIMEOUT + SLACK, "{:?}: {answer:?}", began.elapsed());
    answer
}

/// Writes these bytes again and again until nobody reads them any more; how many went.
fn pour(stream: &mut TcpStream, bytes: &[u8], all: u64) -> u64 {
    let mut poured = 0;
    while poured < all && stream.write_all(bytes).is_ok() {
        poured += bytes.len() as u64;
    }
    poured
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_leaves_it_open_whether_the_target_acted() {
    type Does = fn(TcpStream);
    let cases: [(&str, Does); 6] = [
        ("garbage", |mut stream| drop(stream.write_all(b"\x16\x03\x01 not HTTP \x00\xff\r\n\r\n"))),
        ("half a status line", |mut stream| drop(stream.write_all(b"HTTP/1.1 2"))),
        ("nothing", drop),
        ("never", |stream| {
            std::thread::sleep(TIMEOUT + SLACK);
            drop(stream);
        }),
        ("a byte a second", |mut stream| {
            for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        }),
        // The status says yes, but the body might say what it really means.
        ("a body that never ends", |mut stream| {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"));
            for _ in 0..100 {
                if stream.write_all(b"x").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        }),
    ];
    for (name, does) in cases {
        let (url, asked) = server(does);
        assert_open(name, &send(&url, "").await);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{name}: a try is made once");
    }
}

/// It is not known whether the target acted.
fn assert_open(name: &str, answer: &Answer) {
    let verdict = &answer.verdict;
    assert_eq!((verdict.outcome, verdict.scope), (AttemptOutcome::Unresolved, Scope::Record), "{name}: {answer:?}");
    assert!(verdict.leaves_doubt() && answer.requests == 1, "{name}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_not_read_to_theirs() {
    let line = format!("x-filler: {}\r\n", "x".repeat(1000));
    let (url, poured) = pouring("HTTP/1.1 200 OK\r\n".to_owned(), line.into_bytes());
    assert_open("headers without end", &send(&url, "").await);
    assert_given_up(&poured).await;
}

/// A server that answers so, and then with these bytes again and again; how many of them went when nobody took any more.
fn pouring(head: String, bytes: Vec<u8>) -> (String, Arc<AtomicU64>) {
    let poured = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&poured);
    let (url, _) = server(move |mut stream| {
        drop(stream.write_all(head.as_bytes()));
        noted.store(pour(&mut stream, &bytes, 1 << 30), Ordering::SeqCst);
    });
    (url, poured)
}

async fn assert_given_up(poured: &AtomicU64) {
    crate::common::eventually("the connection is given up", || poured.load(Ordering::SeqCst) > 0).await;
    let poured = poured.load(Ordering::SeqCst);
    assert!(poured < MOST, "{poured} bytes were taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_gibibyte_is_not_read_to_its_end() {
    for head in ["content-length: 1073741824\r\n\r\n", "\r\n"] {
        let (url, poured) = pouring(format!("HTTP/1.1 200 OK\r\n{head}"), vec![b'x'; 64 * 1024]);
        let answer = send(&url, "").await;
        assert_eq!((answer.status, answer.verdict.outcome), (Some(200), AttemptOutcome::Delivered), "{answer:?}");
        assert!(answer.excerpt.as_ref().is_some_and(|excerpt| excerpt.len() <= 4096), "{answer:?}");
        assert_given_up(&poured).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirection_is_not_followed() {
    let (elsewhere, asked) =
        server(|mut stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")));
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.clone();
        let (url, _) = server(move |mut stream| {
            let head = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            drop(stream.write_all(head.as_bytes()));
        });
        let answer = send(&url, "").await;
        assert_eq!((answer.status, answer.verdict.outcome), (Some(status), AttemptOutcome::Rejected), "{answer:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "records went where nobody was configured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_no_more_and_a_port_where_nobody_is_hold_the_target() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in ["http://target.invalid/".to_owned(), format!("http://127.0.0.1:{port}/")] {
        let answer = send(&url, "").await;
        let verdict = &answer.verdict;
        assert_eq!((verdict.outcome, verdict.scope), (AttemptOutcome::Retry, Scope::Target), "{url}: {answer:?}");
        assert_eq!(verdict.reason.to_string(), "connect_failed", "{url}: {answer:?}");
        assert!(!verdict.leaves_doubt(), "{url}: nothing was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_time_is_over_holds_the_target() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let authority = Authority::new("authority");
    let folder = tempfile::tempdir().unwrap();
    let ca = file(folder.path(), "ca.pem", &authority.pem);
    for (until, is_good) in [(2099, true), (2021, false)] {
        let issued = authority.issue_until("localhost", until);
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let port = super::server_with(issued.der.into(), key);
        let tls = format!("tls = {{ ca = \"file:{}\" }}", ca.display());
        let answer = send(&format!("https://localhost:{port}/"), &tls).await;
        if is_good {
            assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
            continue;
        }
        let verdict = &answer.verdict;
        assert_eq!((verdict.outcome, verdict.scope), (AttemptOutcome::Retry, Scope::Target), "{answer:?}");
        assert!(answer.fault.as_ref().is_some_and(|fault| fault.contains("certificate")), "it is told: {answer:?}");
    }
}

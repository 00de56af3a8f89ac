//! Bodies at the size limit: what was taken must fit Kafka in every form it can take later, and what is not taken must
//! not fill the memory.

use std::collections::VecDeque;
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::event::{DeadLetter, Quarantined};
use ledgerhook::{app, signature};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::common::faulty::{FaultyTarget, Reply};
use crate::common::process::Process;
use crate::common::{ACCBOOKS_SECRET, ENV, eventually, install};

/// A body of exactly this size, with `{}` in it filled by letters that take the most room in a record: every character
/// stands in the member's own field, in `attributes`, and in the envelope of a dead letter's quarantine.
fn filled(shape: &str, bytes: usize) -> String {
    let filler = "é".repeat((bytes - (shape.len() - 2)) / 2);
    let body = shape.replacen("{}", &filler, 1);
    format!("{body}{}", " ".repeat(bytes - body.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_at_the_limit_fits_as_envelope_record_quarantine_and_dead_letter() {
    let target = FaultyTarget::start(|_| Reply::Status(422)).await;
    let installation = install(&format!(
        "[targets.clm]\npreset = \"webhook\"\nrecords = [\"contracts\"]\nstart = \"earliest\"\nurl = \"{}\"\nallow_private_addresses = true\nsigning_secret = \"env:TEST_SIGNING_SECRET\"\n",
        target.url
    ))
    .await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml = installation.toml.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:{port}\""), 1);
    let env = |name: &str| ENV.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let config = Config::parse(&toml, "test.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    let source = config.sources["accelex"].clone();
    let limit = usize::try_from(source.max_body).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(app::run(config, &app::ROLES, stop.clone(), tokio::sync::mpsc::channel(1).1));

    let http = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{port}{}", source.path);
    let send = async |body: String| {
        let value = signature::sign(&source.scheme, source.secrets[0].value.expose(), body.as_bytes());
        let sent = || http.post(&url).header(&source.scheme.header, &value).body(body.clone()).send();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            // Until the receiver has found the topics it refuses everything, as it should.
            match sent().await {
                Ok(answer) if answer.status() != 503 => return answer.status().as_u16(),
                other => assert!(tokio::time::Instant::now() < deadline, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let contract = r#"{"event_id":"evt_full","event_type":"contract.processed","outcome":{"contract_id":"c1","clauses":[{"type":"t","text":"{}"}]}}"#;
    let unknown = r#"{"event_id":"evt_unknown","event_type":"moon.landed","outcome":{"text":"{}"}}"#;
    assert_eq!(send(filled(contract, limit)).await, 200);
    assert_eq!(send(filled(unknown, limit)).await, 200);
    assert_eq!(send(format!("{} ", filled(contract, limit))).await, 413, "one byte more");

    eventually("the target was asked", || !target.requests().is_empty()).await;
    let decoder = installation.ground.decoder();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let (dead, aside) = loop {
        let dead = installation.records("dead-letters").await;
        let aside = installation.records("quarantine").await;
        if !dead.is_empty() && !aside.is_empty() {
            break (dead, aside);
        }
        assert!(tokio::time::Instant::now() < deadline, "{} dead, {} aside", dead.len(), aside.len());
    };
    let dead: DeadLetter = decoder.decode(dead[0].value.as_deref()).await.unwrap();
    assert_eq!((dead.event_id.as_str(), dead.reason.as_str()), ("evt_full", "rejected"));
    assert!(dead.record.is_some_and(|r| format!("{r:?}").len() > limit), "the record is in it");
    let aside: Quarantined = decoder.decode(aside[0].value.as_deref()).await.unwrap();
    assert_eq!(aside.envelope.body.len(), limit);
    assert_eq!(installation.records("received.accelex").await.len(), 2);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_bodies_take_no_more_memory_than_they_have_places() {
    const PLACES: usize = 8;
    const SENDERS: usize = 200;
    const SENT: usize = 1_000_000;
    let installation = install("").await;
    // Long enough for all of them to be there at one time on a busy machine.
    let toml = installation
        .toml
        .replacen("[receiver]\n", &format!("[receiver]\nmax_in_flight = {PLACES}\nbody_timeout = \"20s\"\n"), 1)
        .replacen("[sources.accbooks]\n", "[sources.accbooks]\ndeadline = \"40s\"\n", 1);
    let file = installation.data_dir.path().join("slow.toml");
    std::fs::write(&file, toml).unwrap();
    let mut running = Process::start(&file, &["run", "--role", "receiver"], &[]);
    let at = running.address(&["the receiver listens"]).await;
    running.line(&["role=\"receiver\"", "health: ready"]).await;
    let before = running.peak_memory();

    let begin = async || {
        let mut stream = TcpStream::connect(&at).await.unwrap();
        let head =
            "POST /api/accbooks/webhook HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1048576\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refused sender may be cut off in the middle.
        drop(stream.write_all(&vec![b' '; SENT]).await);
        stream
    };
    let status = async |mut stream: TcpStream| {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        read.expect("an answer in time").expect("an answer");
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let mut slow = Vec::new();
    for _ in 0..SENDERS {
        slow.push(begin().await);
    }
    let mut found = std::collections::BTreeMap::new();
    for stream in slow {
        *found.entry(status(stream).await).or_insert(0) += 1;
    }
    assert_eq!(found, [("408".to_owned(), PLACES), ("503".to_owned(), SENDERS - PLACES)].into());
    let grown = running.peak_memory() - before;
    println!("{} KiB more for {SENDERS} slow bodies", grown / 1024);
    // Twice the bodies that have a place, for a buffer that grows by copying, and 128 KiB for each connection.
    let bound = PLACES * 2 * SENT + SENDERS * 128 * 1024;
    assert!(usize::try_from(grown).unwrap() < bound && bound < SENDERS * SENT / 4, "{grown} of {bound}");
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));
}

/// The test holds no more of them than have a place, so that it needs few files itself.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_shut_nobody_out_and_take_no_more_memory_than_they_have_places() {
    const PLACES: usize = 300;
    const IDLE: usize = 10_000;
    const UNKNOWN: &str = "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n";
    let installation = install("").await;
    let limits = format!("[receiver]\nmax_connections = {PLACES}\nheader_timeout = \"60s\"\nidle_timeout = \"10m\"\n");
    let file = installation.data_dir.path().join("idle.toml");
    std::fs::write(&file, installation.toml.replacen("[receiver]\n", &limits, 1)).unwrap();
    let mut running = Process::start(&file, &["run", "--role", "receiver"], &[]);
    let (at, admin) =
        (running.address(&["the receiver listens"]).await, running.address(&["the admin port listens"]).await);
    running.line(&["role=\"receiver\"", "health: ready"]).await;
    let scheme = &installation.config.sources["accbooks"].scheme;
    let event = |id: String| {
        let body = format!(r#"{{"id":"{id}","type":"invoice.paid"}}"#);
        let signed = signature::sign(scheme, ACCBOOKS_SECRET.as_bytes(), body.as_bytes());
        let head = format!("POST /api/accbooks/webhook HTTP/1.1\r\nhost: x\r\naccbooks-signature: {signed}\r\n");
        format!("{head}content-length: {}\r\n\r\n{body}", body.len())
    };
    let ask = async |stream: &mut TcpStream, request: &str| {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut answer)).await;
        let read = read.expect("an answer in time").expect("an answer");
        String::from_utf8_lossy(&answer[..read]).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let connect = async || TcpStream::connect(&at).await.unwrap();

    // One that uses its connection now and then keeps it, whatever others do.
    let mut kept = connect().await;
    assert_eq!(ask(&mut kept, &event("first".to_owned())).await, "200");
    let before = running.peak_memory();
    let mut held = VecDeque::new();
    let mut slowest = Duration::ZERO;
    for n in 0..IDLE {
        let mut stream = connect().await;
        assert_eq!(ask(&mut stream, UNKNOWN).await, "404");
        held.push_back(stream);
        if held.len() > PLACES {
            let mut oldest = held.pop_front().unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(30), oldest.read_to_end(&mut Vec::new())).await;
            ended.expect("the oldest is ended").expect("in order");
        }
        if n % 100 == 0 {
            assert_eq!(ask(&mut kept, &event(format!("kept-{n}"))).await, "200");
            let begun = tokio::time::Instant::now();
            assert_eq!(ask(&mut connect().await, &event(format!("fresh-{n}"))).await, "200");
            slowest = slowest.max(begun.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let shown = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    let value = |name: &str| {
        let value = shown.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<usize>().ok());
        value.unwrap_or_else(|| panic!("{shown}"))
    };
    let (open, evicted) =
        (value("ledgerhook_receiver_connections "), value("ledgerhook_receiver_connections_evicted_total "));
    let grown = usize::try_from(running.peak_memory() - before).unwrap();
    println!("{IDLE} idle: {open} open, {evicted} evicted, slowest event {slowest:?}, {} KiB more", grown / 1024);
    assert!(open <= PLACES && evicted > IDLE - 2 * PLACES, "{open} {evicted}");
    // 128 KiB for each that has a place, as for slow bodies: of all that were opened, under 4 KiB each.
    let bound = PLACES * 128 * 1024;
    assert!(grown < bound && bound < IDLE * 4 * 1024, "{grown} of {bound}");
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));
}

/// A usual limit of a process is 1,024 files, and `max_connections` is more.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_use_up_all_files_shut_nobody_out() {
    const FILES: usize = 60;
    let installation = install("").await;
    let file = installation.data_dir.path().join("files.toml");
    let toml = installation.toml.replacen("[receiver]\n", "[receiver]\nheader_timeout = \"60s\"\n", 1);
    std::fs::write(&file, toml).unwrap();
    let mut running = Process::start(&file, &["run", "--role", "receiver"], &[]);
    let at = running.address(&["the receiver listens"]).await;
    running.line(&["events go to Kafka"]).await;
    let scheme = &installation.config.sources["accbooks"].scheme;
    let http = || reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
    let send = async |id: &str| {
        let body = format!(r#"{{"id":"{id}","type":"invoice.paid"}}"#);
        let signed = signature::sign(scheme, ACCBOOKS_SECRET.as_bytes(), body.as_bytes());
        let request = http().post(format!("http://{at}/api/accbooks/webhook"));
        request.header(&scheme.header, signed).body(body).send().await.map(|answer| answer.status().as_u16())
    };
    // Its own way to Kafka is open from then on.
    assert_eq!(send("before").await.unwrap(), 200);
    let (id, open) = (running.id().to_string(), std::fs::read_dir(format!("/proc/{}/fd", running.id())).unwrap());
    let limit = format!("--nofile={}", open.count() + FILES);
    let Ok(limited) = std::process::Command::new("prlimit").args(["--pid", &id, &limit]).status() else {
        eprintln!("skipped: no prlimit (Debian: util-linux)");
        return;
    };
    assert!(limited.success());
    let mut idle = Vec::new();
    for _ in 0..4 * FILES {
        idle.push(TcpStream::connect(&at).await.unwrap());
    }
    running.line(&["cannot accept a connection"]).await;
    for n in 0..10 {
        let begun = tokio::time::Instant::now();
        assert_eq!(send(&format!("after-{n}")).await.unwrap(), 200);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: not by waiting for them", begun.elapsed());
    }
    let lines = running.lines(&["cannot accept a connection"]).len();
    println!("{} idle, {FILES} files: said {lines} times", idle.len());
    drop(idle);
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));
}

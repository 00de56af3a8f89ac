//! What the kernel was asked, in which order: `kill -9` alone proves nothing, since the page cache survives it.

use std::process::{Command, Stdio};

use super::{AWAY, RECEIVER, body, post};
use crate::common::process::Process;
use crate::common::{cannot, install};

const EVENTS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_succeeded_stands_before_every_200() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return cannot("no strace (Debian: strace)");
    }
    let here = install("").await;
    let mut running = Process::start(&here.file(), &RECEIVER, &AWAY);
    let receiver = running.address(&["the receiver listens"]).await;
    let log = here.data_dir.path().join("strace.log");
    let pid = running.id().to_string();
    // Large enough strings to see an answer's first line and an event's id.
    let calls = "trace=fdatasync,write,pwrite64,writev,sendto,sendmsg";
    let mut tracer = Command::new("strace")
        .args(["-f", "-s", "400", "-e", calls, "-o", log.to_str().unwrap(), "-p", &pid])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let attached = std::io::BufRead::lines(std::io::BufReader::new(tracer.stderr.take().unwrap())).next();
    let attached = attached.unwrap().unwrap();
    if !attached.contains("attached") {
        tracer.wait().unwrap();
        return cannot(&format!("strace may not attach here: {attached}"));
    }
    for n in 0..EVENTS {
        assert_eq!(post(&here, &receiver, body(&format!("traced-{n}"), 0)).await.0, 200);
    }
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));
    tracer.wait().unwrap();

    let text = std::fs::read_to_string(log).unwrap();
    // Each event: its bytes written to a segment, then a sync that succeeded, then its 200.
    let (mut synced, mut answered) = (0, 0);
    let mut written = None;
    for line in text.lines() {
        if line.contains("pwrite64(") && line.contains("traced-") {
            written = Some(false);
        } else if (line.contains("fdatasync(") || line.contains("fdatasync resumed")) && line.ends_with("= 0") {
            synced += 1;
            written = written.map(|_| true);
        } else if line.contains("HTTP/1.1 200") && line.contains("traced-") {
            assert_eq!(written, Some(true), "an answer before its sync: {line}");
            answered += 1;
            written = None;
        }
    }
    println!("{answered} answers, {synced} syncs, each answer behind the sync of its event");
    assert_eq!(answered, EVENTS, "{text}");
    assert!(synced >= EVENTS);
}

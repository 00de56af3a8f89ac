//! Sends signed events over connections that are kept open, and says how long the answers took.
//!
//! `load ADDRESS PATH SECRET_FILE CONNECTIONS SECONDS RATE FIRST ACCEPTED_FILE`
//!
//! RATE is events per second in an open loop: event n is due at n / RATE, and its time is counted from there, however late
//! a connection became free for it. RATE `max` is a closed loop: each connection sends as soon as it is answered. Event
//! ids count up from FIRST; those answered 2xx go to ACCEPTED_FILE, one number a line.
//!
//! A thread for each connection and three system calls for each event: the generator shares the machine with what it
//! measures, and this is the cheapest that there is. Every time is kept, so that percentiles are exact.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// As long as AccBooks waits.
const DEADLINE: Duration = Duration::from_secs(10);
/// An open loop that cannot keep up ends after this many times its length.
const PATIENCE: f64 = 2.0;
/// Bytes of a body.
const BODY: usize = 1536;

struct Plan {
    address: String,
    path: String,
    mac: Hmac<Sha256>,
    rate: Option<f64>,
    seconds: f64,
    first: u64,
    next: AtomicU64,
    began: Instant,
}

#[derive(Default)]
struct Tally {
    micros: Vec<u32>,
    accepted: Vec<u64>,
    refused: u64,
    unanswered: u64,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, secret, connections, seconds, rate, first, accepted] = args.as_slice() else {
        bail!("load ADDRESS PATH SECRET_FILE CONNECTIONS SECONDS RATE|max FIRST ACCEPTED_FILE")
    };
    let secret = std::fs::read(secret).with_context(|| format!("reading {secret}"))?;
    let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
    let plan = Plan {
        address: address.clone(),
        path: path.clone(),
        mac: Hmac::new_from_slice(secret)?,
        rate: if rate == "max" { None } else { Some(rate.parse().context("RATE")?) },
        seconds: seconds.parse().context("SECONDS")?,
        first: first.parse().context("FIRST")?,
        next: AtomicU64::new(0),
        began: Instant::now(),
    };
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections.parse().context("CONNECTIONS")?)
            .map(|_| std::thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, || connection(&plan)))
            .collect::<Result<_, _>>()?;
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a connection panicked")))
            .collect::<anyhow::Result<_>>()
    })?;
    report(&plan, tallies, accepted)
}

fn report(plan: &Plan, tallies: Vec<Tally>, accepted_file: &str) -> anyhow::Result<()> {
    let seconds = plan.began.elapsed().as_secs_f64();
    let (mut micros, mut lines, mut accepted, mut refused, mut unanswered) = (Vec::new(), String::new(), 0, 0, 0);
    for tally in tallies {
        micros.extend(tally.micros);
        accepted += tally.accepted.len();
        refused += tally.refused;
        unanswered += tally.unanswered;
        lines.extend(tally.accepted.iter().map(|id| format!("{id}\n")));
    }
    std::fs::write(accepted_file, lines).with_context(|| format!("writing {accepted_file}"))?;
    micros.sort_unstable();
    let percentile = |percent: usize| {
        let rank = (micros.len() * percent).div_ceil(100).saturating_sub(1);
        micros.get(rank).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    };
    println!(
        "sent={} accepted={accepted} refused={refused} unanswered={unanswered} seconds={seconds:.2} rate={:.0} p50={:.1} p90={:.1} p99={:.1} max={:.1}",
        plan.next.load(Ordering::Relaxed),
        accepted as f64 / seconds,
        percentile(50),
        percentile(90),
        percentile(99),
        percentile(100),
    );
    Ok(())
}

/// One connection's part: takes the next event, waits until it is due, sends it, waits for the answer.
fn connection(plan: &Plan) -> Tally {
    let mut tally = Tally::default();
    let mut stream = None;
    let mut request = Vec::with_capacity(4096);
    let mut answer = Vec::with_capacity(4096);
    let planned = plan.rate.map(|rate| (rate * plan.seconds) as u64);
    let end = if planned.is_some() { plan.seconds * PATIENCE } else { plan.seconds };
    while plan.began.elapsed().as_secs_f64() < end {
        let event = plan.next.fetch_add(1, Ordering::Relaxed);
        if planned.is_some_and(|planned| event >= planned) {
            plan.next.fetch_sub(1, Ordering::Relaxed);
            break;
        }
        let due = match plan.rate {
            Some(rate) => plan.began + Duration::from_secs_f64(event as f64 / rate),
            None => Instant::now(),
        };
        if let wait @ 1.. = due.saturating_duration_since(Instant::now()).as_micros() {
            std::thread::sleep(Duration::from_micros(wait as u64));
        }
        write_request(plan, plan.first + event, &mut request);
        match exchange(&plan.address, &mut stream, &request, &mut answer) {
            Ok(status) => {
                tally.micros.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                if (200..300).contains(&status) {
                    tally.accepted.push(plan.first + event);
                } else {
                    tally.refused += 1;
                }
            }
            Err(_) => {
                stream = None;
                tally.unanswered += 1;
            }
        }
    }
    tally
}

/// An invoice of AccBooks with a few dozen members, as an accountant's would have.
fn write_request(plan: &Plan, id: u64, request: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(BODY + 256);
    let _ = write!(
        body,
        r#"{{"id":"evt_{id:012}","type":"invoice.created","created_at":"2026-05-02T09:14:03Z","data":{{"invoice_id":"inv_{id:012}","customer_id":"cust_{:06}","amount":{}.40,"currency":"GBP","issued_at":"2026-05-02T09:14:02Z","lines":["#,
        id % 100_000,
        1000 + id % 9000,
    );
    for line in 1.. {
        let _ = write!(
            body,
            r#"{{"line":{line},"sku":"AB-{:04}","text":"Paper, white, 80 g","quantity":{line},"unit_price":12.10,"tax":0.20}}"#,
            id % 9000 + line
        );
        // Room for one more of at most 104 bytes, and for what closes the body.
        if body.len() + 120 > BODY {
            break;
        }
        body.push(b',');
    }
    body.extend_from_slice(br#"],"note":""#);
    body.resize(BODY - 4, b'.');
    body.extend_from_slice(br#""}}"#);
    body.push(b'\n');
    let signature = hex::encode(plan.mac.clone().chain_update(&body).finalize().into_bytes());
    request.clear();
    let _ = write!(
        request,
        "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: AccBooks-Webhooks/1.0\r\ncontent-type: application/json\r\naccbooks-signature: sha256={signature}\r\ncontent-length: {}\r\n\r\n",
        plan.path,
        plan.address,
        body.len()
    );
    request.extend_from_slice(&body);
}

/// Sends a request and reads its whole answer; the status.
fn exchange(
    address: &str,
    stream: &mut Option<TcpStream>,
    request: &[u8],
    answer: &mut Vec<u8>,
) -> anyhow::Result<u16> {
    let stream = match stream {
        Some(stream) => stream,
        None => {
            let fresh = TcpStream::connect(address)?;
            fresh.set_nodelay(true)?;
            fresh.set_read_timeout(Some(DEADLINE))?;
            stream.insert(fresh)
        }
    };
    stream.write_all(request)?;
    answer.clear();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "the connection ended");
        answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?.to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("no length in the answer")?.trim().parse()?;
        if answer.len() >= head + 4 + length {
            ensure!(!text.contains("\r\nconnection: close"), "the server ends the connection");
            return Ok(text.split(' ').nth(1).context("no status")?.parse()?);
        }
    }
}

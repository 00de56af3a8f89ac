//! The target: takes each record after a while, answers 500 for poisoned keys, and knows what came when.
//!
//! `target ADDRESS LATENCY_MS`, then over HTTP:
//!
//! | | |
//! |---|---|
//! | `/_begin?first=N&records=N&keys=N&crowded=N&poisoned=N&earlier=N` | forgets everything; records are expected by number; the first keys may be poisoned, and all records below `first` refused, where `earlier` is 1 |
//! | `/_until?arrived=N&taken=N&seconds=N` | answers when so many different records came and were taken, or after that time |
//! | `/_report` | `wanted`: records of keys that are not poisoned; `arrived`: different records, `refused` ones included; `taken`: without those; `refusals`: requests refused, of earlier records too; `repeats`: requests of a record that it had taken before; `inversions`: an earlier record of its key came after it, or was still under way; `in_flight`: mean between the first and the last arrival of a record that is not refused, and the most; `seconds` between those; `gap`: the longest time without one |
//! | `/_arrivals` | of each record by number, when it came first, in microseconds since 1970; 0: never |

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::Bytes;
use delivery_parts::Keys;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use router_parts::number;
use tokio::net::TcpListener;

/// Between two looks of a caller that waits.
const EVERY: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Seen {
    first: u64,
    keys: Option<Keys>,
    poisoned: u64,
    /// Whether records of earlier runs are refused.
    earlier: bool,
    /// By number: when it came first, and whether it was taken.
    records: Vec<(u64, bool)>,
    /// By key: the highest number that came, and how many are under way.
    lanes: Vec<(Option<u64>, u32)>,
    arrived: u64,
    refused: u64,
    refusals: u64,
    repeats: u64,
    inversions: u64,
    in_flight: u64,
    most: u64,
    /// Sum of the times of all requests.
    busy: Duration,
    began: Option<Instant>,
    last: Option<Instant>,
    gap: Duration,
}

type Shared = Arc<Mutex<Seen>>;

/// A record under way; its end counts however it ends.
struct UnderWay {
    seen: Shared,
    key: Option<usize>,
    since: Instant,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut seen = lock(&self.seen);
        seen.in_flight = seen.in_flight.saturating_sub(1);
        seen.busy += self.since.elapsed();
        if let Some(lane) = self.key.and_then(|key| seen.lanes.get_mut(key)) {
            lane.1 = lane.1.saturating_sub(1);
        }
    }
}

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn begin(&mut self, asked: &HashMap<&str, u64>) {
        let of = |name: &str| asked.get(name).copied().unwrap_or(0);
        let keys = Keys { all: of("keys").max(1), crowded: of("crowded") };
        *self = Self {
            first: of("first"),
            keys: Some(keys),
            poisoned: of("poisoned"),
            earlier: of("earlier") == 1,
            records: vec![(0, false); of("records") as usize],
            lanes: vec![(None, 0); keys.all as usize],
            ..Self::default()
        };
    }

    /// Notes an arrival; whether it is refused, and the key where it is one that is expected.
    fn arrive(&mut self, n: u64) -> Option<(bool, Option<usize>)> {
        let now = Instant::now();
        let key = self.keys?.of(n);
        let poisoned = key < self.poisoned;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_micros() as u64);
        self.in_flight += 1;
        self.most = self.most.max(self.in_flight);
        // Of an earlier run.
        let Some(record) = n.checked_sub(self.first).and_then(|n| self.records.get_mut(n as usize)) else {
            let refused = self.earlier && n < self.first;
            self.refusals += u64::from(refused);
            return Some((refused, None));
        };
        self.refusals += u64::from(poisoned);
        if record.0 == 0 {
            record.0 = at;
            self.arrived += 1;
            self.refused += u64::from(poisoned);
        } else if record.1 {
            self.repeats += 1;
        }
        record.1 |= !poisoned;
        let lane = self.lanes.get_mut(key as usize)?;
        self.inversions += u64::from(lane.1 > 0 || lane.0.is_some_and(|highest| n < highest));
        *lane = (lane.0.max(Some(n)), lane.1 + 1);
        // What is refused comes again as long as the run lasts, and says nothing of how fast the others come.
        if !poisoned {
            self.began.get_or_insert(now);
            if let Some(last) = self.last.replace(now) {
                self.gap = self.gap.max(now - last);
            }
        }
        Some((poisoned, Some(key as usize)))
    }

    const fn taken(&self) -> u64 {
        self.arrived - self.refused
    }

    fn report(&self) -> String {
        let records = self.first..self.first + self.records.len() as u64;
        let is_wanted = |n: &u64| self.keys.is_some_and(|keys| keys.of(*n) >= self.poisoned);
        let seconds = self.began.zip(self.last).map_or(0.0, |(began, last)| (last - began).as_secs_f64());
        format!(
            "wanted={} arrived={} refused={} taken={} refusals={} repeats={} inversions={} in_flight={:.0} most={} seconds={seconds:.2} gap={:.1}\n",
            records.filter(is_wanted).count(),
            self.arrived,
            self.refused,
            self.taken(),
            self.refusals,
            self.repeats,
            self.inversions,
            self.busy.as_secs_f64() / seconds.max(0.001),
            self.most,
            self.gap.as_secs_f64()
        )
    }
}

async fn answer(request: Request<Incoming>, seen: Shared, latency: Duration) -> anyhow::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    body.collect().await?;
    let said = |status: u16, text: String| Ok(Response::builder().status(status).body(Full::new(text.into()))?);
    if head.method == "POST" {
        let id = head.headers.get("webhook-id").context("a record without its id")?;
        let n = number(id.as_bytes()).context("a record of a strange id")?;
        let Some((poisoned, key)) = lock(&seen).arrive(n) else { return said(503, String::new()) };
        let _under_way = UnderWay { seen, key, since: Instant::now() };
        tokio::time::sleep(latency).await;
        return said(if poisoned { 500 } else { 200 }, String::new());
    }
    let asked: HashMap<&str, u64> = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?))))
        .collect();
    match head.uri.path() {
        "/_begin" => lock(&seen).begin(&asked),
        "/_until" => {
            let until = Instant::now() + Duration::from_secs(asked.get("seconds").copied().unwrap_or(60));
            let of = |name: &str| asked.get(name).copied().unwrap_or(0);
            let (arrived, taken) = (of("arrived"), of("taken"));
            let is_there = |seen: &Seen| seen.arrived >= arrived && seen.taken() >= taken;
            while !is_there(&lock(&seen)) && Instant::now() < until {
                tokio::time::sleep(EVERY).await;
            }
        }
        "/_arrivals" => {
            let mut text = String::new();
            for (at, _) in &lock(&seen).records {
                writeln!(text, "{at}")?;
            }
            return said(200, text);
        }
        "/_report" => {}
        _ => return said(404, String::new()),
    }
    let report = lock(&seen).report();
    said(200, report)
}

#[tokio::main]
async fn main() -> anyhow::Result<Infallible> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, latency] = args.as_slice() else { anyhow::bail!("target ADDRESS LATENCY_MS") };
    let latency = Duration::from_millis(latency.parse()?);
    let listener = TcpListener::bind(address).await?;
    let seen = Shared::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&seen), latency));
            // A client that was killed ends its connections in any state.
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

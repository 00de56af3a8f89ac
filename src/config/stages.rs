//! One section per stage: `[receiver]`, `[router]`, `[delivery]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::ranges::{self, IpRanges};
use super::reader::Reader;
use super::spool::Spool;
use super::tls::Tls;

/// `[receiver]`: the HTTP side towards the providers.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Address for webhooks, `/healthz` and `/readyz`. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Longest time from an open connection, or the last answer on it, to the end of a request's headers; TLS
    /// handshake included.
    pub header_timeout: Duration,
    /// Longest time from the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// How long an idle connection is kept open.
    pub idle_timeout: Duration,
    /// Largest request head in bytes.
    pub max_header_bytes: usize,
    /// Requests with their bodies in memory at one time; beyond it the answer is 503.
    pub max_in_flight: usize,
    /// Open connections at one time; beyond it one without a request is ended for each that comes.
    pub max_connections: usize,
    /// How long the Kafka producer waits for more events to fill a batch. Part of every acknowledgement's time.
    pub linger: Duration,
    /// Peers that say whom they forward for.
    pub trusted_proxies: IpRanges,
    /// TLS; without it plain HTTP is spoken.
    pub tls: Option<Tls>,
    /// `[receiver.spool]`.
    pub spool: Spool,
}

/// `[router]`: deduplication and mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// How long an event's id is remembered; at least 8 days.
    pub dedupe_window: Duration,
    /// Most events of one transaction.
    pub batch_events: usize,
    /// How long a transaction waits for more events.
    pub batch_wait: Duration,
    /// After this long the broker aborts an unfinished transaction.
    pub transaction_timeout: Duration,
}

/// `[delivery]`: how progress towards the targets is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Longest time between two commits of progress.
    pub commit_every: Duration,
    /// Most finished records between two commits of progress.
    pub commit_records: usize,
    /// Records held in memory for one target, and never more than 64 MiB of them as they stand in Kafka.
    pub read_ahead: usize,
    /// Time before the deletion of an open record by retention from which on a warning is logged; zero is never.
    pub retention_warning: Duration,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

impl Receiver {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let receiver = Self {
            listen: r.listen("listen"),
            header_timeout: r.duration("header_timeout", SECOND..=60 * SECOND),
            body_timeout: r.duration("body_timeout", SECOND..=300 * SECOND),
            idle_timeout: r.duration("idle_timeout", SECOND..=3_600 * SECOND),
            max_header_bytes: size(r.size("max_header_bytes", 1 << 13..=1 << 18, "")),
            max_in_flight: r.number("max_in_flight", 1..=65_536),
            max_connections: r.number("max_connections", 1..=65_536),
            // A whole second of the shortest deadline (5 s) is already a lot to spend on waiting.
            linger: r.duration("linger", Duration::ZERO..=SECOND),
            trusted_proxies: IpRanges::new(r.items("trusted_proxies", ranges::range)),
            tls: r.optional_section("tls").and_then(Tls::read),
            spool: Spool::read(r.section("spool")),
        };
        r.finish();
        receiver
    }
}

impl Router {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let router = Self {
            // AccBooks lets people repeat an event by hand for 7 days: a shorter window would route it again.
            dedupe_window: r.duration("dedupe_window", 8 * DAY..=400 * DAY),
            batch_events: r.number("batch_events", 1..=10_000),
            batch_wait: r.duration("batch_wait", MILLISECOND..=10 * SECOND),
            // Brokers refuse more than their transaction.max.timeout.ms, 15 minutes unless set otherwise.
            transaction_timeout: r.duration("transaction_timeout", SECOND..=900 * SECOND),
        };
        r.finish();
        router
    }
}

impl Delivery {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let delivery = Self {
            commit_every: r.duration("commit_every", 10 * MILLISECOND..=60 * SECOND),
            commit_records: r.number("commit_records", 1..=100_000),
            read_ahead: r.number("read_ahead", 1..=1_000_000),
            retention_warning: r.duration("retention_warning", Duration::ZERO..=365 * DAY),
        };
        r.finish();
        delivery
    }
}

/// Sizes in memory are bounded far below what any platform's `usize` holds.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

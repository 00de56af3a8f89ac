//! A way to a broker that can be as one that was frozen: silent, and then fenced, when it names no broker, not even itself.
//! Or as one that has just become leader, and tells of an end as it was; or that refuses what it would take.
//!
//! A real broker is so for a moment that no test can choose. Frames are those of [the protocol
//! guide](https://kafka.apache.org/protocol#protocol_messages); only where answers say the broker is
//! is changed, and offsets where a test says so.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Well,
    /// Answers nothing, and takes connections.
    Silent,
    /// Answers, and names no broker.
    Fenced,
}

/// Number of the request for records.
pub(crate) const FETCH: i16 = 1;
/// Number of the request for offsets.
pub(crate) const LIST_OFFSETS: i16 = 2;
/// What stands before the offset in an answer about an end: the time of no record.
pub(crate) const NO_TIME: i64 = -1;
/// Number of the request for metadata.
const METADATA: i16 = 3;
/// Number of the request that adds a group's offsets to a transaction.
pub(crate) const TXN_OFFSET_COMMIT: i16 = 28;
/// Number of the request for a group's or a transactional id's broker.
const FIND_COORDINATOR: i16 = 10;
/// From this version on the answer about metadata is of the flexible form: tagged fields, compact arrays and strings.
const FLEXIBLE: i16 = 9;

/// The way to one broker that is a cluster by itself.
pub(crate) struct Fenced {
    /// What a client is told of as the broker.
    pub(crate) address: String,
    mode: watch::Sender<Mode>,
    /// How many answers named no broker.
    named_none: Arc<Mutex<u64>>,
    others: Others,
}

/// Bytes of an answer to a request of this number, and what to put in their place, in so many answers.
#[derive(Debug)]
struct Other {
    times: usize,
    request: i16,
    told: Vec<u8>,
    instead: Vec<u8>,
}

type Others = Arc<Mutex<Vec<Other>>>;
/// Number and version of requests by their own number.
type Asked = Arc<Mutex<HashMap<i32, (i16, i16)>>>;

impl Fenced {
    /// Before the broker at this address.
    pub(crate) async fn before(broker: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, seen) = watch::channel(Mode::Well);
        let (named_none, others) = (Arc::<Mutex<u64>>::default(), Others::default());
        tokio::spawn(accept(listener, port, broker.to_owned(), seen, Arc::clone(&named_none), Arc::clone(&others)));
        Self { address: format!("127.0.0.1:{port}"), mode, named_none, others }
    }

    /// In the next so many answers to such a request that have these numbers in a row: others in their place.
    pub(crate) fn tell<const N: usize>(&self, times: usize, request: i16, told: [i64; N], instead: [i64; N]) {
        let bytes = |numbers: [i64; N]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        self.say(times, request, bytes(told), bytes(instead));
    }

    /// In the next so many answers to such a request that have these bytes: others in their place, as many.
    pub(crate) fn say(&self, times: usize, request: i16, told: Vec<u8>, instead: Vec<u8>) {
        assert_eq!(told.len(), instead.len());
        self.others.lock().unwrap().push(Other { times, request, told, instead });
    }

    /// Whether everything was told that was to be told.
    pub(crate) fn told(&self) -> bool {
        self.others.lock().unwrap().iter().all(|other| other.times == 0)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many answers named no broker.
    pub(crate) fn named_none(&self) -> u64 {
        *self.named_none.lock().unwrap()
    }
}

async fn accept(
    listener: TcpListener,
    port: u16,
    broker: String,
    mode: watch::Receiver<Mode>,
    named_none: Arc<Mutex<u64>>,
    others: Others,
) {
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(&broker).await.unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let asked = Asked::default();
        tokio::spawn(requests(from_client, to_server, Arc::clone(&asked)));
        let (named_none, others) = (Arc::clone(&named_none), Arc::clone(&others));
        tokio::spawn(answers(from_server, to_client, asked, port, mode.clone(), named_none, others));
    }
}

/// One frame, without its length.
async fn frame(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn send(to: &mut OwnedWriteHalf, frame: &[u8]) -> Option<()> {
    to.write_i32(i32::try_from(frame.len()).unwrap()).await.ok()?;
    to.write_all(frame).await.ok()
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Asked) {
    while let Some(frame) = frame(&mut from).await {
        let mut head = Reader(&frame);
        let (key, version, number) = (head.i16(), head.i16(), head.i32());
        if matches!(key, FETCH | LIST_OFFSETS | METADATA | FIND_COORDINATOR | TXN_OFFSET_COMMIT) {
            asked.lock().unwrap().insert(number, (key, version));
        }
        if send(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Asked,
    port: u16,
    mut mode: watch::Receiver<Mode>,
    named_none: Arc<Mutex<u64>>,
    others: Others,
) {
    while let Some(mut frame) = frame(&mut from).await {
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Silent).await.map(|mode| *mode) else { return };
        let asked = asked.lock().unwrap().remove(&Reader(&frame).i32());
        match asked {
            Some((METADATA, version)) => {
                let is_fenced = now == Mode::Fenced;
                frame = with_brokers(&frame, version, (!is_fenced).then_some(port));
                *named_none.lock().unwrap() += u64::from(is_fenced);
            }
            Some((FIND_COORDINATOR, version)) => {
                assert!(version < 3, "this client asks in version {version}");
                // Its port is the last of it, -1 where there is none.
                if let Some((_, at)) = frame.split_last_chunk_mut::<4>().filter(|(_, at)| i32::from_be_bytes(**at) > 0)
                {
                    *at = i32::from(port).to_be_bytes();
                }
            }
            Some((request, _)) => tell_other(&mut frame, request, &others),
            None => {}
        }
        if send(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

/// Puts other numbers in the place of the first that are there.
fn tell_other(frame: &mut [u8], request: i16, others: &Others) {
    for other in others.lock().unwrap().iter_mut().filter(|other| other.request == request && other.times > 0) {
        if let Some(at) = frame.windows(other.told.len()).position(|bytes| bytes == other.told) {
            frame[at..at + other.told.len()].copy_from_slice(&other.instead);
            other.times -= 1;
            return;
        }
    }
}

/// An answer about metadata whose one broker is at this port, or that names none.
fn with_brokers(frame: &[u8], version: i16, port: Option<u16>) -> Vec<u8> {
    assert!(version >= FLEXIBLE, "this client asks in version {version}");
    let mut reader = Reader(frame);
    reader.skip(4);
    reader.tags();
    reader.skip(4);
    let mut out = frame[..frame.len() - reader.0.len()].to_vec();
    let count = reader.varint() - 1;
    assert_eq!(count, 1, "a lone broker names itself");
    let node = reader.i32();
    let length = reader.varint() - 1;
    reader.skip(length);
    reader.skip(4);
    let rack = reader.varint();
    reader.skip(rack.saturating_sub(1));
    reader.tags();
    match port {
        None => out.push(1),
        Some(port) => {
            let host = b"127.0.0.1";
            out.push(2);
            out.extend(node.to_be_bytes());
            out.push(u8::try_from(host.len() + 1).unwrap());
            out.extend(host);
            out.extend(i32::from(port).to_be_bytes());
            // No rack, no tagged fields.
            out.extend([0, 0]);
        }
    }
    out.extend(reader.0);
    out
}

/// Reads the protocol's primitive types.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk::<N>().unwrap();
        self.0 = rest;
        *taken
    }

    fn skip(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take();
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn tags(&mut self) {
        for _ in 0..self.varint() {
            self.varint();
            let bytes = self.varint();
            self.skip(bytes);
        }
    }
}

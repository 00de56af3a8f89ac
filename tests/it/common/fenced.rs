//! A way to a broker that can be as one that was frozen: silent, and then fenced, when it names no broker, not even itself.
//!
//! A real broker is fenced for a moment that no test can choose. Frames are those of [the protocol
//! guide](https://kafka.apache.org/protocol#protocol_messages); only the list of brokers in answers about metadata is
//! changed.

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

/// Number of the request for metadata.
const METADATA: i16 = 3;
/// From this version on its answer is of the flexible form: tagged fields, compact arrays and strings.
const FLEXIBLE: i16 = 9;

/// The way to one broker that is a cluster by itself.
pub(crate) struct Fenced {
    /// What a client is told of as the broker.
    pub(crate) address: String,
    mode: watch::Sender<Mode>,
    /// How many answers named no broker.
    named_none: Arc<Mutex<u64>>,
}

impl Fenced {
    /// Before the broker at this address.
    pub(crate) async fn before(broker: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, seen) = watch::channel(Mode::Well);
        let named_none = Arc::<Mutex<u64>>::default();
        tokio::spawn(accept(listener, port, broker.to_owned(), seen, Arc::clone(&named_none)));
        Self { address: format!("127.0.0.1:{port}"), mode, named_none }
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
) {
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(&broker).await.unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // Version of each request for metadata by its number.
        let asked = Arc::<Mutex<HashMap<i32, i16>>>::default();
        tokio::spawn(requests(from_client, to_server, Arc::clone(&asked)));
        tokio::spawn(answers(from_server, to_client, asked, port, mode.clone(), Arc::clone(&named_none)));
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

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Arc<Mutex<HashMap<i32, i16>>>) {
    while let Some(frame) = frame(&mut from).await {
        let mut head = Reader(&frame);
        let (key, version, number) = (head.i16(), head.i16(), head.i32());
        if key == METADATA {
            asked.lock().unwrap().insert(number, version);
        }
        if send(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Arc<Mutex<HashMap<i32, i16>>>,
    port: u16,
    mut mode: watch::Receiver<Mode>,
    named_none: Arc<Mutex<u64>>,
) {
    while let Some(mut frame) = frame(&mut from).await {
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Silent).await.map(|mode| *mode) else { return };
        let version = asked.lock().unwrap().remove(&Reader(&frame).i32());
        if let Some(version) = version {
            let is_fenced = now == Mode::Fenced;
            frame = with_brokers(&frame, version, (!is_fenced).then_some(port));
            *named_none.lock().unwrap() += u64::from(is_fenced);
        }
        if send(&mut to, &frame).await.is_none() {
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

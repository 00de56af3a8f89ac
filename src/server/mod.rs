//! Connections of an HTTP server: accepted, bounded in number, time and size, drained on stop. HTTP/1.1 and HTTP/2,
//! plain or by TLS, where ALPN offers both; which one it is, is told by what the client begins with.
//!
//! It answers nothing itself but what hyper does: 431 for a head over the limit, 400 for one that is no HTTP. A [`Watch`]
//! hears of these in HTTP/1; in HTTP/2 such a head costs its own stream alone, and hyper tells nobody.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | accepts connections, and waits for their end |
//! | `connection` | one of them: handshake, requests, idleness, last words |
//! | `activity` | whether anything happens on it |
//! | `room` | places for connections, and who gives one up |
//! | `tls` | what a handshake is made with |
//! | `client` | whose certificate a client showed |

mod activity;
pub mod client;
mod connection;
mod room;
pub mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use client::ClientCertificate;
use connection::Accepted;
use room::Room;

/// Longest pause after a failed accept, and between two log lines of it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of a server's connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time to the end of a request's head; for the first one from the accepted connection on, TLS handshake
    /// included.
    pub header_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// Largest request head in bytes.
    pub max_header_bytes: usize,
    /// Open connections at one time; beyond it one that has no request is ended for each that comes.
    pub max_connections: usize,
}

/// Hears of connections beside their requests.
pub trait Watch: Send + Sync + 'static {
    /// So many are open now.
    fn open(&self, _connections: usize) {}

    /// One without a request is ended, so that another can be taken.
    fn asked_to_go(&self) {}

    /// What came in on a connection from there was no request, and was answered without anybody's doing.
    fn no_request(&self, _peer: SocketAddr, _why: NoRequest) {}
}

/// Nobody hears of them.
impl Watch for () {}

/// Why what came in was no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// 400: it is no HTTP.
    Malformed,
    /// 431, or 414: its head has no end within the limit.
    HeadTooLarge,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its address.
    pub address: SocketAddr,
    /// The certificate it showed, where one was asked for.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// What can answer the requests of one connection.
pub trait Answers:
    Service<Request<Incoming>, Response: Send, Error = Infallible, Future: Send> + Send + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Incoming>, Response: Send, Error = Infallible, Future: Send> + Send + 'static
{
}

/// What connections are made with at this moment: asked anew for each, so that a certificate changes for those to come
/// and for no other. None: plain HTTP.
pub trait Handshake: Fn() -> Option<tls::Settings> + Send {}

impl<F: Fn() -> Option<tls::Settings> + Send> Handshake for F {}

/// No TLS.
pub fn plain() -> Option<tls::Settings> {
    None
}

/// Serves until told to stop, each connection by what `welcome` makes for its other end; then accepts no more, lets what is
/// in flight finish within `budget`, and returns. Errors of single connections and of accepting never end it.
pub async fn serve<S, B>(
    listener: TcpListener,
    limits: Limits,
    handshake: impl Handshake,
    stop: &CancellationToken,
    budget: Duration,
    watch: Arc<dyn Watch>,
    welcome: impl Fn(Caller) -> S + Clone + Send + 'static,
) where
    S: Answers + Service<Request<Incoming>, Response = Response<B>>,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let room = Room::new(limits.max_connections, watch);
    let mut connections = JoinSet::new();
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                ended.unwrap_or_else(|error| tracing::error!(%error, "a connection's task ended badly"));
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= ACCEPT_PAUSE) {
                    tracing::warn!(%error, "cannot accept a connection");
                    complained = Some(Instant::now());
                }
                // Mostly a lack of file descriptors: another connection has to be closed first.
                room.spare_one(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Accepted before there is a place for it: nobody has to go before somebody comes.
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = room.place() => place,
        };
        let (welcome, stop, tls) = (welcome.clone(), stop.clone(), handshake());
        let accepted = Accepted { stream, peer, place };
        connections.spawn(async move { connection::run(accepted, tls, limits, &stop, budget, welcome).await });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout_at(Instant::now() + budget, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), ?budget, "connections cut: not finished within the budget");
        connections.shutdown().await;
    }
}

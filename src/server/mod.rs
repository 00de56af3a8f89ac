//! Connections of an HTTP server: accepted, bounded in number, time and size, drained on stop. HTTP/1.1 and HTTP/2,
//! plain or by TLS, where ALPN offers both; which one it is, is told by what the client begins with.
//!
//! It answers nothing itself but what hyper does: 431 for a head over the limit, 400 for one that is no HTTP.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | accepts connections, and waits for their end |
//! | `connection` | one of them: handshake, requests, idleness, last words |
//! | `activity` | whether anything happens on it |
//! | `tls` | what a handshake is made with |
//! | `client` | whose certificate a client showed |

mod activity;
pub mod client;
mod connection;
pub mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use client::ClientCertificate;

/// Pause after a failed accept, which is mostly a lack of file descriptors: others have to be closed first.
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
    /// Open connections at one time; beyond it none is accepted.
    pub max_connections: usize,
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
    welcome: impl Fn(Caller) -> S + Clone + Send + 'static,
) where
    S: Answers + Service<Request<Incoming>, Response = Response<B>>,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                ended.unwrap_or_else(|error| tracing::error!(%error, "a connection's task ended badly"));
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Some((stream, peer, place)) => {
                let (welcome, stop) = (welcome.clone(), stop.clone());
                let tls = handshake();
                connections.spawn(async move {
                    connection::run(stream, peer, tls, limits, &stop, budget, welcome).await;
                    drop(place);
                });
            }
            None => sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout_at(Instant::now() + budget, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), ?budget, "connections cut: not finished within the budget");
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            None
        }
    }
}

//! Connections of an HTTP server: accepted, bounded in number, time and size, drained on stop. HTTP/1.1, and HTTP/2
//! where the client starts with it.
//!
//! It answers nothing itself but what hyper does: 431 for a head over the limit, 400 for one that is no HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Pause after a failed accept, which is mostly a lack of file descriptors: others have to be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that is closed for idleness may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Requests at one time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// hyper takes no smaller buffer for a request's head.
const MIN_HEAD_BYTES: usize = 8192;
/// An HTTP/2 peer that is gone without a word is noticed after twice this long.
const PING: Duration = Duration::from_secs(20);

/// Bounds of a server's connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time to the end of a request's head.
    pub header_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// Largest request head in bytes.
    pub max_header_bytes: usize,
    /// Open connections at one time; beyond it none is accepted.
    pub max_connections: usize,
}

/// The other end of the connection; an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What can answer the requests of many connections.
pub trait Answers:
    Service<Request<Incoming>, Response: Send, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Incoming>, Response: Send, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Serves until told to stop; then accepts no more, lets what is in flight finish within `budget`, and returns.
/// Errors of single connections and of accepting never end it.
pub async fn serve<S, B>(listener: TcpListener, limits: Limits, stop: &CancellationToken, budget: Duration, service: S)
where
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
                let (service, stop) = (service.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, limits, &stop, budget, service).await;
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

async fn connection<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    limits: Limits,
    stop: &CancellationToken,
    budget: Duration,
    service: S,
) where
    S: Answers + Service<Request<Incoming>, Response = Response<B>>,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    // Answers are small and awaited: never held back to fill a packet. Without it they are only slower.
    drop(stream.set_nodelay(true));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // A sender that says it sends no more still reads; and work begun for one that is gone is finished.
        .half_close(true)
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_header_bytes.max(MIN_HEAD_BYTES));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let activity = Arc::new(Activity::new());
    let tracked = Tracked { service, peer, activity: Arc::clone(&activity) };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), tracked));
    let mut cut: Option<Instant> = None;
    loop {
        let wake = cut.unwrap_or_else(|| activity.look_again(&limits));
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "connection broken");
                }
                return;
            }
            () = stop.cancelled(), if cut.is_none() => {
                connection.as_mut().graceful_shutdown();
                cut = Some(Instant::now() + budget);
            }
            () = sleep_until(wake) => {
                if cut.is_some() {
                    return;
                }
                if activity.is_idle(&limits) {
                    connection.as_mut().graceful_shutdown();
                    cut = Some(Instant::now() + LAST_WORDS);
                }
            }
        }
    }
}

/// Whether anything happens on a connection. hyper bounds an HTTP/1 head, but neither the time before it knows which
/// HTTP is spoken nor an idle HTTP/2 connection.
struct Activity(Mutex<State>);

struct State {
    in_flight: usize,
    answered: bool,
    since: Instant,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State { in_flight: 0, answered: false, since: Instant::now() }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again(&self, limits: &Limits) -> Instant {
        let state = self.lock();
        let from = if state.in_flight > 0 { Instant::now() } else { state.since };
        from + if state.answered { limits.idle_timeout } else { limits.header_timeout }
    }

    fn is_idle(&self, limits: &Limits) -> bool {
        self.lock().in_flight == 0 && self.look_again(limits) <= Instant::now()
    }
}

struct InFlight(Arc<Activity>);

impl InFlight {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.lock().in_flight += 1;
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.answered = true;
        state.since = Instant::now();
    }
}

struct Tracked<S> {
    service: S,
    peer: SocketAddr,
    activity: Arc<Activity>,
}

impl<S: Answers> Service<Request<Incoming>> for Tracked<S> {
    type Response = S::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::new(&self.activity);
        request.extensions_mut().insert(Peer(self.peer));
        let service = self.service.clone();
        Box::pin(async move {
            let answer = service.call(request).await;
            drop(in_flight);
            answer
        })
    }
}

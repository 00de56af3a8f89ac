//! One connection: its handshake, its requests, the silence between them, and its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, InFlight};
use super::room::Place;
use super::tls::Settings;
use super::{Answers, Caller, Limits, NoRequest};

/// How long a connection that is closed for idleness may take to say so, and a handshake at the time of the stop to end.
/// One whose place is wanted has no such time: a stranger's would take it as often as it comes.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Requests at one time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// hyper takes no smaller buffer for a request's head.
const MIN_HEAD_BYTES: usize = 8192;
/// An HTTP/2 peer that is gone without a word is noticed after twice this long.
const PING: Duration = Duration::from_secs(20);

/// A connection that was just accepted.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
}

/// Serves one connection to its end.
pub(super) async fn run<S, B>(
    Accepted { stream, peer, place }: Accepted,
    tls: Option<Settings>,
    limits: Limits,
    stop: &CancellationToken,
    budget: Duration,
    welcome: impl FnOnce(Caller) -> S,
) where
    S: Answers + Service<Request<Incoming>, Response = Response<B>>,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    // Answers are small and awaited: never held back to fill a packet. Without it they are only slower.
    drop(stream.set_nodelay(true));
    let activity = Arc::new(Activity::new(place));
    let Some(tls) = tls else {
        let service = welcome(Caller { address: peer, certificate: None });
        return converse(stream, peer, Tracked { service, activity }, limits, stop, budget).await;
    };
    let until = activity.look_again(&limits);
    // A handshake at the time of the stop may still end, so that its client reads that nothing is taken any more; one
    // that nobody goes on with must not hold up the end.
    let hurry = async {
        stop.cancelled().await;
        sleep(LAST_WORDS).await;
    };
    let made = tokio::select! {
        made = timeout_at(until, tls.accept(stream)) => made,
        () = hurry => return,
        () = activity.asked_to_go() => return,
    };
    match made {
        Ok(Ok((stream, certificate))) => {
            let service = welcome(Caller { address: peer, certificate: certificate.map(Arc::new) });
            converse(stream, peer, Tracked { service, activity }, limits, stop, budget).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS connection"),
        Err(_) => tracing::debug!(%peer, "no TLS connection in time"),
    }
}

async fn converse<S, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    tracked: Tracked<S>,
    limits: Limits,
    stop: &CancellationToken,
    budget: Duration,
) where
    S: Answers + Service<Request<Incoming>, Response = Response<B>>,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
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
    let activity = Arc::clone(&tracked.activity);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), tracked));
    let mut end = End::Open;
    loop {
        let wake = match end {
            End::Open => activity.look_again(&limits),
            End::Quiet(at) | End::Cut(at) => at,
        };
        tokio::select! {
            // The connection first: what it was told, and what came in, is seen before it is cut.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    if let Some(why) = no_request(&*error) {
                        activity.room().watch().no_request(peer, why);
                    }
                    tracing::debug!(%peer, error, "connection broken");
                }
                return;
            }
            () = stop.cancelled(), if matches!(end, End::Open) => {
                connection.as_mut().graceful_shutdown();
                end = End::Cut(Instant::now() + budget);
            }
            () = activity.asked_to_go(), if matches!(end, End::Open) => {
                connection.as_mut().graceful_shutdown();
                end = End::Quiet(Instant::now());
            }
            () = sleep_until(wake) => match end {
                End::Open if activity.is_idle(&limits) => {
                    connection.as_mut().graceful_shutdown();
                    end = End::Quiet(Instant::now() + LAST_WORDS);
                }
                End::Open => {}
                // It came in at the last moment. How long it may take is bounded where it is answered.
                End::Quiet(_) if activity.is_busy() => end = End::Quiet(Instant::now() + LAST_WORDS),
                End::Quiet(_) | End::Cut(_) => return,
            }
        }
    }
}

/// How a connection comes to its end.
enum End {
    /// Not yet.
    Open,
    /// Told to end: cut once it has no request from then on.
    Quiet(Instant),
    /// Told to end: cut then, whatever it has.
    Cut(Instant),
}

/// Whether hyper answered this one itself.
fn no_request(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<NoRequest> {
    match error.downcast_ref::<hyper::Error>()? {
        error if error.is_parse_too_large() => Some(NoRequest::HeadTooLarge),
        error if error.is_parse() => Some(NoRequest::Malformed),
        _ => None,
    }
}

/// The service, heard when it answers.
struct Tracked<S> {
    service: S,
    activity: Arc<Activity>,
}

impl<S: Answers> Service<Request<Incoming>> for Tracked<S> {
    type Response = S::Response;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Answering { in_flight: InFlight::new(&self.activity), answer: self.service.call(request) }
    }
}

pin_project_lite::pin_project! {
    /// A request in flight for as long as this is there. hyper keeps it in the connection's own memory.
    struct Answering<F> {
        in_flight: InFlight,
        #[pin]
        answer: F,
    }
}

impl<F: Future> Future for Answering<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().answer.poll(cx)
    }
}

//! A target that fails on purpose: it notes every request and answers as the test says.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// With this status; 200 takes the record.
    Status(u16),
    /// With this status after this long; 200 takes the record at once.
    Late(u16, Duration),
    /// With this status and `Retry-After`.
    RetryAfter(u16, String),
    /// The connection is cut before an answer, the record not taken.
    Cut,
    /// The record is taken, then the connection cut.
    TakeAndCut,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) reply: Reply,
    /// When it came.
    pub(crate) at: Instant,
}

type Decide = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

pub(crate) struct FaultyTarget {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// An address where nothing listens yet.
pub(crate) struct Reserved(TcpSocket, SocketAddr);

impl Reply {
    /// Whether the target has the record now.
    pub(crate) fn takes(&self) -> bool {
        matches!(self, Self::Status(200) | Self::Late(200, _) | Self::TakeAndCut)
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

impl FaultyTarget {
    pub(crate) async fn start(decide: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::reserve().await.open(decide).await
    }

    /// An address of its own, which refuses connections until it is opened.
    pub(crate) async fn reserve() -> Reserved {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Reserved(socket, address)
    }

    /// Every request so far, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Ids of the records it has taken.
    pub(crate) fn taken(&self) -> BTreeSet<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|r| r.reply.takes()).map(|r| r.id.clone()).collect()
    }

    /// Whether no request came for this long.
    pub(crate) fn idle_for(&self, time: Duration) -> bool {
        self.requests.lock().unwrap().last().is_none_or(|r| r.at.elapsed() >= time)
    }
}

impl Reserved {
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.1)
    }

    pub(crate) async fn open(self, decide: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> FaultyTarget {
        let url = self.url();
        let listener = self.0.listen(1024).unwrap();
        let requests = Arc::default();
        tokio::spawn(serve(listener, Arc::new(decide), Arc::clone(&requests)));
        FaultyTarget { url, requests }
    }
}

async fn serve(listener: TcpListener, decide: Decide, requests: Arc<Mutex<Vec<Request>>>) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (decide, requests) = (Arc::clone(&decide), Arc::clone(&requests));
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&decide), Arc::clone(&requests)));
            // An error is what ends a connection without an answer.
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    decide: Decide,
    requests: Arc<Mutex<Vec<Request>>>,
) -> Result<hyper::Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let mut request = Request {
        id: head.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned(),
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body,
        reply: Reply::Cut,
        at: Instant::now(),
    };
    request.reply = decide(&request);
    let reply = request.reply.clone();
    requests.lock().unwrap().push(request);
    let answer = |status: u16| {
        hyper::Response::builder().status(status).body(Full::new(Bytes::from(format!("answer {status}")))).unwrap()
    };
    match reply {
        Reply::Status(status) => Ok(answer(status)),
        Reply::Late(status, time) => {
            tokio::time::sleep(time).await;
            Ok(answer(status))
        }
        Reply::RetryAfter(status, after) => {
            let mut answer = answer(status);
            answer.headers_mut().insert("retry-after", after.parse().unwrap());
            Ok(answer)
        }
        Reply::Cut | Reply::TakeAndCut => Err(std::io::Error::other("cut on purpose")),
    }
}

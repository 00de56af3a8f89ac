//! A proxy that loses answers: a request goes to the server and is answered there, then the connection is cut.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use super::real::http;

/// Whether the answer of a request is lost: by method, path and body.
type Decide = Arc<dyn Fn(&str, &str, &[u8]) -> bool + Send + Sync>;

/// A request, and what the server answered.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// Method and path.
    pub(crate) line: String,
    pub(crate) request: Bytes,
    pub(crate) status: u16,
    pub(crate) answer: Bytes,
}

/// What a proxy remembers.
#[derive(Clone, Default)]
struct Memory {
    cuts: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

/// The proxy before one server.
pub(crate) struct Cutting {
    /// Its address, with the path of the server's.
    pub(crate) url: String,
    memory: Memory,
}

impl Cutting {
    /// Before the server at `url`. Loses the answer of every request for which `decide` holds, of equal requests that of
    /// the first alone.
    pub(crate) async fn before(url: &str, decide: impl Fn(&str, &str, &[u8]) -> bool + Send + Sync + 'static) -> Self {
        let server: reqwest::Url = url.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("http://{}{}", listener.local_addr().unwrap(), server.path());
        let memory = Memory::default();
        let origin = server.origin().ascii_serialization();
        tokio::spawn(serve(listener, origin, Arc::new(decide), memory.clone()));
        Self { url: own, memory }
    }

    /// How many answers were lost.
    pub(crate) fn count(&self) -> usize {
        self.memory.cuts.lock().unwrap().len()
    }

    /// All that went through it.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.memory.exchanges.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, origin: String, decide: Decide, memory: Memory) -> Infallible {
    let client = http();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (client, origin, decide, memory) = (client.clone(), origin.clone(), Arc::clone(&decide), memory.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                forward(request, client.clone(), origin.clone(), Arc::clone(&decide), memory.clone())
            });
            // An error is what ends a connection without an answer.
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn forward(
    request: hyper::Request<Incoming>,
    client: reqwest::Client,
    origin: String,
    decide: Decide,
    memory: Memory,
) -> Result<hyper::Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path = head.uri.path_and_query().unwrap().as_str().to_owned();
    let mut headers = head.headers;
    for own in ["host", "connection", "content-length"] {
        headers.remove(own);
    }
    let sent = client.request(head.method.clone(), format!("{origin}{path}")).headers(headers).body(body.clone());
    let answer = sent.send().await.map_err(std::io::Error::other)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let answered = answer.bytes().await.map_err(std::io::Error::other)?;
    memory.exchanges.lock().unwrap().push(Exchange {
        line: format!("{} {path}", head.method),
        request: body.clone(),
        status: status.as_u16(),
        answer: answered.clone(),
    });
    let request = [path.as_bytes(), b"\n", &body].concat();
    let is_new = !memory.cuts.lock().unwrap().contains(&request);
    if is_new && decide(head.method.as_str(), &path, &body) {
        memory.cuts.lock().unwrap().insert(request);
        return Err(std::io::Error::other("cut on purpose"));
    }
    let mut response = hyper::Response::new(Full::new(answered));
    *response.status_mut() = status;
    for (name, value) in &headers {
        if !["connection", "transfer-encoding", "content-length"].contains(&name.as_str()) {
            response.headers_mut().append(name, value.clone());
        }
    }
    Ok(response)
}

//! A server that answers as a test says, in JSON, and notes what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

/// How it is answered.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// With this status and body.
    Json(u16, Value),
    /// With this status, these headers and this body.
    Text(u16, Vec<(&'static str, String)>, String),
    /// Not at all: the connection ends.
    Cut,
    /// After a while.
    Late(std::time::Duration, Box<Said>),
}

type Script = Arc<dyn Fn(&Call) -> Said + Send + Sync>;

pub(crate) struct Scripted {
    pub(crate) url: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A member of a form.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let mut url = reqwest::Url::parse("http://form/").ok()?;
        url.set_query(std::str::from_utf8(&self.body).ok());
        url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    /// Method and path.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(&Call) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let calls = Arc::default();
        tokio::spawn(serve(listener, Arc::new(script), Arc::clone(&calls)));
        Self { url, calls }
    }

    /// Every request so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Method and path of every request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.calls().iter().map(Call::line).collect()
    }
}

async fn serve(listener: TcpListener, script: Script, calls: Arc<Mutex<Vec<Call>>>) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (script, calls) = (Arc::clone(&script), Arc::clone(&calls));
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&calls)));
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    script: Script,
    calls: Arc<Mutex<Vec<Call>>>,
) -> Result<hyper::Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let call = Call {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.collect().await.map_err(std::io::Error::other)?.to_bytes(),
    };
    calls.lock().unwrap().push(call.clone());
    let mut said = script(&call);
    if let Said::Late(time, late) = said {
        tokio::time::sleep(time).await;
        said = *late;
    }
    let (status, headers, text) = match said {
        Said::Json(status, body) => (status, vec![("content-type", "application/json".to_owned())], body.to_string()),
        Said::Text(status, headers, text) => (status, headers, text),
        Said::Cut | Said::Late(..) => return Err(std::io::Error::other("cut on purpose")),
    };
    let mut response = hyper::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(text))).unwrap())
}

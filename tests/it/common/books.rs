//! A business system that makes one document of each record, by every idempotency class, and keeps books of what it was
//! sent: how many documents, in which order. It fails as a test says.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// The classes, by the names of their targets.
pub(crate) const CLASSES: [&str; 4] = ["upsert", "key", "lookup", "reject"];
/// The client's timeout.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer than that a late document takes, as a rule: less than `settle`.
pub(crate) const LATE: Duration = Duration::from_secs(1);
/// How long a target may take to act, as the described one says.
const SETTLE: Duration = Duration::from_secs(4);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    /// Works, after this long.
    Slow(Duration),
    /// 500, nothing done.
    Fails,
    /// Works, and says 500.
    WorksAndFails,
    /// The connection ends, nothing done.
    Cuts,
    /// Works, and the connection ends.
    WorksAndCuts,
    /// Never answers, nothing done.
    Hangs,
    /// Never answers, and works this long after the client has given up.
    WorksLate(Duration),
    /// 429, for a second.
    Busy,
    /// 422, nothing done.
    Refuses,
    /// Works, and says 422.
    WorksAndRefuses,
}

type Decide = Arc<dyn Fn(&str, &str) -> Mood + Send + Sync>;

pub(crate) struct Books {
    address: String,
    all: Arc<BTreeMap<&'static str, Mutex<Book>>>,
}

/// What one target was sent.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Documents by id.
    documents: BTreeMap<String, usize>,
    /// By key: the highest number sent, and the first that has no document.
    lanes: BTreeMap<String, (usize, usize)>,
    /// Requests that write.
    pub(crate) writes: usize,
    /// The same by id.
    sent: BTreeMap<String, usize>,
    /// Requests that look a document up, by id.
    looked_up: BTreeMap<String, usize>,
    /// What was sent before its predecessor had a document, or behind its successor.
    pub(crate) inversions: Vec<String>,
    pub(crate) in_flight: usize,
    /// Most writes at one time.
    pub(crate) most_in_flight: usize,
    /// When each write came.
    pub(crate) arrivals: Vec<Instant>,
}

impl Book {
    /// Different records that have a document.
    pub(crate) fn len(&self) -> usize {
        self.documents.len()
    }

    /// Records with more than one.
    pub(crate) fn doubled(&self) -> Vec<&str> {
        self.documents.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id.as_str()).collect()
    }

    /// Documents of this record, requests that wrote it, and requests that looked for it.
    pub(crate) fn of(&self, id: &str) -> (usize, usize, usize) {
        let count = |counts: &BTreeMap<String, usize>| counts.get(id).copied().unwrap_or(0);
        (count(&self.documents), count(&self.sent), count(&self.looked_up))
    }

    fn arrive(&mut self, id: &str) {
        let (key, n) = place(id);
        let (highest, next) = self.lanes.entry(key.to_owned()).or_default();
        if n < *highest {
            self.inversions.push(format!("{id} was sent again behind number {highest}"));
        }
        if n > *next {
            self.inversions.push(format!("{id} was sent before number {next} had a document"));
        }
        *highest = n.max(*highest);
        self.writes += 1;
        *self.sent.entry(id.to_owned()).or_default() += 1;
        self.arrivals.push(Instant::now());
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
    }

    /// Makes the document, as far as the class knows no better; false where it is refused.
    fn work(&mut self, class: &str, id: &str) -> bool {
        let (key, n) = place(id);
        let is_there = self.documents.contains_key(id);
        match class {
            "reject" if is_there => return false,
            "upsert" | "key" if is_there => {}
            _ => *self.documents.entry(id.to_owned()).or_default() += 1,
        }
        if let Some((_, next)) = self.lanes.get_mut(key).filter(|(_, next)| *next == n) {
            *next += 1;
        }
        true
    }
}

/// A write under way; its end counts however it ends.
struct UnderWay<'a>(&'a Mutex<Book>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().in_flight -= 1;
    }
}

/// Key and number of a record.
fn place(id: &str) -> (&str, usize) {
    let (key, n) = id.rsplit_once('-').unwrap();
    (key, n.parse().unwrap())
}

impl Books {
    /// Opens books that fail as `decide` says of each writing request, by the target's class and the record's id.
    pub(crate) async fn open(decide: impl Fn(&str, &str) -> Mood + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let all: Arc<BTreeMap<_, _>> = Arc::new(CLASSES.iter().map(|class| (*class, Mutex::default())).collect());
        tokio::spawn(serve(listener, Arc::clone(&all), Arc::new(decide)));
        Self { address, all }
    }

    /// What the target of this class was sent.
    pub(crate) fn of<T>(&self, class: &str, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.all[class].lock().unwrap())
    }

    /// Different records that have a document, over all classes.
    pub(crate) fn made(&self) -> usize {
        CLASSES.iter().map(|class| self.of(class, Book::len)).sum()
    }

    /// A target of each class, described in files of `folder`.
    pub(crate) fn targets(&self, folder: &std::path::Path, more: &str) -> String {
        self.targets_that_settle(SETTLE, folder, more)
    }

    /// The same with another word on how long they may take to act.
    pub(crate) fn targets_that_settle(&self, settle: Duration, folder: &std::path::Path, more: &str) -> String {
        CLASSES.iter().map(|class| self.target(class, settle, folder, more)).collect()
    }

    fn target(&self, class: &str, settle: Duration, folder: &std::path::Path, more: &str) -> String {
        let path = folder.join(format!("{class}.toml"));
        std::fs::write(&path, describe(class)).unwrap();
        format!(
            r#"
[targets.{class}]
preset = "{}"
records = ["invoices"]
start = "earliest"
url = "http://{}/{class}/"
allow_private_addresses = true
timeout = "{}s"
connect_timeout = "1s"
settle = "{}s"
{more}
"#,
            path.display(),
            self.address,
            TIMEOUT.as_secs(),
            settle.as_secs()
        )
    }
}

fn describe(class: &str) -> String {
    let validity = if class == "key" { "\nvalidity = \"1h\"" } else { "" };
    let step = match class {
        "upsert" => "repeat = \"upsert\"\nmethod = \"PUT\"\npath = \"/documents/{{ id }}\"",
        "key" => {
            "repeat = \"key\"\nmethod = \"POST\"\npath = \"/documents/{{ id }}\"\nheaders = { Idempotency-Key = \"{{ id }}\" }"
        }
        "lookup" => "repeat = \"lookup\"\nmethod = \"POST\"\npath = \"/documents/{{ id }}\"",
        _ => {
            "repeat = \"refused\"\nmethod = \"POST\"\npath = \"/documents/{{ id }}\"\nanswers = [{ status = [409], is = \"duplicate\", reason = \"exists\" }]"
        }
    };
    format!(
        r#"title = "Books"
proved_on = "the tests' own books"
[auth]
kind = "none"
[id]
value = "{{{{ record.event_id }}}}"
punctuation = "-"
max = 64
[idempotency]
class = "{class}"{validity}
[records.invoices.look_up]
method = "GET"
path = "/documents/{{{{ id }}}}"
each = "/documents"
ours = "item == id"
[[records.invoices.steps]]
name = "create"
{step}
json = {{ id = "{{{{ id }}}}" }}
"#
    )
}

async fn serve(listener: TcpListener, all: Arc<BTreeMap<&'static str, Mutex<Book>>>, decide: Decide) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (all, decide) = (Arc::clone(&all), Arc::clone(&decide));
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&all), Arc::clone(&decide)));
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    all: Arc<BTreeMap<&'static str, Mutex<Book>>>,
    decide: Decide,
) -> Result<hyper::Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    body.collect().await.map_err(std::io::Error::other)?;
    let (class, id) = head.uri.path().trim_start_matches('/').split_once("/documents/").unwrap();
    let (book, id) = (&all[class], id.to_owned());
    let said = |status: u16, body: Value| {
        Ok(hyper::Response::builder().status(status).body(Full::new(Bytes::from(body.to_string()))).unwrap())
    };
    let cut = || Err(std::io::Error::other("cut on purpose"));
    if head.method == "GET" {
        let mut book = book.lock().unwrap();
        *book.looked_up.entry(id.clone()).or_default() += 1;
        let found: Vec<&str> = Some(&*id).filter(|id| book.documents.contains_key(*id)).into_iter().collect();
        return said(200, json!({ "documents": found }));
    }
    assert!(class != "key" || head.headers["idempotency-key"] == id, "the key is the record's");
    book.lock().unwrap().arrive(&id);
    let _under_way = UnderWay(book);
    let work = || match book.lock().unwrap().work(class, &id) {
        true => said(201, json!({ "id": id })),
        false => said(409, json!({ "error": "exists" })),
    };
    match decide(class, &id) {
        Mood::Fine => work(),
        Mood::Slow(time) => {
            tokio::time::sleep(time).await;
            work()
        }
        Mood::Fails => said(500, json!({})),
        Mood::WorksAndFails => work().and_then(|_| said(500, json!({}))),
        Mood::Refuses => said(422, json!({})),
        Mood::WorksAndRefuses => work().and_then(|_| said(422, json!({}))),
        Mood::Cuts => cut(),
        Mood::WorksAndCuts => work().and_then(|_| cut()),
        Mood::Hangs => std::future::pending().await,
        Mood::WorksLate(late) => {
            let (all, class, id) = (Arc::clone(&all), class.to_owned(), id.clone());
            // Whether or not the client is still there.
            tokio::spawn(async move {
                tokio::time::sleep(TIMEOUT + late).await;
                all[class.as_str()].lock().unwrap().work(&class, &id);
            });
            std::future::pending().await
        }
        Mood::Busy => {
            let mut answer = said(429, json!({}))?;
            answer.headers_mut().insert("retry-after", "1".parse().unwrap());
            Ok(answer)
        }
    }
}

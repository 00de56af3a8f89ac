//! What the sandbox remembers: documents in the order of their arrival, requests, and every id.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::event::Timestamp;
use crate::simulate::histogram::Histogram;

/// Ids are never forgotten before a reset, since a repeat would make a second document; 48 bytes each, so beyond these
/// the sandbox takes nothing new.
const MAX_IDS: usize = 4_000_000;
/// Bodies kept, whatever the number of documents.
const MAX_BODY_BYTES: usize = 256 << 20;
/// Types and paths counted apart; the others are counted together.
const MAX_LABELS: usize = 1_000;
/// A page of documents ends after this much.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// One delivery, as far as it was understood.
#[derive(Clone, Debug, Default)]
pub(super) struct Incoming {
    pub(super) event_id: String,
    pub(super) event_type: String,
    /// `<source>/<entity_id>` of the record; the event's id where it names none.
    pub(super) entity: String,
    pub(super) path: String,
    /// When the record says that its event was received.
    pub(super) received_at: Option<Timestamp>,
    pub(super) body: Bytes,
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is new, with this number.
    Created(u64),
    /// There was one of this id, with this number.
    Duplicate(u64),
    /// No more ids can be remembered.
    Full,
}

struct Document {
    number: u64,
    at: Timestamp,
    what: Incoming,
}

struct Request {
    at: Timestamp,
    event_id: String,
    path: String,
    /// None when the connection was cut.
    status: Option<u16>,
    outcome: &'static str,
}

/// Exact, whatever was dropped since.
#[derive(Default)]
struct Counts {
    requests: u64,
    documents: u64,
    duplicates: u64,
    /// Duplicates whose body was not that of the document: a sender's mistake.
    other_body: u64,
    refused: u64,
    faults: u64,
    event_types: BTreeMap<String, u64>,
    paths: BTreeMap<String, u64>,
    /// From a document's `received_at` to its arrival, by two clocks where two machines are involved.
    lag: Histogram,
}

/// Everything the sandbox has seen since its start or the last reset.
pub(super) struct Store {
    max_documents: usize,
    counts: Counts,
    /// By a hash of the id: the document's number, and a hash of its body.
    ids: HashMap<u128, (u64, u64)>,
    documents: VecDeque<Document>,
    body_bytes: usize,
    requests: VecDeque<Request>,
}

impl Store {
    pub(super) fn new(max_documents: usize) -> Self {
        Self {
            max_documents,
            counts: Counts::default(),
            ids: HashMap::new(),
            documents: VecDeque::new(),
            body_bytes: 0,
            requests: VecDeque::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.max_documents);
    }

    /// Makes a document, unless there is one of this id.
    pub(super) fn keep(&mut self, what: Incoming, at: Timestamp) -> Kept {
        let id = hash(what.event_id.as_bytes());
        // The lower half of a hash is as good a hash.
        let body = hash(&what.body) as u64;
        if let Some((number, first)) = self.ids.get(&id) {
            self.counts.duplicates += 1;
            self.counts.other_body += u64::from(*first != body);
            return Kept::Duplicate(*number);
        }
        if self.ids.len() >= MAX_IDS {
            return Kept::Full;
        }
        self.counts.documents += 1;
        let number = self.counts.documents;
        self.ids.insert(id, (number, body));
        count(&mut self.counts.event_types, &what.event_type);
        if let Some(received_at) = what.received_at {
            self.counts.lag.count(at.since(received_at));
        }
        self.body_bytes += what.body.len();
        self.documents.push_back(Document { number, at, what });
        while self.documents.len() > self.max_documents || self.body_bytes > MAX_BODY_BYTES {
            let Some(oldest) = self.documents.pop_front() else { break };
            self.body_bytes = self.body_bytes.saturating_sub(oldest.what.body.len());
        }
        Kept::Created(number)
    }

    /// Notes how a request ended. `outcome` is `created`, `duplicate`, `refused`, or the fault that it met.
    pub(super) fn note(
        &mut self,
        event_id: &str,
        path: &str,
        at: Timestamp,
        status: Option<u16>,
        outcome: &'static str,
    ) {
        self.counts.requests += 1;
        self.counts.refused += u64::from(outcome == "refused");
        count(&mut self.counts.paths, path);
        let (event_id, path) = (event_id.to_owned(), path.to_owned());
        self.requests.push_back(Request { at, event_id, path, status, outcome });
        if self.requests.len() > self.max_documents {
            self.requests.pop_front();
        }
    }

    /// Counts a fault that was met.
    pub(super) fn fault(&mut self) {
        self.counts.faults += 1;
    }

    pub(super) fn summary(&self) -> Value {
        let c = &self.counts;
        let lag = c.lag.latency();
        json!({
            "requests": c.requests,
            "documents": c.documents,
            "documents_kept": self.documents.len(),
            "duplicates": c.duplicates,
            "duplicates_with_other_body": c.other_body,
            "refused": c.refused,
            "faults_injected": c.faults,
            "event_types": c.event_types,
            "paths": c.paths,
            "lag_ms": {
                "documents": c.lag.total(),
                "p50": lag.p50_ms,
                "p90": lag.p90_ms,
                "p99": lag.p99_ms,
                "max": lag.max_ms,
            },
        })
    }

    /// All requests of an id among the last ones, oldest first.
    pub(super) fn requests_of(&self, event_id: &str) -> Value {
        let seen = self.requests.iter().filter(|request| request.event_id == event_id).map(|request| {
            json!({
                "at": request.at.to_string(),
                "path": request.path,
                "status": request.status,
                "outcome": request.outcome,
            })
        });
        json!({"event_id": event_id, "requests": seen.collect::<Vec<_>>()})
    }

    /// Up to `limit` documents with a number above `after`, of one entity if it is named, in order of arrival.
    /// `next` is the `after` of the page that follows, null at the end.
    pub(super) fn page(&self, limit: usize, after: u64, entity: Option<&str>) -> Value {
        let mut found = self
            .documents
            .iter()
            .filter(|d| d.number > after && entity.is_none_or(|entity| d.what.entity == entity))
            .peekable();
        let mut shown = Vec::new();
        let (mut last, mut size) = (after, 0);
        while shown.len() < limit && size < MAX_PAGE_BYTES {
            let Some(Document { number, at, what }) = found.next() else { break };
            (last, size) = (*number, size + what.body.len());
            shown.push(json!({
                "number": number,
                "at": at.to_string(),
                "event_id": what.event_id,
                "event_type": what.event_type,
                "entity": what.entity,
                "path": what.path,
                "body": serde_json::from_slice::<Value>(&what.body).unwrap_or_default(),
            }));
        }
        let next = found.peek().map(|_| last);
        json!({"documents": shown, "next": next})
    }
}

fn hash(bytes: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

fn count(labels: &mut BTreeMap<String, u64>, label: &str) {
    let known = labels.len() < MAX_LABELS || labels.contains_key(label);
    *labels.entry(if known { label } else { "other" }.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(event_id: &str, entity: &str, body: &str) -> Incoming {
        Incoming {
            event_id: event_id.to_owned(),
            event_type: "invoice.paid".to_owned(),
            entity: entity.to_owned(),
            path: "/".to_owned(),
            received_at: None,
            body: Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn an_id_makes_one_document_also_after_its_body_was_dropped() {
        let mut store = Store::new(2);
        let at = Timestamp::default();
        for n in 1..=5 {
            assert_eq!(store.keep(incoming(&n.to_string(), "e", "{}"), at), Kept::Created(n));
        }
        assert_eq!(store.keep(incoming("1", "e", "{}"), at), Kept::Duplicate(1));
        assert_eq!(store.keep(incoming("5", "e", "[]"), at), Kept::Duplicate(5));
        let summary = store.summary();
        assert_eq!((&summary["documents"], &summary["documents_kept"]), (&json!(5), &json!(2)));
        assert_eq!((&summary["duplicates"], &summary["duplicates_with_other_body"]), (&json!(2), &json!(1)));
        assert_eq!(summary["event_types"]["invoice.paid"], 5);
        store.reset();
        assert_eq!(store.keep(incoming("1", "e", "{}"), at), Kept::Created(1));
    }

    #[test]
    fn the_lag_is_that_of_documents_that_say_when_they_were_received() {
        let mut store = Store::new(10);
        assert_eq!(store.summary()["lag_ms"], json!({"documents": 0, "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}));
        let at = |ms: i64| Timestamp::from_micros(1_000_000 + ms * 1_000);
        let received = |id: &str, ms| Incoming { received_at: Some(at(ms)), ..incoming(id, "e", "{}") };
        store.keep(incoming("a", "e", "{}"), at(500));
        store.keep(received("b", 0), at(10));
        store.keep(received("c", 50), at(40));
        store.keep(received("b", 0), at(9_000));
        let lag = &store.summary()["lag_ms"];
        // A receiver whose clock is ahead of ours: no time, rather than a negative one.
        assert_eq!((&lag["documents"], &lag["p50"], &lag["max"]), (&json!(2), &json!(0.0), &json!(10.0)));
    }

    #[test]
    fn pages_are_in_order_of_arrival() {
        let mut store = Store::new(10);
        for n in 0..6 {
            store.keep(incoming(&n.to_string(), if n % 2 == 0 { "a" } else { "b" }, "{}"), Timestamp::default());
        }
        let ids = |page: &Value| -> Vec<String> {
            page["documents"].as_array().unwrap().iter().map(|d| d["event_id"].as_str().unwrap().to_owned()).collect()
        };
        let first = store.page(2, 0, Some("a"));
        assert_eq!((ids(&first), &first["next"]), (vec!["0".to_owned(), "2".to_owned()], &json!(3)));
        let second = store.page(2, 3, Some("a"));
        assert_eq!((ids(&second), &second["next"]), (vec!["4".to_owned()], &Value::Null));
        assert_eq!(ids(&store.page(100, 0, None)).len(), 6);
    }

    #[test]
    fn labels_are_bounded() {
        let mut labels = BTreeMap::new();
        for n in 0..2 * MAX_LABELS {
            count(&mut labels, &n.to_string());
        }
        assert_eq!((labels.len(), labels["other"]), (MAX_LABELS + 1, MAX_LABELS as u64));
    }
}

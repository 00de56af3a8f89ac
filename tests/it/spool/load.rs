//! Senders that never stop, and what they were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledgerhook::config::Source;
use ledgerhook::event::{Envelope, Origin};
use ledgerhook::signature;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the senders know.
#[derive(Default)]
pub(super) struct Answers {
    acknowledged: Mutex<BTreeSet<String>>,
    refused: Mutex<BTreeMap<u16, u64>>,
    slowest: Mutex<Duration>,
    unanswered: Mutex<u64>,
    stop: AtomicBool,
}

pub(super) struct Load {
    pub(super) answers: Arc<Answers>,
    senders: JoinSet<()>,
}

impl Answers {
    pub(super) fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// One line of figures.
    pub(super) fn summary(&self) -> String {
        let (refused, slowest) = (self.refused.lock().unwrap().clone(), *self.slowest.lock().unwrap());
        let cut = *self.unanswered.lock().unwrap();
        format!("{} acknowledged, refused {refused:?}, {cut} cut, slowest answer {slowest:?}", self.count())
    }

    pub(super) fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    pub(super) fn unanswered(&self) -> u64 {
        *self.unanswered.lock().unwrap()
    }
}

impl Load {
    /// So many senders, each one event after the other with this pause between them.
    pub(super) fn start(source: &Source, url: &str, senders: u64, pause: Duration) -> Self {
        let answers = Arc::new(Answers::default());
        let mut set = JoinSet::new();
        for sender in 0..senders {
            set.spawn(send(sender, source.clone(), url.to_owned(), pause, Arc::clone(&answers)));
        }
        Self { answers, senders: set }
    }

    /// Lets every sender have its last answer.
    pub(super) async fn stop(self) -> Arc<Answers> {
        self.answers.stop.store(true, Ordering::Relaxed);
        self.senders.join_all().await;
        self.answers
    }
}

/// An event of this source.
fn event(source: &Source, id: &str) -> String {
    match source.name.as_str() {
        "accelex" => {
            format!(r#"{{"event_id":"{id}","event_type":"invoice.resolved","outcome":{{"invoice_id":"i"}}}}"#)
        }
        _ => super::body(id, 200),
    }
}

async fn send(sender: u64, source: Source, url: String, pause: Duration, answers: Arc<Answers>) {
    let secret = source.secrets[0].value.clone();
    let http = reqwest::Client::builder().timeout(source.deadline).build().unwrap();
    let mut n = 0_u64;
    while !answers.stop.load(Ordering::Relaxed) {
        let id = format!("s{sender:02}-{n:08}");
        let body = event(&source, &id);
        let signed = signature::sign(&source.scheme, secret.expose(), body.as_bytes());
        // As a provider does: again until it is taken.
        loop {
            let began = Instant::now();
            let sent = http.post(&url).header(&source.scheme.header, &signed).body(body.clone()).send().await;
            match sent {
                Ok(answer) => {
                    let mut slowest = answers.slowest.lock().unwrap();
                    *slowest = (*slowest).max(began.elapsed());
                    if answer.status() == 200 {
                        answers.acknowledged.lock().unwrap().insert(id);
                        break;
                    }
                    *answers.refused.lock().unwrap().entry(answer.status().as_u16()).or_default() += 1;
                }
                Err(_) => *answers.unanswered.lock().unwrap() += 1,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        n += 1;
        tokio::time::sleep(pause).await;
    }
}

/// Fails where an acknowledged event is not among the rows, or rows from the spool are out of its order; how many came
/// by the spool. Each sender waits for an answer before its next event, so in the spool its events stand in order.
pub(super) fn check(acknowledged: &BTreeSet<String>, rows: &[(i32, Envelope)]) -> usize {
    let there: BTreeSet<&str> = rows.iter().map(|(_, row)| row.event_id.as_str()).collect();
    let missing: Vec<_> = acknowledged.iter().filter(|id| !there.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "{} acknowledged are missing: {missing:?}", missing.len());
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<(i32, &str), &str> = BTreeMap::new();
    let spooled = rows.iter().filter(|(_, row)| row.origin == Origin::Spool);
    for (partition, row) in spooled {
        let (sender, n) = row.event_id.split_once('-').unwrap();
        // Sent again after a failure or a restart: the first time counts.
        if seen.insert(row.event_id.as_str()) {
            let before = last.insert((*partition, sender), n);
            assert!(
                before.is_none_or(|before| before < n),
                "{} after {before:?} in partition {partition}",
                row.event_id
            );
        }
    }
    seen.len()
}

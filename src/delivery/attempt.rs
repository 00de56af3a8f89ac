//! One try: when it began, how long it took, what came of it.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lane::{Ticket, Try};
use super::repeat::Step;
use super::results::Heard;
use super::task::Task;
use crate::event::Timestamp;
use crate::targets::{Answer, Client, Fault};

/// A try that ended.
#[derive(Debug)]
pub(super) struct Tried {
    /// Which.
    pub(super) ticket: Ticket,
    /// Its record.
    pub(super) task: Arc<Task>,
    /// Number of the try, from 1.
    pub(super) n: u32,
    /// When it began, by our clock.
    pub(super) started: Instant,
    /// When it began, by the system's clock.
    pub(super) started_at: Timestamp,
    /// How long it took.
    pub(super) took: Duration,
    /// What came of it.
    pub(super) answer: Answer,
}

/// Makes a try on the runtime. Its end comes through `results`, however it ends; `cut` ends it at once.
///
/// The channel has room for every try that may be under way, so that sending never blocks the runtime.
pub(super) fn start(
    runtime: &Handle,
    client: Arc<Client>,
    next: Try<Task>,
    results: SyncSender<Heard>,
    cut: CancellationToken,
) {
    let Try { ticket, record, n, step } = next;
    let (task, started, started_at) = (Arc::clone(&record), Instant::now(), Timestamp::now());
    let answer = unresolved("the try itself failed");
    let tried = Tried { ticket, task, n, started, started_at, took: Duration::ZERO, answer };
    let open = Open { tried: Some(Box::new(tried)), results };
    runtime.spawn(async move {
        let look_first = step == Step::LookUp;
        let answer = cut.run_until_cancelled(client.send(&record.record, started_at, look_first)).await;
        open.end(answer.unwrap_or_else(|| unresolved("cut short by our shutdown")));
    });
}

/// A try under way. It is a result as well where the task that makes it goes without an answer: by a panic, or with its
/// runtime.
struct Open {
    tried: Option<Box<Tried>>,
    results: SyncSender<Heard>,
}

impl Open {
    fn end(mut self, answer: Answer) {
        if let Some(tried) = &mut self.tried {
            tried.answer = answer;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut tried) = self.tried.take() {
            tried.took = tried.started.elapsed();
            // Nobody listens any more only when the target's thread has ended.
            drop(self.results.try_send(Heard::Tried(tried)));
        }
    }
}

/// Ends a try before it begins: the target has had a newer record of the entity.
pub(super) fn leave_out(next: Try<Task>, results: &SyncSender<Heard>) {
    let Try { ticket, record: task, n, .. } = next;
    let (started, started_at) = (Instant::now(), Timestamp::now());
    let answer = Answer::left_out("superseded", "the target has had a newer record of the entity");
    let tried = Tried { ticket, task, n, started, started_at, took: Duration::ZERO, answer };
    // There is room, as for every try.
    drop(results.try_send(Heard::Tried(Box::new(tried))));
}

fn unresolved(what: &str) -> Answer {
    Answer::of_fault(&Fault::Cut(what.to_owned()))
}

//! One try: when it began, how long it took, what came of it.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::lane::{Ticket, Try};
use super::repeat::Step;
use super::results::Heard;
use super::task::Task;
use super::worker::PROOF;
use crate::event::Timestamp;
use crate::lifecycle::failpoint;
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

/// Makes these tries on the runtime; `cut` ends them at once. From outside, every task that is spawned wakes the runtime:
/// tries that begin together are spawned together.
pub(super) fn start(runtime: &Handle, client: &Arc<Client>, tries: Vec<Open>, cut: &CancellationToken) {
    if tries.is_empty() {
        return;
    }
    let (inside, client, cut) = (runtime.clone(), Arc::clone(client), cut.clone());
    runtime.spawn(async move {
        for open in tries {
            let (client, cut) = (Arc::clone(&client), cut.clone());
            // In a box: the runtime moves what it is given several times, and a try is some kilobytes.
            inside.spawn(Box::pin(open.make(client, cut)));
        }
    });
}

/// A try under way, or about to be. Its end comes through the channel it was opened with, however it ends: also where the
/// task that makes it goes without an answer, by a panic or with its runtime.
pub(super) struct Open {
    /// Gone when it is told.
    tried: Option<Box<Tried>>,
    step: Step,
    /// When the partitions were last known to be ours.
    proved: Clock,
    /// Whether anything was sent.
    sent: bool,
    results: SyncSender<Heard>,
}

impl Open {
    /// Begins a try. The channel has room for every try that may be under way, so that its end never blocks the runtime.
    pub(super) fn new(next: Try<Task>, proved: Clock, results: SyncSender<Heard>) -> Self {
        let Try { ticket, record: task, n, step } = next;
        let (started, started_at) = (Instant::now(), Timestamp::now());
        let answer = unresolved("the try itself failed");
        let tried = Tried { ticket, task, n, started, started_at, took: Duration::ZERO, answer };
        Self { tried: Some(Box::new(tried)), step, proved, sent: false, results }
    }

    async fn make(mut self, client: Arc<Client>, cut: CancellationToken) {
        if !self.begins(&Clock::now()) {
            return;
        }
        let Some((task, at)) = self.tried.as_ref().map(|tried| (Arc::clone(&tried.task), tried.started_at)) else {
            return;
        };
        let look_first = self.step == Step::LookUp;
        failpoint("delivery.before_send");
        self.until(cut.run_until_cancelled(client.send(&task.record, at, look_first))).await;
    }

    /// Whether it may begin: we may have stood still since it was chosen, and others may have the partitions.
    fn begins(&mut self, clock: &Clock) -> bool {
        self.sent = clock.since(&self.proved) < PROOF;
        self.sent
    }

    /// Ends with the answer of this exchange; with none where it was cut short.
    async fn until(mut self, exchange: impl Future<Output = Option<Answer>>) {
        let answer = exchange.await;
        failpoint("delivery.after_send");
        let answer = answer.unwrap_or_else(|| unresolved("cut short by our shutdown"));
        if let Some(tried) = &mut self.tried {
            tried.answer = answer;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut tried) = self.tried.take() {
            tried.took = tried.started.elapsed();
            let heard = if self.sent { Heard::Tried(tried) } else { Heard::Unsent(tried.ticket) };
            // Nobody listens any more only when the target's thread has ended.
            drop(self.results.try_send(heard));
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use tokio::runtime::{Builder, Runtime};

    use super::super::lane::{Lane, Seat};
    use super::*;
    use crate::avro::tests::records::records;
    use crate::event::AttemptOutcome;
    use crate::kafka::group::Partition;

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    fn open() -> (Open, Receiver<Heard>) {
        let (results, heard) = sync_channel(1);
        let record = Arc::new(records(1).swap_remove(0));
        let (topic, partition, offset) = ("invoices".to_owned(), 3, 7);
        let (key, value, traceparent, replay) = (b"k".to_vec(), Vec::new(), None, None);
        let task = Arc::new(Task { record, topic, partition, offset, key, value, traceparent, replay });
        let lane = Lane { partition: Partition { topic: "invoices".to_owned(), number: 3 }, key: b"k".to_vec() };
        let ticket = Ticket { epoch: 5, lane: Arc::new(lane), seat: Seat::Record(7) };
        let next = Try { ticket, record: task, n: 2, step: Step::Send };
        let (mut open, now) = (Open::new(next, Clock::now(), results), Clock::now());
        assert!(open.begins(&now));
        (open, heard)
    }

    /// What came of the one try that was made: whether the target may have acted, and why.
    fn came(heard: &Receiver<Heard>) -> (AttemptOutcome, Option<String>) {
        let Heard::Tried(tried) = heard.recv_timeout(Duration::from_secs(30)).unwrap() else { panic!("no try") };
        assert_eq!((tried.ticket.epoch, tried.n, tried.task.offset), (5, 2, 7));
        assert!(heard.recv_timeout(Duration::from_secs(30)).is_err(), "it comes back once");
        (tried.answer.verdict.outcome, tried.answer.fault)
    }

    #[test]
    fn a_try_comes_back_once_however_it_ends() {
        let unresolved = |what: &str| (AttemptOutcome::Unresolved, Some(what.to_owned()));
        let runtime = runtime();
        let (answered, heard) = open();
        runtime.spawn(answered.until(async { Some(Answer::left_out("filter", "left out")) }));
        assert_eq!(came(&heard), (AttemptOutcome::Filtered, Some("left out".to_owned())));
        let (cut, heard) = open();
        runtime.spawn(cut.until(async { None }));
        assert_eq!(came(&heard), unresolved("cut short by our shutdown"));
        let (panics, heard) = open();
        runtime.spawn(panics.until(async { panic!("a fault of ours") }));
        assert_eq!(came(&heard), unresolved("the try itself failed"));
    }

    #[test]
    fn nothing_is_sent_by_who_stood_still() {
        let (mut open, heard) = open();
        let asleep = Clock { at: Clock::now().at.plus(PROOF), ..Clock::now() };
        assert!(!open.begins(&asleep));
        drop(open);
        let Heard::Unsent(ticket) = heard.recv_timeout(Duration::from_secs(30)).unwrap() else { panic!("it was sent") };
        assert_eq!((ticket.epoch, ticket.seat), (5, Seat::Record(7)));
    }

    #[test]
    fn a_try_comes_back_when_its_runtime_goes() {
        let runtime = runtime();
        let (handle, (under_way, heard)) = (runtime.handle().clone(), open());
        let (began, begins) = sync_channel(1);
        runtime.spawn(under_way.until(async move {
            began.send(()).unwrap();
            std::future::pending().await
        }));
        begins.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(runtime);
        assert_eq!(came(&heard).0, AttemptOutcome::Unresolved);
        let (too_late, heard) = open();
        handle.spawn(too_late.until(std::future::pending()));
        assert_eq!(came(&heard).0, AttemptOutcome::Unresolved);
    }
}

//! The loop: one task decides and counts, a bounded number of others are each waiting for one answer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Load;
use super::http::{Answer, Post};
use super::schedule::{Deliveries, Delivery, Next, after_failure};
use crate::simulate::SendReport;
use crate::simulate::histogram::{Histogram, ms};

/// Deliveries that wait for a repeat, at some 64 bytes each. At the bound no new event is begun, which shows as lateness.
const MAX_WAITING: usize = 1 << 20;
/// Kinds of answers counted apart: more than our receiver has, and a bound on what a stranger may answer.
const MAX_ANSWERS: usize = 64;

/// An attempt, by when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attempt {
    due: Instant,
    event: u64,
    duplicate: bool,
    /// Attempts before it.
    failed: usize,
    /// When the first one began; for the first itself, when it is due.
    first: Instant,
}

struct Done {
    attempt: Attempt,
    answer: Answer,
    sent: Instant,
    ended: Instant,
}

/// Sends everything, and says what came of it.
pub(super) async fn run<P: Post>(load: Arc<Load>, post: P) -> SendReport {
    let plan = &load.plan;
    let mut tally = Tally::new(&load);
    let mut new = NewOnes { left: Deliveries::of(plan).peekable(), begun: Instant::now(), made: 0, rate: plan.rate };
    let mut waiting: BinaryHeap<Reverse<Attempt>> = BinaryHeap::new();
    let mut tasks: JoinSet<Done> = JoinSet::new();
    while !plan.stop.is_cancelled() {
        let mut wake = None;
        while tasks.len() < plan.concurrency {
            let now = Instant::now();
            let repeat = waiting.peek().map(|Reverse(attempt)| attempt.due);
            let fresh = if waiting.len() < MAX_WAITING { new.due(now) } else { None };
            let attempt = match (repeat, fresh) {
                (Some(due), _) if due <= now => waiting.pop().map(|Reverse(attempt)| attempt),
                (_, Some(due)) if due <= now => new.take(due),
                _ => {
                    wake = repeat.into_iter().chain(fresh).min();
                    None
                }
            };
            let Some(attempt) = attempt else { break };
            tasks.spawn(try_once(Arc::clone(&load), post.clone(), attempt));
        }
        if tasks.is_empty() && waiting.is_empty() && wake.is_none() {
            break;
        }
        tokio::select! {
            biased;
            () = plan.stop.cancelled() => {}
            Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                waiting.extend(done.ok().and_then(|done| tally.count(done)).map(Reverse));
            }
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
    // What is under way ends within the provider's timeout.
    while let Some(done) = tasks.join_next().await {
        waiting.extend(done.ok().and_then(|done| tally.count(done)).map(Reverse));
    }
    tally.finish(new.made, new.begun.elapsed())
}

async fn try_once<P: Post>(load: Arc<Load>, post: P, attempt: Attempt) -> Done {
    let (_, event) = load.event(attempt.event);
    // Each attempt is signed for its own time, as providers do that sign one.
    let headers = load.headers(attempt.event, &event, jiff::Timestamp::now().as_second());
    let sent = Instant::now();
    let first = if attempt.failed == 0 { sent } else { attempt.first };
    let answer = timeout(load.plan.source.deadline, post.post(event.body, headers)).await;
    let answer = answer.unwrap_or(Answer::Timeout);
    Done { attempt: Attempt { first, ..attempt }, answer, sent, ended: Instant::now() }
}

/// Deliveries that were not begun.
struct NewOnes {
    left: std::iter::Peekable<Deliveries>,
    begun: Instant,
    made: u64,
    rate: Option<f64>,
}

impl NewOnes {
    /// When the next one is due; without a rate, now.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        self.left.peek()?;
        let Some(rate) = self.rate else { return Some(now) };
        let after = Duration::try_from_secs_f64(self.made as f64 / rate).ok()?;
        self.begun.checked_add(after)
    }

    fn take(&mut self, due: Instant) -> Option<Attempt> {
        let Delivery { event, duplicate } = self.left.next()?;
        self.made += 1;
        Some(Attempt { due, event, duplicate, failed: 0, first: due })
    }
}

/// The report as it grows.
struct Tally<'l> {
    load: &'l Load,
    report: SendReport,
    latency: Histogram,
    late: Duration,
}

impl<'l> Tally<'l> {
    fn new(load: &'l Load) -> Self {
        let planned = Deliveries::of(&load.plan).planned();
        let event_types = load.plan.event_types.iter().map(|name| (name.clone(), Default::default())).collect();
        let report = SendReport { planned, event_types, ..SendReport::default() };
        Self { load, report, latency: Histogram::default(), late: Duration::ZERO }
    }

    /// Counts one request; the repeat that follows it, if one does.
    fn count(&mut self, done: Done) -> Option<Attempt> {
        let Done { attempt, answer, sent, ended } = done;
        let plan = &self.load.plan;
        let report = &mut self.report;
        let is_new = attempt.failed == 0 && !attempt.duplicate && (plan.body.is_none() || attempt.event == 0);
        report.requests += 1;
        report.retried += u64::from(attempt.failed > 0);
        report.duplicates_sent += u64::from(attempt.failed == 0 && attempt.duplicate);
        report.distinct_events += u64::from(is_new);
        self.late = self.late.max(sent.saturating_duration_since(attempt.due));
        let mut label = answer.label();
        if report.answers.len() >= MAX_ANSWERS && !report.answers.contains_key(&label) {
            label = "other".to_owned();
        }
        *report.answers.entry(label).or_default() += 1;
        let answered = matches!(answer, Answer::Status { .. });
        if answered {
            self.latency.count(ended.saturating_duration_since(attempt.due));
        }
        let accepted = answer.accepted();
        match (accepted, answered) {
            (true, _) => report.accepted += 1,
            (false, true) => report.refused += 1,
            (false, false) => report.unanswered += 1,
        }
        let which = usize::try_from(attempt.event % (plan.event_types.len().max(1) as u64)).unwrap_or(0);
        if let Some(of_type) = plan.event_types.get(which).and_then(|name| report.event_types.get_mut(name)) {
            of_type.requests += 1;
            of_type.distinct_events += u64::from(is_new);
            of_type.accepted += u64::from(accepted);
        }
        if accepted {
            return None;
        }
        let since_first = ended.saturating_duration_since(attempt.first);
        let failed = attempt.failed + 1;
        match after_failure(&plan.source.retry_schedule, failed, since_first, plan.max_wait) {
            Next::Repeat(wait) => Some(Attempt { due: ended + wait, failed, ..attempt }),
            Next::GivenUp => {
                report.given_up += 1;
                None
            }
            Next::Abandoned => None,
        }
    }

    fn finish(mut self, begun: u64, took: Duration) -> SendReport {
        let report = &mut self.report;
        report.unsent = report.planned.saturating_sub(begun);
        // All that was begun and neither accepted nor given up, whether it waited for a repeat or was not to have one.
        report.abandoned = begun.saturating_sub(report.accepted + report.given_up);
        report.latency = self.latency.latency();
        report.max_late_ms = ms(self.late);
        report.seconds = took.as_secs_f64();
        self.report
    }
}

//! A batch written: one transaction with records, markers and offsets, then the state.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Why, Writer, passed_on, undecodable};
use super::decide::{Decision, Question, decide};
use super::error::Again;
use super::serve::{Row, Serving, Task};
use super::state::{Overlay, Share};
use crate::event::{Envelope, Mark, Sha256, Timestamp};
use crate::kafka::group::{Incoming, Membership, Partition};
use crate::kafka::transaction::TransactionError;
use crate::lifecycle::failpoint;
use crate::outcome::RouterOutcome;
use crate::topics;

/// Before offsets that were refused are committed again.
const PASS_AGAIN: Duration = Duration::from_secs(1);

impl Serving<'_> {
    /// Writes a batch, or nothing of it.
    pub(super) fn write(&mut self, rows: Vec<Row>) -> Result<(), Again> {
        let metadata = Arc::clone(self.member.metadata().ok_or(Again::NoMember)?);
        let mut first: BTreeMap<&Partition, i64> = BTreeMap::new();
        let mut next: BTreeMap<&Partition, i64> = BTreeMap::new();
        for row in &rows {
            first.entry(&row.incoming.partition).or_insert(row.incoming.offset);
            next.insert(&row.incoming.partition, row.incoming.offset + 1);
        }
        self.turn();
        self.transactions().begin()?;
        let mut overlay = Overlay::default();
        let written = self.write_rows(&rows, &mut overlay).and_then(|outcomes| {
            failpoint("router.after_produce");
            self.commit(next.iter().map(|(p, o)| (*p, *o)), &metadata)?;
            failpoint("router.after_commit");
            Ok(outcomes)
        });
        match written {
            Ok(outcomes) => {
                self.state.merge(&overlay, &self.last_markers())?;
                failpoint("router.after_state");
                for (partition, next) in next.into_iter().filter(|(partition, _)| !self.held.has(partition)) {
                    match self.taken.get_mut(partition) {
                        Some(taken) => *taken = next,
                        None => drop(self.taken.insert(partition.clone(), next)),
                    }
                }
                self.count(&rows, outcomes);
                Ok(())
            }
            Err(Again::Transaction(error @ TransactionError::Abort { .. })) => {
                tracing::warn!(%error, rows = rows.len(), "batch aborted, read again");
                self.transactions().abort()?;
                // What stands behind the batch must not come before it.
                let held = self.held.let_go();
                for (partition, offset) in &held {
                    first.entry(partition).or_insert(*offset);
                }
                self.taken.retain(|partition, _| !first.contains_key(partition));
                self.member.rewind(first)?;
                self.member.resume(held.iter().map(|(partition, _)| partition))?;
                // What was held is asked for again: whatever it waited for is not known any more.
                self.tell();
                Ok(())
            }
            // Nothing to abort, or nobody who would hear it: the next incarnation fences this one.
            Err(Again::Transaction(error)) => Err(error.into()),
            Err(other) => {
                drop(self.transactions().abort());
                Err(other)
            }
        }
    }

    /// Commits offsets with what the open transaction has.
    fn commit<'p>(
        &self,
        next: impl IntoIterator<Item = (&'p Partition, i64)>,
        metadata: &Arc<Membership>,
    ) -> Result<(), TransactionError> {
        self.transactions().offsets(next, metadata)?;
        failpoint("router.after_offsets");
        self.transactions().commit(&|why| self.lost_sight(why))
    }

    /// Commits how far partitions were read where nothing but ends of transactions came: an operator's, or of rows passed
    /// on. Retention deletes such an end with all before it, and an offset that was committed in front of it is out of
    /// range then, as one is behind which rows are missing. To be called where every row that was taken is written.
    pub(super) fn pass_ends(&mut self) -> Result<(), Again> {
        self.pass_from = Instant::now();
        let Some(metadata) = self.member.metadata().cloned() else { return Ok(()) };
        let beyond = self.member.beyond(&self.taken)?;
        if beyond.is_empty() {
            return Ok(());
        }
        self.turn();
        self.transactions().begin()?;
        match self.commit(beyond.iter().map(|(partition, next)| (partition, *next)), &metadata) {
            Ok(()) => self.taken.extend(beyond),
            // A later look finds them again.
            Err(error @ TransactionError::Abort { .. }) => {
                tracing::warn!(%error, "offsets behind ends of transactions are not committed");
                self.transactions().abort()?;
                self.pass_from = Instant::now() + PASS_AGAIN;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Counts outcomes, a batch at once: to find a counter by its labels costs more than to count.
    fn count(&self, rows: &[Row], outcomes: Vec<Option<RouterOutcome>>) {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (row, outcome) in rows.iter().zip(outcomes).filter_map(|(row, outcome)| Some((row, outcome?))) {
            *counts.entry((&row.share.source, outcome.name())).or_default() += 1;
        }
        for ((source, outcome), count) in counts {
            self.router.role.metrics.router_events.with_label_values(&[source, outcome]).inc_by(count);
        }
    }

    /// Offsets of the last markers of the transaction just committed.
    fn last_markers(&self) -> BTreeMap<Share, i64> {
        let prefix = self.router.ground.cluster.topic(&topics::seen(""));
        let places = self.transactions().last_places().into_iter();
        places
            .filter_map(|(partition, offset)| {
                let source = partition.topic.strip_prefix(&prefix)?.to_owned();
                Some((Share { source, partition: partition.number }, offset))
            })
            .collect()
    }

    /// The envelope with its evidence, for whoever looks at what was set aside.
    fn whole<'e>(&self, task: &Task, envelope: &'e Envelope, incoming: &Incoming) -> Cow<'e, Envelope> {
        match task {
            Task::Decide(..) => match self.router.decoder.decode_known(incoming.value.as_deref()) {
                Ok(whole) => Cow::Owned(whole),
                // All else of it was read before. No receiver of ours writes such a row.
                Err(error) => {
                    let at = (&incoming.partition.topic, incoming.partition.number, incoming.offset);
                    tracing::error!(?at, %error, "an event's evidence cannot be read: it is set aside without");
                    Cow::Borrowed(envelope)
                }
            },
            Task::SetAside(..) | Task::PassOn(_) => Cow::Borrowed(envelope),
        }
    }

    /// Each row's outcome; none of one that was passed on, which has it where it then stands.
    fn write_rows(&self, rows: &[Row], overlay: &mut Overlay) -> Result<Vec<Option<RouterOutcome>>, Again> {
        let writer = Writer { cluster: &self.router.ground.cluster, encoders: &self.router.encoders };
        let transactions = self.transactions();
        let now = Timestamp::now();
        let mut outcomes = Vec::with_capacity(rows.len());
        for Row { incoming, share, task } in rows {
            let (envelope, mark) = match task {
                Task::Decide(envelope, mark) | Task::SetAside(envelope, mark) => (&**envelope, mark),
                Task::PassOn(partition) => {
                    transactions.send(&passed_on(incoming, *partition))?;
                    outcomes.push(None);
                    continue;
                }
            };
            let mut seen = self.state.get(overlay, share, &envelope.event_id, now)?;
            let bytes = read_again(task, incoming);
            let as_read = bytes.zip(seen.as_deref()).and_then(|(b, seen)| seen.read_again(&b, envelope.body_sha256));
            seen = as_read.map(Cow::Owned).or(seen);
            let question = Question { envelope, mark: mark.as_ref(), seen: seen.as_deref(), now };
            let mut decision = decide(&question, &self.router.mapper);
            if let Decision::Route(record, _) = &decision {
                match writer.record(record, incoming, now)? {
                    Some(outgoing) => transactions.send(&outgoing)?,
                    None => decision = question.too_large(),
                }
            }
            let outcome = decision.outcome();
            outcomes.push(Some(outcome));
            let why = match &decision {
                Decision::Quarantine(reason, detail, _) => {
                    let event_id = &envelope.event_id;
                    tracing::warn!(source = envelope.source, event_id, reason, detail, "quarantined");
                    Some(Why { reason, detail: detail.as_deref(), settled: None })
                }
                // The marker is forgotten after its window, what stands in quarantine is kept longer: without this row
                // it would seem to wait for ever, and be replayed again.
                _ if mark.is_some() => {
                    Some(Why { reason: outcome.name(), detail: None, settled: Some(outcome.name()) })
                }
                _ => None,
            };
            if let Some(why) = why {
                let whole = self.whole(task, envelope, incoming);
                transactions.send(&writer.quarantined(&whole, &why, incoming, now)?)?;
            }
            if bytes.is_some() {
                // It waited under the name of its bytes.
                let bytes = undecodable(incoming, &share.source, now);
                let why = Why { reason: outcome.name(), detail: None, settled: Some(outcome.name()) };
                transactions.send(&writer.quarantined(&bytes, &why, incoming, now)?)?;
            }
            if let Some(seen) = decision.into_marker() {
                transactions.send_followed(&writer.seen(&share.source, envelope, &seen, incoming)?)?;
                overlay.put(share, &envelope.event_id, seen);
            }
        }
        Ok(outcomes)
    }
}

/// The digest under which a row was set aside when it could not be decoded; none where that was not so, or still is.
fn read_again(task: &Task, incoming: &Incoming) -> Option<Sha256> {
    let read = matches!(task, Task::Decide(_, Some(Mark::Replay { read_again: true, .. })));
    read.then(|| Sha256::of(incoming.value.as_deref().unwrap_or_default()))
}

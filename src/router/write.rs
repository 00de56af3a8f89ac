//! A batch written: transactions with records, markers and offsets, then the state.
//!
//! The client sends one produce request for each partition that a transaction touches, one after the other over one
//! connection, so a transaction takes as long as it has partitions. Parts of a batch with different partitions of
//! `received` have nothing to do with each other: they are written side by side, each in a transaction of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::away::Away;
use super::batch::{Why, Writer, passed_on};
use super::decide::{Decision, Question, decide};
use super::error::Again;
use super::parts::parts;
use super::run::Router;
use super::serve::{Row, Serving, Task};
use super::state::{Overlay, Share, State};
use crate::event::Timestamp;
use crate::kafka::group::{Membership, Partition};
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::lifecycle::failpoint;
use crate::outcome::RouterOutcome;
use crate::topics;

/// A part that was committed.
struct Written {
    /// Each row's outcome; none of one that was passed on, which has it where it then stands.
    outcomes: Vec<Option<RouterOutcome>>,
    overlay: Overlay,
    /// Offsets of its last markers.
    markers: BTreeMap<Share, i64>,
}

impl Serving<'_> {
    /// Writes a batch; what is not written of it, whole partitions, is read again.
    pub(super) fn write(&mut self, rows: Vec<Row>) -> Result<(), Again> {
        let metadata = Arc::clone(self.member.metadata().ok_or(Again::NoMember)?);
        self.turn();
        let parts = parts(rows, self.writers(), |row| &row.share);
        let (router, state, away) = (self.router, &self.state, &self.away);
        let part = |transactions| Part { router, state, away, transactions };
        let written: Vec<Result<Written, Again>> = match parts.as_slice() {
            [whole] => vec![part(self.transactions(0)).write(whole, &metadata)],
            several => std::thread::scope(|scope| {
                let metadata = &metadata;
                let threads: Vec<_> = several
                    .iter()
                    .enumerate()
                    .map(|(n, rows)| {
                        let part = part(self.transactions(n));
                        scope.spawn(move || part.write(rows, metadata))
                    })
                    .collect();
                // A panic goes on to whoever watches this thread.
                let ended = threads.into_iter().map(|thread| thread.join());
                ended.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
            }),
        };
        let (mut again, mut fault) = (BTreeMap::new(), None);
        for (rows, written) in parts.iter().zip(written) {
            match written {
                Ok(written) => self.learn(rows, &written)?,
                Err(Again::Transaction(error @ TransactionError::Abort { .. })) => {
                    tracing::warn!(%error, rows = rows.len(), "batch aborted, read again");
                    for Row { incoming, .. } in rows {
                        again.entry(&incoming.partition).or_insert(incoming.offset);
                    }
                }
                // The next incarnation begins with what is committed of the other parts as well.
                Err(other) => fault = Some(other),
            }
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        if again.is_empty() {
            return Ok(());
        }
        // What stands behind the batch must not come before it.
        let held = self.held.let_go();
        for (partition, offset) in &held {
            again.entry(partition).or_insert(*offset);
        }
        self.member.rewind(again)?;
        self.member.resume(held.iter().map(|(partition, _)| partition))?;
        Ok(())
    }

    /// A part is committed.
    fn learn(&self, rows: &[Row], written: &Written) -> Result<(), Again> {
        self.state.merge(&written.overlay, &written.markers)?;
        failpoint("router.after_state");
        for (row, outcome) in rows.iter().zip(&written.outcomes).filter_map(|(row, outcome)| Some((row, (*outcome)?))) {
            let labels = [row.share.source.as_str(), outcome.name()];
            self.router.role.metrics.router_events.with_label_values(&labels).inc();
        }
        Ok(())
    }
}

/// What writes one part.
struct Part<'a> {
    router: &'a Router,
    state: &'a State,
    away: &'a Away,
    transactions: &'a Transactions,
}

impl Part<'_> {
    /// Writes rows in one transaction. After an error nothing of them is there; with `Abort` the producer can go on.
    fn write(&self, rows: &[Row], metadata: &Arc<Membership>) -> Result<Written, Again> {
        let mut next: BTreeMap<&Partition, i64> = BTreeMap::new();
        for Row { incoming, .. } in rows {
            next.insert(&incoming.partition, incoming.offset + 1);
        }
        self.transactions.begin()?;
        let mut overlay = Overlay::default();
        let written = self.write_rows(rows, &mut overlay).and_then(|outcomes| {
            failpoint("router.after_produce");
            self.transactions.offsets(next.iter().map(|(p, o)| (*p, *o)), metadata)?;
            failpoint("router.after_offsets");
            self.transactions.commit(&|why| self.away.lost_sight(&self.router.role, why))?;
            failpoint("router.after_commit");
            Ok(outcomes)
        });
        match written {
            Ok(outcomes) => Ok(Written { outcomes, overlay, markers: self.last_markers() }),
            Err(Again::Transaction(error @ TransactionError::Abort { .. })) => {
                self.transactions.abort()?;
                Err(error.into())
            }
            // Nothing to abort, or nobody who would hear it: the next incarnation fences this one.
            Err(Again::Transaction(error)) => Err(error.into()),
            Err(other) => {
                drop(self.transactions.abort());
                Err(other)
            }
        }
    }

    /// Offsets of the last markers of the transaction just committed.
    fn last_markers(&self) -> BTreeMap<Share, i64> {
        let prefix = self.router.ground.cluster.topic(&topics::seen(""));
        let places = self.transactions.last_places().into_iter();
        places
            .filter_map(|(partition, offset)| {
                let source = partition.topic.strip_prefix(&prefix)?.to_owned();
                Some((Share { source, partition: partition.number }, offset))
            })
            .collect()
    }

    /// Each row's outcome; none of one that was passed on, which has it where it then stands.
    fn write_rows(&self, rows: &[Row], overlay: &mut Overlay) -> Result<Vec<Option<RouterOutcome>>, Again> {
        let writer = Writer { cluster: &self.router.ground.cluster, encoders: &self.router.encoders };
        let transactions = self.transactions;
        let now = Timestamp::now();
        let mut outcomes = Vec::with_capacity(rows.len());
        for Row { incoming, share, task } in rows {
            let (envelope, mark) = match task {
                Task::Decide(envelope, mark) => (&**envelope, mark),
                Task::PassOn(partition) => {
                    transactions.send(&passed_on(incoming, *partition))?;
                    outcomes.push(None);
                    continue;
                }
            };
            let seen = self.state.get(overlay, share, &envelope.event_id, now)?;
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
            match &decision {
                Decision::Quarantine(reason, detail, _) => {
                    let event_id = &envelope.event_id;
                    tracing::warn!(source = envelope.source, event_id, reason, detail, "quarantined");
                    let why = Why { reason, detail: detail.as_deref(), settled: None };
                    transactions.send(&writer.quarantined(envelope, &why, incoming, now)?)?;
                }
                // The marker is forgotten after its window, what stands in quarantine is kept longer: without this row
                // it would seem to wait for ever, and be replayed again.
                _ if mark.is_some() => {
                    let why = Why { reason: outcome.name(), detail: None, settled: Some(outcome.name()) };
                    transactions.send(&writer.quarantined(envelope, &why, incoming, now)?)?;
                }
                _ => {}
            }
            if let Some(seen) = decision.into_marker() {
                transactions.send_followed(&writer.seen(&share.source, envelope, &seen, incoming)?)?;
                overlay.put(share, &envelope.event_id, seen);
            }
        }
        Ok(outcomes)
    }
}

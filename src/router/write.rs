//! A batch written: one transaction with records, markers and offsets, then the state.

use std::collections::BTreeMap;

use super::batch::Writer;
use super::decide::{Decision, decide};
use super::error::Again;
use super::serve::{Row, Serving};
use super::state::{Overlay, Share};
use crate::event::Timestamp;
use crate::kafka::group::Partition;
use crate::kafka::transaction::TransactionError;
use crate::lifecycle::failpoint;
use crate::outcome::{QuarantineReason, RouterOutcome};
use crate::topics;

impl Serving<'_> {
    /// Writes a batch, or nothing of it.
    pub(super) fn write(&mut self, rows: Vec<Row>) -> Result<(), Again> {
        let metadata = self.member.metadata().ok_or(Again::NoMember)?;
        let mut first: BTreeMap<&Partition, i64> = BTreeMap::new();
        let mut next: BTreeMap<&Partition, i64> = BTreeMap::new();
        for row in &rows {
            first.entry(&row.incoming.partition).or_insert(row.incoming.offset);
            next.insert(&row.incoming.partition, row.incoming.offset + 1);
        }
        self.transactions.begin()?;
        let mut overlay = Overlay::default();
        let written = self.write_rows(&rows, &mut overlay).and_then(|outcomes| {
            failpoint("router.after_produce");
            self.transactions.offsets(next.iter().map(|(p, o)| (*p, *o)), metadata)?;
            failpoint("router.after_offsets");
            self.transactions.commit(&|why| self.lost_sight(why))?;
            failpoint("router.after_commit");
            Ok(outcomes)
        });
        match written {
            Ok(outcomes) => {
                self.state.merge(&overlay, &self.last_markers())?;
                failpoint("router.after_state");
                for (row, outcome) in rows.iter().zip(outcomes) {
                    let labels = [row.share.source.as_str(), outcome.name()];
                    self.router.role.metrics.router_events.with_label_values(&labels).inc();
                }
                Ok(())
            }
            Err(Again::Transaction(error @ TransactionError::Abort { .. })) => {
                tracing::warn!(%error, rows = rows.len(), "batch aborted, read again");
                self.transactions.abort()?;
                self.member.rewind(first)?;
                Ok(())
            }
            Err(other) => {
                // Whether or not the broker still hears it: the next incarnation fences this one.
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

    fn write_rows(&self, rows: &[Row], overlay: &mut Overlay) -> Result<Vec<RouterOutcome>, Again> {
        let writer = Writer { cluster: &self.router.ground.cluster, encoders: &self.router.encoders };
        let transactions = &self.transactions;
        let now = Timestamp::now();
        let mut outcomes = Vec::with_capacity(rows.len());
        for Row { incoming, share, envelope } in rows {
            let seen = self.state.get(overlay, share, &envelope.event_id, now)?;
            let mut decision = decide(envelope, seen.as_deref(), &self.router.mapper, now);
            if let Decision::Route(record, marker) = &decision {
                match writer.record(record, incoming, now)? {
                    Some(outgoing) => transactions.send(&outgoing)?,
                    None => {
                        let reason = QuarantineReason::RecordTooLarge.to_string();
                        decision = Decision::Quarantine(reason, None, marker.quarantined());
                    }
                }
            }
            if let Decision::Quarantine(reason, detail, _) = &decision {
                tracing::warn!(source = envelope.source, event_id = envelope.event_id, reason, detail, "quarantined");
                transactions.send(&writer.quarantined(envelope, reason, detail.as_deref(), incoming, now)?)?;
            }
            outcomes.push(decision.outcome());
            if let Decision::Route(_, seen) | Decision::Test(seen) | Decision::Quarantine(_, _, seen) = decision {
                transactions.send_followed(&writer.seen(&share.source, envelope, &seen, incoming)?)?;
                overlay.put(share, &envelope.event_id, seen);
            }
        }
        Ok(outcomes)
    }
}

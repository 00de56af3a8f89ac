//! What is finished becomes known: rows and positions in one Kafka transaction, batched.
//!
//! A crash before the commit repeats the tries since the last one; it cannot lose a dead letter, double one, or move a
//! position past either. Progress stands in the group's offsets alone; what else a step should make known (parked
//! records, progress above the position) belongs into [`Batch::rows`] and thereby into the same transaction.

use std::time::Duration;

use tokio::time::Instant;

use crate::kafka::group::{Member, Partition};
use crate::kafka::produce::Outgoing;
use crate::kafka::transaction::{TransactionError, Transactions};

/// What waits for the next commit.
#[derive(Debug)]
pub(super) struct Batch {
    max_rows: usize,
    max_wait: Duration,
    rows: Vec<Outgoing>,
    since: Option<Instant>,
}

impl Batch {
    /// An empty batch that is due with this many rows or after this time.
    pub(super) const fn new(max_rows: usize, max_wait: Duration) -> Self {
        Self { max_rows, max_wait, rows: Vec::new(), since: None }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: Outgoing, now: Instant) {
        self.rows.push(row);
        self.since.get_or_insert(now);
    }

    /// Whether it is time to commit.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.rows.len() >= self.max_rows
            || self.since.is_some_and(|since| now.saturating_duration_since(since) >= self.max_wait)
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows.
    pub(super) fn rows(&self) -> &[Outgoing] {
        &self.rows
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.since = None;
    }
}

/// Commits these rows and positions as this member of its group. `waiting` hears why it takes longer than usual.
///
/// # Errors
/// `Abort` where it certainly did not happen and the producer can go on; `Fenced` where the producer has to be replaced
/// and the outcome may be unknown: the committed offsets tell.
pub(super) fn commit(
    transactions: &Transactions,
    member: &Member,
    rows: &[Outgoing],
    positions: &[(Partition, i64)],
    waiting: &dyn Fn(&str),
) -> Result<(), TransactionError> {
    transactions.begin()?;
    let work = || {
        for row in rows {
            transactions.send(row)?;
        }
        // Without a membership there are no positions either: both are had with the first partitions.
        if let Some(metadata) = member.metadata().filter(|_| !positions.is_empty()) {
            transactions.offsets(positions.iter().map(|(partition, next)| (partition, *next)), metadata)?;
        }
        transactions.commit(waiting)
    };
    match work() {
        Err(abort @ TransactionError::Abort { .. }) => {
            transactions.abort()?;
            Err(abort)
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::headers::Headers;

    #[test]
    fn a_batch_is_due_by_rows_or_time() {
        let row = || Outgoing {
            topic: String::new(),
            partition: None,
            key: Vec::new(),
            value: Vec::new(),
            headers: Headers::default(),
            timestamp_ms: None,
        };
        let t0 = Instant::now();
        let mut batch = Batch::new(2, Duration::from_secs(1));
        assert!(!batch.is_due(t0 + Duration::from_secs(9)) && batch.is_empty());
        batch.add(row(), t0);
        assert!(!batch.is_due(t0) && batch.is_due(t0 + Duration::from_secs(1)));
        batch.add(row(), t0);
        assert!(batch.is_due(t0));
        batch.clear();
        assert!(batch.is_empty() && !batch.is_due(t0 + Duration::from_secs(9)));
    }
}

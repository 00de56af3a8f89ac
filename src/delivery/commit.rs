//! Steps become known: rows and positions in one Kafka transaction, batched with those that ended together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::kafka::group::{Membership, Partition};
use crate::kafka::produce::Outgoing;
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::lifecycle::failpoint;

/// Most bytes of rows between two commits, about: what a batch costs in memory.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A row to be written.
#[derive(Debug)]
pub(super) enum Row {
    /// This one.
    Write(Outgoing),
    /// A tombstone.
    Erase {
        /// Kafka's name of the topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Key.
        key: Vec<u8>,
    },
}

/// What waits for the next commit.
#[derive(Debug)]
pub(super) struct Batch {
    max_rows: usize,
    max_wait: Duration,
    rows: Vec<Row>,
    bytes: usize,
    since: Option<Instant>,
}

impl Batch {
    /// An empty batch that is due with this many rows or after this time.
    pub(super) const fn new(max_rows: usize, max_wait: Duration) -> Self {
        Self { max_rows, max_wait, rows: Vec::new(), bytes: 0, since: None }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: Row, now: Instant) {
        if let Row::Write(row) = &row {
            self.bytes += row.value.len();
        }
        self.rows.push(row);
        self.since.get_or_insert(now);
    }

    /// Whether it holds as much as it may.
    pub(super) const fn is_full(&self) -> bool {
        self.rows.len() >= self.max_rows || self.bytes >= MAX_BYTES
    }

    /// Whether it is time to commit.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_full() || self.since.is_some_and(|since| now.saturating_duration_since(since) >= self.max_wait)
    }

    /// Takes all rows out.
    pub(super) fn take(&mut self) -> Vec<Row> {
        self.bytes = 0;
        self.since = None;
        std::mem::take(&mut self.rows)
    }
}

/// The group's offsets as the last commit left them. Each one in a transaction is a record of the broker's own topic, so
/// what stands there already is left out: of a target's hundred partitions a few move at one time.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    known: BTreeMap<Partition, i64>,
}

impl Offsets {
    /// Of these positions, which are all there are, those that moved since the last time; one where none did, which
    /// proves as well as all of them that the partitions are ours.
    pub(super) fn moved(&mut self, positions: Vec<(Partition, i64)>) -> Vec<(Partition, i64)> {
        let proof = positions.first().cloned();
        let mut moved = positions;
        moved.retain(|(partition, next)| match self.known.get_mut(partition) {
            Some(known) => std::mem::replace(known, *next) != *next,
            None => self.known.insert(partition.clone(), *next).is_none(),
        });
        if moved.is_empty() {
            moved.extend(proof);
        }
        moved
    }

    /// Forgets them: partitions were lost, or the outcome of a commit is not known.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// Commits these rows and positions, as this member of its group. `waiting` hears why it takes longer than usual.
///
/// # Errors
/// `Abort` where it certainly did not happen and the producer can go on; `Fenced` where the producer has to be replaced
/// and the outcome may be unknown: the committed offsets tell.
pub(super) fn commit(
    transactions: &Transactions,
    member: Option<&Arc<Membership>>,
    rows: &[Row],
    positions: &[(Partition, i64)],
    waiting: &dyn Fn(&str),
) -> Result<(), TransactionError> {
    transactions.begin()?;
    let work = || {
        for row in rows {
            match row {
                Row::Write(row) => transactions.send(row)?,
                Row::Erase { topic, partition, key } => transactions.erase(topic, *partition, key)?,
            }
        }
        failpoint("delivery.after_rows");
        // Without a membership there are no positions either: both are had with the first partitions.
        if let Some(metadata) = member.filter(|_| !positions.is_empty()) {
            transactions.offsets(positions.iter().map(|(partition, next)| (partition, *next)), metadata)?;
        }
        failpoint("delivery.after_offsets");
        transactions.commit(waiting)?;
        failpoint("delivery.after_commit");
        Ok(())
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
    fn offsets_that_stand_there_are_left_out_but_for_one() {
        let at = |number, next| (Partition { topic: "invoices".to_owned(), number }, next);
        let mut offsets = Offsets::default();
        assert_eq!(offsets.moved(vec![at(0, 5), at(1, 7), at(2, 0)]), [at(0, 5), at(1, 7), at(2, 0)], "all are new");
        assert_eq!(offsets.moved(vec![at(0, 5), at(1, 8), at(2, 0)]), [at(1, 8)]);
        assert_eq!(offsets.moved(vec![at(0, 5), at(1, 8), at(2, 0)]), [at(0, 5)], "a proof");
        assert_eq!(offsets.moved(vec![at(0, 4), at(1, 8), at(2, 0)]), [at(0, 4)], "back is moved as well");
        assert_eq!(offsets.moved(Vec::new()), []);
        offsets.clear();
        assert_eq!(offsets.moved(vec![at(0, 4), at(1, 8)]), [at(0, 4), at(1, 8)]);
    }

    #[test]
    fn a_batch_is_due_by_rows_or_time() {
        let row = || Row::Erase { topic: String::new(), partition: 0, key: Vec::new() };
        let t0 = Instant::now();
        let mut batch = Batch::new(2, Duration::from_secs(1));
        assert!(!batch.is_due(t0 + Duration::from_secs(9)));
        batch.add(row(), t0);
        assert!(!batch.is_due(t0) && batch.is_due(t0 + Duration::from_secs(1)));
        batch.add(row(), t0);
        assert!(batch.is_due(t0));
        assert_eq!(batch.take().len(), 2);
        assert!(!batch.is_due(t0 + Duration::from_secs(9)));
        let large = Outgoing {
            topic: String::new(),
            partition: None,
            key: Vec::new(),
            value: vec![0; MAX_BYTES],
            headers: Headers::default(),
            timestamp_ms: None,
        };
        batch.add(Row::Write(large), t0);
        assert!(batch.is_due(t0));
    }
}

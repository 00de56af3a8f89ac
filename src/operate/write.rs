//! Rows of an operator's action and its entry in `audit`, in transactions.

use std::time::Duration;

use super::audit;
use super::error::OperateError;
use crate::event::AuditEntry;
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::produce::Outgoing;
use crate::kafka::transaction::{TransactionError, Transactions};

/// Most events of one transaction: its rows are held back from every reader until it ends.
pub const BATCH: usize = 500;
/// Bound on one transaction.
const TRANSACTION: Duration = Duration::from_secs(30);

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Id of the operation: header of each row, and in `audit`.
    pub id: String,
    /// Events written.
    pub events: usize,
}

/// Writes an action's rows.
pub(super) struct Writer<'a> {
    ground: &'a Ground,
    encoders: &'a Encoders,
    transactions: Transactions,
    pending: Vec<Outgoing>,
    done: Done,
    /// The entry of a transaction with so many events.
    entry: &'a dyn Fn(usize) -> AuditEntry,
}

impl<'a> Writer<'a> {
    /// Begins an action with this id.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub(super) fn open(
        ground: &'a Ground,
        encoders: &'a Encoders,
        id: &str,
        entry: &'a dyn Fn(usize) -> AuditEntry,
    ) -> Result<Self, OperateError> {
        let transactions = Transactions::open(&ground.cluster, &format!("operate.{id}"), TRANSACTION)
            .map_err(|cause| OperateError::Transaction { done: 0, cause })?;
        let done = Done { id: id.to_owned(), events: 0 };
        Ok(Self { ground, encoders, transactions, pending: Vec::with_capacity(BATCH), done, entry })
    }

    /// Writes a row, with others.
    ///
    /// # Errors
    /// When Kafka does not take them. What was written before stays.
    pub(super) fn push(&mut self, row: Outgoing) -> Result<(), OperateError> {
        self.pending.push(row);
        if self.pending.len() >= BATCH { self.commit() } else { Ok(()) }
    }

    /// Writes the last rows.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub(super) fn finish(mut self) -> Result<Done, OperateError> {
        self.commit()?;
        Ok(self.done)
    }

    fn commit(&mut self) -> Result<(), OperateError> {
        let events = self.pending.len();
        if events == 0 {
            return Ok(());
        }
        self.pending.push(audit::record(self.ground, self.encoders, &(self.entry)(events))?);
        let written: Result<(), TransactionError> = self.transactions.begin().and_then(|()| {
            self.pending.iter().try_for_each(|record| self.transactions.send(record))?;
            self.transactions.commit(&|why| tracing::warn!(why, "still waiting for Kafka"))
        });
        if let Err(cause) = written {
            // Where the broker does not hear it, it ends the transaction at its timeout.
            drop(self.transactions.abort());
            return Err(OperateError::Transaction { done: self.done.events, cause });
        }
        self.done.events += events;
        self.pending.clear();
        Ok(())
    }
}

//! The writer's thread: everything that waits goes into one group.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::SpoolError;
use super::ledger::Position;
use super::log::Log;
use super::waiting::Claim;

/// Bytes written with one sync: what a slow disk writes in a fraction of a provider's deadline.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Between two tries after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// After this long without an entry an active segment with nothing left in it is removed.
const IDLE: Duration = Duration::from_millis(500);

/// What the writer is told.
pub(super) enum Command {
    /// To be made durable.
    Append { payload: Vec<u8>, done: oneshot::Sender<Result<Position, SpoolError>>, claim: Claim },
    /// Something was acknowledged whole.
    Tidy,
    /// No more comes.
    End,
}

/// Writes until it is told to end, or nobody is left to tell it.
pub(super) fn write(mut log: Log, commands: &Receiver<Command>) {
    let mut failed: Option<(SpoolError, Instant)> = None;
    loop {
        let first = match commands.recv_timeout(IDLE) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return log.end(),
        };
        let is_idle = first.is_none();
        let mut group = Group::default();
        let mut next = first;
        while let Some(command) = next {
            match command {
                Command::Append { payload, done, claim } => group.push(payload, done, claim),
                Command::Tidy => group.tidy = true,
                Command::End => {
                    group.commit(&mut log, &mut failed);
                    return log.end();
                }
            }
            next = (group.bytes < GROUP_BYTES).then(|| commands.try_recv().ok()).flatten();
        }
        group.commit(&mut log, &mut failed);
        // Without this a receiver that nobody sends to any more would never learn that the disk works again.
        if is_idle && failed.as_ref().is_some_and(|(_, at)| at.elapsed() >= RETRY) {
            failed = log.probe().err().map(|error| (error, Instant::now()));
        }
        if group.tidy || is_idle {
            log.tidy(is_idle);
        }
    }
}

/// Entries that are made durable together.
#[derive(Default)]
struct Group {
    payloads: Vec<Vec<u8>>,
    waiting: Vec<oneshot::Sender<Result<Position, SpoolError>>>,
    /// Given back when the group ends.
    claims: Vec<Claim>,
    bytes: usize,
    tidy: bool,
}

impl Group {
    fn push(&mut self, payload: Vec<u8>, done: oneshot::Sender<Result<Position, SpoolError>>, claim: Claim) {
        self.bytes += payload.len();
        self.payloads.push(payload);
        self.waiting.push(done);
        self.claims.push(claim);
    }

    /// Writes, syncs and answers. Whoever does not wait any more has given up.
    fn commit(&mut self, log: &mut Log, failed: &mut Option<(SpoolError, Instant)>) {
        if self.payloads.is_empty() {
            return;
        }
        let committed = match failed {
            Some((error, at)) if at.elapsed() < RETRY => Err(error.clone()),
            _ => log.commit(&self.payloads),
        };
        match committed {
            Ok(positions) => {
                *failed = None;
                for (done, position) in self.waiting.drain(..).zip(positions) {
                    let _ = done.send(Ok(position));
                }
            }
            Err(error) => {
                // Full is no fault of the disk: it is over as soon as something is drained.
                if failed.as_ref().is_none_or(|(_, at)| at.elapsed() >= RETRY)
                    && !matches!(error, SpoolError::Full { .. })
                {
                    tracing::error!(%error, events = self.payloads.len(), "the spool could not make events durable");
                    *failed = Some((error.clone(), Instant::now()));
                }
                for done in self.waiting.drain(..) {
                    let _ = done.send(Err(error.clone()));
                }
            }
        }
    }
}

//! What a worker reads: gains and losses of partitions, records into the plan, and looking after what is away.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Stopped;
use super::worker::{IDLE, Interrupt, LOOK_EVERY, Worker};
use crate::event::Timestamp;
use crate::kafka::group::{Incoming, Member, Polled};
use crate::kafka::transaction::Transactions;

/// Most records taken before results are looked at again.
const BURST: usize = 100;
/// How long reading just stops when no more can be held. Pausing throws away what the client has fetched ahead, so it
/// is for longer times, in which polls have to go on or the group would take us for dead.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest wait for tries under way before partitions are handed over; half of the time that the group gives us.
const HAND_OVER: Duration = Duration::from_secs(150);

impl Worker {
    /// Polls for what there is; says whether there was something.
    pub(super) fn read(&mut self, member: &mut Member, transactions: &Transactions) -> Result<bool, Interrupt> {
        let now = Instant::now();
        let full = if self.paused { !self.plan.is_low() } else { self.plan.is_full() };
        let hold = full || !self.stash.is_empty();
        if hold && !self.paused {
            if now.saturating_duration_since(*self.held_since.get_or_insert(now)) < PATIENCE {
                return Ok(false);
            }
            member.pause(&self.partitions)?;
            self.paused = true;
        } else if !hold {
            self.held_since = None;
            if self.paused {
                member.resume(&self.partitions)?;
                self.paused = false;
            }
        }
        let mut wait = if hold || self.plan.in_flight() > 0 { Duration::ZERO } else { IDLE };
        for taken in 0..BURST {
            match member.poll(wait)? {
                Polled::Nothing => return Ok(taken > 0),
                Polled::Record(incoming) => {
                    self.take(*incoming)?;
                    if self.plan.is_full() || !self.stash.is_empty() {
                        return Ok(true);
                    }
                }
                Polled::Gained(partitions) => {
                    self.partitions = partitions;
                    self.joined = true;
                    self.well();
                }
                Polled::Leaving { lost } => {
                    if !lost {
                        self.drain(self.s.target.timeout.min(HAND_OVER))?;
                        self.commit(member, transactions)?;
                    }
                    self.forget();
                    member.release()?;
                    return Ok(true);
                }
                Polled::Away(why) => {
                    self.unwell(&why);
                    return Ok(false);
                }
            }
            wait = Duration::ZERO;
        }
        Ok(true)
    }

    /// Takes a record into the plan, or into a dead letter where it cannot be decoded.
    fn take(&mut self, incoming: Incoming) -> Result<(), Stopped> {
        if !self.stash.is_empty() {
            self.stash.push_back(incoming);
            return Ok(());
        }
        match self.s.reader.read(&incoming) {
            Ok(task) => {
                let (lane, recorded) = (task.lane(&incoming), task.recorded(&incoming));
                self.plan.read(lane, incoming.offset, recorded, task);
            }
            Err(error) if error.is_away() => {
                self.unwell(&error.to_string());
                self.stash.push_back(incoming);
            }
            Err(error) => {
                let topic = self.s.reader.short(&incoming.partition.topic).to_owned();
                tracing::error!(
                    target_name = self.s.target.name, topic, partition = incoming.partition.number,
                    offset = incoming.offset, %error, "dead letter: the record cannot be decoded"
                );
                self.plan.pass(&incoming.partition, incoming.offset);
                let row = self.s.rows.undecodable(&topic, incoming, &error.to_string(), Timestamp::now())?;
                self.batch.add(row, Instant::now());
            }
        }
        Ok(())
    }

    pub(super) fn unwell(&mut self, why: &str) {
        // The client words the same absence in many ways; the first says it.
        if self.away.is_none() {
            self.s.board.not_ready(&self.s.target.name, why);
            self.away = Some(Instant::now());
        }
    }

    pub(super) fn well(&mut self) {
        self.away = None;
        self.s.board.ready(&self.s.target.name);
    }

    /// Looks whether what was away is back: the client does not say so by itself.
    pub(super) fn look(&mut self, now: Instant) -> Result<(), Stopped> {
        if self.away.is_none_or(|at| now < at) {
            return Ok(());
        }
        let stashed: Vec<Incoming> = self.stash.drain(..).collect();
        for incoming in stashed {
            // One that still cannot be decoded goes back, and all behind it, in order.
            self.take(incoming)?;
        }
        let answers = self.s.target.records.first().is_none_or(|topic| self.s.ground.partitions_of(topic).is_ok());
        if answers && self.joined && self.stash.is_empty() {
            self.well();
        } else {
            self.away = Some(Instant::now() + LOOK_EVERY);
        }
        Ok(())
    }
}

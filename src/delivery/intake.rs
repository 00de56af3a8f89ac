//! What a worker reads: gains and losses of partitions, records into the plan, and looking after what is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::Clock;
use super::committer::Committer;
use super::error::Stopped;
use super::progress::Position;
use super::restore;
use super::room::Asked;
use super::worker::{IDLE, Interrupt, LOOK_EVERY, PROOF, Worker};
use crate::event::Timestamp;
use crate::kafka::codec::DecodeError;
use crate::kafka::group::{Incoming, Member, Partition, Polled};
use crate::outcome::DeadLetterReason;

/// Most records taken before results are looked at again.
const BURST: usize = 100;
/// How long reading just stops when no more can be held. Pausing throws away what the client has fetched ahead, so it
/// is for longer times, in which polls have to go on or the group would take us for dead.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest wait for tries under way before partitions are handed over; half of the time that the group gives us.
const HAND_OVER: Duration = Duration::from_secs(150);

impl Worker {
    /// Polls for what there is; says whether there was something.
    pub(super) fn read(&mut self, member: &mut Member, committer: &Committer<'_>) -> Result<bool, Interrupt> {
        let now = Instant::now();
        if self.committing.is_some() && self.batch.is_full() {
            return Ok(false);
        }
        let full = if self.paused { !self.engine.plan.is_low() } else { self.engine.plan.is_full() };
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
                (self.paused, self.crowded) = (false, false);
            }
        }
        self.spread(member)?;
        let mut wait = if hold || self.is_waiting() { Duration::ZERO } else { IDLE };
        for taken in 0..BURST {
            match member.poll(wait)? {
                Polled::Nothing => return Ok(taken > 0),
                Polled::Record(incoming) => {
                    self.take(*incoming)?;
                    self.spread(member)?;
                    if self.engine.plan.is_full() || !self.stash.is_empty() {
                        return Ok(true);
                    }
                }
                Polled::Gained(partitions) => {
                    self.gain(member, committer, partitions)?;
                }
                Polled::Leaving { lost } => {
                    self.finish_commit(committer)?;
                    if !lost {
                        self.drain(self.s.target.timeout.min(HAND_OVER))?;
                        self.commit_all(member, committer, true)?;
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

    /// Reads redeliveries as long as there is room for them, and leaves them where they are else: live records go on.
    fn spread(&mut self, member: &Member) -> Result<(), Interrupt> {
        let room = &self.engine.room;
        let crowded = if self.crowded { !room.is_low() } else { room.is_full() };
        if self.paused || crowded == self.crowded {
            return Ok(());
        }
        let theirs = self.partitions.iter().filter(|partition| partition.topic == self.redeliver);
        if crowded {
            member.pause(theirs)?
        } else {
            member.resume(theirs)?
        }
        self.crowded = crowded;
        Ok(())
    }

    /// Takes partitions over: what is known of them is restored before anything is sent, and the first commit says that
    /// they are ours.
    fn gain(
        &mut self,
        member: &Member,
        committer: &Committer<'_>,
        partitions: Vec<Partition>,
    ) -> Result<(), Interrupt> {
        let started = Instant::now();
        let all: usize = {
            let of = |topic: &String| self.s.ground.partitions_of(topic).map(|partitions| partitions.len());
            let counts: Result<Vec<usize>, _> = self.s.topics().iter().map(of).collect();
            counts.map_err(|error| Interrupt::Again { why: error.to_string(), fenced: false })?.iter().sum()
        };
        self.engine.owns(partitions.len(), all);
        if self.s.target.max_concurrency * partitions.len() < all {
            tracing::warn!(
                target_name = self.s.target.name,
                max_concurrency = self.s.target.max_concurrency,
                "fewer may be sent at a time than instances deliver; each of them sends one"
            );
        }
        let committed = member.committed(&partitions)?;
        if committed.len() < partitions.len() {
            // Where a partition begins was committed when it was gained. Records of one that is not known of would pass
            // unseen.
            let why = "the group's offsets are not all there yet".to_owned();
            return Err(Interrupt::Again { why, fenced: false });
        }
        let (target, clock) = (&self.s.target, Clock::now());
        let mut known = restore::read(&self.s.ground, &target.name, &partitions, self.s.reader.decoder(), &clock)?;
        let mut moved: Vec<(Partition, i64)> = Vec::new();
        for (partition, offset) in committed {
            let restored = known.positions.remove(&partition);
            let (mut position, writer) =
                restored.unwrap_or_else(|| (Position::new(partition.clone(), offset), String::new()));
            if let Some(begins) = member.skipped(&partition)
                && position.next == offset
            {
                position.pass_to(begins);
            }
            // Progress outlives the broker's memory of offsets, and is not what an operator's tool moves.
            if position.next != member.skipped(&partition).unwrap_or(offset) {
                moved.push((partition.clone(), position.next));
            }
            // Whoever had it may be alive and not know: its last commit lets it begin tries for as long as that proves anything.
            let tried_until = if position.handed_over { clock.now } else { clock.now + PROOF };
            // Of our own predecessor nothing is under way: its process is gone.
            if !position.handed_over && writer != self.s.instance {
                self.not_before = Some(tried_until + target.timeout);
            }
            let end = known.ends.get(&partition.number).copied().unwrap_or(0);
            self.engine.plan.gain(position, end, tried_until);
        }
        self.engine.gained(clock.now, self.not_before);
        for (lane, time) in known.latest {
            self.latest.note(&lane, time);
        }
        let parked = known.waiting.len();
        for (lane, waiting) in known.waiting {
            self.engine.plan.restore(lane, waiting, clock.now);
        }
        if !moved.is_empty() {
            tracing::warn!(
                target_name = target.name,
                ?moved,
                "the group's offsets differ from the target's progress, which counts"
            );
            member.rewind(moved.iter().map(|(partition, offset)| (partition, *offset)))?;
        }
        tracing::info!(
            target_name = target.name,
            partitions = partitions.len(),
            parked,
            seconds = started.elapsed().as_secs_f64(),
            "partitions gained"
        );
        self.partitions = partitions;
        self.joined = true;
        self.commit_all(member, committer, false)?;
        self.well();
        Ok(())
    }

    /// Asks for the end of a partition gained, where it is time to: one at a time, so that nothing waits for long.
    pub(super) fn ask_for_an_end(&mut self, member: &Member) {
        let now = Instant::now();
        let Some(partition) = self.engine.ends.next(now) else { return };
        if !self.engine.plan.is_unsure(&partition) {
            return;
        }
        let told = member.end(&partition);
        tracing::debug!(target_name = self.s.target.name, ?partition, ?told, "where no earlier owner sent anything");
        if !told.is_ok_and(|end| self.engine.plan.sure_above(&partition, end)) {
            self.engine.ends.untold(partition, now);
        }
    }

    /// Takes a record into the plan, or into a dead letter where it cannot be decoded.
    fn take(&mut self, incoming: Incoming) -> Result<(), Stopped> {
        if !self.stash.is_empty() {
            self.stash.push_back(incoming);
            return Ok(());
        }
        if incoming.partition.topic == self.redeliver {
            return self.repeat(incoming);
        }
        match self.s.reader.read(&incoming) {
            Ok(task) => {
                let (lane, recorded) = (task.lane(&incoming.partition), task.recorded(&incoming));
                let clock = Clock::now();
                if let Some(change) = self.engine.plan.read(lane, incoming.offset, recorded, task, clock.now) {
                    self.write(&change, &clock)?;
                }
            }
            Err(error) if error.is_away() => {
                self.unwell(&error.to_string());
                self.stash.push_back(incoming);
            }
            Err(error) => self.bury(incoming, &error)?,
        }
        Ok(())
    }

    /// Takes a redelivery into the room, or into a dead letter where its record cannot be delivered.
    fn repeat(&mut self, incoming: Incoming) -> Result<(), Stopped> {
        let (from, offset) = (incoming.partition.clone(), incoming.offset);
        let row = match self.s.reader.redelivery(&incoming) {
            Ok(row) => row,
            Err(error) if error.is_away() => {
                self.unwell(&error.to_string());
                self.stash.push_back(incoming);
                return Ok(());
            }
            Err(error) => return self.bury(incoming, &error),
        };
        let topic = self.s.ground.cluster.topic(&row.record_topic);
        let partition = Partition { topic, number: row.record_partition };
        let refused = match self.s.reader.repeat(&row, offset) {
            Ok(task) if partition.number == from.number && self.partitions.contains(&partition) => {
                let clock = Clock::now();
                self.engine.redeliver(Asked {
                    lane: task.lane(&partition),
                    from,
                    offset,
                    record: Arc::new(task),
                    tried: clock.instant(row.tried_at.unwrap_or(row.requested_at)),
                    interval: Duration::from_micros(u64::try_from(row.interval_us).unwrap_or(0)),
                });
                return Ok(());
            }
            Ok(_) if self.s.target.records.contains(&row.record_topic) => {
                let why = "this deliverer does not own the record's partition: redeliver and the record topics need the \
                           same number of partitions (ledgerhook topics check)";
                (DeadLetterReason::Rejected, why.to_owned())
            }
            Ok(_) => (DeadLetterReason::Rejected, format!("the target takes no records of {}", row.record_topic)),
            Err(error) if error.is_away() => {
                self.unwell(&error.to_string());
                self.stash.push_back(incoming);
                return Ok(());
            }
            Err(error) => (DeadLetterReason::Undecodable, error.to_string()),
        };
        if !self.may_give_up() {
            self.stash.push_back(incoming);
            return Ok(());
        }
        if self.engine.plan.pass(&from, offset) {
            let (reason, why) = refused;
            let event_id = incoming.headers.get("ce_id").unwrap_or_default();
            tracing::error!(target_name = self.s.target.name, event_id, why, "dead letter: a redelivery comes back");
            let row = self.s.rows.returned(row, incoming.headers, reason, why, Timestamp::now())?;
            self.batch.add(row, Instant::now());
        }
        Ok(())
    }

    /// Makes a dead letter of a row that cannot be decoded.
    fn bury(&mut self, incoming: Incoming, error: &DecodeError) -> Result<(), Stopped> {
        if !self.may_give_up() {
            self.stash.push_back(incoming);
            return Ok(());
        }
        let topic = self.s.reader.short(&incoming.partition.topic).to_owned();
        if !self.engine.plan.pass(&incoming.partition, incoming.offset) {
            return Ok(());
        }
        tracing::error!(
            target_name = self.s.target.name, topic, partition = incoming.partition.number,
            offset = incoming.offset, %error, "dead letter: the record cannot be decoded"
        );
        let row = self.s.rows.undecodable(&topic, incoming, &error.to_string(), Timestamp::now())?;
        self.batch.add(row, Instant::now());
        Ok(())
    }

    /// Whether a record may become a dead letter: not while the target is paused, or might be.
    fn may_give_up(&self) -> bool {
        self.conferred.is_complete() && !self.engine.window.is_paused()
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
        if self.away.is_none() && !self.stash.is_empty() && self.may_give_up() {
            // They waited for no more than that.
            self.take_again()?;
        }
        if self.away.is_none_or(|at| now < at) {
            return Ok(());
        }
        self.take_again()?;
        let answers = self.s.target.records.first().is_none_or(|topic| self.s.ground.partitions_of(topic).is_ok());
        if answers && self.joined && (self.stash.is_empty() || !self.may_give_up()) {
            self.well();
        } else {
            self.away = Some(Instant::now() + LOOK_EVERY);
        }
        Ok(())
    }

    /// Takes what waits in the stash; what still cannot be taken goes back, and all behind it, in order.
    fn take_again(&mut self) -> Result<(), Stopped> {
        let stashed: Vec<Incoming> = self.stash.drain(..).collect();
        stashed.into_iter().try_for_each(|incoming| self.take(incoming))
    }
}

//! How far a target has come in one partition: what is finished, what is open, what may have been sent. Pure.
//!
//! Finished means: nothing of it is left to be done from the record topic, because it was delivered, given up, or
//! parked. Two numbers and a list say it all, whatever finished in which order: everything below `end` is finished
//! but what is listed as open. The list is as long as what is held in memory, so a slow record costs one entry, not
//! one for every record that overtakes it.
//!
//! Nothing at or above `sent_below` was ever sent. A record there may be tried only after a commit that moved the
//! bound beyond it; whoever gains the partition after a crash knows by it which records may have reached the target. Nor
//! was anything sent that stands behind the partition's end of when its earlier owner could send no more.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Timestamp;
use crate::kafka::group::Partition;

/// Progress of one partition as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The partition.
    pub(super) partition: Partition,
    /// Everything below is finished: the offset to go on from.
    pub(super) next: i64,
    /// Everything below is finished but what is in `open`.
    pub(super) end: i64,
    /// Unfinished offsets below `end`, ascending.
    pub(super) open: Vec<i64>,
    /// Open records that were tried without a verdict on themselves, with the number of tries.
    pub(super) tried: BTreeMap<i64, u32>,
    /// Only open records below may have been sent.
    pub(super) sent_below: i64,
    /// Whether nothing was under way any more: the writer gave the partition back.
    pub(super) handed_over: bool,
}

impl Position {
    /// The beginning of a partition that nothing was written down of.
    pub(super) fn new(partition: Partition, next: i64) -> Self {
        let (open, tried) = (Vec::new(), BTreeMap::new());
        Self { partition, next, end: next, open, tried, sent_below: 0, handed_over: true }
    }

    /// Goes on from this offset, before which no record stands that is open.
    pub(super) fn pass_to(&mut self, next: i64) {
        self.next = self.next.max(next);
        self.end = self.end.max(next);
        self.open.retain(|offset| *offset >= next);
        self.tried.retain(|offset, _| *offset >= next);
    }
}

/// What earlier owners of the partition did with a record that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// Tries that were written down.
    pub(super) tries: u32,
    /// Whether it may have been sent once more than that.
    pub(super) suspect: bool,
}

/// Progress of one partition.
#[derive(Debug)]
pub(super) struct Reading {
    /// Open records that were read, and when they were recorded; none for those of a replay.
    open: BTreeMap<i64, Option<Timestamp>>,
    /// Records known as open that were not read again yet.
    unread: BTreeSet<i64>,
    end: i64,
    tried: BTreeMap<i64, u32>,
    /// Below, open records may have been sent by an earlier owner.
    suspect_below: i64,
    /// Parked heads that it may have sent, and of which we wrote down nothing yet.
    suspects: usize,
    /// Below, records may be sent by us: the bound is committed.
    sendable: i64,
    /// The bound in the transaction under way.
    promised: i64,
    /// Whether the transaction under way says something of the partition.
    sealed: bool,
    /// Whether there is something to say that it does not.
    dirty: bool,
}

impl Reading {
    /// A partition as it was written down.
    pub(super) fn new(known: Position) -> Self {
        let mut unread: BTreeSet<i64> = known.open.into_iter().collect();
        unread.retain(|offset| *offset >= known.next);
        Self {
            open: BTreeMap::new(),
            unread,
            end: known.end.max(known.next),
            tried: known.tried,
            suspect_below: known.sent_below,
            suspects: 0,
            sendable: 0,
            promised: 0,
            sealed: false,
            dirty: true,
        }
    }

    /// Takes a record that was read; none where it is finished or was read before.
    pub(super) fn take(&mut self, offset: i64, recorded: Option<Timestamp>) -> Option<Past> {
        if offset < self.end {
            if !self.unread.remove(&offset) {
                return None;
            }
        } else {
            self.end = offset + 1;
        }
        self.open.insert(offset, recorded);
        let tries = self.tried.get(&offset).copied().unwrap_or(0);
        Some(Past { tries, suspect: offset < self.suspect_below })
    }

    /// Notes that a record is finished.
    pub(super) fn finish(&mut self, offset: i64) {
        self.open.remove(&offset);
        self.tried.remove(&offset);
        self.dirty = true;
    }

    /// Notes a try that says nothing of its record.
    pub(super) fn tried(&mut self, offset: i64, tries: u32) {
        self.tried.insert(offset, tries);
        self.dirty = true;
    }

    /// Notes that it is not known whether the target acted on an open record. Whoever has the partition next has to look
    /// for it, however orderly it is handed over.
    pub(super) fn doubted(&mut self, offset: i64) {
        self.suspect_below = self.suspect_below.max(offset + 1);
        self.dirty = true;
    }

    /// Whether records are taken for doubtful that may be written yet.
    pub(super) const fn is_unsure(&self) -> bool {
        self.suspect_below > self.end
    }

    /// Takes note that no earlier owner sent anything at or above `end`, which is the partition's; says whether it did. One
    /// that tells an end before what was read tells that of another time. What is in doubt for itself was read before.
    ///
    /// Nothing has to be committed for it: what we may send lies beyond, and whoever comes after a crash asks for the end anew.
    pub(super) fn sure_above(&mut self, end: i64) -> bool {
        let counts = end >= self.end;
        if counts {
            self.suspect_below = self.suspect_below.min(end);
        }
        counts
    }

    /// Whether a record may be sent before the next commit. Asks for a commit where it may not.
    pub(super) fn may_send(&mut self, offset: i64) -> bool {
        let may = offset < self.sendable;
        self.dirty |= !may;
        may
    }

    /// Whether an earlier owner may have sent a parked head; one that it may have is remembered until it is `cleared`.
    pub(super) const fn suspects(&mut self) -> bool {
        let suspect = self.suspect_below > 0;
        self.suspects += suspect as usize;
        suspect
    }

    /// A parked head is finished, or what is not known of it is in its own row.
    pub(super) const fn cleared(&mut self) {
        self.suspects = self.suspects.saturating_sub(1);
    }

    /// The bound that an earlier owner left, while anything below it, or parked, is left as it was.
    fn inherited(&self) -> i64 {
        if self.suspects > 0 || self.next() < self.suspect_below { self.suspect_below } else { 0 }
    }

    /// The offset to go on from after a crash.
    pub(super) fn next(&self) -> i64 {
        let read = self.open.first_key_value().map(|(offset, _)| *offset);
        read.into_iter().chain(self.unread.first().copied()).min().unwrap_or(self.end)
    }

    /// When the oldest open record was recorded.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.open.first_key_value().and_then(|(_, recorded)| *recorded)
    }

    /// What is to be written down in a transaction now, if anything is. The bound of what may be sent moves `ahead` beyond what was read;
    /// where nothing is under way any more, `idle`, it is taken back, to what an earlier owner left open.
    pub(super) fn position(&mut self, partition: &Partition, ahead: i64, idle: bool) -> Option<Position> {
        let inherited = self.inherited();
        if idle {
            self.dirty |= self.sendable > 0;
            self.promised = inherited;
        } else {
            self.promised = self.sendable.max(self.end.saturating_add(ahead)).max(inherited);
        }
        self.sealed = std::mem::take(&mut self.dirty);
        self.sealed.then(|| Position {
            partition: partition.clone(),
            next: self.next(),
            end: self.end,
            open: self.open.keys().chain(&self.unread).copied().collect::<BTreeSet<i64>>().into_iter().collect(),
            tried: self.tried.clone(),
            sent_below: self.promised,
            handed_over: idle,
        })
    }

    /// What was to be written down is committed.
    pub(super) fn committed(&mut self) {
        if std::mem::take(&mut self.sealed) {
            self.sendable = self.promised;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition { topic: "invoices".to_owned(), number: 0 }
    }

    fn take(reading: &mut Reading, offset: i64) -> Option<Past> {
        reading.take(offset, Some(Timestamp::from_micros(offset)))
    }

    fn write(reading: &mut Reading) -> Position {
        let position = reading.position(&partition(), 100, false).unwrap();
        reading.committed();
        position
    }

    #[test]
    fn what_overtakes_costs_nothing_and_is_not_taken_again() {
        let mut reading = Reading::new(Position::new(partition(), 5));
        for offset in [5, 6, 8, 9, 12] {
            assert_eq!(take(&mut reading, offset), Some(Past::default()));
        }
        for offset in [6, 8, 12] {
            reading.finish(offset);
        }
        reading.tried(9, 2);
        let position = write(&mut reading);
        assert_eq!((position.next, position.end, position.open.as_slice()), (5, 13, &[5, 9][..]));
        assert_eq!(position.sent_below, 113);
        assert_eq!(reading.position(&partition(), 100, false), None, "nothing new");

        let mut again = Reading::new(position);
        let taken: Vec<i64> = (5..15).filter(|offset| take(&mut again, *offset).is_some()).collect();
        assert_eq!(taken, [5, 9, 13, 14]);
        assert_eq!(again.oldest(), Some(Timestamp::from_micros(5)));
    }

    #[test]
    fn what_was_not_read_again_stays_open() {
        let known = Position { end: 20, open: vec![5, 9, 15], ..Position::new(partition(), 5) };
        let mut reading = Reading::new(known);
        take(&mut reading, 5);
        reading.finish(5);
        let position = write(&mut reading);
        assert_eq!((position.next, position.end, position.open.as_slice()), (9, 20, &[9, 15][..]));
    }

    #[test]
    fn a_bound_is_committed_before_anything_is_sent() {
        let mut reading = Reading::new(Position::new(partition(), 5));
        take(&mut reading, 5);
        assert!(!reading.may_send(5));
        assert_eq!(write(&mut reading).sent_below, 106);
        assert!(reading.may_send(105) && !reading.may_send(106));
        let last = reading.position(&partition(), 100, true).unwrap();
        assert_eq!(last.sent_below, 0, "taken back with nothing under way");
        reading.committed();
        assert!(!reading.may_send(5));
    }

    #[test]
    fn what_an_earlier_owner_may_have_sent_is_suspect() {
        let known = Position {
            end: 9,
            open: vec![5],
            tried: BTreeMap::from([(5, 3)]),
            sent_below: 10,
            handed_over: false,
            ..Position::new(partition(), 5)
        };
        let mut reading = Reading::new(known);
        assert_eq!(take(&mut reading, 5), Some(Past { tries: 3, suspect: true }));
        assert_eq!(take(&mut reading, 9), Some(Past { tries: 0, suspect: true }));
        assert_eq!(take(&mut reading, 10), Some(Past { tries: 0, suspect: false }));
        let bound = |reading: &mut Reading| {
            reading.dirty = true;
            reading.position(&partition(), 100, true).unwrap().sent_below
        };
        assert_eq!(bound(&mut reading), 10, "handed on as it was");
        assert!(reading.suspects());
        reading.finish(5);
        reading.finish(9);
        assert_eq!(bound(&mut reading), 10, "a parked one is left");
        reading.cleared();
        assert_eq!(bound(&mut reading), 0);
    }

    #[test]
    fn what_is_written_when_no_earlier_owner_sends_is_in_no_doubt() {
        let known =
            Position { end: 9, open: vec![5], sent_below: 1009, handed_over: false, ..Position::new(partition(), 5) };
        let mut reading = Reading::new(known);
        let suspect = |reading: &mut Reading, offset| take(reading, offset).unwrap().suspect;
        assert!(suspect(&mut reading, 9) && reading.is_unsure());
        assert!(!reading.sure_above(9), "9 was read: it ends behind that");
        assert!(suspect(&mut reading, 10), "and the doubt stays");
        assert!(reading.sure_above(13));
        assert!(suspect(&mut reading, 5) && suspect(&mut reading, 12), "they were there");
        assert!(!suspect(&mut reading, 13) && !suspect(&mut reading, 1008));
        assert!(!reading.is_unsure());
        // What was taken before keeps its bound, and what we may send has its own.
        assert_eq!(write(&mut reading).sent_below, 1109);
        assert!(reading.may_send(1108) && !reading.may_send(1109));
        let last = reading.position(&partition(), 100, true).unwrap();
        assert_eq!((last.sent_below, last.handed_over), (13, true), "handed on as it is known now");
    }

    #[test]
    fn a_doubt_of_ours_is_below_every_end() {
        let mut reading = Reading::new(Position { sent_below: 1000, ..Position::new(partition(), 5) });
        take(&mut reading, 5);
        take(&mut reading, 6);
        reading.doubted(6);
        assert!(reading.sure_above(7));
        reading.dirty = true;
        let handed = reading.position(&partition(), 100, true).unwrap();
        assert_eq!(handed.sent_below, 7);
        assert!(take(&mut Reading::new(handed), 6).unwrap().suspect);
        // One that is read later, too: the end of before is no bound of ours.
        assert!(!take(&mut reading, 8).unwrap().suspect);
        reading.doubted(8);
        assert_eq!(reading.position(&partition(), 100, true).unwrap().sent_below, 9);
    }
}

//! Where partitions ended when their earlier owners could begin no more tries: what was written later none of them sent.
//!
//! `sent_below` is committed ahead of what is read, so that not every record waits for a commit. After a crash it would put
//! records in doubt that were written long after it. Only the partition's end tells them apart, and only one that is asked
//! for when nobody sends any more: an end of before leaves out what an earlier owner, alive and unaware, read and sent behind
//! it. Until it is told the doubt stays, which costs time and no document. Pure; the worker asks.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::worker::PROOF;
use crate::kafka::group::Partition;

/// Before the next look where an end could not be told: its leader is away, and each look may take a moment.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Partitions gained whose end is to be asked for, and from when on.
#[derive(Debug, Default)]
pub(super) struct Ends {
    asked: VecDeque<Partition>,
    from: Option<Instant>,
}

impl Ends {
    /// These partitions were gained at this time. The last commit of an earlier owner began before, and it begins no try
    /// when that is as long ago as a commit proves anything; `not_before` is when its requests have ended, too.
    pub(super) fn gained(
        &mut self,
        partitions: impl IntoIterator<Item = Partition>,
        gained: Instant,
        not_before: Option<Instant>,
    ) {
        self.asked.extend(partitions);
        self.from = Some(gained + PROOF).max(not_before);
    }

    /// The next partition to ask for the end of, if it is time to.
    pub(super) fn next(&mut self, now: Instant) -> Option<Partition> {
        self.from.filter(|from| *from <= now).and_then(|_| self.asked.pop_front())
    }

    /// The end of this one could not be told: the others may come first next time.
    pub(super) fn untold(&mut self, partition: Partition, now: Instant) {
        self.asked.push_back(partition);
        self.from = Some(now + LOOK_AGAIN);
    }

    /// The partitions are someone else's.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        Partition { topic: "invoices".to_owned(), number }
    }

    #[test]
    fn an_end_is_asked_for_when_no_earlier_owner_sends() {
        const SHORT: Duration = Duration::from_secs(1);
        let t0 = Instant::now();
        let long = PROOF * 6;
        // Its last commit may be as young as the gain, whatever its requests may take, and whoever it was.
        for (not_before, from) in [(None, PROOF), (Some(t0 + SHORT), PROOF), (Some(t0 + long), long)] {
            let mut ends = Ends::default();
            ends.gained([partition(0)], t0, not_before);
            assert_eq!(ends.next(t0 + from - SHORT), None, "{not_before:?}");
            assert_eq!(ends.next(t0 + from), Some(partition(0)), "{not_before:?}");
            assert_eq!(ends.next(t0 + from), None, "once");
        }
    }

    #[test]
    fn one_that_does_not_tell_holds_up_no_other() {
        let t0 = Instant::now() + PROOF;
        let mut ends = Ends::default();
        ends.gained([0, 1].map(partition), t0 - PROOF, None);
        assert_eq!(ends.next(t0), Some(partition(0)));
        ends.untold(partition(0), t0);
        assert_eq!(ends.next(t0 + LOOK_AGAIN / 2), None);
        assert_eq!(ends.next(t0 + LOOK_AGAIN), Some(partition(1)));
        assert_eq!(ends.next(t0 + LOOK_AGAIN), Some(partition(0)));
        ends.untold(partition(0), t0 + LOOK_AGAIN);
        ends.clear();
        assert_eq!(ends.next(t0 + LOOK_AGAIN * 9), None);
    }
}

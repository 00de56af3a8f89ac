//! Redeliveries on their way into the plan.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Plan;
use crate::delivery::lane::{Change, Lane, Seat};
use crate::delivery::progress::Past;
use crate::delivery::queue::{Queue, Slot};
use crate::delivery::repeat::Doubt;
use crate::delivery::tally::Weigh;
use crate::kafka::group::Partition;

impl<R: Weigh> Plan<R> {
    /// Takes a redelivery that was read into its partition's progress; says whether it was not finished before. It is open
    /// until it is [admitted](Plan::admit).
    pub(in crate::delivery) fn note(&mut self, partition: &Partition, offset: i64) -> bool {
        // What an operator asked for does not lag behind.
        self.readings.get_mut(partition).is_some_and(|reading| reading.take(offset, None).is_some())
    }

    /// Takes a redelivery from `from` in, behind all that its key has; says what has to be written to `parked`. `doubt`
    /// is what was not known of the record when it was asked for, `waited` how long the target was in trouble until now.
    pub(in crate::delivery) fn admit(
        &mut self,
        lane: Lane,
        (from, offset): (&Partition, i64),
        record: Arc<R>,
        doubt: Doubt,
        waited: Duration,
        now: Instant,
    ) -> Vec<Change<R>> {
        let seat = Seat::Redelivery(offset);
        let known = self.lanes.get_key_value(&lane).map(|(lane, queue)| (Arc::clone(lane), queue.parked));
        let mut changes = Vec::new();
        let (lane, leads) = match known {
            Some((lane, parked)) => {
                if !parked {
                    changes = self.park(&lane, waited, now);
                }
                (lane, false)
            }
            None => (Arc::new(lane), true),
        };
        if let Some(reading) = self.readings.get_mut(from) {
            reading.finish(offset);
        }
        let place = self.places.take(lane.partition.number);
        let last = self.left.get(&lane).map_or(doubt.last, |left| doubt.last.max(*left));
        let doubt = Some(Doubt { last: self.gained.map_or(last, |gained| last.max(gained)), ..doubt });
        let slot = Slot { seat, record: Some(Arc::clone(&record)), place, past: Past::default(), doubt };
        let standing = slot.standing();
        if leads {
            // It is tried next, so it stays in memory.
            self.kept.add(&*record);
            self.lanes.insert(Arc::clone(&lane), Queue::restored(slot, standing, false));
            self.parked += 1;
            self.redelivering.insert(Arc::clone(&lane));
            // What is in no commit yet waits for it as a try that ended does.
            self.resting.insert(Arc::clone(&lane));
            self.rouse(&lane, now);
        } else {
            self.keep(&lane, slot, false);
        }
        changes.push(Change::Park { lane, seat, record, leads, standing });
        changes
    }

    /// Whether a redelivery of this lane was admitted and not tried yet.
    pub(in crate::delivery) fn is_redelivering(&self, lane: &Lane) -> bool {
        self.redelivering.contains(lane)
    }

    /// Redeliveries that were admitted as their key's only record, and whose first try did not end yet.
    pub(in crate::delivery) fn redelivering(&self) -> usize {
        self.redelivering.len()
    }
}

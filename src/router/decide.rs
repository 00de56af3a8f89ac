//! What becomes of one row: a pure function of the event, what was seen of its id, and the table of routes.

use super::mapping::{Mapper, MappingFault};
use crate::event::{Envelope, Record, Seen, SeenState, Timestamp};
use crate::outcome::{QuarantineReason, RouterOutcome};

/// Most bodies remembered per id. An id sent with more bodies than this is quarantined each time.
const MAX_BODIES: usize = 1000;

/// What becomes of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// One record, and the id is taken.
    Route(Box<Record>, Seen),
    /// A provider's test: the id is taken, nothing is routed.
    Test(Seen),
    /// The id was taken with this body.
    Duplicate,
    /// Set aside: the stable reason, what was wrong, and the id's marker.
    Quarantine(String, Option<String>, Seen),
}

impl Decision {
    /// Its name in metrics and the ledger.
    pub(super) const fn outcome(&self) -> RouterOutcome {
        match self {
            Self::Route(..) => RouterOutcome::Routed,
            Self::Test(_) => RouterOutcome::Test,
            Self::Duplicate => RouterOutcome::Duplicate,
            Self::Quarantine(..) => RouterOutcome::Quarantined,
        }
    }
}

/// Decides on an event. `seen` is what its id is known for within the dedupe window, `now` the router's clock.
pub(super) fn decide(envelope: &Envelope, seen: Option<&Seen>, mapper: &Mapper, now: Timestamp) -> Decision {
    match seen {
        Some(seen) if seen.body_sha256.contains(&envelope.body_sha256) => Decision::Duplicate,
        Some(seen) => {
            let mut marker = seen.clone();
            if marker.body_sha256.len() < MAX_BODIES {
                marker.body_sha256.push(envelope.body_sha256);
            }
            let detail = seen.body_sha256.first().map(|first| format!("first taken with body {first}"));
            Decision::Quarantine(QuarantineReason::BodyMismatch.to_string(), detail, marker)
        }
        None => first_time(envelope, mapper, now),
    }
}

fn first_time(envelope: &Envelope, mapper: &Mapper, now: Timestamp) -> Decision {
    let marker = |state, record: Option<&Record>| Seen {
        state,
        body_sha256: vec![envelope.body_sha256],
        first_routed_at: now,
        record_topic: record.map(|r| r.topic().to_owned()),
        record_key: record.map(Record::key),
    };
    // A provider's test button may send anything: what is a test is never work for people.
    if envelope.test.is_some() {
        return Decision::Test(marker(SeenState::Test, None));
    }
    if let Some(reason) = &envelope.unusable {
        return Decision::Quarantine(reason.clone(), None, marker(SeenState::Quarantined, None));
    }
    match mapper.map(envelope) {
        Ok(record) => {
            let marker = marker(SeenState::Routed, Some(&record));
            Decision::Route(Box::new(record), marker)
        }
        Err(MappingFault { reason, detail }) => {
            Decision::Quarantine(reason.to_string(), Some(detail), marker(SeenState::Quarantined, None))
        }
    }
}

#[cfg(test)]
mod tests;

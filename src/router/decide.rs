//! What becomes of one row: a pure function of the event, an operator's mark on the row, what was seen of its id, and
//! the table of routes.
//!
//! | | id not known | this body routed, test or discarded | first body quarantined | another body |
//! |---|---|---|---|---|
//! | from the provider | as its body says | duplicate | duplicate | new to the id: quarantined, as `body_mismatch`; else duplicate |
//! | replay | as its body says | duplicate | as its body says | `body_mismatch` again; where it is accepted as a revision, as its body says |
//! | discard | discarded | duplicate | discarded | discarded |
//!
//! A row that was set aside undecoded, and can be decoded at its replay, is decided on as what it is then: its body takes
//! the place of its bytes in the marker ([`Seen::read_again`]).
//!
//! "As its body says": routed, set aside with a reason, or a provider's test. A record written and an event let go on an
//! operator's word start the dedupe window of their id anew, so that the word repeated later is a duplicate too. What
//! was discarded stays so.

use super::mapping::{Mapper, MappingFault};
use crate::event::{Envelope, Mark, Record, Seen, SeenState, Timestamp};
use crate::outcome::{QuarantineReason, RouterOutcome};

/// Most bodies remembered per id, and most decided on by operators. An id sent with more bodies than this is
/// quarantined each time.
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
    /// An operator let it go.
    Discard(Seen),
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
            Self::Discard(_) => RouterOutcome::Discarded,
            Self::Quarantine(..) => RouterOutcome::Quarantined,
        }
    }

    /// The id's new marker; none where it stays as it is.
    pub(super) fn into_marker(self) -> Option<Seen> {
        match self {
            Self::Route(_, seen) | Self::Test(seen) | Self::Discard(seen) | Self::Quarantine(_, _, seen) => Some(seen),
            Self::Duplicate => None,
        }
    }
}

/// What a row is to be decided on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// The event.
    pub(super) envelope: &'a Envelope,
    /// An operator's mark on its row; none on the provider's.
    pub(super) mark: Option<&'a Mark>,
    /// What its id is known for within the dedupe window.
    pub(super) seen: Option<&'a Seen>,
    /// The router's clock.
    pub(super) now: Timestamp,
}

/// Decides on a row.
pub(super) fn decide(question: &Question<'_>, mapper: &Mapper) -> Decision {
    let Some(seen) = question.seen else {
        return match question.mark {
            Some(Mark::Discard { .. }) => Decision::Discard(question.settled(SeenState::Discarded, None)),
            Some(Mark::Replay { .. }) | None => question.as_its_body_says(mapper),
        };
    };
    let body = question.envelope.body_sha256;
    let is_first = seen.body_sha256.first() == Some(&body);
    match (question.mark, seen.fate(&body)) {
        (None, Some(_))
        | (Some(_), Some(SeenState::Routed | SeenState::Test | SeenState::Discarded | SeenState::Unknown)) => {
            Decision::Duplicate
        }
        (Some(Mark::Replay { .. }), Some(SeenState::Quarantined)) if is_first => question.as_its_body_says(mapper),
        // A marker that cannot remember the decision would let it be taken twice.
        (Some(_), _) if seen.decided.len() >= MAX_BODIES => question.mismatch(seen),
        (Some(Mark::Replay { accept_revision: true, .. }), _) => question.as_its_body_says(mapper),
        (Some(Mark::Discard { .. }), _) => Decision::Discard(question.settled(SeenState::Discarded, None)),
        (None | Some(Mark::Replay { accept_revision: false, .. }), _) => question.mismatch(seen),
    }
}

impl Question<'_> {
    /// What becomes of a row whose record turned out too large for Kafka.
    pub(super) fn too_large(&self) -> Decision {
        Decision::Quarantine(QuarantineReason::RecordTooLarge.to_string(), None, self.aside())
    }

    fn as_its_body_says(&self, mapper: &Mapper) -> Decision {
        // A provider's test button may send anything: what is a test is never work for people.
        if self.envelope.test.is_some() {
            return Decision::Test(self.settled(SeenState::Test, None));
        }
        if let Some(reason) = &self.envelope.unusable {
            return Decision::Quarantine(reason.clone(), None, self.aside());
        }
        match mapper.map(self.envelope) {
            Ok(record) => {
                let place = (record.topic().to_owned(), record.key());
                Decision::Route(Box::new(record), self.settled(SeenState::Routed, Some(place)))
            }
            Err(MappingFault { reason, detail }) => {
                Decision::Quarantine(reason.to_string(), Some(detail), self.aside())
            }
        }
    }

    fn mismatch(&self, seen: &Seen) -> Decision {
        let detail = seen.body_sha256.first().map(|first| format!("first taken with body {first}"));
        Decision::Quarantine(QuarantineReason::BodyMismatch.to_string(), detail, self.aside())
    }

    fn settled(&self, state: SeenState, place: Option<(String, String)>) -> Seen {
        self.aside().settled(self.envelope.body_sha256, state, place, self.now)
    }

    /// The marker with this body quarantined: that is what a body is until it is settled.
    fn aside(&self) -> Seen {
        let body = self.envelope.body_sha256;
        let Some(seen) = self.seen else {
            return Seen {
                state: SeenState::Quarantined,
                body_sha256: vec![body],
                first_routed_at: self.now,
                record_topic: None,
                record_key: None,
                decided: Vec::new(),
            };
        };
        let mut marker = seen.clone();
        if marker.body_sha256.len() < MAX_BODIES && !marker.body_sha256.contains(&body) {
            marker.body_sha256.push(body);
        }
        marker
    }
}

#[cfg(test)]
mod tests;

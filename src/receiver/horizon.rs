//! How long until a provider gives up an event that we could not take. Time is a parameter.
//!
//! What counts is the first refusal that this receiver saw: attempts that never reached it make the true time shorter.
//! Requests refused before their signature was proved, as when too many come at once, are not known by id.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::Envelope;

/// Refused events remembered for one source. The oldest are kept: they are given up first.
const MAX_REFUSED: usize = 10_000;
/// How long a horizon of zero is shown. Another receiver may have taken the event by then: this one cannot know.
const SHOWN: Duration = Duration::from_secs(600);

/// Time left until a provider that repeats after these waits gives up an event whose first attempt failed at `first`;
/// zero once it has. One without a known schedule counts as never repeating.
pub(super) fn time_left(schedule: &[Duration], first: Instant, now: Instant) -> Duration {
    let patience = schedule.iter().fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait));
    patience.saturating_sub(now.duration_since(first))
}

/// What an event has in common with its repeats: the provider's id; without one, its body, since the id that stands in its
/// place is the request's own.
pub(super) fn known_by(envelope: &Envelope) -> Cow<'_, str> {
    if envelope.event_id == envelope.evidence.request_id {
        Cow::Owned(envelope.body_sha256.to_string())
    } else {
        Cow::Borrowed(&envelope.event_id)
    }
}

/// Refused events of one source, by what they are known by.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    schedule: Vec<Duration>,
    refused: HashMap<String, Instant>,
}

impl Horizon {
    /// An event could not be made durable. The waits are those between the provider's attempts, as known now.
    pub(super) fn refused(&mut self, event: &str, schedule: &[Duration], now: Instant) {
        if self.schedule != schedule {
            schedule.clone_into(&mut self.schedule);
        }
        if self.refused.len() < MAX_REFUSED && !self.refused.contains_key(event) {
            self.refused.insert(event.to_owned(), now);
        }
    }

    /// An event was taken after all, or for the first time.
    pub(super) fn accepted(&mut self, event: &str) {
        self.refused.remove(event);
    }

    /// Time left for the first of them; none where none is refused. Forgets those that were given up long ago, and says
    /// how many.
    pub(super) fn left(&mut self, now: Instant) -> (Option<Duration>, usize) {
        let before = self.refused.len();
        let patience: Duration = self.schedule.iter().sum();
        self.refused.retain(|_, first| now.duration_since(*first) < patience + SHOWN);
        let first = self.refused.values().min();
        (first.map(|first| time_left(&self.schedule, *first, now)), before - self.refused.len())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::evidence::envelope;
    use super::super::extract::extract;
    use super::super::request::RawRequest;
    use super::super::request::tests::{raw, source};
    use super::*;
    use crate::signature;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_is_left_of_a_providers_patience() {
        let accbooks = [1, 2, 4, 8, 16].map(seconds);
        let hourly = [3600; 24].map(seconds);
        for (schedule, elapsed, left) in [
            (&accbooks[..], 0, 31),
            (&accbooks[..], 30, 1),
            (&accbooks[..], 31, 0),
            (&accbooks[..], 3600, 0),
            (&hourly[..], 3600, 23 * 3600),
            (&[][..], 0, 0),
        ] {
            let now = Instant::now();
            assert_eq!(time_left(schedule, now, now + seconds(elapsed)), seconds(left), "{schedule:?} after {elapsed}");
        }
    }

    #[test]
    fn the_first_refused_counts_until_it_is_taken() {
        let (now, waits) = (Instant::now(), [seconds(10), seconds(20)]);
        let mut horizon = Horizon::default();
        assert_eq!(horizon.left(now), (None, 0));
        horizon.refused("a", &waits, now);
        horizon.refused("b", &waits, now + seconds(5));
        horizon.refused("a", &waits, now + seconds(10));
        assert_eq!(horizon.left(now + seconds(10)).0, Some(seconds(20)));
        horizon.accepted("a");
        assert_eq!(horizon.left(now + seconds(10)).0, Some(seconds(25)));
        assert_eq!(horizon.left(now + seconds(40)), (Some(Duration::ZERO), 0));
        assert_eq!(horizon.left(now + seconds(35) + SHOWN), (None, 1));
    }

    #[test]
    fn a_repeat_takes_its_event_out_whether_it_has_an_id_or_not() {
        let source = source("accbooks");
        let sent = |body: &str| {
            let signed = signature::sign(&source.scheme, b"live", body.as_bytes());
            let id = Uuid::now_v7();
            let request = RawRequest { id, ..raw(body.as_bytes(), &[("accbooks-signature", signed.as_bytes())]) };
            let request = request.verify(&source).unwrap_or_else(|answer| panic!("{answer}"));
            envelope(&source, &request, &extract(&source, &request), "receiver-1")
        };
        for body in [r#"{"id":"e1","type":"t"}"#, r#"{"type":"t"}"#, "no JSON", r#"{"id":["e1"],"type":"t"}"#] {
            let (first, again) = (sent(body), sent(body));
            assert_ne!(first.evidence.request_id, again.evidence.request_id);
            let now = Instant::now();
            let mut horizon = Horizon::default();
            horizon.refused(&known_by(&first), &source.retry_schedule, now);
            horizon.accepted(&known_by(&sent(r#"{"another":"event"}"#)));
            assert!(horizon.left(now).0.is_some(), "{body}");
            horizon.accepted(&known_by(&again));
            assert_eq!(horizon.left(now + seconds(3600)), (None, 0), "{body}");
        }
    }

    #[test]
    fn a_schedule_that_changed_counts_from_the_next_refusal_on() {
        let now = Instant::now();
        let mut horizon = Horizon::default();
        horizon.refused("a", &[seconds(10)], now);
        horizon.refused("b", &[seconds(10), seconds(50)], now);
        assert_eq!(horizon.left(now + seconds(20)), (Some(seconds(40)), 0));
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let now = Instant::now();
        let mut horizon = Horizon::default();
        for n in 0..2 * MAX_REFUSED {
            horizon.refused(&n.to_string(), &[seconds(10)], now);
        }
        assert_eq!(horizon.refused.len(), MAX_REFUSED);
    }
}

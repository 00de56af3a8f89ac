//! Whether a record may simply be sent, after a try whose outcome nobody knows: pure, by the target's idempotency.

use tokio::time::Instant;

use crate::targets::Idempotency;

/// Earlier tries of a record that the target may have acted on, or may still act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    /// When the first of them began; none where another instance may have made it and took its time along.
    pub(super) first: Option<Instant>,
    /// When the last of them began, at the latest.
    pub(super) last: Instant,
}

/// How a try is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send the record.
    Send,
    /// Look for its document first, and send the record only if there is none.
    LookUp,
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caution {
    /// This step.
    Go(Step),
    /// Nothing before this time.
    Wait(Instant),
}

/// Adds a try that began at `started` and that the target may have acted on.
pub(super) fn doubted(doubt: Option<Doubt>, started: Instant) -> Doubt {
    match doubt {
        None => Doubt { first: Some(started), last: started },
        Some(doubt) => Doubt { last: doubt.last.max(started), ..doubt },
    }
}

/// What may be done now with a record in this much doubt.
pub(super) fn caution(class: Idempotency, doubt: Option<Doubt>, now: Instant) -> Caution {
    let Some(doubt) = doubt else { return Caution::Go(Step::Send) };
    match class {
        Idempotency::Upsert | Idempotency::Reject | Idempotency::Key { validity: None } => Caution::Go(Step::Send),
        Idempotency::Key { validity: Some(validity) } => {
            let remembered = doubt.first.is_some_and(|first| now < first + validity);
            Caution::Go(if remembered { Step::Send } else { Step::LookUp })
        }
        Idempotency::LookUp { settle } => {
            let settled = doubt.last + settle;
            if now < settled { Caution::Wait(settled) } else { Caution::Go(Step::LookUp) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_class_has_its_way_to_repeat() {
        const SECOND: Duration = Duration::from_secs(1);
        let t0 = Instant::now();
        let at = |s: u32| t0 + SECOND * s;
        let key = |s: u32| Idempotency::Key { validity: Some(SECOND * s) };
        let look_up = Idempotency::LookUp { settle: SECOND * 60 };
        let ours = Some(Doubt { first: Some(at(0)), last: at(10) });
        let others = Some(Doubt { first: None, last: at(10) });
        let send = Caution::Go(Step::Send);
        for (class, doubt, now, wanted) in [
            (look_up, None, at(11), send),
            (key(1), None, at(11), send),
            (Idempotency::Upsert, ours, at(11), send),
            (Idempotency::Reject, others, at(11), send),
            (Idempotency::Key { validity: None }, others, at(11), send),
            (key(20), ours, at(19), send),
            // The key counts from the first try, not from the last.
            (key(20), ours, at(20), Caution::Go(Step::LookUp)),
            (key(20), others, at(11), Caution::Go(Step::LookUp)),
            (look_up, ours, at(69), Caution::Wait(at(70))),
            (look_up, ours, at(70), Caution::Go(Step::LookUp)),
            (look_up, others, at(70), Caution::Go(Step::LookUp)),
        ] {
            assert_eq!(caution(class, doubt, now), wanted, "{class:?} {doubt:?}");
        }
    }

    #[test]
    fn doubt_keeps_its_first_and_its_last_try() {
        let t0 = Instant::now();
        let later = t0 + Duration::from_secs(5);
        let one = doubted(None, t0);
        assert_eq!(one, Doubt { first: Some(t0), last: t0 });
        assert_eq!(doubted(Some(one), later), Doubt { first: Some(t0), last: later });
        let others = Doubt { first: None, last: later };
        assert_eq!(doubted(Some(others), t0), others);
    }
}

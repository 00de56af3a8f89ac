//! What follows from one try: a pure decision over its verdict and what came before it.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use super::queue::Head;
use super::window::Trouble;
use crate::config::{OnGiveUp, Retry};
use crate::event::AttemptOutcome;
use crate::outcome::DeadLetterReason;
use crate::targets::{Scope, Verdict};

/// Longest pause between two probes of a target that cannot be reached: when it is back, its users wait this long at
/// most, and a connection tried twice a minute troubles nobody.
pub(super) const MAX_UNREACHABLE: Duration = Duration::from_secs(30);

/// What a target's configuration says about failures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// When and for how long to repeat.
    pub(super) retry: Retry,
    /// What becomes of a record that is given up.
    pub(super) on_give_up: OnGiveUp,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The target has the record.
    Finish,
    /// The record becomes a dead letter.
    GiveUp(DeadLetterReason),
    /// The record is tried again after this time; its key waits.
    TryAfter(Duration),
    /// The target as a whole is left alone; the record stands where it stood.
    LeaveAlone {
        /// Why.
        trouble: Trouble,
        /// How long, as the target asked.
        asked: Option<Duration>,
        /// How long, where it asked for nothing.
        backoff: Duration,
    },
}

/// Decides what follows from a verdict. `troubles` counts the failures in a row of the target as a whole.
pub(super) fn decide(policy: &Policy, verdict: &Verdict, head: &Head, troubles: u32, rng: &mut impl Rng) -> Next {
    let retry = &policy.retry;
    if verdict.scope == Scope::Target {
        let (trouble, max) = match verdict.outcome {
            AttemptOutcome::RateLimited => (Trouble::RateLimited, retry.max),
            AttemptOutcome::Credentials => (Trouble::Credentials, retry.max),
            _ => (Trouble::Unreachable, retry.max.min(MAX_UNREACHABLE)),
        };
        // A wish for no pause at all would make a loop as fast as the target answers.
        let asked = verdict.retry_after.map(|asked| asked.max(retry.first));
        return Next::LeaveAlone { trouble, asked, backoff: backoff(retry.first, max, troubles + 1, rng) };
    }
    let gone = |reason| match policy.on_give_up {
        OnGiveUp::DeadLetter => Next::GiveUp(reason),
        OnGiveUp::Hold => Next::TryAfter(retry.max),
    };
    match verdict.outcome {
        AttemptOutcome::Delivered | AttemptOutcome::Duplicate | AttemptOutcome::Filtered => Next::Finish,
        AttemptOutcome::Rejected => gone(DeadLetterReason::Rejected),
        AttemptOutcome::Retry
        | AttemptOutcome::Unresolved
        | AttemptOutcome::RateLimited
        | AttemptOutcome::Credentials
        | AttemptOutcome::Unknown => match retry.give_up_after.checked_sub(head.spent) {
            None | Some(Duration::ZERO) => gone(DeadLetterReason::GaveUp),
            Some(left) => {
                let wait = backoff(retry.first, retry.max, head.failures + 1, rng);
                // The last try comes when the time is over, not a whole pause before.
                Next::TryAfter(wait.min(left).max(verdict.retry_after.unwrap_or_default()))
            }
        },
    }
}

/// Pause after this many failures in a row: doubled each time up to `max`, less up to half of it by chance, so that
/// keys that failed together do not come back together.
pub(super) fn backoff(first: Duration, max: Duration, failures: u32, rng: &mut impl Rng) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let whole = doubled.min(max);
    whole.mul_f64(1.0 - rng.random_range(0.0..0.5))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::event::Timestamp;
    use crate::targets::{Fault, of_answer, of_fault};

    const SECOND: Duration = Duration::from_secs(1);
    const POLICY: Policy = Policy {
        retry: Retry { first: SECOND, max: Duration::from_secs(600), give_up_after: Duration::from_secs(3600) },
        on_give_up: OnGiveUp::DeadLetter,
    };
    const HOLD: Policy = Policy { on_give_up: OnGiveUp::Hold, ..POLICY };

    fn next(policy: &Policy, verdict: &Verdict, failures: u32, spent: u64) -> Next {
        let head = Head { n: failures + 1, failures, spent: Duration::from_secs(spent), doubt: None };
        decide(policy, verdict, &head, failures, &mut SmallRng::seed_from_u64(7))
    }

    fn status(status: u16) -> Verdict {
        of_answer(status, None, Timestamp::default())
    }

    #[test]
    fn what_follows() {
        assert_eq!(next(&POLICY, &status(200), 0, 0), Next::Finish);
        assert_eq!(next(&POLICY, &status(200), 9, 9999), Next::Finish);
        assert_eq!(next(&POLICY, &status(422), 0, 0), Next::GiveUp(DeadLetterReason::Rejected));
        assert_eq!(next(&HOLD, &status(422), 0, 0), Next::TryAfter(POLICY.retry.max));
        assert_eq!(next(&POLICY, &status(500), 5, 3600), Next::GiveUp(DeadLetterReason::GaveUp));
        assert_eq!(next(&POLICY, &of_fault(&Fault::Timeout), 5, 3601), Next::GiveUp(DeadLetterReason::GaveUp));
        assert_eq!(next(&HOLD, &status(500), 5, 9999), Next::TryAfter(POLICY.retry.max));
        // However long the target as a whole is away, no record is given up for it.
        for verdict in [status(401), status(429), of_fault(&Fault::Connect(String::new()))] {
            assert!(matches!(next(&POLICY, &verdict, 5, 9999), Next::LeaveAlone { .. }), "{verdict:?}");
        }
    }

    #[test]
    fn pauses_double_with_jitter_up_to_the_limits() {
        for failures in 0..40 {
            let Next::TryAfter(wait) = next(&POLICY, &status(500), failures, 0) else { panic!() };
            let whole = SECOND.saturating_mul(1 << failures.min(20)).min(POLICY.retry.max);
            assert!(wait <= whole && wait >= whole / 2, "{failures}: {wait:?}");
        }
        // The last try comes at the end of the time.
        assert!(matches!(next(&POLICY, &status(500), 20, 3590), Next::TryAfter(wait) if wait == SECOND * 10));
        let unreachable = of_fault(&Fault::Connect(String::new()));
        assert!(
            matches!(next(&POLICY, &unreachable, 30, 0), Next::LeaveAlone { backoff, .. } if backoff <= MAX_UNREACHABLE)
        );
    }

    #[test]
    fn a_wish_of_the_target_counts() {
        let asking = |status, seconds| of_answer(status, Some(seconds), Timestamp::default());
        assert!(
            matches!(next(&POLICY, &asking(429, "90"), 0, 0), Next::LeaveAlone { asked: Some(wait), .. } if wait == SECOND * 90)
        );
        assert!(
            matches!(next(&POLICY, &asking(429, "0"), 0, 0), Next::LeaveAlone { asked: Some(wait), .. } if wait == SECOND)
        );
        assert_eq!(next(&POLICY, &asking(500, "90"), 0, 0), Next::TryAfter(SECOND * 90));
    }

    #[test]
    fn the_same_seed_gives_the_same_pauses() {
        assert_eq!(next(&POLICY, &status(500), 3, 0), next(&POLICY, &status(500), 3, 0));
    }
}

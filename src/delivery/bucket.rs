//! How fast requests may be made: a token bucket, as the generic cell rate algorithm. Pure.
//!
//! What comes at once and what comes after it are within the limit together: in no time as long as the limit's, wherever
//! it begins, is more sent than the limit says, since a target may count in windows of its own. So the bucket holds a
//! twentieth of the limit, and no more than what comes in one second; and it is filled as much slower. A try takes out as
//! many as it makes at most, and puts back what it did not need.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::RateLimit;

/// Of the limit, the part that may come at once.
const AT_ONCE: f64 = 0.05;

/// The bucket of one target, or of one replay; one without a limit never empties.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Requests that a try makes at most.
    weight: u32,
    /// Time between two tokens.
    interval: Duration,
    /// What the bucket holds beyond one, as time.
    tolerance: Duration,
    /// When the bucket is full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes this share of a limit, `owned` of `all` partitions, for tries of `weight` requests. Shares are rounded down, so
    /// that they are within the limit together; one that comes to less than a request in the limit's time is kept as it
    /// is, or it would never send.
    pub(super) fn limit(&mut self, limit: Option<RateLimit>, weight: u32, owned: usize, all: usize) {
        self.weight = weight.max(1);
        let Some(limit) = limit else {
            (self.interval, self.tolerance) = (Duration::ZERO, Duration::ZERO);
            return;
        };
        let share = f64::from(limit.requests) * owned.max(1) as f64 / all.max(owned).max(1) as f64;
        let share = if share < 1.0 { share } else { share.floor() };
        let in_a_second = share / limit.per.as_secs_f64();
        let weight = f64::from(self.weight);
        let at_once = (share * AT_ONCE).min(in_a_second).floor().max(weight).min(share.floor()).max(1.0);
        self.interval = limit.per.div_f64(share - (at_once - 1.0));
        self.tolerance = self.interval.mul_f64(at_once - weight.min(at_once));
    }

    /// Takes this share of a pace: `interval` between two of all instances' together. It is a wish of ours and no limit
    /// of the target's, so a second's worth may come at once.
    pub(super) fn pace(&mut self, interval: Duration, owned: usize, all: usize) {
        self.weight = 1;
        self.interval = interval.mul_f64(all.max(owned).max(1) as f64 / owned.max(1) as f64);
        self.tolerance = Duration::from_secs(1).saturating_sub(self.interval);
    }

    /// Whether a try may begin now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now + self.tolerance)
    }

    /// A try begins.
    pub(super) fn take(&mut self, now: Instant) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = Some(from + self.interval.saturating_mul(self.weight));
    }

    /// A try needed no more than so many requests.
    pub(super) fn used(&mut self, requests: u32) {
        let left = self.interval.saturating_mul(self.weight.saturating_sub(requests));
        self.full_at = self.full_at.and_then(|full_at| full_at.checked_sub(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all it can at each millisecond; the times at which it could.
    fn sent(bucket: &mut Bucket, time: Duration) -> Vec<Duration> {
        let t0 = Instant::now();
        let mut sent = Vec::new();
        for ms in 0..time.as_millis() {
            let at = Duration::from_millis(u64::try_from(ms).unwrap());
            while bucket.allows(t0 + at) && sent.len() < 100_000 {
                bucket.take(t0 + at);
                sent.push(at);
            }
        }
        sent
    }

    #[test]
    fn a_limit_holds_in_every_window() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (requests, weight, per, owned, all, wanted) in [
            (200, 1, minute, 1, 1, 200),
            (200, 1, minute, 1, 4, 50),
            (10, 1, minute, 3, 3, 10),
            (6000, 1, minute, 12, 12, 6000),
            (10, 1, second, 1, 1, 10),
            (10, 1, second, 1, 3, 3),
            (100, 1, second, 1, 1, 100),
            (7, 1, second, 5, 12, 2),
            (200, 2, minute, 1, 1, 200),
            (100, 3, second, 1, 1, 100),
            (10, 4, second, 1, 1, 10),
        ] {
            let mut bucket = Bucket::default();
            bucket.limit(Some(RateLimit { requests, per }), weight, owned, all);
            let sent = sent(&mut bucket, per * 3);
            let of_each = usize::try_from(weight).unwrap();
            let sent: Vec<Duration> = sent.into_iter().flat_map(|at| std::iter::repeat_n(at, of_each)).collect();
            for from in &sent {
                let within = sent.iter().filter(|at| *at >= from && **at < *from + per).count();
                assert!(within <= wanted, "{within} of {wanted} in {per:?}");
            }
            let late = sent.iter().filter(|at| **at >= per && **at < per * 2).count();
            assert!(
                late * 100 + 100 * of_each * 2 >= wanted * 95,
                "{late} of {wanted} in {per:?}, with records waiting"
            );
        }
    }

    #[test]
    fn a_share_of_less_than_one_is_sent_in_time() {
        let mut bucket = Bucket::default();
        bucket.limit(Some(RateLimit { requests: 2, per: Duration::from_secs(1) }), 1, 1, 12);
        let sent = sent(&mut bucket, Duration::from_secs(30));
        assert_eq!(sent, [0, 6, 12, 18, 24].map(Duration::from_secs));
    }

    #[test]
    fn what_was_not_needed_is_put_back() {
        let (mut bucket, t0) = (Bucket::default(), Instant::now());
        bucket.limit(Some(RateLimit { requests: 3, per: Duration::from_secs(3) }), 2, 1, 1);
        // Of two requests at the most: both needed, one, none.
        for (used, free_again) in [(2, 3000), (1, 1500), (0, 0)] {
            bucket.full_at = None;
            bucket.take(t0);
            bucket.used(used);
            let free = (0..9000).find(|ms| bucket.allows(t0 + Duration::from_millis(*ms)));
            assert_eq!(free, Some(free_again), "{used}");
        }
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut bucket = Bucket::default();
        bucket.limit(None, 1, 1, 12);
        assert_eq!(sent(&mut bucket, Duration::from_millis(1)).len(), 100_000);
    }
}

//! How fast records may be sent: a token bucket, as the generic cell rate algorithm. Pure.
//!
//! It holds what comes in one second, and at least one: in any time as long as the limit's, no more than the limit and
//! this much on top is sent.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::RateLimit;

/// The bucket of one target; one without a limit never empties.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Time between two tokens.
    interval: Duration,
    /// What the bucket holds beyond one, as time.
    tolerance: Duration,
    /// When the bucket is full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes this share of a limit: `owned` of `all` partitions.
    pub(super) fn limit(&mut self, limit: Option<RateLimit>, owned: usize, all: usize) {
        let Some(limit) = limit else {
            (self.interval, self.tolerance) = (Duration::ZERO, Duration::ZERO);
            return;
        };
        let share = owned.max(1) as f64 / all.max(owned).max(1) as f64;
        self.interval = limit.per.div_f64(f64::from(limit.requests) * share);
        self.tolerance = Duration::from_secs(1).saturating_sub(self.interval);
    }

    /// Whether a record may be sent now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now + self.tolerance)
    }

    /// A record is sent.
    pub(super) fn take(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full_at| full_at.max(now)) + self.interval);
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
        let minute = Duration::from_secs(60);
        for (requests, owned, all, wanted) in [(200, 1, 1, 200), (200, 1, 4, 50), (10, 3, 3, 10), (6000, 12, 12, 6000)]
        {
            let mut bucket = Bucket::default();
            bucket.limit(Some(RateLimit { requests, per: minute }), owned, all);
            let sent = sent(&mut bucket, minute * 2);
            let burst = (wanted / 60).max(1);
            for from in &sent {
                let within = sent.iter().filter(|at| *at >= from && **at < *from + minute).count();
                assert!(within <= wanted + burst, "{within} of {wanted} a minute");
                if *from < minute {
                    assert!(within >= wanted - 1, "{within} of {wanted} a minute");
                }
            }
        }
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut bucket = Bucket::default();
        bucket.limit(None, 1, 12);
        assert_eq!(sent(&mut bucket, Duration::from_millis(1)).len(), 100_000);
    }
}

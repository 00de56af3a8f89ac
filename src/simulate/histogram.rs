//! Durations counted in a fixed number of buckets, however many there are.

use std::time::Duration;

use super::report::Latency;

/// Buckets for each doubling: a value is known to 1 part in 64.
const FINE: u32 = 6;
/// Up to 2^36 us, which is 19 hours: longer than any attempt may be late.
const COARSE: u32 = 36;

/// Durations in buckets of a fixed number, however many are counted.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = usize::try_from((COARSE - FINE + 1) << FINE).unwrap_or(0);
        Self { counts: vec![0; buckets], total: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    pub(super) fn count(&mut self, duration: Duration) {
        let last = self.counts.len().saturating_sub(1);
        if let Some(count) = self.counts.get_mut(bucket(micros(duration)).min(last)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(duration);
    }

    /// How many durations were counted.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The upper end of the bucket in which `percent` of the durations are passed, in ms.
    fn percentile(&self, percent: u64) -> f64 {
        let rank = (u128::from(self.total) * u128::from(percent)).div_ceil(100);
        let mut passed = 0;
        for (index, count) in self.counts.iter().enumerate() {
            passed += u128::from(*count);
            if passed >= rank && passed > 0 {
                return (upper(index) as f64 / 1_000.0).min(ms(self.max));
            }
        }
        ms(self.max)
    }

    pub(super) fn latency(&self) -> Latency {
        Latency {
            p50_ms: self.percentile(50),
            p90_ms: self.percentile(90),
            p99_ms: self.percentile(99),
            max_ms: ms(self.max),
        }
    }
}

pub(super) fn ms(duration: Duration) -> f64 {
    micros(duration) as f64 / 1_000.0
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Values below 64 have a bucket each; every doubling above has 64 more.
fn bucket(micros: u64) -> usize {
    let doublings = (u64::BITS - micros.leading_zeros()).saturating_sub(FINE + 1);
    let index = (u64::from(doublings) << FINE) + (micros >> doublings);
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    let doublings = (index >> FINE).saturating_sub(1);
    let base = index - (doublings << FINE);
    ((base + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.latency(), Latency::default());
        for n in 1..=1_000 {
            histogram.count(Duration::from_millis(n));
        }
        let latency = histogram.latency();
        for (found, exact) in [(latency.p50_ms, 500.0), (latency.p90_ms, 900.0), (latency.p99_ms, 990.0)] {
            assert!(found >= exact && found <= exact * 1.02, "{found} for {exact}");
        }
        assert_eq!(latency.max_ms, 1_000.0);
        histogram.count(Duration::MAX);
        assert!(histogram.latency().max_ms > 1e9);
    }

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket(micros in 0_u64..1 << 36) {
            let index = bucket(micros);
            prop_assert!(index < Histogram::default().counts.len());
            prop_assert!(upper(index) >= micros && upper(index) <= micros + micros / 64);
            prop_assert!(index == 0 || upper(index - 1) < micros);
        }
    }
}

//! How much is held in memory: records, and their bytes, since a thousand large ones are not what a thousand small ones are.

use std::sync::Arc;

/// What has a size.
pub(super) trait Weigh {
    /// Bytes, as they stand in Kafka. In memory, decoded, it is some times as much.
    fn bytes(&self) -> usize;
}

/// What is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Records.
    pub(super) records: usize,
    /// Their bytes.
    pub(super) bytes: usize,
}

impl Tally {
    /// One more.
    pub(super) fn add(&mut self, record: &impl Weigh) {
        self.records += 1;
        self.bytes += record.bytes();
    }

    /// One less; nothing where there is none.
    pub(super) fn remove<R: Weigh>(&mut self, record: Option<&Arc<R>>) {
        if let Some(record) = record {
            self.records -= 1;
            self.bytes -= record.bytes();
        }
    }

    /// Whether it comes to more than this, one way or the other.
    pub(super) const fn exceeds(self, most: Self) -> bool {
        self.records > most.records || self.bytes > most.bytes
    }

    /// Half of it.
    pub(super) const fn half(self) -> Self {
        Self { records: self.records / 2, bytes: self.bytes / 2 }
    }

    /// Whether it comes to as much as this, one way or the other.
    pub(super) const fn reaches(self, most: Self) -> bool {
        self.records >= most.records || self.bytes >= most.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tally {
        /// As many records of any size.
        pub(in crate::delivery) const fn of(records: usize) -> Self {
            Self { records, bytes: usize::MAX }
        }
    }

    impl Weigh for i64 {
        fn bytes(&self) -> usize {
            10
        }
    }

    #[test]
    fn records_and_bytes_are_bounds_of_their_own() {
        let most = Tally { records: 4, bytes: 100 };
        for (records, bytes, exceeds, reaches) in [
            (3, 99, false, false),
            (4, 99, false, true),
            (3, 100, false, true),
            (5, 0, true, true),
            (0, 101, true, true),
        ] {
            let tally = Tally { records, bytes };
            assert_eq!((tally.exceeds(most), tally.reaches(most)), (exceeds, reaches), "{tally:?}");
        }
        let mut tally = Tally::default();
        tally.add(&7_i64);
        tally.add(&8_i64);
        tally.remove(Some(&Arc::new(7_i64)));
        tally.remove::<i64>(None);
        assert_eq!((tally, most.half()), (Tally { records: 1, bytes: 10 }, Tally { records: 2, bytes: 50 }));
    }
}

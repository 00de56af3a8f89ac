//! Where rows of `parked` come to stand: a lower bound of each one's offset, known as it is written. Pure.
//!
//! A partition of `parked` has one writer, and a transaction's rows stand in it one behind the other, with one marker
//! behind them. So the offsets could be counted; but an aborted transaction, or a predecessor's last one, takes places
//! too. What is counted here never runs ahead of the log: a reader that starts there meets the row, usually at once.

use std::collections::HashMap;

/// Lower bounds for the rows to come, by partition number.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<i32, Place>);

#[derive(Debug, Default)]
struct Place {
    end: i64,
    /// Rows of the transaction under way.
    sealed: i64,
    /// Rows of the one behind it.
    pending: i64,
}

impl Place {
    const fn behind_sealed(&self) -> i64 {
        if self.sealed > 0 { self.end + self.sealed + 1 } else { self.end }
    }
}

impl Places {
    /// The log of a partition ends here, or later.
    pub(super) fn begin(&mut self, number: i32, end: i64) {
        self.0.insert(number, Place { end, ..Place::default() });
    }

    /// A row is written: its place.
    pub(super) fn take(&mut self, number: i32) -> i64 {
        let place = self.0.entry(number).or_default();
        let next = place.behind_sealed() + place.pending;
        place.pending += 1;
        next
    }

    /// The rows until now are in a transaction, and later ones stand behind it.
    pub(super) fn seal(&mut self) {
        for place in self.0.values_mut() {
            place.sealed = std::mem::take(&mut place.pending);
        }
    }

    /// That transaction is committed.
    pub(super) fn committed(&mut self) {
        for place in self.0.values_mut() {
            place.end = place.behind_sealed();
            place.sealed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_with_their_markers() {
        let mut places = Places::default();
        places.begin(1, 10);
        assert_eq!((places.take(1), places.take(1), places.take(0)), (10, 11, 0));
        places.seal();
        assert_eq!((places.take(1), places.take(0)), (13, 2), "behind the transaction under way");
        places.committed();
        assert_eq!(places.take(1), 14);
        for _ in 0..2 {
            places.seal();
            places.committed();
        }
        assert_eq!(places.take(1), 16);
    }
}

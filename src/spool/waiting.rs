//! A bound on the bytes that wait to be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that wait now.
#[derive(Debug, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

/// A part of them, which is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Waiting {
    /// Takes so many of `most` bytes; none where they are not there. One claim alone is let in whatever its size.
    pub(super) fn claim(&self, bytes: usize, most: usize) -> Option<Claim> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let claim = Claim { bytes, of: Arc::clone(&self.0) };
        (before == 0 || before.saturating_add(bytes) <= most).then_some(claim)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let waiting = Waiting::default();
        let first = waiting.claim(6, 10).expect("there is room");
        assert!(waiting.claim(5, 10).is_none(), "no room for both");
        let second = waiting.claim(4, 10).expect("a claim that was refused holds nothing");
        assert!(waiting.claim(1, 10).is_none());
        drop((first, second));
        assert!(waiting.claim(11, 10).is_some(), "nothing would ever let it in otherwise");
    }
}

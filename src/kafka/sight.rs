//! Whether a client still has a broker to speak to.
//!
//! librdkafka forgets every broker that a metadata answer does not name. Where one names none, as a lone broker's does
//! while it is fenced after a pause, some clients never look again (confluentinc/librdkafka, issue 5301; versions 2.12
//! and 2.13): they say once that all brokers are down, and are silent from then on, however well the cluster is. So each
//! client that lives long is asked now and then whether it finds a broker, and is replaced when it has found none for
//! longer than any cluster takes to elect a leader.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use tokio::time::Instant;

/// Between two looks of a client that misses its brokers.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Between two looks of one that has heard nothing; one small request each.
const LOOK_QUIET: Duration = Duration::from_secs(10);
/// Longest wait for the answer to a look.
const LOOK: Duration = Duration::from_millis(500);
/// A client that finds no broker for this long is replaced.
pub(super) const CUT_OFF: Duration = Duration::from_secs(15);

/// When a client last heard of its cluster.
#[derive(Debug)]
pub(super) struct Sight {
    looked: Instant,
    /// It says that its brokers are away.
    misses: bool,
    /// The first of the looks in a row that found none.
    lost: Option<Instant>,
}

impl Sight {
    /// Of a client made now.
    pub(super) const fn new(now: Instant) -> Self {
        Self { looked: now, misses: false, lost: None }
    }

    /// It had a record, which is as good as an answer.
    pub(super) fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// It says that its brokers are away.
    pub(super) fn missed(&mut self) {
        self.misses = true;
    }

    /// Whether to look for a broker.
    fn is_due(&self, now: Instant) -> bool {
        let every = if self.misses { LOOK_AGAIN } else { LOOK_QUIET };
        now.saturating_duration_since(self.looked) >= every
    }

    /// Takes note of a look; says whether the client is cut off.
    fn looked(&mut self, now: Instant, found: bool) -> bool {
        if found {
            self.heard(now);
            return false;
        }
        self.looked = now;
        self.misses = true;
        now.saturating_duration_since(*self.lost.get_or_insert(now)) >= CUT_OFF
    }

    /// Looks, where it is time to, for half a second at most; says whether the client is cut off. Metadata comes from
    /// any broker, so only a client without one finds none.
    pub(super) fn look<C: ClientContext>(&mut self, client: &Client<C>, topic: &str) -> bool {
        if !self.is_due(Instant::now()) {
            return false;
        }
        let found = client.fetch_metadata(Some(topic), LOOK).is_ok();
        self.looked(Instant::now(), found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_cut_off_when_it_finds_no_broker_for_long() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut sight = Sight::new(start);
        assert!(!sight.is_due(at(9)) && sight.is_due(at(10)), "quiet ones are asked, now and then");
        assert!(!sight.looked(at(10), true) && !sight.is_due(at(19)));
        sight.heard(at(19));
        assert!(!sight.is_due(at(28)));
        // One that misses its brokers is asked sooner.
        sight.missed();
        assert!(sight.is_due(at(21)));
        // Time in which nobody looked does not count.
        assert!(!sight.looked(at(60), false));
        assert!(!sight.is_due(at(61)) && sight.is_due(at(62)));
        assert!(!sight.looked(at(74), false));
        assert!(sight.looked(at(75), false));
        // One answer in between, and it is given all the time again.
        assert!(!sight.looked(at(76), true) && !sight.is_due(at(85)));
        assert!(!sight.looked(at(86), false) && !sight.looked(at(100), false) && sight.looked(at(101), false));
    }
}

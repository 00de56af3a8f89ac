//! Of each entity, when the newest record happened that the target has had: what is older comes too late. Pure.
//!
//! Where a target leaves such records out, it is kept in `progress` and restored with it. Elsewhere only replays ask for
//! it, of which the command has asked already; there it covers what was delivered since, as far as memory is given to it.

use std::collections::HashMap;

use super::lane::Lane;
use crate::config::OnStale;
use crate::event::{Sha256, Timestamp};

/// Entities known where they are not kept, in each of two generations.
const MOST: usize = 50_000;

/// A lane's name in short: entities are many, and their keys long.
type Short = [u8; 16];

/// The newest record that was had, by entity.
#[derive(Debug)]
pub(super) struct Latest {
    on_stale: OnStale,
    young: HashMap<Short, i64>,
    old: HashMap<Short, i64>,
}

impl Latest {
    /// Nothing is known yet.
    pub(super) fn new(on_stale: OnStale) -> Self {
        Self { on_stale, young: HashMap::new(), old: HashMap::new() }
    }

    /// Whether it is kept in `progress`.
    pub(super) fn is_kept(&self) -> bool {
        self.on_stale == OnStale::Skip
    }

    /// Forgets everything: it is restored, or someone else's.
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Whether a record that happened at this time is not to be sent any more. `replayed` says of one of a replay whether
    /// it goes all the same.
    pub(super) fn supersedes(&self, lane: &Lane, occurred: Option<Timestamp>, replayed: Option<bool>) -> bool {
        let bound = replayed.map_or(self.on_stale == OnStale::Skip, |allowed| !allowed);
        let Some(occurred) = occurred.filter(|_| bound) else { return false };
        let short = short(lane);
        let known = self.young.get(&short).or_else(|| self.old.get(&short));
        known.is_some_and(|latest| occurred.as_micros() < *latest)
    }

    /// The target has had a record that happened at this time. Says whether it is the entity's newest.
    pub(super) fn note(&mut self, lane: &Lane, occurred: Timestamp) -> bool {
        let (short, occurred) = (short(lane), occurred.as_micros());
        let known = self.young.get(&short).or_else(|| self.old.get(&short)).copied();
        if known.is_some_and(|latest| latest >= occurred) {
            return false;
        }
        if !self.is_kept() && self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(short, occurred);
        true
    }
}

fn short(lane: &Lane) -> Short {
    let name = [lane.partition.topic.as_bytes(), &[0], &lane.partition.number.to_be_bytes(), &lane.key].concat();
    let mut short = Short::default();
    short.copy_from_slice(&Sha256::of(&name).as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::group::Partition;

    fn lane(key: u32) -> Lane {
        let partition = Partition { topic: "invoices".to_owned(), number: 0 };
        Lane { partition, key: key.to_be_bytes().to_vec() }
    }

    #[test]
    fn what_is_older_comes_too_late() {
        let at = |micros| Some(Timestamp::from_micros(micros));
        for (on_stale, occurred, replayed, wanted) in [
            (OnStale::Skip, at(9), None, true),
            (OnStale::Skip, at(10), None, false),
            (OnStale::Skip, at(11), None, false),
            (OnStale::Skip, None, None, false),
            (OnStale::Skip, at(9), Some(false), true),
            (OnStale::Skip, at(9), Some(true), false),
            (OnStale::Deliver, at(9), None, false),
            (OnStale::Deliver, at(9), Some(false), true),
            (OnStale::Deliver, at(9), Some(true), false),
            (OnStale::Deliver, at(10), Some(false), false),
        ] {
            let mut latest = Latest::new(on_stale);
            assert!(!latest.supersedes(&lane(1), occurred, replayed), "nothing is known yet");
            assert!(latest.note(&lane(1), Timestamp::from_micros(10)));
            assert!(!latest.note(&lane(1), Timestamp::from_micros(7)), "it does not go back");
            assert_eq!(
                latest.supersedes(&lane(1), occurred, replayed),
                wanted,
                "{on_stale:?} {occurred:?} {replayed:?}"
            );
            assert!(!latest.supersedes(&lane(2), occurred, replayed), "another entity");
            latest.clear();
            assert!(!latest.supersedes(&lane(1), occurred, replayed));
        }
    }

    #[test]
    fn memory_is_bounded_where_nothing_is_kept() {
        let mut latest = Latest::new(OnStale::Deliver);
        for key in 0..150_001 {
            latest.note(&lane(key), Timestamp::from_micros(10));
        }
        assert!(latest.young.len() + latest.old.len() <= 2 * MOST);
        let older = |key| latest.supersedes(&lane(key), Some(Timestamp::from_micros(9)), Some(false));
        assert!(older(150_000) && older(100_001) && !older(0));
    }
}

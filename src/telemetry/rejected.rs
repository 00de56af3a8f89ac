//! Requests that were refused, the last few of each source and reason: for people who look why a provider's events do
//! not come in. In memory alone: a stranger's request leaves nothing on disk or in Kafka.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::Timestamp;
use crate::outcome::Answer;

/// Requests kept of one source and reason. A flood of one kind pushes out no other; the number of kinds is bounded by
/// the configuration.
const KEPT: usize = 50;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// When.
    pub at: Timestamp,
    /// Whose path it came to; empty for an unknown path.
    pub source: String,
    /// What it was answered.
    pub reason: Answer,
    /// Who sent it.
    pub address: IpAddr,
    /// Our id of it. The answer names it too, where it is ours: not where the server found no request in what came.
    pub request_id: Uuid,
}

/// By source and reason, each the oldest first.
type Kinds = BTreeMap<(String, Answer), VecDeque<Rejected>>;

/// The last refused requests of this process.
#[derive(Clone, Debug, Default)]
pub struct RejectedRequests(Arc<Mutex<Kinds>>);

impl RejectedRequests {
    /// Adds one; the oldest of its source and reason may go for it.
    pub fn add(&self, request: Rejected) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry((request.source.clone(), request.reason)).or_default();
        if kind.len() >= KEPT {
            kind.pop_front();
        }
        kind.push_back(request);
    }

    /// All that are kept, the newest first.
    #[must_use]
    pub fn newest(&self) -> Vec<Rejected> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Rejected> = kinds.values().flatten().cloned().collect();
        drop(kinds);
        // Ids are made in the order of requests.
        all.sort_unstable_by_key(|request| std::cmp::Reverse((request.at, request.request_id)));
        all
    }

    /// The same as the admin API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rows = self.newest().into_iter().map(|request| {
            json!({
                "at": request.at.to_string(),
                "source": request.source,
                "reason": request.reason.name(),
                "address": request.address.to_string(),
                "request_id": request.request_id,
            })
        });
        json!({ "rejected": rows.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_pushes_out_no_other() {
        let rejected = RejectedRequests::default();
        let add = |at, source: &str, reason| {
            rejected.add(Rejected {
                at: Timestamp::from_micros(at),
                source: source.to_owned(),
                reason,
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                request_id: Uuid::nil(),
            });
        };
        add(0, "accelex", Answer::SignatureInvalid);
        for at in 1..=1_000 {
            add(at, "", Answer::NotFound);
        }
        add(1_001, "accelex", Answer::BodyTooLarge);
        let kept = rejected.newest();
        assert_eq!(kept.len(), KEPT + 2);
        assert!(kept.is_sorted_by_key(|request| std::cmp::Reverse(request.at)));
        assert_eq!((kept[0].reason, kept[1].at.as_micros()), (Answer::BodyTooLarge, 1_000));
        assert_eq!(kept.last().map(|request| request.reason), Some(Answer::SignatureInvalid));
    }
}

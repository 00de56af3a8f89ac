//! Faults on demand: what the next deliveries meet.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// Orders that can wait at one time.
const MAX_FAULTS: usize = 1_000;
/// Longest wait that can be ordered: longer than any target's timeout.
const MAX_MS: u64 = 3_600_000;
/// Most deliveries that one order can be for.
const MAX_TIMES: u64 = 1_000_000_000;

/// A body of `POST /_sandbox/faults`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    status: Option<u16>,
    mode: Option<Mode>,
    ms: Option<u64>,
    times: Option<u64>,
    retry_after: Option<u64>,
    #[serde(rename = "match", default)]
    only: Match,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Status,
    Drop,
    Delay,
    CommitThenDrop,
}

/// Which deliveries a fault is for; what is not named matches any.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Match {
    event_id: Option<String>,
    event_type: Option<String>,
    entity: Option<String>,
    path: Option<String>,
}

/// What one delivery meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// This status, and no document.
    Status {
        /// The status.
        status: u16,
        /// Seconds of a `Retry-After` header.
        retry_after: Option<u64>,
    },
    /// After this long the connection is cut; no document.
    Drop(Duration),
    /// It is dealt with after this long, also when the caller has gone.
    Delay(Duration),
    /// It is dealt with, and after this long the connection is cut without an answer.
    CommitThenDrop(Duration),
}

/// What a delivery is known by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen<'a> {
    pub(super) event_id: &'a str,
    pub(super) event_type: &'a str,
    pub(super) entity: &'a str,
    pub(super) path: &'a str,
}

/// The orders that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults(VecDeque<(Match, Fault, u64)>);

impl Faults {
    /// Takes an order, or says what is wrong with it.
    pub(super) fn add(&mut self, body: &[u8]) -> Result<(), String> {
        let order: Order = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if self.0.len() >= MAX_FAULTS {
            return Err(format!("{MAX_FAULTS} faults are waiting; DELETE /_sandbox/faults forgets them"));
        }
        let times = order.times.unwrap_or(1);
        if !(1..=MAX_TIMES).contains(&times) {
            return Err(format!("times is from 1 to {MAX_TIMES}"));
        }
        if order.ms.is_some_and(|ms| ms > MAX_MS) {
            return Err(format!("ms is at most {MAX_MS}"));
        }
        let wait = Duration::from_millis(order.ms.unwrap_or(0));
        let mode = order.mode.unwrap_or(Mode::Status);
        if mode != Mode::Status && (order.status.is_some() || order.retry_after.is_some()) {
            return Err("status and retry_after belong to mode \"status\" alone".to_owned());
        }
        let fault = match (mode, order.status) {
            // Below 300 it would be no failure but a lie: a delivery that counts as made and is not.
            (Mode::Status, Some(status @ 300..=599)) if order.ms.is_none() => {
                Fault::Status { status, retry_after: order.retry_after }
            }
            (Mode::Status, _) => return Err("a status from 300 to 599, without ms, or a mode is needed".to_owned()),
            (Mode::Delay, _) if wait.is_zero() => return Err("a delay needs ms".to_owned()),
            (Mode::Delay, _) => Fault::Delay(wait),
            (Mode::Drop, _) => Fault::Drop(wait),
            (Mode::CommitThenDrop, _) => Fault::CommitThenDrop(wait),
        };
        self.0.push_back((order.only, fault, times));
        Ok(())
    }

    /// What this delivery meets: the oldest order for it, used up by one.
    pub(super) fn meet(&mut self, seen: Seen<'_>) -> Option<Fault> {
        let at = self.0.iter().position(|(only, ..)| only.fits(seen))?;
        let (_, fault, times) = self.0.get_mut(at)?;
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            self.0.remove(at);
        }
        Some(fault)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The orders that wait, in the form in which they were given.
    pub(super) fn to_json(&self) -> Value {
        let orders = self.0.iter().map(|(only, fault, times)| {
            let mut order = match fault {
                Fault::Status { status, retry_after } => {
                    json!({"mode": "status", "status": status, "retry_after": retry_after})
                }
                Fault::Drop(wait) => json!({"mode": "drop", "ms": millis(*wait)}),
                Fault::Delay(wait) => json!({"mode": "delay", "ms": millis(*wait)}),
                Fault::CommitThenDrop(wait) => json!({"mode": "commit_then_drop", "ms": millis(*wait)}),
            };
            order["times"] = Value::from(*times);
            order["match"] = json!({
                "event_id": only.event_id, "event_type": only.event_type, "entity": only.entity, "path": only.path,
            });
            order
        });
        json!({ "faults": orders.collect::<Vec<_>>() })
    }
}

impl Match {
    fn fits(&self, seen: Seen<'_>) -> bool {
        let pairs = [
            (&self.event_id, seen.event_id),
            (&self.event_type, seen.event_type),
            (&self.entity, seen.entity),
            (&self.path, seen.path),
        ];
        pairs.into_iter().all(|(wanted, found)| wanted.as_deref().is_none_or(|wanted| wanted == found))
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_met_in_turn_by_those_they_are_for() {
        let mut faults = Faults::default();
        faults.add(br#"{"mode":"drop","match":{"event_id":"b"}}"#).unwrap();
        faults.add(br#"{"status":503,"times":2,"retry_after":2}"#).unwrap();
        let status = Fault::Status { status: 503, retry_after: Some(2) };
        let seen = |event_id| Seen { event_id, ..Seen::default() };
        assert_eq!(faults.meet(seen("a")), Some(status));
        assert_eq!(faults.meet(seen("b")), Some(Fault::Drop(Duration::ZERO)));
        assert_eq!(faults.to_json()["faults"][0]["times"], 1);
        assert_eq!(faults.meet(seen("b")), Some(status));
        assert_eq!(faults.meet(seen("b")), None);
    }

    #[test]
    fn wrong_orders_are_refused_with_a_reason() {
        for (body, reason) in [
            ("", "EOF"),
            ("{}", "a status from 300 to 599"),
            (r#"{"status":200}"#, "a status from 300 to 599"),
            (r#"{"status":503,"ms":1}"#, "without ms"),
            (r#"{"status":503,"times":0}"#, "times is from 1"),
            (r#"{"mode":"delay"}"#, "needs ms"),
            (r#"{"mode":"drop","status":503}"#, "belong to mode"),
            (r#"{"mode":"drop","ms":99999999}"#, "ms is at most"),
            (r#"{"mode":"explode"}"#, "unknown variant"),
            (r#"{"status":503,"match":{"id":"x"}}"#, "unknown field"),
        ] {
            let said = Faults::default().add(body.as_bytes()).unwrap_err();
            assert!(said.contains(reason), "{body}: {said}");
        }
        let mut full = Faults::default();
        for _ in 0..MAX_FAULTS {
            full.add(br#"{"status":503}"#).unwrap();
        }
        assert!(full.add(br#"{"status":503}"#).unwrap_err().contains("are waiting"));
    }
}

//! What a run of the simulator found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// What became of everything that was to be sent.
///
/// Two sums hold: `planned = accepted + given_up + abandoned + unsent`, and
/// `requests = accepted + refused + unanswered = planned - unsent + retried`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SendReport {
    /// Deliveries that were to be made: the events and the duplicates.
    pub planned: u64,
    /// Different events of which at least one request went out.
    pub distinct_events: u64,
    /// Requests made, repeats among them.
    pub requests: u64,
    /// Answers by status and the code in their body (`200 accepted`, `503 overloaded`), and what came in place of one:
    /// `timeout`, `connect`, `cut`.
    pub answers: BTreeMap<String, u64>,
    /// Deliveries answered with 2xx: nothing more is sent for them.
    pub accepted: u64,
    /// Requests answered with anything else.
    pub refused: u64,
    /// Requests without an answer inside the provider's timeout.
    pub unanswered: u64,
    /// Requests that repeated an attempt which was refused or not answered.
    pub retried: u64,
    /// Deliveries that the provider gives up: its schedule has no further repeat. These are lost unless someone
    /// replays them at the provider.
    pub given_up: u64,
    /// Deliveries whose next repeat was too far off for this run, or that its stop cut short. A provider would go on.
    pub abandoned: u64,
    /// Deliveries that were never tried, since the run was stopped before.
    pub unsent: u64,
    /// Deliveries of an event that had been sent before, repeats after failures not among them.
    pub duplicates_sent: u64,
    /// Time to the answer of answered requests. It counts from when a request was due: what a busy simulator or a slow
    /// receiver holds up is in it.
    pub latency: Latency,
    /// Longest time by which a request went out later than it was due, in ms.
    pub max_late_ms: f64,
    /// From the first request to the end of the run.
    pub seconds: f64,
    /// By event type.
    pub event_types: BTreeMap<String, TypeCount>,
}

/// What was sent of one event type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeCount {
    /// Different events.
    pub distinct_events: u64,
    /// Requests.
    pub requests: u64,
    /// Deliveries answered with 2xx.
    pub accepted: u64,
}

/// Latencies in ms; zero where nothing was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Half were at most this.
    pub p50_ms: f64,
    /// 90 % were at most this.
    pub p90_ms: f64,
    /// 99 % were at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl SendReport {
    /// Whether every delivery ended with 2xx.
    #[must_use]
    pub const fn all_accepted(&self) -> bool {
        self.accepted == self.planned
    }

    /// The report as JSON; every member is always there.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let types: serde_json::Map<_, _> = self
            .event_types
            .iter()
            .map(|(name, t)| {
                let counts =
                    json!({"distinct_events": t.distinct_events, "requests": t.requests, "accepted": t.accepted});
                (name.clone(), counts)
            })
            .collect();
        json!({
            "planned": self.planned,
            "distinct_events": self.distinct_events,
            "requests": self.requests,
            "answers": self.answers,
            "accepted": self.accepted,
            "refused": self.refused,
            "unanswered": self.unanswered,
            "retried": self.retried,
            "given_up": self.given_up,
            "abandoned": self.abandoned,
            "unsent": self.unsent,
            "duplicates_sent": self.duplicates_sent,
            "latency": {
                "p50_ms": self.latency.p50_ms,
                "p90_ms": self.latency.p90_ms,
                "p99_ms": self.latency.p99_ms,
                "max_ms": self.latency.max_ms,
            },
            "max_late_ms": self.max_late_ms,
            "seconds": self.seconds,
            "event_types": types,
        })
    }
}

impl fmt::Display for SendReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = if self.seconds > 0.0 { self.requests as f64 / self.seconds } else { 0.0 };
        writeln!(f, "planned     {} deliveries of {} events", self.planned, self.distinct_events)?;
        writeln!(f, "accepted    {}", self.accepted)?;
        for (count, what) in [
            (self.given_up, "given up    {}, lost: the provider's schedule has no further repeat"),
            (self.abandoned, "abandoned   {}: the next repeat was too far off, or the run was stopped"),
            (self.unsent, "unsent      {}: the run was stopped before"),
        ] {
            if count > 0 {
                writeln!(f, "{}", what.replace("{}", &count.to_string()))?;
            }
        }
        writeln!(
            f,
            "requests    {} in {:.1} s, {rate:.0}/s: {} repeats after failures, {} duplicates",
            self.requests, self.seconds, self.retried, self.duplicates_sent
        )?;
        for (answer, count) in &self.answers {
            writeln!(f, "  {count:>9}  {answer}")?;
        }
        let Latency { p50_ms, p90_ms, p99_ms, max_ms } = self.latency;
        writeln!(f, "latency     p50 {p50_ms:.1} ms, p90 {p90_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms")?;
        writeln!(f, "            sent at most {:.1} ms late", self.max_late_ms)?;
        let width = self.event_types.keys().map(String::len).max().unwrap_or(0);
        for (name, t) in &self.event_types {
            writeln!(
                f,
                "  {name:<width$}  {} events, {} requests, {} accepted",
                t.distinct_events, t.requests, t.accepted
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_the_same_counts_as_programs() {
        let report = SendReport {
            planned: 12,
            accepted: 10,
            given_up: 2,
            requests: 20,
            answers: [("503 overloaded".to_owned(), 10)].into(),
            ..SendReport::default()
        };
        let text = report.to_string();
        assert!(text.contains("given up    2, lost") && text.contains("10  503 overloaded"), "{text}");
        assert!(!text.contains("abandoned"), "{text}");
        assert_eq!(report.to_json()["given_up"], 2);
        assert!(!report.all_accepted());
    }
}

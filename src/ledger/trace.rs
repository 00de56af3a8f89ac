//! One event's life, straight from the topics. Keys say in which partition each part stands, so a handful of
//! partitions is read, not the topics; but for `received` after it got more of them.

mod read;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::error::LedgerError;
use super::report::Held;
use super::rows;
use super::state::Latest;
use crate::event::{Attempt, DeadLetter, Envelope, Mark, Quarantined, Record, Seen, Timestamp, ToJson};
use crate::kafka::layout::Ground;
use crate::lifecycle;
use crate::outcome::DeliveryState;
use read::Reader;

/// Something with the place where it stands.
#[derive(Debug)]
pub struct Placed<T> {
    /// Kafka's name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Kafka's time of the row.
    pub at: Option<Timestamp>,
    /// An operator's mark, on a row that came back from quarantine.
    pub mark: Option<Mark>,
    /// What stands there.
    pub value: T,
}

/// Everything known of one event id of one source.
#[derive(Debug)]
pub struct Trace {
    /// The source.
    pub source: String,
    /// Each time it was received.
    pub received: Vec<Placed<Envelope>>,
    /// The newest marker of its id.
    pub seen: Option<Placed<Seen>>,
    /// Its record: exactly one once it is routed, and one for each revision that an operator accepted.
    pub records: Vec<Placed<Record>>,
    /// Each time it was set aside.
    pub quarantined: Vec<Placed<Quarantined>>,
    /// Tries to deliver it, all targets, oldest first.
    pub attempts: Vec<Placed<Attempt>>,
    /// Where it was given up.
    pub dead_letters: Vec<Placed<DeadLetter>>,
    /// Targets that take its record.
    pub targets: Vec<String>,
    /// Those of them at which it is parked.
    pub parked: Vec<String>,
    /// Those of them that are past it, though no try and no dead letter of it is there.
    pub past: Vec<String>,
}

/// What is known of a record at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has this state.
    State(DeliveryState),
    /// The target is past it and nothing tells how: it is older than the target's start, or its tries are no longer kept.
    Past,
}

impl Standing {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::State(state) => state.name(),
            Self::Past => "past",
        }
    }
}

/// Looks an event id up in every source. `targets` are names with the record topics each takes.
///
/// # Errors
/// When a topic cannot be read or a row not be decoded.
pub async fn trace(
    ground: &std::sync::Arc<Ground>,
    sources: &[String],
    targets: &[(String, Vec<String>)],
    event_id: &str,
) -> Result<Vec<Trace>, LedgerError> {
    let mut traces = Vec::new();
    for source in sources {
        let reader = Reader { ground, decoder: ground.decoder(), event_id };
        if let Some(trace) = reader.of_source(source, targets).await? {
            traces.push(trace);
        }
    }
    Ok(traces)
}

/// Receivers whose spools hold events, as far as they could say so: one that cannot reach Kafka could not.
///
/// # Errors
/// When `control` cannot be read.
pub async fn spooled(ground: &std::sync::Arc<Ground>) -> Result<Vec<Held>, LedgerError> {
    let (ground, runtime) = (std::sync::Arc::clone(ground), Handle::current());
    lifecycle::on_thread("trace", move || rows::Reader::new(&ground, &runtime).spooled()).await?
}

impl Trace {
    /// State of the record at each target that takes it.
    #[must_use]
    pub fn states(&self) -> Vec<(&str, Standing)> {
        let state = |target: &String| {
            let mut latest = Latest::default();
            for try_ in self.attempts.iter().filter(|attempt| attempt.value.target == *target) {
                latest.attempt(try_.value.ended_at(), try_.value.outcome);
            }
            for letter in self.dead_letters.iter().filter(|letter| letter.value.target == *target) {
                latest.letter(letter.value.dead_at, letter.value.settled.as_deref());
            }
            match latest.state() {
                Some(state) => Standing::State(state),
                None if self.parked.contains(target) => Standing::State(DeliveryState::Parked),
                None if self.past.contains(target) => Standing::Past,
                None => Standing::State(DeliveryState::Waiting),
            }
        };
        let routed = self.targets.iter().filter(|_| !self.records.is_empty());
        routed.map(|target| (target.as_str(), state(target))).collect()
    }

    /// The whole trace for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "source": self.source,
            "received": all(&self.received),
            "seen": self.seen.as_ref().map(Placed::to_json),
            "records": all(&self.records),
            "quarantined": all(&self.quarantined),
            "attempts": all(&self.attempts),
            "dead_letters": all(&self.dead_letters),
            "targets": self.states().iter().map(|(t, s)| ((*t).to_owned(), Value::from(s.name()))).collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn all<T: ToJson>(rows: &[Placed<T>]) -> Value {
    rows.iter().map(Placed::to_json).collect()
}

impl<T: ToJson> Placed<T> {
    fn to_json(&self) -> Value {
        let mut shown = json!({
            "topic": self.topic, "partition": self.partition, "offset": self.offset, "value": self.value.to_json()
        });
        // Headers of the row, under their own names.
        for (name, value) in self.mark.iter().flat_map(Mark::headers) {
            shown[name] = value.into();
        }
        shown
    }
}

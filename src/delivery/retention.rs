//! How far a target's reader is from losing records to its topics' retention.
//!
//! Only what is read and open counts: parked records are in `parked`, which time does not delete, and what is behind the
//! read-ahead is younger than the oldest open record of its partition. A broker deletes whole segments, so that a record
//! goes no earlier than told here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::event::Timestamp;
use crate::kafka::group::Partition;
use crate::kafka::layout::Ground;
use crate::telemetry::Metrics;

/// Between two looks at the topics' settings: people change them, seldom.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The same while the cluster does not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// `retention.ms` of topics (Kafka's names) as last heard; -1 is for ever.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<BTreeMap<String, i64>>>);

impl Known {
    fn of(&self, topic: &str) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }

    fn learn(&self, heard: BTreeMap<String, i64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(heard);
    }
}

/// Keeps `known` true for these topics (Kafka's names) until told to stop. What was known stays while nobody answers.
pub(super) async fn keep(known: Known, ground: Arc<Ground>, topics: Vec<String>, stop: CancellationToken) {
    loop {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = ground.admin().retention(&topics) => heard,
        };
        let pause = match heard {
            Ok(heard) => {
                known.learn(heard);
                LOOK_EVERY
            }
            Err(error) => {
                tracing::debug!(%error, "the topics' retention is not known anew");
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Where a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing that time could delete is open.
    Safe,
    /// The first open record is deleted in so many milliseconds, which is long enough.
    Plenty(i64),
    /// It is deleted soon, or may be gone already: 0.
    Near(i64),
}

/// The time left, the least of all open records (when recorded, and their topic's retention in ms), judged by a limit
/// in ms; 0 is no limit.
fn stand(open: impl IntoIterator<Item = (Timestamp, Option<i64>)>, limit: i64, now: Timestamp) -> Standing {
    let left = open.into_iter().filter_map(|(recorded, retention)| {
        let retention = retention.filter(|ms| *ms >= 0)?;
        Some(recorded.as_millis().saturating_add(retention).saturating_sub(now.as_millis()).max(0))
    });
    match left.min() {
        None => Standing::Safe,
        Some(left) if left < limit => Standing::Near(left),
        Some(left) => Standing::Plenty(left),
    }
}

/// The watch over one target's reader.
#[derive(Debug)]
pub(super) struct Retention {
    known: Known,
    limit: i64,
    near: bool,
}

impl Retention {
    /// Warns when less than `limit` is left; never where it is zero.
    pub(super) fn new(known: Known, limit: Duration) -> Self {
        Self { known, limit: i64::try_from(limit.as_millis()).unwrap_or(i64::MAX), near: false }
    }

    /// Shows how much time the oldest open record of each partition leaves, and logs a change.
    pub(super) fn observe<'a>(
        &mut self,
        metrics: &Metrics,
        target: &str,
        open: impl IntoIterator<Item = (&'a Partition, Timestamp)>,
        now: Timestamp,
    ) {
        let open = open.into_iter().map(|(partition, recorded)| (recorded, self.known.of(&partition.topic)));
        let standing = stand(open, self.limit, now);
        let gauge = &metrics.delivery_retention_seconds;
        match standing {
            // There may be no series to remove.
            Standing::Safe => drop(gauge.remove_label_values(&[target])),
            Standing::Plenty(left) | Standing::Near(left) => {
                let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                gauge.with_label_values(&[target]).set(left.as_secs_f64());
            }
        }
        match standing {
            Standing::Near(left) if !self.near => {
                let left_seconds = left / 1000;
                tracing::warn!(target_name = target, left_seconds, "records are about to be deleted by retention");
                self.near = true;
            }
            Standing::Safe | Standing::Plenty(_) if self.near => {
                tracing::info!(target_name = target, "no open record is near its deletion by retention any more");
                self.near = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_micros(hours * HOUR * 1000)
    }

    #[test]
    fn the_least_time_left_decides() {
        let (limit, now) = (48 * HOUR, at(1000));
        let week = Some(168 * HOUR);
        type Open<'a> = &'a [(Timestamp, Option<i64>)];
        let cases: &[(&str, Open<'_>, i64, Standing)] = &[
            ("nothing open", &[], limit, Standing::Safe),
            ("plenty", &[(at(999), week)], limit, Standing::Plenty(167 * HOUR)),
            ("just enough", &[(at(880), week)], limit, Standing::Plenty(48 * HOUR)),
            ("below", &[(at(879), week)], limit, Standing::Near(47 * HOUR)),
            ("past", &[(at(800), week)], limit, Standing::Near(0)),
            ("unlimited", &[(at(0), Some(-1))], limit, Standing::Safe),
            ("not known yet", &[(at(0), None)], limit, Standing::Safe),
            ("no limit", &[(at(800), week)], 0, Standing::Plenty(0)),
            ("the worst", &[(at(999), week), (at(880), Some(121 * HOUR))], limit, Standing::Near(HOUR)),
            ("unlimited beside", &[(at(0), Some(-1)), (at(999), week)], limit, Standing::Plenty(167 * HOUR)),
        ];
        for (name, open, limit, expected) in cases {
            assert_eq!(stand(open.iter().copied(), *limit, now), *expected, "{name}");
        }
    }

    #[test]
    fn the_series_is_there_while_something_is_open() {
        let metrics = Metrics::new().unwrap();
        let partition = Partition { topic: "r".to_owned(), number: 0 };
        let known = Known::default();
        let mut retention = Retention::new(known.clone(), Duration::from_secs(48 * 3600));
        retention.observe(&metrics, "erp", [(&partition, at(0))], at(1));
        assert!(!metrics.render().contains("retention_seconds{"), "the topic's retention is not known");
        known.learn(BTreeMap::from([("r".to_owned(), 24 * HOUR)]));
        retention.observe(&metrics, "erp", [(&partition, at(0))], at(1));
        assert!(metrics.render().contains(r#"ledgerhook_delivery_retention_seconds{target="erp"} 82800"#));
        assert!(retention.near);
        retention.observe(&metrics, "erp", [], at(1));
        assert!(!metrics.render().contains("retention_seconds{") && !retention.near);
    }
}

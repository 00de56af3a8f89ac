//! A target's ledger: each record of its topics has one state there. Pure; `progress` and `parked` are read before the
//! ends, so that what is done meanwhile has its end among them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::fault::Fault;
use super::state::Latest;
use super::sums::TargetSums;
use crate::event::{AttemptOutcome, Finished, Timestamp};
use crate::outcome::Discrepancy;
use crate::topics;

/// Place of a record: its topic without prefix, partition, offset.
pub(super) type Place = (String, i32, i64);

#[derive(Debug, Default)]
struct Entry {
    event_id: Box<str>,
    recorded_at: Timestamp,
    latest: Latest,
    /// Ends by live tries that wrote something at the target.
    delivered: u64,
}

/// Offsets of a partition between records of the span, with no record of another time among them.
#[derive(Debug, Default)]
struct Runs {
    runs: Vec<(i64, i64)>,
    /// Whether the next record of the span goes on with the last run.
    goes_on: bool,
}

impl Runs {
    fn row(&mut self, offset: i64, is_of_span: bool) {
        match self.runs.last_mut().filter(|_| self.goes_on && is_of_span) {
            Some((_, last)) => *last = offset,
            None if is_of_span => self.runs.push((offset, offset)),
            None => {}
        }
        self.goes_on = is_of_span;
    }

    fn has(&self, offset: i64) -> bool {
        let behind = self.runs.partition_point(|(_, last)| *last < offset);
        self.runs.get(behind).is_some_and(|(first, _)| *first <= offset)
    }
}

/// The ledger of one target.
#[derive(Debug)]
pub(super) struct TargetLedger {
    target: String,
    /// Whether it begins with the oldest record there is.
    from_oldest: bool,
    finished: Finished,
    parked: HashSet<String>,
    records: HashMap<Place, Entry>,
    read: BTreeMap<(String, i32), Runs>,
    /// By topic and partition: the first record that something came of.
    began: BTreeMap<(String, i32), i64>,
    /// Tries and dead letters before this time may be gone.
    kept_since: Option<Timestamp>,
    faults: Vec<Fault>,
}

impl TargetLedger {
    pub(super) fn new(target: &str, from_oldest: bool, finished: Finished, parked: HashSet<String>) -> Self {
        Self {
            target: target.to_owned(),
            from_oldest,
            finished,
            parked,
            records: HashMap::new(),
            read: BTreeMap::new(),
            began: BTreeMap::new(),
            kept_since: None,
            faults: Vec::new(),
        }
    }

    /// A record, in the order of its partition. One that the ledger is not about is passed over.
    pub(super) fn record(&mut self, place: Place, event_id: &str, recorded_at: Timestamp, is_of_span: bool) {
        let runs = self.read.entry((place.0.clone(), place.1)).or_default();
        runs.row(place.2, is_of_span);
        if is_of_span {
            self.records.insert(place, Entry { event_id: event_id.into(), recorded_at, ..Entry::default() });
        }
    }

    /// Tries and dead letters before this time are gone from a partition.
    pub(super) fn kept_since(&mut self, at: Timestamp) {
        self.kept_since = self.kept_since.max(Some(at));
    }

    pub(super) fn attempt(
        &mut self,
        place: Place,
        event_id: &str,
        ended_at: Timestamp,
        (outcome, live): (AttemptOutcome, bool),
    ) {
        let Some(entry) = self.entry(place, event_id, "a try") else { return };
        entry.latest.attempt(ended_at, outcome);
        entry.delivered += u64::from(live && outcome == AttemptOutcome::Delivered);
    }

    pub(super) fn letter(&mut self, place: Place, event_id: &str, at: Timestamp, settled: Option<&str>) {
        if let Some(entry) = self.entry(place, event_id, "a dead letter") {
            entry.latest.letter(at, settled);
        }
    }

    /// The record of a try or dead letter; a fault where there should be one.
    fn entry(&mut self, place: Place, event_id: &str, what: &str) -> Option<&mut Entry> {
        let partition = (place.0.clone(), place.1);
        let began = self.began.entry(partition.clone()).or_insert(place.2);
        *began = place.2.min(*began);
        let was_read = self.read.get(&partition).is_some_and(|runs| runs.has(place.2));
        if was_read && !self.records.contains_key(&place) {
            self.faults.push(Fault {
                ledger: self.target.clone(),
                what: Discrepancy::WithoutSource,
                event_id: event_id.to_owned(),
                body_sha256: None,
                place: place.clone(),
                detail: format!("{what} of a record that is not there"),
            });
            return None;
        }
        self.records.get_mut(&place)
    }

    /// The sums, and what is not among them.
    pub(super) fn close(mut self) -> (TargetSums, Vec<Fault>) {
        let mut sums = TargetSums::default();
        for (place, entry) in std::mem::take(&mut self.records) {
            sums.records += 1;
            let (topic, partition, offset) = &place;
            let is_parked = || self.parked.contains(&topics::parked_key(topic, *partition, *offset));
            let began = self.began.get(&(topic.clone(), *partition));
            let wrong = match entry.latest.state() {
                Some(_) if entry.delivered > 1 => Some((Discrepancy::Double, "delivered more than once")),
                Some(state) => {
                    *sums.of(state) += 1;
                    None
                }
                None if is_parked() => {
                    sums.parked += 1;
                    None
                }
                None if !self.finished.has(topic, *partition, *offset) => {
                    sums.waiting += 1;
                    None
                }
                None if !self.from_oldest && began.is_none_or(|began| offset < began) => {
                    sums.before_start += 1;
                    None
                }
                None if self.kept_since.is_some_and(|kept| entry.recorded_at < kept) => {
                    sums.not_kept += 1;
                    None
                }
                None => Some((Discrepancy::Missing, "is behind the target, and nothing tells how it ended there")),
            };
            if let Some((what, detail)) = wrong {
                sums.unaccounted += 1;
                let (ledger, event_id) = (self.target.clone(), entry.event_id.into_string());
                self.faults.push(Fault { ledger, what, event_id, body_sha256: None, place, detail: detail.to_owned() });
            }
        }
        self.faults.sort();
        (sums, self.faults)
    }
}

#[cfg(test)]
mod tests;

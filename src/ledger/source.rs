//! A source's ledger: each row of `received` has one outcome. Pure; rows are taken in the order `received`, `seen`,
//! `quarantine`, record topics.

use std::collections::{HashMap, HashSet};

use super::fault::Fault;
use super::sums::{SourceSums, Span};
use crate::event::{Seen, SeenState, Sha256, Timestamp};
use crate::outcome::{Discrepancy, RouterOutcome};
use crate::topics;

/// A row of `received`.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Its event id, digest and time; none where it is no envelope.
    pub(super) event: Option<(String, Sha256, Timestamp)>,
    /// Whether the digest is that of its body.
    pub(super) is_whole: bool,
    /// Whether an operator's word put it there.
    pub(super) is_marked: bool,
    /// Whether the router has committed it.
    pub(super) is_done: bool,
}

/// What ties a record to its event.
#[derive(Clone, Debug)]
pub(super) struct Tie {
    pub(super) event_id: String,
    pub(super) body_sha256: Sha256,
    pub(super) received_at: Timestamp,
    /// Topic without prefix, partition, offset.
    pub(super) place: (String, i32, i64),
}

/// One body of an event id.
#[derive(Debug)]
struct Body {
    sha256: Sha256,
    first: (i32, i64),
    /// Where its other rows stand: the provider's repeats, and where a row was passed on to.
    others: Vec<(i32, i64)>,
    received_at: Timestamp,
    rows: u64,
    marked: u64,
    /// Whether the router has committed all of its rows.
    is_done: bool,
    fate: Option<SeenState>,
    /// The digest of its row's bytes, where the router could not decode them and set them aside as that.
    bytes: Option<Sha256>,
    /// What quarantine says last: nothing, that it waits, or what became of it.
    aside: Option<Option<RouterOutcome>>,
    records: u64,
    /// Whether one of its records is of a row before this span.
    is_earlier: bool,
}

#[derive(Debug, Default)]
struct Event {
    bodies: Vec<Body>,
    /// When the newest marker's window began.
    marked_at: Option<Timestamp>,
}

/// The ledger of one source.
#[derive(Debug)]
pub(super) struct SourceLedger {
    source: String,
    span: Span,
    /// Rows before it may be gone.
    begins: Option<Timestamp>,
    /// Markers of what was routed before may be gone.
    markers_begin: Timestamp,
    events: HashMap<Box<str>, Event>,
    undecodable: HashMap<(i32, i64), bool>,
    aside: HashSet<(i32, i64)>,
    rows: u64,
    /// Operators' rows that are no envelope.
    operators: u64,
    faults: Vec<Fault>,
}

impl SourceLedger {
    pub(super) fn new(source: &str, span: Span, markers_begin: Timestamp) -> Self {
        Self {
            source: source.to_owned(),
            span,
            begins: None,
            markers_begin,
            events: HashMap::new(),
            undecodable: HashMap::new(),
            aside: HashSet::new(),
            rows: 0,
            operators: 0,
            faults: Vec::new(),
        }
    }

    /// Rows received before this time are gone from a partition.
    pub(super) fn begins(&mut self, at: Timestamp) {
        self.begins = self.begins.max(Some(at));
    }

    pub(super) fn received(&mut self, row: Received) {
        let Received { partition, offset, event, is_whole, is_marked, is_done } = row;
        let Some((event_id, sha256, received_at)) = event else {
            self.rows += 1;
            // An operator's row repeats what stands before it.
            if is_marked {
                self.operators += 1;
            } else {
                self.undecodable.insert((partition, offset), is_done);
            }
            return;
        };
        // An operator's row repeats the event, with its time.
        if !self.span.has(received_at) {
            return;
        }
        self.rows += 1;
        if !is_whole {
            let (what, detail) = (Discrepancy::BodyHash, "its body is not the one that its digest is of");
            self.fault(what, &event_id, sha256, (topics::received(&self.source), partition, offset), detail);
        }
        let event = self.events.entry(event_id.into_boxed_str()).or_default();
        let known = event.bodies.iter().position(|body| body.sha256 == sha256);
        if let Some(body) = known.and_then(|at| event.bodies.get_mut(at)) {
            body.others.push((partition, offset));
        }
        let at = known.unwrap_or_else(|| {
            // Mostly there is one.
            event.bodies.reserve_exact(1);
            event.bodies.push(Body {
                sha256,
                first: (partition, offset),
                others: Vec::new(),
                received_at,
                rows: 0,
                marked: 0,
                is_done: true,
                fate: None,
                bytes: None,
                aside: None,
                records: 0,
                is_earlier: false,
            });
            event.bodies.len() - 1
        });
        if let Some(body) = event.bodies.get_mut(at) {
            *(if is_marked { &mut body.marked } else { &mut body.rows }) += 1;
            body.is_done &= is_done;
        }
    }

    /// Whether rows of this id were received.
    pub(super) fn knows(&self, event_id: &str) -> bool {
        self.events.contains_key(event_id)
    }

    pub(super) fn seen(&mut self, event_id: &str, marker: &Seen) {
        let Some(event) = self.events.get_mut(event_id) else { return };
        // Where markers were moved to another partition, the older one may be read later.
        if event.marked_at.is_some_and(|known| known > marker.first_routed_at) {
            return;
        }
        event.marked_at = Some(marker.first_routed_at);
        for body in &mut event.bodies {
            body.fate = marker.fate(&body.sha256);
        }
    }

    /// A row of `quarantine`, of the event at this place of `received`.
    pub(super) fn quarantined(&mut self, event_id: &str, sha256: &Sha256, place: (i32, i64), settled: Option<&str>) {
        if self.undecodable.contains_key(&place) {
            self.aside.insert(place);
        }
        let bodies = self.events.get_mut(event_id).map(|event| event.bodies.iter_mut());
        for body in bodies.into_iter().flatten() {
            // The schema of a row may be known by now, and was not when the router read it.
            if body.sha256 != *sha256 && (body.first == place || body.others.contains(&place)) {
                body.bytes = Some(*sha256);
            }
            if body.sha256 == *sha256 || body.bytes == Some(*sha256) {
                body.aside = Some(settled.and_then(RouterOutcome::from_name));
            }
        }
    }

    pub(super) fn record(&mut self, tie: &Tie) {
        let what = match self.events.get_mut(tie.event_id.as_str()) {
            Some(event) => match event.bodies.iter_mut().find(|body| body.sha256 == tie.body_sha256) {
                Some(body) => {
                    body.records += 1;
                    body.is_earlier |= self.span.from.is_some_and(|from| tie.received_at < from);
                    return;
                }
                // Another body of it may have been received before.
                None if !self.span.has(tie.received_at) => return,
                None => (Discrepancy::BodyHash, "a record of none of the bodies that were received under its id"),
            },
            None if !self.span.has(tie.received_at) || self.begins.is_some_and(|begins| tie.received_at < begins) => {
                return;
            }
            None => (Discrepancy::WithoutSource, "a record of an event that was never received"),
        };
        self.fault(what.0, &tie.event_id, tie.body_sha256, tie.place.clone(), what.1);
    }

    fn fault(&mut self, what: Discrepancy, event_id: &str, sha256: Sha256, place: (String, i32, i64), detail: &str) {
        self.faults.push(Fault {
            ledger: self.source.clone(),
            what,
            event_id: event_id.to_owned(),
            body_sha256: Some(sha256),
            place,
            detail: detail.to_owned(),
        });
    }

    /// The sums, and what is not among them.
    pub(super) fn close(mut self) -> (SourceSums, Vec<Fault>) {
        let mut sums = SourceSums { rows: self.rows, operators: self.operators, ..SourceSums::default() };
        for (place, is_done) in &self.undecodable {
            match (self.aside.contains(place), is_done) {
                (true, _) => sums.quarantined += 1,
                (false, false) => sums.waiting += 1,
                (false, true) => {
                    sums.unaccounted += 1;
                    self.faults.push(Fault {
                        ledger: self.source.clone(),
                        what: Discrepancy::Missing,
                        event_id: String::new(),
                        body_sha256: None,
                        place: (topics::received(&self.source), place.0, place.1),
                        detail: "a row that is no envelope, and not in quarantine".to_owned(),
                    });
                }
            }
        }
        for (event_id, event) in std::mem::take(&mut self.events) {
            for body in &event.bodies {
                let end = self.end(&event, body);
                sums.operators += body.marked;
                // The first row has the event's outcome, where it is in this span; each further one repeats it.
                let first = if matches!(end, End::Earlier) { 0 } else { body.rows.min(1) };
                sums.duplicate += body.rows - first;
                match end {
                    End::Earlier => {}
                    End::Outcome(RouterOutcome::Routed) => sums.routed += first,
                    End::Outcome(RouterOutcome::Duplicate) => sums.duplicate += first,
                    End::Outcome(RouterOutcome::Quarantined) => sums.quarantined += first,
                    End::Outcome(RouterOutcome::Discarded) => sums.discarded += first,
                    End::Outcome(RouterOutcome::Test) => sums.test += first,
                    End::Waiting => sums.waiting += first,
                    End::Wrong(what, detail) => {
                        sums.unaccounted += first;
                        let place = (topics::received(&self.source), body.first.0, body.first.1);
                        self.fault(what, &event_id, body.sha256, place, detail);
                    }
                }
            }
        }
        self.faults.sort();
        (sums, self.faults)
    }

    fn end(&self, event: &Event, body: &Body) -> End {
        let is_earlier = self.span.from.zip(event.marked_at).is_some_and(|(from, marked)| marked < from);
        let aside = || match body.aside {
            Some(None) => Some(RouterOutcome::Quarantined),
            Some(settled) => settled,
            None => None,
        };
        match (body.fate, body.records) {
            // What the router has still to read may be the reason for whatever does not fit yet.
            (_, 2..) if body.is_done => End::Wrong(Discrepancy::Double, "more than one record"),
            (Some(SeenState::Routed), 1) if body.is_earlier => End::Earlier,
            (Some(SeenState::Routed), 1) => End::Outcome(RouterOutcome::Routed),
            (Some(SeenState::Test), 0) => End::Outcome(RouterOutcome::Test),
            (Some(SeenState::Discarded), 0) => End::Outcome(RouterOutcome::Discarded),
            (Some(SeenState::Quarantined), 0) if body.aside.is_some() => aside().map_or(End::Waiting, End::Outcome),
            _ if !body.is_done => End::Waiting,
            (Some(SeenState::Routed), _) if is_earlier => End::Earlier,
            (Some(SeenState::Routed), _) => End::Wrong(Discrepancy::Missing, "was routed, and its record is not there"),
            (Some(SeenState::Quarantined), 0) => {
                End::Wrong(Discrepancy::Missing, "was set aside, and is not in quarantine")
            }
            (Some(SeenState::Quarantined | SeenState::Test | SeenState::Discarded), _) => {
                End::Wrong(Discrepancy::WithoutSource, "was not routed, and has a record")
            }
            (None | Some(SeenState::Unknown), 0) => match aside() {
                Some(outcome) => End::Outcome(outcome),
                None => End::Wrong(Discrepancy::Missing, "was read by the router, and nothing came of it"),
            },
            (None | Some(SeenState::Unknown), _) if body.received_at < self.markers_begin => {
                End::Outcome(RouterOutcome::Routed)
            }
            (None | Some(SeenState::Unknown), _) => End::Wrong(
                Discrepancy::Missing,
                "was routed, and its marker is not there: a repeat would be routed too",
            ),
        }
    }
}

/// What became of a body.
enum End {
    Outcome(RouterOutcome),
    /// Its outcome is that of a row before this span.
    Earlier,
    Waiting,
    Wrong(Discrepancy, &'static str),
}

#[cfg(test)]
mod tests;

//! The marker that an event id was taken: what makes a repeat a duplicate.

use super::json::{wire_enum, wire_record};
use super::{Sha256, Timestamp};

wire_enum! {
    /// What became of an event.
    SeenState {
        /// One record was written.
        Routed = "ROUTED",
        /// Kept aside; a replay may route it.
        Quarantined = "QUARANTINED",
        /// A provider's test event, never routed.
        Test = "TEST",
        /// An operator let it go.
        Discarded = "DISCARDED",
    }
}

wire_record! {
    /// A later body of an id that an operator decided on.
    DecidedBody {
        /// Its digest.
        body_sha256: Sha256,
        /// What became of it.
        state: SeenState,
        /// Topic of its record, without prefix; none unless routed.
        record_topic: Option<String>,
        /// Key of its record; none unless routed.
        record_key: Option<String>,
    }
}

wire_record! {
    /// Marker of one event id in `seen.<source>`. Schema: `schemas/Seen.avsc`.
    Seen {
        /// What became of the first body.
        state: SeenState,
        /// Digests of every body seen under the id; the first is the one taken first.
        body_sha256: Vec<Sha256>,
        /// When the router took the id, or last settled a quarantined body of it: start of the dedupe window.
        first_routed_at: Timestamp,
        /// Topic of the record, without prefix; none unless routed.
        record_topic: Option<String>,
        /// Key of the record; none unless routed.
        record_key: Option<String>,
        /// Later bodies that an operator decided on; every other one is quarantined.
        #[serde(default)]
        decided: Vec<DecidedBody>,
    }
}

impl Seen {
    /// What became of this body; none where the id was never seen with it.
    #[must_use]
    pub fn fate(&self, body: &Sha256) -> Option<SeenState> {
        let decided = self.decided.iter().find(|decided| decided.body_sha256 == *body);
        match decided {
            _ if self.body_sha256.first() == Some(body) => Some(self.state),
            Some(decided) => Some(decided.state),
            None => self.body_sha256.contains(body).then_some(SeenState::Quarantined),
        }
    }

    /// The same marker with a body settled at `now`: its state, and topic and key of its record.
    #[must_use]
    pub fn settled(&self, body: Sha256, state: SeenState, record: Option<(String, String)>, now: Timestamp) -> Self {
        let (record_topic, record_key) = record.unzip();
        let mut marker = self.clone();
        marker.first_routed_at = now;
        if marker.body_sha256.first() == Some(&body) {
            return Self { state, record_topic, record_key, ..marker };
        }
        marker.decided.retain(|decided| decided.body_sha256 != body);
        marker.decided.push(DecidedBody { body_sha256: body, state, record_topic, record_key });
        marker
    }

    /// The same marker for a body that was set aside under the digest of bytes nobody could read, and can be read now; none
    /// where it was not, or was decided on already as what it is.
    #[must_use]
    pub fn read_again(&self, bytes: &Sha256, body: Sha256) -> Option<Self> {
        let is_open = matches!(self.fate(&body), None | Some(SeenState::Quarantined));
        if !is_open || body == *bytes || self.fate(bytes).is_none() {
            return None;
        }
        let mut marker = self.clone();
        marker.body_sha256.retain(|known| *known != body);
        let known =
            marker.body_sha256.iter_mut().chain(marker.decided.iter_mut().map(|decided| &mut decided.body_sha256));
        known.filter(|known| **known == *bytes).for_each(|known| *known = body);
        Some(marker)
    }

    /// Topic (without prefix) and key of each record of the id, the first body's first.
    pub fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        let first = (self.record_topic.as_deref(), self.record_key.as_deref());
        let later = self.decided.iter().map(|decided| (decided.record_topic.as_deref(), decided.record_key.as_deref()));
        std::iter::once(first).chain(later).filter_map(|(topic, key)| topic.zip(key))
    }
}

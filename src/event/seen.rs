//! The marker that an event id was taken: what makes a repeat a duplicate.

use super::json::{wire_enum, wire_record};
use super::{Sha256, Timestamp};

wire_enum! {
    /// What became of an event id.
    SeenState {
        /// One record was written.
        Routed = "ROUTED",
        /// Kept aside; a replay may route it.
        Quarantined = "QUARANTINED",
        /// A provider's test event, never routed.
        Test = "TEST",
    }
}

wire_record! {
    /// Marker of one event id in `seen.<source>`. Schema: `schemas/Seen.avsc`.
    Seen {
        /// What became of the event.
        state: SeenState,
        /// Digests of every body seen under the id; the first is the one taken first.
        body_sha256: Vec<Sha256>,
        /// When the router first took the id: start of the dedupe window.
        first_routed_at: Timestamp,
        /// Topic of the record, without prefix; none unless routed.
        record_topic: Option<String>,
        /// Key of the record; none unless routed.
        record_key: Option<String>,
    }
}

impl Seen {
    /// The same marker for an event that turned out not to be routable.
    #[must_use]
    pub fn quarantined(&self) -> Self {
        Self { state: SeenState::Quarantined, record_topic: None, record_key: None, ..self.clone() }
    }
}

//! Small shared facts in the compacted topic `control`.

use super::Timestamp;
use super::json::{wire_enum, wire_record};

wire_enum! {
    /// What a fact is about.
    ControlKind {
        /// Identity of a topic.
        Topic = "TOPIC",
        /// What a receiver's spool holds.
        Spool = "SPOOL",
        /// Pause, breaker or rate window of a target.
        Target = "TARGET",
        /// A table of the lake that was made, by its id.
        Lake = "LAKE",
    }
}

wire_record! {
    /// One fact; the latest of a key counts. Schema: `schemas/Control.avsc`.
    Control {
        /// What it is about.
        kind: ControlKind,
        /// Topic, receiver id, target or table.
        name: String,
        /// When it was written.
        at: Timestamp,
        /// Id of the instance that wrote it.
        instance: String,
        /// The fact as JSON text.
        body: String,
    }
}

impl Control {
    /// Its key in the topic: `<kind>/<name>`, the kind in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind.symbol().to_lowercase(), self.name)
    }
}

//! Workflows that need a person.

use crate::event::Decimal;
use crate::event::json::wire_record;

typed_record! {
    /// A workflow that failed or stayed below its confidence threshold and needs a person. Value of the topic reviews. Schema: `schemas/ReviewRecord.avsc`.
    ReviewRecord {
        /// The provider's id of the workflow.
        #[serde(default)]
        workflow_id: Option<String>,
        /// Stage that failed.
        #[serde(default)]
        failed_stage: Option<String>,
        /// Why.
        #[serde(default)]
        reason: Option<String>,
        /// Confidence reached.
        #[serde(default)]
        confidence: Option<Decimal>,
        /// Confidence asked for.
        #[serde(default)]
        threshold: Option<Decimal>,
        /// The thing under review.
        #[serde(default)]
        related: Option<Related>,
    }
}

wire_record! {
    /// The thing under review.
    Related {
        /// Its kind.
        #[serde(default)]
        r#type: Option<String>,
        /// Its id.
        #[serde(default)]
        id: Option<String>,
    }
}

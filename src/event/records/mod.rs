//! The typed records of the record topics: one struct per Avro schema, one enum over them.

/// Defines a record of a record topic: the fields that all of them have, then its own.
macro_rules! typed_record {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        $crate::event::json::wire_record! {
            $(#[$meta])*
            $name {
                /// The provider's event id: the idempotency key.
                event_id: String,
                /// Name of the source the event came from.
                source: String,
                /// The provider's event type.
                event_type: String,
                /// Id of the entity the record is about. The event id where the event names none. With the source it
                /// is the record's key: records of one entity stay in order.
                entity_id: String,
                /// When the event happened by the provider's clock (UTC).
                #[serde(default)]
                occurred_at: Option<$crate::event::Timestamp>,
                /// When Ledgerhook's receiver had read the event (UTC).
                received_at: $crate::event::Timestamp,
                /// SHA-256 of the raw body (32 bytes): ties the record to its envelope.
                body_sha256: $crate::event::Sha256,
                /// AccelEx's id of the work unit; null elsewhere.
                #[serde(default)]
                work_unit_id: Option<String>,
                /// Provenance as stated by the provider; null where it states none.
                #[serde(default)]
                provenance: Option<$crate::event::Provenance>,
                /// Validation traces as stated by the provider, in its order.
                #[serde(default)]
                validation: Vec<$crate::event::Validation>,
                /// The event's whole outcome or data member as JSON text, so that no member is ever lost.
                attributes: String,
                $($own)*
            }
        }
    };
}

mod case;
mod compliance;
mod contract;
mod feed;
mod invoice;
mod review;
mod transaction;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use case::{CaseRecord, Customer, Routing};
pub use compliance::ComplianceRecord;
pub use contract::{Clause, ContractRecord};
pub use feed::FeedRecord;
pub use invoice::{Direction, InvoiceLine, InvoiceRecord, InvoiceStatus, Supplier};
pub use review::{Related, ReviewRecord};
pub use transaction::TransactionRecord;

use super::json::wire_record;
use super::{Decimal, Members, Timestamp, ToJson};

wire_record! {
    /// Where the provider's result comes from.
    Provenance {
        /// Pipeline that produced the result.
        #[serde(default)]
        pipeline: Option<String>,
        /// Its version.
        #[serde(default)]
        pipeline_version: Option<String>,
        /// Address of the source document.
        #[serde(default)]
        document_uri: Option<String>,
        /// Hash of the source document as the provider states it.
        #[serde(default)]
        document_sha256: Option<String>,
        /// When the provider processed it (UTC).
        #[serde(default)]
        processed_at: Option<Timestamp>,
    }
}

wire_record! {
    /// One validation trace.
    Validation {
        /// Name of the rule.
        #[serde(default)]
        rule: Option<String>,
        /// Its result, e.g. pass or fail.
        #[serde(default)]
        result: Option<String>,
        /// Score of the rule.
        #[serde(default)]
        score: Option<Decimal>,
        /// What the rule compared.
        #[serde(default)]
        detail: Option<String>,
    }
}
macro_rules! records {
    ($($variant:ident($record:ident) = $name:literal in $topic:literal,)*) => {
        /// A record of any record topic. As a union member on the wire it goes by its schema's full name.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Record {
            $(
                #[doc = concat!("A record of the topic `", $topic, "`.")]
                #[serde(rename = $name)]
                $variant($record),
            )*
        }

        impl Record {
            /// Topic of the record, without prefix.
            #[must_use]
            pub const fn topic(&self) -> &'static str {
                match self { $(Self::$variant(_) => $topic,)* }
            }
            /// The provider's event id.
            #[must_use]
            pub fn event_id(&self) -> &str {
                match self { $(Self::$variant(r) => &r.event_id,)* }
            }
            /// Name of the source.
            #[must_use]
            pub fn source(&self) -> &str {
                match self { $(Self::$variant(r) => &r.source,)* }
            }
            /// The provider's event type.
            #[must_use]
            pub fn event_type(&self) -> &str {
                match self { $(Self::$variant(r) => &r.event_type,)* }
            }
            /// Id of the entity the record is about.
            #[must_use]
            pub fn entity_id(&self) -> &str {
                match self { $(Self::$variant(r) => &r.entity_id,)* }
            }
            /// When the event happened by the provider's clock.
            #[must_use]
            pub const fn occurred_at(&self) -> Option<Timestamp> {
                match self { $(Self::$variant(r) => r.occurred_at,)* }
            }
            /// When the receiver had read the event.
            #[must_use]
            pub const fn received_at(&self) -> Timestamp {
                match self { $(Self::$variant(r) => r.received_at,)* }
            }
            /// The event's whole outcome or data member as JSON text.
            #[must_use]
            pub fn attributes(&self) -> &str {
                match self { $(Self::$variant(r) => &r.attributes,)* }
            }
            /// Kafka key of the record: one entity of one source.
            #[must_use]
            pub fn key(&self) -> String {
                format!("{}/{}", self.source(), self.entity_id())
            }
        }

        impl ToJson for Record {
            fn to_json(&self) -> Value {
                match self { $(Self::$variant(r) => r.to_json(),)* }
            }

            fn write_json(&self, out: &mut Vec<u8>) {
                match self { $(Self::$variant(r) => r.write_json(out),)* }
            }
        }

        impl Members for Record {
            fn names(&self) -> &'static [&'static str] {
                match self { $(Self::$variant(r) => r.names(),)* }
            }

            fn member(&self, name: &str) -> Option<Value> {
                match self { $(Self::$variant(r) => r.member(name),)* }
            }
        }

        $(impl From<$record> for Record {
            fn from(record: $record) -> Self {
                Self::$variant(record)
            }
        })*
    };
}

records! {
    Invoice(InvoiceRecord) = "io.ledgerhook.InvoiceRecord" in "invoices",
    Contract(ContractRecord) = "io.ledgerhook.ContractRecord" in "contracts",
    Case(CaseRecord) = "io.ledgerhook.CaseRecord" in "cases",
    Compliance(ComplianceRecord) = "io.ledgerhook.ComplianceRecord" in "compliance",
    Transaction(TransactionRecord) = "io.ledgerhook.TransactionRecord" in "transactions",
    Review(ReviewRecord) = "io.ledgerhook.ReviewRecord" in "reviews",
    Feed(FeedRecord) = "io.ledgerhook.FeedRecord" in "feeds",
}

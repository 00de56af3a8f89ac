//! Closed support cases, and bank feed errors to be handled as such.

use crate::event::Timestamp;
use crate::event::json::wire_record;

typed_record! {
    /// A closed support case, or a bank feed error to be handled as one. Value of the topic cases. Schema: `schemas/CaseRecord.avsc`.
    CaseRecord {
        /// The provider's id of the case.
        #[serde(default)]
        case_id: Option<String>,
        /// Subject.
        #[serde(default)]
        subject: Option<String>,
        /// Category.
        #[serde(default)]
        category: Option<String>,
        /// Priority as the provider names it.
        #[serde(default)]
        priority: Option<String>,
        /// Summary.
        #[serde(default)]
        summary: Option<String>,
        /// Who raised the case.
        #[serde(default)]
        customer: Option<Customer>,
        /// Where the case is to go.
        #[serde(default)]
        routing: Option<Routing>,
        /// How it was resolved.
        #[serde(default)]
        resolution: Option<String>,
        /// The bank feed that failed.
        #[serde(default)]
        bank_feed_id: Option<String>,
        /// Its bank.
        #[serde(default)]
        bank: Option<String>,
        /// The bank's or the feed's error code.
        #[serde(default)]
        error_code: Option<String>,
        /// Error message.
        #[serde(default)]
        message: Option<String>,
        /// When the bank feed failed (UTC); the common occurred_at is the time of the event about it.
        #[serde(default)]
        error_occurred_at: Option<Timestamp>,
    }
}

wire_record! {
    /// Who raised the case.
    Customer {
        /// Name.
        #[serde(default)]
        name: Option<String>,
        /// E-mail address.
        #[serde(default)]
        email: Option<String>,
    }
}

wire_record! {
    /// Where the case is to go.
    Routing {
        /// Queue.
        #[serde(default)]
        queue: Option<String>,
        /// Person.
        #[serde(default)]
        assignee: Option<String>,
    }
}

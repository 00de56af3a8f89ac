//! Bank feeds that synced.

use crate::event::Timestamp;

typed_record! {
    /// A bank feed that synced. Value of the topic feeds. Schema: `schemas/FeedRecord.avsc`.
    FeedRecord {
        /// The provider's id of the feed.
        #[serde(default)]
        bank_feed_id: Option<String>,
        /// Its bank.
        #[serde(default)]
        bank: Option<String>,
        /// How many transactions the sync brought.
        #[serde(default)]
        transactions_imported: Option<i64>,
        /// When it synced (UTC).
        #[serde(default)]
        synced_at: Option<Timestamp>,
    }
}

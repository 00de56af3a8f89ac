//! Bank transactions.

use crate::event::{Decimal, Timestamp};

typed_record! {
    /// A bank transaction, as imported or as classified. Value of the topic transactions. Schema: `schemas/TransactionRecord.avsc`.
    TransactionRecord {
        /// The provider's id of the transaction.
        #[serde(default)]
        transaction_id: Option<String>,
        /// The account it was booked on.
        #[serde(default)]
        bank_account_id: Option<String>,
        /// Amount in units of `currency`; negative for money that left.
        #[serde(default)]
        amount: Option<Decimal>,
        /// ISO 4217 code as stated by the provider.
        #[serde(default)]
        currency: Option<String>,
        /// The bank's text.
        #[serde(default)]
        description: Option<String>,
        /// When it was booked (UTC).
        #[serde(default)]
        booked_at: Option<Timestamp>,
        /// Category, once classified.
        #[serde(default)]
        category: Option<String>,
        /// Who or what classified it.
        #[serde(default)]
        classified_by: Option<String>,
    }
}

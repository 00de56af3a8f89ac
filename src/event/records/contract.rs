//! Contracts after clause extraction and risk scoring.

use crate::event::json::wire_record;
use crate::event::{Date, Decimal};

typed_record! {
    /// A contract after clause extraction and risk scoring. Value of the topic contracts. Schema: `schemas/ContractRecord.avsc`.
    ContractRecord {
        /// The provider's id of the contract.
        #[serde(default)]
        contract_id: Option<String>,
        /// Title.
        #[serde(default)]
        title: Option<String>,
        /// The other party; a structured value as JSON text.
        #[serde(default)]
        counterparty: Option<String>,
        /// First day of validity.
        #[serde(default)]
        effective_date: Option<Date>,
        /// Last day of validity.
        #[serde(default)]
        expiry_date: Option<Date>,
        /// Risk score as stated by the provider.
        #[serde(default)]
        risk_score: Option<Decimal>,
        /// Risk class, e.g. low or high.
        #[serde(default)]
        risk_level: Option<String>,
        /// Extracted clauses in the provider's order.
        #[serde(default)]
        clauses: Vec<Clause>,
        /// The provider's decision.
        #[serde(default)]
        decision: Option<String>,
    }
}

wire_record! {
    /// One clause.
    Clause {
        /// Kind of clause, e.g. liability.
        #[serde(default)]
        r#type: Option<String>,
        /// Its text.
        #[serde(default)]
        text: Option<String>,
        /// Its risk class.
        #[serde(default)]
        risk: Option<String>,
    }
}

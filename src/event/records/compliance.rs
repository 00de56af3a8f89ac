//! Audit-ready facts: compliance records, payroll runs, VAT returns, year-end closes.

use crate::event::{Date, Decimal, Timestamp};

typed_record! {
    /// An audit-ready fact: a generated compliance record, a payroll run, a VAT return or a year-end close. Value of the topic compliance. Schema: `schemas/ComplianceRecord.avsc`.
    ComplianceRecord {
        /// The provider's id of the compliance record.
        #[serde(default)]
        record_id: Option<String>,
        /// Framework, e.g. SOX.
        #[serde(default)]
        framework: Option<String>,
        /// Control within it.
        #[serde(default)]
        control: Option<String>,
        /// What was examined.
        #[serde(default)]
        subject: Option<String>,
        /// First day of the period.
        #[serde(default)]
        period_start: Option<Date>,
        /// Last day of the period.
        #[serde(default)]
        period_end: Option<Date>,
        /// Findings; text as it is, anything else as JSON text.
        #[serde(default)]
        findings: Vec<String>,
        /// Last day it has to be kept.
        #[serde(default)]
        retention_until: Option<Date>,
        /// The provider's id of the payroll run.
        #[serde(default)]
        payroll_run_id: Option<String>,
        /// Number of employees in the run.
        #[serde(default)]
        employees: Option<i64>,
        /// Gross pay of the run in units of `currency`.
        #[serde(default)]
        gross_amount: Option<Decimal>,
        /// The provider's id of the VAT return.
        #[serde(default)]
        vat_return_id: Option<String>,
        /// VAT due in units of `currency`.
        #[serde(default)]
        amount_due: Option<Decimal>,
        /// ISO 4217 code as stated by the provider.
        #[serde(default)]
        currency: Option<String>,
        /// When the return was filed (UTC).
        #[serde(default)]
        filed_at: Option<Timestamp>,
        /// The provider's id of the company.
        #[serde(default)]
        company_id: Option<String>,
        /// The closed year's last day.
        #[serde(default)]
        year_end: Option<Date>,
        /// When the year was closed (UTC).
        #[serde(default)]
        closed_at: Option<Timestamp>,
    }
}

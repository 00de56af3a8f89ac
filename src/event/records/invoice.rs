//! Invoices: payables resolved by AccelEx, receivables of AccBooks.

use crate::event::json::{wire_enum, wire_record};
use crate::event::{Date, Decimal, Timestamp};

wire_enum! {
    /// Which ledger an invoice belongs to.
    Direction {
        /// Accounts payable: we owe it.
        Payable = "PAYABLE",
        /// Accounts receivable: a customer owes it.
        Receivable = "RECEIVABLE",
    }
}

wire_enum! {
    /// What an event says happened to an invoice.
    InvoiceStatus {
        /// Verified, ready for payment.
        Resolved = "RESOLVED",
        /// A receivable was created.
        Created = "CREATED",
        /// A receivable was sent to the customer.
        Sent = "SENT",
        /// A receivable was paid in full.
        Paid = "PAID",
        /// A receivable passed its due date unpaid.
        Overdue = "OVERDUE",
    }
}

typed_record! {
    /// An invoice as its event states it: a payable resolved by AccelEx or a receivable of AccBooks. Value of the topic invoices. Schema: `schemas/InvoiceRecord.avsc`.
    InvoiceRecord {
        /// Which ledger the invoice belongs to.
        direction: Direction,
        /// What the event says happened to the invoice.
        status: InvoiceStatus,
        /// The provider's id of the invoice.
        #[serde(default)]
        invoice_id: Option<String>,
        /// Number printed on the invoice.
        #[serde(default)]
        invoice_number: Option<String>,
        /// The debtor of a receivable.
        #[serde(default)]
        customer_id: Option<String>,
        /// The creditor of a payable.
        #[serde(default)]
        supplier: Option<Supplier>,
        /// Purchase order the invoice refers to.
        #[serde(default)]
        purchase_order: Option<String>,
        /// Date of issue.
        #[serde(default)]
        issue_date: Option<Date>,
        /// Date payment is due.
        #[serde(default)]
        due_date: Option<Date>,
        /// ISO 4217 code as stated by the provider.
        #[serde(default)]
        currency: Option<String>,
        /// Total, tax included, in units of `currency`.
        #[serde(default)]
        total_amount: Option<Decimal>,
        /// Tax part of the total.
        #[serde(default)]
        tax_amount: Option<Decimal>,
        /// Invoice lines in the provider's order.
        #[serde(default)]
        lines: Vec<InvoiceLine>,
        /// The provider's decision, e.g. approve.
        #[serde(default)]
        decision: Option<String>,
        /// Anomalies found; text as it is, anything else as JSON text.
        #[serde(default)]
        anomalies: Vec<String>,
        /// When the invoice was issued (UTC).
        #[serde(default)]
        issued_at: Option<Timestamp>,
        /// When it was sent to the customer (UTC).
        #[serde(default)]
        sent_at: Option<Timestamp>,
        /// When it was paid in full (UTC).
        #[serde(default)]
        paid_at: Option<Timestamp>,
        /// When it was due (UTC).
        #[serde(default)]
        due_at: Option<Timestamp>,
    }
}

wire_record! {
    /// The creditor of a payable.
    Supplier {
        /// The provider's id of the supplier.
        #[serde(default)]
        id: Option<String>,
        /// Name.
        #[serde(default)]
        name: Option<String>,
        /// Tax id, e.g. a VAT number.
        #[serde(default)]
        tax_id: Option<String>,
    }
}

wire_record! {
    /// One line of the invoice.
    InvoiceLine {
        /// What was sold.
        #[serde(default)]
        description: Option<String>,
        /// How much of it.
        #[serde(default)]
        quantity: Option<Decimal>,
        /// Price of one unit.
        #[serde(default)]
        unit_price: Option<Decimal>,
        /// Amount of the line.
        #[serde(default)]
        amount: Option<Decimal>,
        /// Ledger account proposed for it.
        #[serde(default)]
        account: Option<String>,
    }
}

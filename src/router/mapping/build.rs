//! One function per record: the common fields, then its typed members, field by field.

use super::MappingFault;
use super::json::Json;
use super::members::{Members, of_body};
use super::parts::{clause, customer, invoice_line, provenance, related, routing, supplier, validation};
use crate::config::Route;
use crate::event::{
    CaseRecord, ComplianceRecord, ContractRecord, Direction, Envelope, FeedRecord, InvoiceRecord, InvoiceStatus,
    Provenance, Record, ReviewRecord, Sha256, Timestamp, TransactionRecord, Validation,
};
use crate::outcome::QuarantineReason;

/// The fields every record has.
struct Common<'a> {
    event_id: &'a str,
    source: &'a str,
    event_type: &'a str,
    entity_id: String,
    occurred_at: Option<Timestamp>,
    received_at: Timestamp,
    body_sha256: Sha256,
    work_unit_id: Option<String>,
    provenance: Option<Provenance>,
    validation: Vec<Validation>,
    attributes: String,
}

/// A record with the common fields and its own.
macro_rules! typed {
    ($record:ident from $common:ident { $($field:ident: $value:expr,)* }) => {
        $record {
            event_id: $common.event_id.to_owned(),
            source: $common.source.to_owned(),
            event_type: $common.event_type.to_owned(),
            entity_id: $common.entity_id,
            occurred_at: $common.occurred_at,
            received_at: $common.received_at,
            body_sha256: $common.body_sha256,
            work_unit_id: $common.work_unit_id,
            provenance: $common.provenance,
            validation: $common.validation,
            attributes: $common.attributes,
            $($field: $value,)*
        }
    };
}

/// The record of this route for an event whose body is `body` and whose members are `members`.
pub(super) fn record(
    envelope: &Envelope,
    body: &Json<'_>,
    members: &Members<'_>,
    route: &Route,
    entity_id: String,
) -> Result<Record, MappingFault> {
    let beside = of_body(body);
    let common = Common {
        event_id: &envelope.event_id,
        source: &envelope.source,
        event_type: &envelope.event_type,
        entity_id,
        occurred_at: envelope.occurred_at,
        received_at: envelope.received_at,
        body_sha256: envelope.body_sha256,
        work_unit_id: beside.as_ref().and_then(|b| b.text("work_unit_id")),
        provenance: beside.as_ref().map_or(Ok(None), |b| b.object("provenance", provenance))?,
        validation: beside.as_ref().map_or(Ok(Vec::new()), |b| b.objects("validation", validation))?,
        attributes: members.to_text(envelope.body.len()),
    };
    Ok(match route.record.as_str() {
        "invoices" => invoice(common, members)?.into(),
        "contracts" => contract(common, members)?.into(),
        "cases" => case(common, members)?.into(),
        "compliance" => compliance(common, members)?.into(),
        "transactions" => transaction(common, members)?.into(),
        "reviews" => review(common, members)?.into(),
        "feeds" => feed(common, members)?.into(),
        // Checked when the table was made; an event is set aside rather than lost all the same.
        other => {
            let detail = format!("no record topic {other}");
            return Err(MappingFault { reason: QuarantineReason::UnknownEventType, detail });
        }
    })
}

fn invoice(common: Common<'_>, members: &Members<'_>) -> Result<InvoiceRecord, MappingFault> {
    Ok(typed!(InvoiceRecord from common {
        direction: members.text("direction").and_then(|d| Direction::from_symbol(&d)).unwrap_or(Direction::Unknown),
        status: members.text("status").and_then(|s| InvoiceStatus::from_symbol(&s)).unwrap_or(InvoiceStatus::Unknown),
        invoice_id: members.text("invoice_id"),
        invoice_number: members.text("invoice_number"),
        customer_id: members.text("customer_id"),
        supplier: members.object("supplier", supplier)?,
        purchase_order: members.text("purchase_order"),
        issue_date: members.date("issue_date")?,
        due_date: members.date("due_date")?,
        currency: members.text("currency"),
        total_amount: members.decimal("total_amount")?,
        tax_amount: members.decimal("tax_amount")?,
        lines: members.objects("lines", invoice_line)?,
        decision: members.text("decision"),
        anomalies: members.texts("anomalies")?,
        issued_at: members.time("issued_at")?,
        sent_at: members.time("sent_at")?,
        paid_at: members.time("paid_at")?,
        due_at: members.time("due_at")?,
    }))
}

fn contract(common: Common<'_>, members: &Members<'_>) -> Result<ContractRecord, MappingFault> {
    Ok(typed!(ContractRecord from common {
        contract_id: members.text("contract_id"),
        title: members.text("title"),
        counterparty: members.text("counterparty"),
        effective_date: members.date("effective_date")?,
        expiry_date: members.date("expiry_date")?,
        risk_score: members.decimal("risk_score")?,
        risk_level: members.text("risk_level"),
        clauses: members.objects("clauses", clause)?,
        decision: members.text("decision"),
    }))
}

fn case(common: Common<'_>, members: &Members<'_>) -> Result<CaseRecord, MappingFault> {
    Ok(typed!(CaseRecord from common {
        case_id: members.text("case_id"),
        subject: members.text("subject"),
        category: members.text("category"),
        priority: members.text("priority"),
        summary: members.text("summary"),
        customer: members.object("customer", customer)?,
        routing: members.object("routing", routing)?,
        resolution: members.text("resolution"),
        bank_feed_id: members.text("bank_feed_id"),
        bank: members.text("bank"),
        error_code: members.text("error_code"),
        message: members.text("message"),
        error_occurred_at: members.time("error_occurred_at")?,
    }))
}

fn compliance(common: Common<'_>, members: &Members<'_>) -> Result<ComplianceRecord, MappingFault> {
    Ok(typed!(ComplianceRecord from common {
        record_id: members.text("record_id"),
        framework: members.text("framework"),
        control: members.text("control"),
        subject: members.text("subject"),
        period_start: members.date("period_start")?,
        period_end: members.date("period_end")?,
        findings: members.texts("findings")?,
        retention_until: members.date("retention_until")?,
        payroll_run_id: members.text("payroll_run_id"),
        employees: members.count("employees")?,
        gross_amount: members.decimal("gross_amount")?,
        vat_return_id: members.text("vat_return_id"),
        amount_due: members.decimal("amount_due")?,
        currency: members.text("currency"),
        filed_at: members.time("filed_at")?,
        company_id: members.text("company_id"),
        year_end: members.date("year_end")?,
        closed_at: members.time("closed_at")?,
    }))
}

fn transaction(common: Common<'_>, members: &Members<'_>) -> Result<TransactionRecord, MappingFault> {
    Ok(typed!(TransactionRecord from common {
        transaction_id: members.text("transaction_id"),
        bank_account_id: members.text("bank_account_id"),
        amount: members.decimal("amount")?,
        currency: members.text("currency"),
        description: members.text("description"),
        booked_at: members.time("booked_at")?,
        category: members.text("category"),
        classified_by: members.text("classified_by"),
    }))
}

fn review(common: Common<'_>, members: &Members<'_>) -> Result<ReviewRecord, MappingFault> {
    Ok(typed!(ReviewRecord from common {
        workflow_id: members.text("workflow_id"),
        failed_stage: members.text("failed_stage"),
        reason: members.text("reason"),
        confidence: members.decimal("confidence")?,
        threshold: members.decimal("threshold")?,
        related: members.object("related", related)?,
    }))
}

fn feed(common: Common<'_>, members: &Members<'_>) -> Result<FeedRecord, MappingFault> {
    Ok(typed!(FeedRecord from common {
        bank_feed_id: members.text("bank_feed_id"),
        bank: members.text("bank"),
        transactions_imported: members.count("transactions_imported")?,
        synced_at: members.time("synced_at")?,
    }))
}

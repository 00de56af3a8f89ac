//! Objects inside records: one function each, field by field.

use super::MappingFault;
use super::members::Members;
use crate::event::{Clause, Customer, InvoiceLine, Provenance, Related, Routing, Supplier, Validation};

pub(super) fn provenance(members: &Members<'_>) -> Result<Provenance, MappingFault> {
    Ok(Provenance {
        pipeline: members.text("pipeline"),
        pipeline_version: members.text("pipeline_version"),
        document_uri: members.text("document_uri"),
        document_sha256: members.text("document_sha256"),
        processed_at: members.time("processed_at")?,
    })
}

pub(super) fn validation(members: &Members<'_>) -> Result<Validation, MappingFault> {
    Ok(Validation {
        rule: members.text("rule"),
        result: members.text("result"),
        score: members.decimal("score")?,
        detail: members.text("detail"),
    })
}

pub(super) fn supplier(members: &Members<'_>) -> Result<Supplier, MappingFault> {
    Ok(Supplier { id: members.text("id"), name: members.text("name"), tax_id: members.text("tax_id") })
}

pub(super) fn invoice_line(members: &Members<'_>) -> Result<InvoiceLine, MappingFault> {
    Ok(InvoiceLine {
        description: members.text("description"),
        quantity: members.decimal("quantity")?,
        unit_price: members.decimal("unit_price")?,
        amount: members.decimal("amount")?,
        account: members.text("account"),
    })
}

pub(super) fn clause(members: &Members<'_>) -> Result<Clause, MappingFault> {
    Ok(Clause { r#type: members.text("type"), text: members.text("text"), risk: members.text("risk") })
}

pub(super) fn customer(members: &Members<'_>) -> Result<Customer, MappingFault> {
    Ok(Customer { name: members.text("name"), email: members.text("email") })
}

pub(super) fn routing(members: &Members<'_>) -> Result<Routing, MappingFault> {
    Ok(Routing { queue: members.text("queue"), assignee: members.text("assignee") })
}

pub(super) fn related(members: &Members<'_>) -> Result<Related, MappingFault> {
    Ok(Related { r#type: members.text("type"), id: members.text("id") })
}

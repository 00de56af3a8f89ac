//! From an event's JSON members to a typed record, by the table of routes.
//!
//! Rules, the same for every field: a missing or null member is null (an empty array for array fields). Text fields
//! take text as it is, and anything else as its JSON text. Numbers are exact decimals, also from text; one that
//! `decimal(38,9)` cannot hold exactly is `amount_out_of_range`. Days, times, counts, objects and arrays must be
//! what the field says, or the event is set aside as `member_invalid` with the member's pointer.

mod build;
mod json;
mod members;
mod parts;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::avro;
use crate::config::Route;
use crate::event::{Direction, Envelope, InvoiceStatus, Record};
use crate::outcome::QuarantineReason;
use crate::topics;
use json::Json;
use members::Members;

/// Longest entity id, in bytes: it is part of a Kafka key and of targets' external ids.
const MAX_ENTITY_ID_BYTES: usize = 1024;

/// The table of routes, ready for use.
#[derive(Debug)]
pub struct Mapper {
    /// By source, then event type: a source may use the routes of its preset.
    routes: HashMap<String, HashMap<String, Route>>,
}

/// Why an event cannot be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFault {
    /// Stable reason.
    pub reason: QuarantineReason,
    /// What was wrong, and where.
    pub detail: String,
}

/// A fault in the table of routes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No record topic of this name.
    #[error("{event_type}: no record topic {record}")]
    UnknownRecord {
        /// Event type of the route.
        event_type: String,
        /// The name.
        record: String,
    },
    /// `set` or `rename` names a field that the record does not have.
    #[error("{event_type}: {schema} has no field {field}")]
    UnknownField {
        /// Event type of the route.
        event_type: String,
        /// Schema of the record.
        schema: &'static str,
        /// The field.
        field: String,
    },
    /// `set` gives `direction` or `status` a value it does not have.
    #[error("{event_type}: {field} cannot be {value}; it is one of {allowed}")]
    UnknownValue {
        /// Event type of the route.
        event_type: String,
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
        /// Values it has.
        allowed: String,
    },
    /// An invoice route without direction or status.
    #[error("{event_type}: a route to invoices must set {field}")]
    MissingValue {
        /// Event type of the route.
        event_type: String,
        /// The field.
        field: &'static str,
    },
}

impl Mapper {
    /// The table for these sources (name, and whose routes it uses).
    ///
    /// # Errors
    /// When a route names a record, field or value that does not exist.
    pub fn new<'a>(
        sources: impl IntoIterator<Item = (&'a str, &'a str)>,
        routes: &[Route],
    ) -> Result<Self, RouteError> {
        routes.iter().try_for_each(check)?;
        let of = |family: &str| {
            let own = routes.iter().filter(|route| route.source == family);
            own.map(|route| (route.event_type.clone(), route.clone())).collect()
        };
        let routes = sources.into_iter().map(|(name, family)| (name.to_owned(), of(family))).collect();
        Ok(Self { routes })
    }

    /// The record of an event.
    ///
    /// # Errors
    /// Why it has none: the event is to be quarantined.
    pub fn map(&self, envelope: &Envelope) -> Result<Record, MappingFault> {
        let route =
            self.routes.get(&envelope.source).and_then(|types| types.get(&envelope.event_type)).ok_or_else(|| {
                MappingFault {
                    reason: QuarantineReason::UnknownEventType,
                    detail: format!("no route for {} of {}", envelope.event_type, envelope.source),
                }
            })?;
        let body = Json::parse(&envelope.body).ok_or_else(|| MappingFault {
            reason: QuarantineReason::MembersMissing,
            detail: format!("not JSON: {}", fault_in(&envelope.body)),
        })?;
        let members = body.pointer(&route.members).and_then(Json::as_object).ok_or_else(|| MappingFault {
            reason: QuarantineReason::MembersMissing,
            detail: format!("{} is not an object", route.members),
        })?;
        let entity_id = entity_id(envelope, &body, route)?;
        let members = Members::of_route(members, route);
        build::record(envelope, &body, &members, route, entity_id)
    }
}

/// What is wrong in a body that is no JSON, and where.
fn fault_in(body: &[u8]) -> String {
    let fault = serde_json::from_slice::<Value>(body).err();
    fault.map_or_else(|| "it cannot be read".to_owned(), |fault| fault.to_string())
}

fn entity_id(envelope: &Envelope, body: &Json<'_>, route: &Route) -> Result<String, MappingFault> {
    let pointer = format!("{}{}", route.members, route.entity);
    let id = match body.pointer(&pointer) {
        Some(Json::Text(id)) if !id.is_empty() => id.clone().into_owned(),
        Some(Json::Number(id)) => id.clone().into_owned(),
        _ => envelope.event_id.clone(),
    };
    if id.len() > MAX_ENTITY_ID_BYTES {
        let detail = format!("{pointer} is longer than {MAX_ENTITY_ID_BYTES} bytes");
        return Err(MappingFault { reason: QuarantineReason::MemberInvalid, detail });
    }
    Ok(id)
}

fn check(route: &Route) -> Result<(), RouteError> {
    let event_type = || route.event_type.clone();
    let (_, schema) = topics::RECORDS
        .iter()
        .find(|(topic, _)| *topic == route.record)
        .ok_or_else(|| RouteError::UnknownRecord { event_type: event_type(), record: route.record.clone() })?;
    let fields = fields_of(schema);
    for field in route.set.keys().chain(route.rename.keys()) {
        if !fields.iter().any(|known| known == field) {
            return Err(RouteError::UnknownField { event_type: event_type(), schema, field: field.clone() });
        }
    }
    if route.record == "invoices" {
        one_of("direction", route, Direction::ALL)?;
        one_of("status", route, InvoiceStatus::ALL)?;
    }
    Ok(())
}

fn one_of<T>(field: &'static str, route: &Route, all: &[(T, &'static str)]) -> Result<(), RouteError> {
    let event_type = route.event_type.clone();
    let Some(value) = route.set.get(field) else { return Err(RouteError::MissingValue { event_type, field }) };
    let allowed: Vec<&str> = all.iter().map(|(_, name)| *name).filter(|name| *name != "UNKNOWN").collect();
    if allowed.contains(&value.as_str()) {
        return Ok(());
    }
    Err(RouteError::UnknownValue { event_type, field, value: value.clone(), allowed: allowed.join(", ") })
}

/// Field names of one of our record schemas.
fn fields_of(schema: &str) -> Vec<String> {
    let tree: BTreeMap<String, Value> =
        avro::source(schema).ok().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let fields = tree.get("fields").and_then(Value::as_array);
    fields.into_iter().flatten().filter_map(|f| Some(f.get("name")?.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests;

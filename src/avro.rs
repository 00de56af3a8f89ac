//! Avro schemas and values: the embedded sources of `schemas/`, parsing, and the datum form of our types.
//!
//! serde_avro_fast reads and writes serde types straight from and to the wire, without a value tree between; `benches/`
//! compares it with apache-avro. Its decimals pass through a 96-bit type, though, which cannot hold `decimal(38,9)`.
//! So schemas are parsed here without their logical types: a decimal is then plain bytes, which
//! [`crate::event::Decimal`] reads and writes itself, and the bytes on the wire are the same. The registry always gets
//! the whole schema.
//!
//! A value of an older or newer schema is read by the schema it was written with, fields by name: a field we lack is
//! skipped, one that the writer lacked takes serde's default.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        /// Every schema of ours: name and source text.
        pub const SOURCES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../schemas/", $name, ".avsc")))),*];
    };
}
sources!(
    "Attempt",
    "AuditEntry",
    "CaseRecord",
    "ComplianceRecord",
    "ContractRecord",
    "Control",
    "DeadLetter",
    "Envelope",
    "FeedRecord",
    "InvoiceRecord",
    "Parked",
    "Progress",
    "Quarantined",
    "Redelivery",
    "ReviewRecord",
    "Seen",
    "Statement",
    "TransactionRecord",
);

/// Why a schema cannot be used or a value not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AvroError {
    /// The schema's text is no Avro schema.
    #[error("schema {name}: {detail}")]
    Schema {
        /// Name or id of the schema.
        name: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No schema of ours has this name.
    #[error("no schema named {0}")]
    Unknown(String),
    /// The value does not fit the schema.
    #[error("cannot write the value: {0}")]
    Write(#[from] serde_avro_fast::ser::SerError),
    /// The bytes are no value of the schema, or not one of the type.
    #[error("cannot read the value: {0}")]
    Read(#[from] serde_avro_fast::de::DeError),
}

/// A parsed schema.
#[derive(Debug)]
pub struct Schema {
    parsed: serde_avro_fast::Schema,
    tree: Value,
}

impl Schema {
    /// Parses the JSON text of a schema; `name` is for the error.
    ///
    /// # Errors
    /// When the text is no Avro schema.
    pub fn parse(name: &str, text: &str) -> Result<Self, AvroError> {
        let fault = |detail: String| AvroError::Schema { name: name.to_owned(), detail };
        let tree: Value = serde_json::from_str(text).map_err(|e| fault(e.to_string()))?;
        let mut plain = tree.clone();
        drop_logical_types(&mut plain);
        let parsed = plain.to_string().parse().map_err(|e| fault(format!("{e}")))?;
        Ok(Self { parsed, tree })
    }

    /// The schema's JSON, logical types included.
    #[must_use]
    pub const fn tree(&self) -> &Value {
        &self.tree
    }

    /// One of ours, by the name of its file.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn ours(name: &str) -> Result<Self, AvroError> {
        Self::parse(name, source(name)?)
    }

    /// Appends the value's Avro datum to `out`.
    ///
    /// # Errors
    /// When the value does not fit the schema.
    pub fn write<T: Serialize>(&self, value: &T, out: Vec<u8>) -> Result<Vec<u8>, AvroError> {
        let mut config = serde_avro_fast::ser::SerializerConfig::new(&self.parsed);
        Ok(serde_avro_fast::to_datum(value, out, &mut config)?)
    }

    /// Reads a value from an Avro datum written with this schema.
    ///
    /// # Errors
    /// When the bytes are no such value.
    pub fn read<T: DeserializeOwned>(&self, datum: &[u8]) -> Result<T, AvroError> {
        Ok(serde_avro_fast::from_datum_slice(datum, &self.parsed)?)
    }
}

/// Source text of one of our schemas.
///
/// # Errors
/// When there is none of this name.
pub fn source(name: &str) -> Result<&'static str, AvroError> {
    SOURCES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text).ok_or_else(|| AvroError::Unknown(name.to_owned()))
}

/// The one spelling of a schema that is sent to a registry: JSON without white space, members in the file's order.
/// Registries make a new id for a mere change of white space.
///
/// # Errors
/// When there is no schema of this name, or it is not JSON.
pub fn canonical(name: &str) -> Result<String, AvroError> {
    let tree: Value = serde_json::from_str(source(name)?)
        .map_err(|e| AvroError::Schema { name: name.to_owned(), detail: e.to_string() })?;
    Ok(tree.to_string())
}

fn drop_logical_types(node: &mut Value) {
    match node {
        Value::Object(members) => {
            // Only where a type is described; a field's own default may hold any JSON.
            members.shift_remove("logicalType");
            for (name, member) in members.iter_mut() {
                if matches!(name.as_str(), "type" | "fields" | "items" | "values") {
                    drop_logical_types(member);
                }
            }
        }
        Value::Array(nodes) => nodes.iter_mut().for_each(drop_logical_types),
        _ => {}
    }
}

#[cfg(test)]
pub(crate) mod tests;

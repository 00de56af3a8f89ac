//! The form of our types that people and targets read, beside serde's, which is the Avro wire form.
//!
//! Decimals become strings, as most JSON readers would round them; times RFC 3339, days ISO 8601, hashes lower-case
//! hex.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Date, Decimal, Sha256, Timestamp};

/// Shows a value as JSON for people and targets.
pub trait ToJson {
    /// The value as JSON.
    fn to_json(&self) -> Value;
}

impl ToJson for String {
    fn to_json(&self) -> Value {
        Value::String(self.clone())
    }
}

macro_rules! through_display {
    ($($type:ty),*) => {$(
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                Value::String(self.to_string())
            }
        }
    )*};
}
through_display!(Decimal, Timestamp, Date, Sha256);

macro_rules! as_number {
    ($($type:ty),*) => {$(
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                Value::from(*self)
            }
        }
    )*};
}
as_number!(i32, i64);

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToJson::to_json)
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.iter().map(ToJson::to_json).collect()
    }
}

impl ToJson for BTreeMap<String, String> {
    fn to_json(&self) -> Value {
        self.iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// Defines a record of our schemas: its struct (serde: Avro's wire form, fields by name) and its [`ToJson`].
///
/// Every field with a default in the schema gets serde's default, so that a record of an older schema can be read.
macro_rules! wire_record {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }
        impl $crate::event::ToJson for $name {
            fn to_json(&self) -> serde_json::Value {
                let mut object = serde_json::Map::new();
                $(object.insert(stringify!($field).trim_start_matches("r#").to_owned(), $crate::event::ToJson::to_json(&self.$field));)*
                serde_json::Value::Object(object)
            }
        }
    };
}

/// Defines an Avro enum of ours: symbols in upper case, `Unknown` for a symbol of a newer schema.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $symbol:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $symbol)] $variant,)*
            /// A symbol that only a newer schema knows.
            #[serde(rename = "UNKNOWN", other)]
            Unknown,
        }
        impl $name {
            /// Every symbol with its name on the wire, in the schema's order.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $symbol),)* (Self::Unknown, "UNKNOWN")];
            /// The symbol's name on the wire.
            #[must_use]
            pub const fn symbol(self) -> &'static str {
                match self { $(Self::$variant => $symbol,)* Self::Unknown => "UNKNOWN" }
            }
            /// The symbol of this name, other than `UNKNOWN`.
            #[must_use]
            pub fn from_symbol(symbol: &str) -> Option<Self> {
                match symbol { $($symbol => Some(Self::$variant),)* _ => None }
            }
        }
        impl $crate::event::ToJson for $name {
            fn to_json(&self) -> serde_json::Value {
                serde_json::Value::String(self.symbol().to_owned())
            }
        }
    };
}
pub(super) use {wire_enum, wire_record};

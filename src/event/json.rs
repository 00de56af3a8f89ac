//! The form of our types that people and targets read, beside serde's, which is the Avro wire form.
//!
//! Decimals become strings, as most JSON readers would round them; times RFC 3339, days ISO 8601, hashes lower-case
//! hex.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::Value;

use super::{Date, Decimal, Sha256, Timestamp};

/// Shows a value as JSON for people and targets.
pub trait ToJson {
    /// The value as JSON.
    fn to_json(&self) -> Value;

    /// Appends the value as JSON text, the same as [`ToJson::to_json`] has.
    fn write_json(&self, out: &mut Vec<u8>) {
        put(out, &self.to_json());
    }
}

/// A table of which single members are asked for, without the whole being made.
pub trait Members: ToJson {
    /// Names of all members, in order.
    fn names(&self) -> &'static [&'static str];

    /// A member by name.
    fn member(&self, name: &str) -> Option<Value>;
}

/// Appends what serde makes JSON text of.
pub(super) fn put(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Into memory, and with text as keys, writing cannot fail.
    let _ = serde_json::to_writer(out, value);
}

impl ToJson for String {
    fn to_json(&self) -> Value {
        Value::String(self.clone())
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        put(out, self);
    }
}

macro_rules! through_display {
    ($($type:ty),*) => {$(
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                Value::String(self.to_string())
            }

            fn write_json(&self, out: &mut Vec<u8>) {
                // Nothing in them needs an escape.
                let _ = write!(out, "\"{self}\"");
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

            fn write_json(&self, out: &mut Vec<u8>) {
                put(out, self);
            }
        }
    )*};
}
as_number!(i32, i64);

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToJson::to_json)
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.iter().map(ToJson::to_json).collect()
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (n, item) in self.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            item.write_json(out);
        }
        out.push(b']');
    }
}

impl ToJson for BTreeMap<String, String> {
    fn to_json(&self) -> Value {
        self.iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        put(out, self);
    }
}

/// A field's name, which Rust may want to have marked.
pub(super) const fn name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Defines a record of our schemas: its struct (serde: Avro's wire form, fields by name), its [`ToJson`] and [`Members`].
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
                $(object.insert($crate::event::json::name(stringify!($field)).to_owned(), $crate::event::ToJson::to_json(&self.$field));)*
                serde_json::Value::Object(object)
            }

            fn write_json(&self, out: &mut Vec<u8>) {
                let mut mark = b'{';
                $(
                    // Names of fields need no escape.
                    out.push(std::mem::replace(&mut mark, b','));
                    out.push(b'"');
                    out.extend_from_slice($crate::event::json::name(stringify!($field)).as_bytes());
                    out.extend_from_slice(b"\":");
                    $crate::event::ToJson::write_json(&self.$field, out);
                )*
                out.push(b'}');
            }
        }
        impl $crate::event::Members for $name {
            fn names(&self) -> &'static [&'static str] {
                const { &[$($crate::event::json::name(stringify!($field))),*] }
            }

            fn member(&self, name: &str) -> Option<serde_json::Value> {
                $(if name == const { $crate::event::json::name(stringify!($field)) } {
                    return Some($crate::event::ToJson::to_json(&self.$field));
                })*
                None
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

            fn write_json(&self, out: &mut Vec<u8>) {
                $crate::event::json::put(out, self.symbol());
            }
        }
    };
}
pub(super) use {wire_enum, wire_record};

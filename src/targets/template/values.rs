//! Values between JSON and the template engine. No number passes through a float.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Value, ValueKind};
use serde_json::{Map, Number, Value as Json};

use crate::event::{self, Decimal, Record, ToJson as _};

/// A number that the engine's own types would round: it is kept as its digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exact(String);

impl Exact {
    /// A number as JSON spells it.
    pub(super) fn spelled(digits: String) -> Value {
        Value::from_object(Self(digits))
    }

    /// Its digits.
    pub(super) fn digits(&self) -> &str {
        &self.0
    }
}

impl Object for Exact {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        match (self.0.parse::<Decimal>(), other.0.parse::<Decimal>()) {
            (Ok(one), Ok(other)) => Some(one.cmp(&other)),
            _ => Some(self.0.cmp(&other.0)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What templates call `record`: whole or by members, which are made when they are asked for. Most templates ask for a
/// few of a record's, which has dozens, and the body of most requests is all of it as text.
pub(in crate::targets) trait Subject: fmt::Debug + Send + Sync {
    /// All of it as JSON.
    fn whole(&self) -> Json;

    /// All of it as JSON text.
    fn text(&self) -> Vec<u8>;

    /// A member by name.
    fn member(&self, name: &str) -> Option<Json>;

    /// Names of all members.
    fn names(&self) -> Vec<&str>;
}

impl Subject for Record {
    fn whole(&self) -> Json {
        self.to_json()
    }

    fn text(&self) -> Vec<u8> {
        // Most records; a longer one costs another look for room.
        let mut text = Vec::with_capacity(2048 + self.attributes().len());
        self.write_json(&mut text);
        text
    }

    fn member(&self, name: &str) -> Option<Json> {
        event::Members::member(self, name)
    }

    fn names(&self) -> Vec<&str> {
        event::Members::names(self).to_vec()
    }
}

/// Where there is no record, null stands for it.
impl Subject for Json {
    fn whole(&self) -> Json {
        self.clone()
    }

    fn text(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    fn member(&self, name: &str) -> Option<Json> {
        self.get(name).cloned()
    }

    fn names(&self) -> Vec<&str> {
        self.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect()
    }
}

/// A subject as a table of the engine.
#[derive(Debug)]
pub(super) struct Members(pub(super) Arc<dyn Subject>);

impl Object for Members {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.member(key.as_str()?).as_ref().map(to_engine)
    }

    /// In the order of the engine's own tables.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let mut names = self.0.names();
        names.sort_unstable();
        Enumerator::Values(names.into_iter().map(Value::from).collect())
    }
}

/// JSON as a value of the engine.
pub(in crate::targets) fn to_engine(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (_, Some(number)) => Value::from(number),
            _ => Exact::spelled(number.to_string()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_engine).collect(),
        Json::Object(members) => {
            Value::from_pairs(members.iter().map(|(name, value)| (name.as_str(), to_engine(value))))
        }
    }
}

/// A value of the engine as JSON.
pub(in crate::targets) fn from_engine(value: &Value) -> Result<Json, String> {
    if let Some(exact) = value.downcast_object_ref::<Exact>() {
        return exact.0.parse::<Number>().map(Json::Number).map_err(|_| format!("`{}` is no number", exact.0));
    }
    match value.kind() {
        ValueKind::Undefined => Err("is undefined".to_owned()),
        ValueKind::None => Ok(Json::Null),
        ValueKind::Bool => Ok(Json::Bool(value.is_true())),
        ValueKind::Number if value.is_integer() => {
            value.to_string().parse::<Number>().map(Json::Number).map_err(|_| "is no number".to_owned())
        }
        ValueKind::Number => {
            Err("is a fraction that may not be exact; `| number` and `| amount` keep it so".to_owned())
        }
        ValueKind::String => Ok(Json::from(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| error.to_string())?;
            items.map(|item| from_engine(&item)).collect::<Result<Vec<_>, _>>().map(Json::Array)
        }
        ValueKind::Map => {
            let mut members = Map::new();
            for key in value.try_iter().map_err(|error| error.to_string())? {
                let member = value.get_item(&key).map_err(|error| error.to_string())?;
                let name = key.as_str().ok_or("a table's keys are texts")?;
                members.insert(name.to_owned(), from_engine(&member)?);
            }
            Ok(Json::Object(members))
        }
        _ => Err("is nothing that JSON can hold".to_owned()),
    }
}

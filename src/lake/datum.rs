//! What a writer's schema says of the bytes behind it: an Avro schema as a tree with every name resolved.
//!
//! Source: <https://avro.apache.org/docs/1.12.0/specification/>.

use std::collections::HashMap;

use serde_json::Value;

use super::error::Unfit;

/// A type of an Avro schema, logical types included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Avro {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Date,
    /// Microseconds since 1970, UTC.
    Micros,
    Decimal {
        precision: u32,
        scale: u32,
    },
    Enum(Vec<String>),
    List(Box<Avro>),
    Map(Box<Avro>),
    Record(Vec<Member>),
    Union(Vec<Avro>),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) is: Avro,
    /// Whether the schema says what holds where a writer left it out.
    pub(super) has_default: bool,
    pub(super) doc: Option<String>,
}

impl Avro {
    /// The tree of a schema's JSON.
    pub(super) fn parse(schema: &Value) -> Result<Self, Unfit> {
        read(schema, "", &mut HashMap::new(), "")
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Boolean => "boolean".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Long => "long".to_owned(),
            Self::Float => "float".to_owned(),
            Self::Double => "double".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Micros => "timestamp-micros".to_owned(),
            Self::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Self::Enum(_) => "enum".to_owned(),
            Self::List(_) => "array".to_owned(),
            Self::Map(_) => "map".to_owned(),
            Self::Record(_) => "record".to_owned(),
            Self::Union(branches) => {
                format!("union of {}", branches.iter().map(Self::name).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Named types seen so far; none for the one that is being read, which may not contain itself.
type Names = HashMap<String, Option<Avro>>;

fn read(schema: &Value, namespace: &str, names: &mut Names, path: &str) -> Result<Avro, Unfit> {
    let unfit = |what: String| Unfit::Schema { column: path.to_owned(), what };
    match schema {
        Value::String(name) => named(name, namespace, names, path),
        Value::Array(branches) => {
            let branches = branches.iter().map(|branch| read(branch, namespace, names, path));
            Ok(Avro::Union(branches.collect::<Result<_, _>>()?))
        }
        Value::Object(members) => {
            let text = |key: &str| members.get(key).and_then(Value::as_str);
            let number = |key: &str| members.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
            let Some(kind) = text("type") else {
                // {"type": {...}} and {"type": [...]} say no more than what stands inside.
                let inner = members.get("type").ok_or_else(|| unfit("has no type".to_owned()))?;
                return read(inner, namespace, names, path);
            };
            match (kind, text("logicalType")) {
                ("bytes", Some("decimal")) => {
                    let precision = number("precision").ok_or_else(|| unfit("decimal without precision".to_owned()))?;
                    Ok(Avro::Decimal { precision, scale: number("scale").unwrap_or(0) })
                }
                ("int", Some("date")) => Ok(Avro::Date),
                ("long", Some("timestamp-micros")) => Ok(Avro::Micros),
                ("array", _) => {
                    let items = members.get("items").ok_or_else(|| unfit("array without items".to_owned()))?;
                    Ok(Avro::List(Box::new(read(items, namespace, names, &join(path, "element"))?)))
                }
                ("map", _) => {
                    let values = members.get("values").ok_or_else(|| unfit("map without values".to_owned()))?;
                    Ok(Avro::Map(Box::new(read(values, namespace, names, &join(path, "value"))?)))
                }
                ("enum" | "record", _) => {
                    let name = text("name").ok_or_else(|| unfit(format!("{kind} without a name")))?;
                    let inside = text("namespace").unwrap_or(namespace);
                    let full = full_name(name, inside);
                    names.insert(full.clone(), None);
                    let is = if kind == "enum" {
                        let symbols = members.get("symbols").and_then(Value::as_array);
                        let symbols = symbols.ok_or_else(|| unfit("enum without symbols".to_owned()))?;
                        Avro::Enum(symbols.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                    } else {
                        record(members.get("fields"), inside, names, path)?
                    };
                    names.insert(full, Some(is.clone()));
                    Ok(is)
                }
                (kind, _) => named(kind, namespace, names, path),
            }
        }
        _ => Err(unfit("is no Avro schema".to_owned())),
    }
}

fn record(fields: Option<&Value>, namespace: &str, names: &mut Names, path: &str) -> Result<Avro, Unfit> {
    let unfit = |what: &str| Unfit::Schema { column: path.to_owned(), what: what.to_owned() };
    let fields = fields.and_then(Value::as_array).ok_or_else(|| unfit("record without fields"))?;
    let mut members = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| unfit("field without a name"))?;
        let is = field.get("type").ok_or_else(|| unfit("field without a type"))?;
        members.push(Member {
            name: name.to_owned(),
            is: read(is, namespace, names, &join(path, name))?,
            has_default: field.get("default").is_some(),
            doc: field.get("doc").and_then(Value::as_str).map(str::to_owned),
        });
    }
    Ok(Avro::Record(members))
}

fn named(name: &str, namespace: &str, names: &Names, path: &str) -> Result<Avro, Unfit> {
    Ok(match name {
        "null" => Avro::Null,
        "boolean" => Avro::Boolean,
        "int" => Avro::Int,
        "long" => Avro::Long,
        "float" => Avro::Float,
        "double" => Avro::Double,
        "bytes" => Avro::Bytes,
        "string" => Avro::Text,
        other => match names.get(&full_name(other, namespace)) {
            Some(Some(is)) => is.clone(),
            Some(None) => {
                let what = format!("{other} contains itself, which no table can");
                return Err(Unfit::Schema { column: path.to_owned(), what });
            }
            None => {
                let what = format!("the type {other} is not supported");
                return Err(Unfit::Schema { column: path.to_owned(), what });
            }
        },
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The bytes of a datum, taken from the front.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Unfit> {
        let (first, rest) = self.0.split_first().ok_or(Unfit::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Unfit> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Unfit::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A long: zig-zag, seven bits a byte.
    pub(super) fn long(&mut self) -> Result<i64, Unfit> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(Unfit::Number);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Unfit::Number)
    }

    pub(super) fn int(&mut self) -> Result<i32, Unfit> {
        i32::try_from(self.long()?).map_err(|_| Unfit::Number)
    }

    /// A length or count that what is left can hold: every counted thing takes a byte at least.
    pub(super) fn length(&mut self) -> Result<usize, Unfit> {
        let length = self.long()?;
        usize::try_from(length).ok().filter(|length| *length <= self.0.len()).ok_or(Unfit::Short)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Unfit> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Unfit> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unfit::Text)
    }

    /// Items of the next block of an array or map; none at its end.
    pub(super) fn block(&mut self) -> Result<Option<usize>, Unfit> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        if count < 0 {
            // A negative count is followed by the block's size in bytes, for those who skip.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).map_err(|_| Unfit::Number)?;
        if count > self.0.len() { Err(Unfit::Short) } else { Ok(Some(count)) }
    }
}

//! From an Avro schema to a table's columns, and from the columns a table has to those it should have: the one function
//! that says what a table looks like. Pure.
//!
//! | Avro | Iceberg |
//! |---|---|
//! | boolean, int, long, float, double, bytes, string | the same; bytes is `binary` |
//! | decimal(p,s) | `decimal(p,s)`, p up to 38 |
//! | date, timestamp-micros | `date`, `timestamptz` (microseconds, UTC) |
//! | enum | `string`, so that a symbol added later needs no change |
//! | array, map, record | `list`, `map<string, ...>`, `struct` |
//! | union of null and one other | the other, optional |
//!
//! A field without a default that is no union with null is required; every other column is optional, in a table made
//! today as in one that got the column later. Ids of columns are the table's own and never change: columns are found by
//! name, and only ever added.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type};
use iceberg::transaction::AddColumn;

use super::datum::{Avro, Member, join};
use super::error::Unfit;

/// Where a row came from: columns of every table beside its schema's.
pub(super) const TOPIC: &str = "kafka_topic";
/// See [`TOPIC`].
pub(super) const PARTITION: &str = "kafka_partition";
/// See [`TOPIC`].
pub(super) const OFFSET: &str = "kafka_offset";
/// The column whose day a row is filed under.
pub(super) const DAY_OF: &str = "received_at";
/// Largest precision of a decimal in Iceberg.
const MAX_PRECISION: u32 = 38;

/// The columns of a table for records of this schema.
///
/// # Errors
/// When the schema has what a table cannot have.
pub(super) fn of(avro: &Avro) -> Result<Schema, Unfit> {
    let fields = Columns::default().top(avro)?;
    let named = |name: &str| fields.iter().find(|field| field.name == name);
    if !named(DAY_OF)
        .is_some_and(|field| field.required && *field.field_type == Type::Primitive(PrimitiveType::Timestamptz))
    {
        let what = "is no timestamp-micros, by whose day the table could be partitioned".to_owned();
        return Err(Unfit::Schema { column: DAY_OF.to_owned(), what });
    }
    let fault = |error: iceberg::Error| Unfit::Schema { column: String::new(), what: error.to_string() };
    Schema::builder().with_fields(fields).build().map_err(fault)
}

#[derive(Default)]
struct Columns {
    last_id: i32,
}

impl Columns {
    fn id(&mut self) -> i32 {
        self.last_id += 1;
        self.last_id
    }

    fn top(&mut self, avro: &Avro) -> Result<Vec<NestedFieldRef>, Unfit> {
        let Avro::Record(members) = avro else {
            return Err(Unfit::Schema { column: String::new(), what: format!("is {}, no record", avro.name()) });
        };
        if let Some(taken) = members.iter().find(|m| [TOPIC, PARTITION, OFFSET].contains(&m.name.as_str())) {
            let what = "is the name of a column of ours".to_owned();
            return Err(Unfit::Schema { column: taken.name.clone(), what });
        }
        let mut fields = Vec::with_capacity(members.len() + 3);
        for (name, is, doc) in [
            (TOPIC, PrimitiveType::String, "Topic of the row, without prefix."),
            (PARTITION, PrimitiveType::Int, "Its partition there."),
            (OFFSET, PrimitiveType::Long, "Its offset there."),
        ] {
            fields.push(Arc::new(NestedField::required(self.id(), name, Type::Primitive(is)).with_doc(doc)));
        }
        fields.extend(self.members(members, "")?);
        Ok(fields)
    }

    fn members(&mut self, members: &[Member], path: &str) -> Result<Vec<NestedFieldRef>, Unfit> {
        let mut fields = Vec::with_capacity(members.len());
        for member in members {
            let path = join(path, &member.name);
            let id = self.id();
            let (nullable, inner) = nullable(&member.is, &path)?;
            let is = self.column(inner, &path)?;
            let mut field = NestedField::new(id, &member.name, is, !nullable && !member.has_default);
            field.doc.clone_from(&member.doc);
            fields.push(Arc::new(field));
        }
        Ok(fields)
    }

    fn column(&mut self, avro: &Avro, path: &str) -> Result<Type, Unfit> {
        let refused = |what: String| Err(Unfit::Schema { column: path.to_owned(), what });
        let primitive = match avro {
            Avro::Boolean => PrimitiveType::Boolean,
            Avro::Int => PrimitiveType::Int,
            Avro::Long => PrimitiveType::Long,
            Avro::Float => PrimitiveType::Float,
            Avro::Double => PrimitiveType::Double,
            Avro::Bytes => PrimitiveType::Binary,
            Avro::Text | Avro::Enum(_) => PrimitiveType::String,
            Avro::Date => PrimitiveType::Date,
            Avro::Micros => PrimitiveType::Timestamptz,
            Avro::Decimal { precision, scale } if *precision <= MAX_PRECISION && scale <= precision => {
                PrimitiveType::Decimal { precision: *precision, scale: *scale }
            }
            Avro::List(items) => {
                let id = self.id();
                let (nullable, inner) = nullable(items, path)?;
                let is = self.column(inner, &join(path, "element"))?;
                return Ok(Type::List(ListType::new(NestedField::list_element(id, is, !nullable).into())));
            }
            Avro::Map(values) => {
                let (key, value) = (self.id(), self.id());
                let (nullable, inner) = nullable(values, path)?;
                let is = self.column(inner, &join(path, "value"))?;
                return Ok(Type::Map(MapType::new(
                    NestedField::map_key_element(key, Type::Primitive(PrimitiveType::String)).into(),
                    NestedField::map_value_element(value, is, !nullable).into(),
                )));
            }
            Avro::Record(members) if !members.is_empty() => {
                return Ok(Type::Struct(StructType::new(self.members(members, path)?)));
            }
            other => return refused(format!("a table has nothing for {}", other.name())),
        };
        Ok(Type::Primitive(primitive))
    }
}

/// What a type is beside null, and whether it may be null.
pub(super) fn nullable<'a>(avro: &'a Avro, path: &str) -> Result<(bool, &'a Avro), Unfit> {
    match avro {
        Avro::Union(branches) => match branches.as_slice() {
            [one] => Ok((false, one)),
            [Avro::Null, other] | [other, Avro::Null] => Ok((true, other)),
            _ => {
                Err(Unfit::Schema { column: path.to_owned(), what: format!("a table has nothing for {}", avro.name()) })
            }
        },
        other => Ok((false, other)),
    }
}

/// What has to be added to a table so that it has every column of `wanted`, in order; nothing where it has them.
///
/// # Errors
/// When a column has another type, or would have to be one that can be null: with the first such column.
pub(super) fn missing(table: &Schema, wanted: &Schema) -> Result<Vec<AddColumn>, Unfit> {
    let mut added = Vec::new();
    compare(table.as_struct().fields(), wanted.as_struct().fields(), "", &mut added)?;
    Ok(added)
}

fn compare(
    table: &[NestedFieldRef],
    wanted: &[NestedFieldRef],
    path: &str,
    added: &mut Vec<AddColumn>,
) -> Result<(), Unfit> {
    for field in wanted {
        let column = join(path, &field.name);
        let Some(there) = table.iter().find(|there| there.name == field.name) else {
            if field.required {
                let what = "is required, and rows that are there already have none".to_owned();
                return Err(Unfit::Schema { column, what });
            }
            let add = AddColumn::builder().name(field.name.clone()).field_type((*field.field_type).clone());
            let doc = field.doc.clone().unwrap_or_default();
            added.push(match path {
                "" => add.doc(doc).build(),
                path => add.parent(path).doc(doc).build(),
            });
            continue;
        };
        if there.required && !field.required {
            let what = "may be missing, and the table requires it".to_owned();
            return Err(Unfit::Schema { column, what });
        }
        same(&there.field_type, &field.field_type, &column, added)?;
    }
    Ok(())
}

fn same(table: &Type, wanted: &Type, column: &str, added: &mut Vec<AddColumn>) -> Result<(), Unfit> {
    match (table, wanted) {
        (Type::Struct(table), Type::Struct(wanted)) => compare(table.fields(), wanted.fields(), column, added),
        (Type::List(table), Type::List(wanted)) => {
            let column = join(column, "element");
            same(&table.element_field.field_type, &wanted.element_field.field_type, &column, added)
        }
        (Type::Map(table), Type::Map(wanted)) => {
            let column = join(column, "value");
            same(&table.value_field.field_type, &wanted.value_field.field_type, &column, added)
        }
        (Type::Primitive(table), Type::Primitive(wanted)) if holds(table, wanted) => Ok(()),
        (table, wanted) => {
            Err(Unfit::Type { column: column.to_owned(), schema: wanted.to_string(), table: table.to_string() })
        }
    }
}

/// Whether a column of the first type takes every value of the second: Iceberg's own promotions.
pub(super) const fn holds(table: &PrimitiveType, value: &PrimitiveType) -> bool {
    use PrimitiveType::{Binary, Boolean, Date, Decimal, Double, Float, Int, Long, String, Timestamptz};
    match (table, value) {
        (Boolean, Boolean) | (Int | Long, Int) | (Long, Long) | (Float | Double, Float) | (Double, Double) => true,
        (String, String) | (Binary, Binary) | (Date, Date) | (Timestamptz, Timestamptz) => true,
        (Decimal { precision: a, scale: x }, Decimal { precision: b, scale: y }) => *a >= *b && *x == *y,
        _ => false,
    }
}

#[cfg(test)]
mod tests;

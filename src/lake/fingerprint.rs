//! What rows are compared by: a hash of every value of a row, in a form that does not depend on who wrote it down.
//!
//! Of two tables those columns count that both have, by name and at every depth: another engine numbers them anew. A
//! column that a file is older than is null, an integer or fraction is the same in either width, a decimal with any
//! precision, and a map in any order. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, RunArray};
use arrow_schema::{DataType, TimeUnit};
use iceberg::spec::{NestedFieldRef, Schema, Type};
use iceberg::{Error, ErrorKind};

/// What of a column is compared.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The value.
    Whole,
    /// These members.
    Struct(Vec<(String, Self)>),
    /// This of each item.
    List(Box<Self>),
    /// The keys, and this of each value.
    Map(Box<Self>),
}

/// The columns that both schemas have.
pub(super) fn common(a: &Schema, b: &Schema) -> Vec<(String, Shape)> {
    members(a.as_struct().fields(), b.as_struct().fields())
}

fn members(a: &[NestedFieldRef], b: &[NestedFieldRef]) -> Vec<(String, Shape)> {
    let both = a.iter().filter_map(|a| Some((a, b.iter().find(|b| b.name == a.name)?)));
    both.map(|(a, b)| (a.name.clone(), both_of(&a.field_type, &b.field_type))).collect()
}

fn both_of(a: &Type, b: &Type) -> Shape {
    match (a, b) {
        (Type::Struct(a), Type::Struct(b)) => Shape::Struct(members(a.fields(), b.fields())),
        (Type::List(a), Type::List(b)) => {
            Shape::List(Box::new(both_of(&a.element_field.field_type, &b.element_field.field_type)))
        }
        (Type::Map(a), Type::Map(b)) => {
            Shape::Map(Box::new(both_of(&a.value_field.field_type, &b.value_field.field_type)))
        }
        _ => Shape::Whole,
    }
}

/// The hash of each row, of columns in an order that is the same for all; `None` for one that is null in every row.
///
/// # Errors
/// When a column is of a type that no table of ours has.
pub(super) fn fingerprints<'a>(
    rows: usize,
    columns: impl Iterator<Item = (&'a Shape, Option<&'a ArrayRef>)>,
) -> iceberg::Result<Vec<u64>> {
    let mut hashers = vec![DefaultHasher::new(); rows];
    for (shape, column) in columns {
        for (row, hasher) in hashers.iter_mut().enumerate() {
            match column {
                Some(column) => feed(hasher, shape, column, row)?,
                None => NULL.hash(hasher),
            }
        }
    }
    Ok(hashers.iter().map(DefaultHasher::finish).collect())
}

/// Stands before what there is of a value, so that none is taken for another one's end.
const NULL: u8 = 0;
const VALUE: u8 = 1;

fn feed(hasher: &mut DefaultHasher, shape: &Shape, column: &dyn Array, row: usize) -> iceberg::Result<()> {
    // One value for the whole file, where another engine partitioned by it.
    if let Some(runs) = column.as_any().downcast_ref::<RunArray<Int32Type>>() {
        return feed(hasher, shape, runs.values(), runs.get_physical_index(row));
    }
    if column.is_null(row) {
        NULL.hash(hasher);
        return Ok(());
    }
    VALUE.hash(hasher);
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).hash(hasher),
        DataType::Int32 => i64::from(column.as_primitive::<Int32Type>().value(row)).hash(hasher),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).hash(hasher),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)).to_bits().hash(hasher),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_bits().hash(hasher),
        DataType::Date32 => column.as_primitive::<Date32Type>().value(row).hash(hasher),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().value(row).hash(hasher);
        }
        // The scale of a column never changes.
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value(row).hash(hasher),
        DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes().hash(hasher),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).as_bytes().hash(hasher),
        DataType::Binary => column.as_binary::<i32>().value(row).hash(hasher),
        DataType::LargeBinary => column.as_binary::<i64>().value(row).hash(hasher),
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().value(row).hash(hasher),
        DataType::Struct(_) => return feed_struct(hasher, shape, column, row),
        DataType::List(_) => return feed_list(hasher, shape, column, row),
        DataType::Map(..) => return feed_map(hasher, shape, column, row),
        other => return Err(Error::new(ErrorKind::FeatureUnsupported, format!("a column of {other} is not compared"))),
    }
    Ok(())
}

// Of a nested value whose counterpart is none nothing has to be known: the two differ.

fn feed_struct(hasher: &mut DefaultHasher, shape: &Shape, column: &dyn Array, row: usize) -> iceberg::Result<()> {
    let Shape::Struct(members) = shape else { return Ok(()) };
    for (name, shape) in members {
        match column.as_struct().column_by_name(name) {
            Some(member) => feed(hasher, shape, member, row)?,
            None => NULL.hash(hasher),
        }
    }
    Ok(())
}

fn feed_list(hasher: &mut DefaultHasher, shape: &Shape, column: &dyn Array, row: usize) -> iceberg::Result<()> {
    let Shape::List(shape) = shape else { return Ok(()) };
    let list = column.as_list::<i32>();
    let items = range(list.value_offsets(), row);
    items.len().hash(hasher);
    for item in items {
        feed(hasher, shape, list.values(), item)?;
    }
    Ok(())
}

fn feed_map(hasher: &mut DefaultHasher, shape: &Shape, column: &dyn Array, row: usize) -> iceberg::Result<()> {
    let Shape::Map(shape) = shape else { return Ok(()) };
    let map = column.as_map();
    let keys = map.keys().as_string_opt::<i32>();
    let keys =
        keys.ok_or_else(|| Error::new(ErrorKind::FeatureUnsupported, "a map by other than text is not compared"))?;
    let mut entries: Vec<usize> = range(map.value_offsets(), row).collect();
    entries.sort_unstable_by_key(|entry| keys.value(*entry));
    entries.len().hash(hasher);
    for entry in entries {
        keys.value(entry).as_bytes().hash(hasher);
        feed(hasher, shape, map.values(), entry)?;
    }
    Ok(())
}

/// The items of a row, by where each row's begin.
fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    let at = |row: usize| offsets.get(row).and_then(|at| usize::try_from(*at).ok()).unwrap_or_default();
    at(row)..at(row + 1)
}

#[cfg(test)]
mod tests;

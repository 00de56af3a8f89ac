//! Columns under construction: one builder for each column of a table, structs and lists included.
//!
//! Arrow's own builders for nested types are found by downcasts at run time; here the shape is matched once.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int32Builder, Int64Builder,
    LargeBinaryBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields};

/// One column under construction.
pub(super) enum Sink {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Date(Date32Builder),
    Micros(TimestampMicrosecondBuilder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(LargeBinaryBuilder),
    List(Box<List>),
    Map(Box<Map>),
    Struct(Struct),
}

/// A list: its items, and where each row's end.
pub(super) struct List {
    field: FieldRef,
    pub(super) item: Sink,
    ends: Ends,
}

/// A map with text for keys.
pub(super) struct Map {
    field: FieldRef,
    pub(super) key: StringBuilder,
    pub(super) value: Sink,
    ends: Ends,
}

/// A struct.
pub(super) struct Struct {
    fields: Fields,
    pub(super) columns: Vec<Sink>,
    valid: NullBufferBuilder,
}

struct Ends {
    offsets: Vec<i32>,
    valid: NullBufferBuilder,
}

impl Ends {
    fn new() -> Self {
        Self { offsets: vec![0], valid: NullBufferBuilder::new(0) }
    }

    fn close(&mut self, items: usize, valid: bool) {
        // A chunk of rows is far below 2^31 items: each takes a byte of a batch at least.
        self.offsets.push(i32::try_from(items).unwrap_or(i32::MAX));
        self.valid.append(valid);
    }

    fn last(&self) -> usize {
        self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or_default()
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Option<arrow_buffer::NullBuffer>) {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        (OffsetBuffer::new(offsets.into()), self.valid.finish())
    }
}

impl Sink {
    /// A builder for a column of this type; none for a type that no column of ours has.
    pub(super) fn new(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int32 => Self::Int(Int32Builder::new()),
            DataType::Int64 => Self::Long(Int64Builder::new()),
            DataType::Float32 => Self::Float(Float32Builder::new()),
            DataType::Float64 => Self::Double(Float64Builder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(_, _) => Self::Micros(TimestampMicrosecondBuilder::new().with_data_type(kind.clone())),
            DataType::Decimal128(_, _) => Self::Decimal(Decimal128Builder::new().with_data_type(kind.clone())),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::LargeBinary => Self::Bytes(LargeBinaryBuilder::new()),
            DataType::List(field) => {
                let item = Self::new(field.data_type())?;
                Self::List(Box::new(List { field: Arc::clone(field), item, ends: Ends::new() }))
            }
            DataType::Map(field, _) => {
                let DataType::Struct(entry) = field.data_type() else { return None };
                let [_, value] = &entry[..] else { return None };
                let value = Self::new(value.data_type())?;
                Self::Map(Box::new(Map {
                    field: Arc::clone(field),
                    key: StringBuilder::new(),
                    value,
                    ends: Ends::new(),
                }))
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| Self::new(field.data_type())).collect::<Option<_>>()?;
                Self::Struct(Struct { fields: fields.clone(), columns, valid: NullBufferBuilder::new(0) })
            }
            _ => return None,
        })
    }

    /// Appends a null.
    pub(super) fn null(&mut self) {
        match self {
            Self::Boolean(b) => b.append_null(),
            Self::Int(b) => b.append_null(),
            Self::Long(b) => b.append_null(),
            Self::Float(b) => b.append_null(),
            Self::Double(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Micros(b) => b.append_null(),
            Self::Decimal(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::List(list) => {
                let last = list.ends.last();
                list.ends.close(last, false);
            }
            Self::Map(map) => {
                let last = map.ends.last();
                map.ends.close(last, false);
            }
            Self::Struct(of) => {
                of.columns.iter_mut().for_each(Self::null);
                of.valid.append(false);
            }
        }
    }

    /// Ends a list, map or struct whose parts were appended; `items` of a list or map came to it.
    pub(super) fn close(&mut self, items: usize) {
        match self {
            Self::List(list) => {
                let end = list.ends.last() + items;
                list.ends.close(end, true);
            }
            Self::Map(map) => {
                let end = map.ends.last() + items;
                map.ends.close(end, true);
            }
            Self::Struct(of) => of.valid.append(true),
            _ => {}
        }
    }

    /// The column, and an empty builder in its place.
    ///
    /// # Errors
    /// When its parts do not fit together: a null where none may be.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::Long(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Double(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Micros(b) => Arc::new(b.finish()),
            Self::Decimal(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Bytes(b) => Arc::new(b.finish()),
            Self::List(list) => {
                let (offsets, valid) = list.ends.finish();
                Arc::new(ListArray::try_new(Arc::clone(&list.field), offsets, list.item.finish()?, valid)?)
            }
            Self::Map(map) => {
                let (offsets, valid) = map.ends.finish();
                let DataType::Struct(entry) = map.field.data_type() else {
                    return Err(ArrowError::SchemaError("a map without entries".to_owned()));
                };
                let parts: Vec<ArrayRef> = vec![Arc::new(map.key.finish()), map.value.finish()?];
                let entries = StructArray::try_new(entry.clone(), parts, None)?;
                Arc::new(MapArray::try_new(Arc::clone(&map.field), offsets, entries, valid, false)?)
            }
            Self::Struct(of) => {
                let valid = of.valid.finish();
                let columns = of.columns.iter_mut().map(Self::finish).collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new(of.fields.clone(), columns, valid)?)
            }
        })
    }
}

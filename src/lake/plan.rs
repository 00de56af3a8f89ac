//! How records of one writer's schema become rows of one table: made once for the pair, then walked for each record,
//! first to see whether it fits, later to append it. A walk that passed once passes again, so appending leaves no half
//! rows behind.
//!
//! A field that the table lacks is skipped (the table gets the column when Ledgerhook knows it); a column that the writer
//! lacked is null.

use iceberg::spec::{NestedFieldRef, PrimitiveType, Schema, Type};

use super::datum::{Avro, Input, Member, join};
use super::error::Unfit;
use super::schema::{DAY_OF, holds, nullable};
use super::sink::Sink;

/// Columns of every table that come before its schema's: see [`super::schema::TOPIC`].
pub(super) const OWN: usize = 3;
/// First and last microsecond of the years 1 to 9999, since 1970: what every reader of tables knows.
const MICROS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
/// The same in days.
const DAYS: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;

/// How records of one schema go into one table.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    /// Columns that the writer lacks.
    absent: Vec<usize>,
}

/// What of a record its place in a file depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// `received_at`, microseconds since 1970.
    pub(super) received_at: i64,
    /// `source`.
    pub(super) source: Span,
    /// `entity_id`, or `event_id` where the schema has none.
    pub(super) entity: Span,
}

/// A text within a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The text at the end of what was read of a record when `left` bytes are left.
    fn read(datum: &[u8], text: &str, left: &[u8]) -> Self {
        // Records are far below 4 GiB: Kafka's messages are.
        let of = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { start: of(datum.len() - left.len() - text.len()), len: of(text.len()) }
    }

    /// The text's bytes, which sort as the text does.
    pub(super) fn of(self, datum: &[u8]) -> &[u8] {
        datum.get(self.start as usize..).and_then(|rest| rest.get(..self.len as usize)).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    ReceivedAt,
    Source,
    Entity,
}

#[derive(Debug)]
struct Step {
    /// The column; none for a field that the table lacks.
    column: Option<usize>,
    node: Node,
    key: Option<Key>,
}

#[derive(Debug)]
enum Node {
    Null,
    Leaf {
        is: Avro,
        path: String,
    },
    /// Branches in the schema's order; none for null. `path` where the column may not be null.
    Choice {
        branches: Vec<Option<Node>>,
        required: Option<String>,
    },
    List(Box<Node>),
    Map(Box<Node>),
    Record {
        steps: Vec<Step>,
        absent: Vec<usize>,
    },
}

impl Plan {
    /// The way from this schema into this table.
    ///
    /// # Errors
    /// When there is none: no record of this schema fits.
    pub(super) fn new(avro: &Avro, table: &Schema) -> Result<Self, Unfit> {
        let Avro::Record(members) = avro else {
            return Err(Unfit::Schema { column: String::new(), what: format!("is {}, no record", avro.name()) });
        };
        let columns = table.as_struct().fields();
        let (mut steps, absent) = fields(members, Some(columns), OWN, "")?;
        let entity = if members.iter().any(|member| member.name == "entity_id") { "entity_id" } else { "event_id" };
        for (step, member) in steps.iter_mut().zip(members) {
            step.key = match member.name.as_str() {
                DAY_OF if member.is == Avro::Micros => Some(Key::ReceivedAt),
                "source" if member.is == Avro::Text => Some(Key::Source),
                name if name == entity && member.is == Avro::Text => Some(Key::Entity),
                _ => None,
            };
        }
        Ok(Self { steps, absent })
    }

    /// Whether the record fits, and what its place depends on.
    ///
    /// # Errors
    /// Why it does not fit.
    pub(super) fn check(&self, datum: &[u8]) -> Result<Keys, Unfit> {
        let mut input = Input(datum);
        let mut keys = Keys::default();
        for step in &self.steps {
            let mut again = Input(input.0);
            step.node.walk(&mut input, None)?;
            match step.key {
                None => {}
                Some(Key::ReceivedAt) => keys.received_at = again.long()?,
                Some(Key::Source) => keys.source = Span::read(datum, again.text()?, again.0),
                Some(Key::Entity) => keys.entity = Span::read(datum, again.text()?, again.0),
            }
        }
        if input.0.is_empty() { Ok(keys) } else { Err(Unfit::Long(input.0.len())) }
    }

    /// Appends a record that was checked to the columns behind the first [`OWN`].
    ///
    /// # Errors
    /// As [`Plan::check`]; the columns are of no use then.
    pub(super) fn append(&self, datum: &[u8], columns: &mut [Sink]) -> Result<(), Unfit> {
        steps(&self.steps, &self.absent, &mut Input(datum), Some(columns))
    }
}

fn fields(
    members: &[Member],
    columns: Option<&[NestedFieldRef]>,
    own: usize,
    path: &str,
) -> Result<(Vec<Step>, Vec<usize>), Unfit> {
    let mut made = Vec::with_capacity(members.len());
    for member in members {
        let found = columns.and_then(|columns| columns.iter().position(|column| column.name == member.name));
        let column = found.and_then(|at| columns.and_then(|columns| columns.get(at)));
        let path = join(path, &member.name);
        let required = column.is_some_and(|column| column.required);
        let node = node(&member.is, column.map(|column| &*column.field_type), required, &path)?;
        made.push(Step { column: found, node, key: None });
    }
    let mut absent = Vec::new();
    for (at, column) in columns.unwrap_or_default().iter().enumerate().skip(own) {
        if !made.iter().any(|step| step.column == Some(at)) {
            if column.required {
                return Err(Unfit::Lacks { column: join(path, &column.name) });
            }
            absent.push(at);
        }
    }
    Ok((made, absent))
}

/// The way of one type into one column; without a column, the way past it.
fn node(avro: &Avro, column: Option<&Type>, required: bool, path: &str) -> Result<Node, Unfit> {
    let mismatch =
        |column: &Type| Unfit::Type { column: path.to_owned(), schema: avro.name(), table: column.to_string() };
    match (avro, column) {
        (Avro::Union(branches), column) => {
            if column.is_some() {
                // Only a type and null can go into a column; past it, anything can.
                nullable(avro, path)?;
            }
            let branches = branches.iter().map(|branch| match branch {
                Avro::Null => Ok(None),
                branch => node(branch, column, required, path).map(Some),
            });
            let required = (required && column.is_some()).then(|| path.to_owned());
            Ok(Node::Choice { branches: branches.collect::<Result<_, Unfit>>()?, required })
        }
        (Avro::Null, None) => Ok(Node::Null),
        (Avro::List(items), None) => Ok(Node::List(Box::new(node(items, None, false, path)?))),
        (Avro::List(items), Some(Type::List(list))) => {
            let (item, path) = (&list.element_field, join(path, "element"));
            Ok(Node::List(Box::new(node(items, Some(&item.field_type), item.required, &path)?)))
        }
        (Avro::Map(values), None) => Ok(Node::Map(Box::new(node(values, None, false, path)?))),
        (Avro::Map(values), Some(Type::Map(map))) => {
            let (value, path) = (&map.value_field, join(path, "value"));
            Ok(Node::Map(Box::new(node(values, Some(&value.field_type), value.required, &path)?)))
        }
        (Avro::Record(members), None) => {
            let (steps, absent) = fields(members, None, 0, path)?;
            Ok(Node::Record { steps, absent })
        }
        (Avro::Record(members), Some(Type::Struct(columns))) => {
            let (steps, absent) = fields(members, Some(columns.fields()), 0, path)?;
            Ok(Node::Record { steps, absent })
        }
        (leaf, None) => Ok(Node::Leaf { is: leaf.clone(), path: path.to_owned() }),
        (leaf, Some(Type::Primitive(column))) => match primitive(leaf) {
            Some(value) if holds(column, &value) => Ok(Node::Leaf { is: leaf.clone(), path: path.to_owned() }),
            _ => Err(mismatch(&Type::Primitive(column.clone()))),
        },
        (_, Some(column)) => Err(mismatch(column)),
    }
}

const fn primitive(avro: &Avro) -> Option<PrimitiveType> {
    Some(match avro {
        Avro::Boolean => PrimitiveType::Boolean,
        Avro::Int => PrimitiveType::Int,
        Avro::Long => PrimitiveType::Long,
        Avro::Float => PrimitiveType::Float,
        Avro::Double => PrimitiveType::Double,
        Avro::Bytes => PrimitiveType::Binary,
        Avro::Text | Avro::Enum(_) => PrimitiveType::String,
        Avro::Date => PrimitiveType::Date,
        Avro::Micros => PrimitiveType::Timestamptz,
        Avro::Decimal { precision, scale } => PrimitiveType::Decimal { precision: *precision, scale: *scale },
        _ => return None,
    })
}

fn steps(steps: &[Step], absent: &[usize], input: &mut Input<'_>, columns: Option<&mut [Sink]>) -> Result<(), Unfit> {
    let Some(columns) = columns else {
        return steps.iter().try_for_each(|step| step.node.walk(input, None));
    };
    for step in steps {
        step.node.walk(input, step.column.and_then(|at| columns.get_mut(at)))?;
    }
    for at in absent {
        if let Some(sink) = columns.get_mut(*at) {
            sink.null();
        }
    }
    Ok(())
}

impl Node {
    /// Takes a value from the input into the column; without a column, checks it and goes past.
    fn walk(&self, input: &mut Input<'_>, mut sink: Option<&mut Sink>) -> Result<(), Unfit> {
        match self {
            Self::Null => {}
            Self::Choice { branches, required } => {
                let branch = usize::try_from(input.long()?).map_err(|_| Unfit::Branch)?;
                match (branches.get(branch).ok_or(Unfit::Branch)?, required, sink) {
                    (Some(node), _, sink) => return node.walk(input, sink),
                    (None, Some(column), _) => return Err(Unfit::Null { column: column.clone() }),
                    (None, None, Some(sink)) => sink.null(),
                    (None, None, None) => {}
                }
            }
            Self::List(item) => {
                let mut items = 0;
                while let Some(count) = input.block()? {
                    for _ in 0..count {
                        match sink.as_deref_mut() {
                            Some(Sink::List(list)) => item.walk(input, Some(&mut list.item))?,
                            _ => item.walk(input, None)?,
                        }
                    }
                    items += count;
                }
                if let Some(sink) = sink {
                    sink.close(items);
                }
            }
            Self::Map(value) => {
                let mut items = 0;
                while let Some(count) = input.block()? {
                    for _ in 0..count {
                        let key = input.text()?;
                        match sink.as_deref_mut() {
                            Some(Sink::Map(map)) => {
                                map.key.append_value(key);
                                value.walk(input, Some(&mut map.value))?;
                            }
                            _ => value.walk(input, None)?,
                        }
                    }
                    items += count;
                }
                if let Some(sink) = sink {
                    sink.close(items);
                }
            }
            Self::Record { steps: members, absent } => match sink {
                Some(sink) => {
                    if let Sink::Struct(of) = &mut *sink {
                        steps(members, absent, input, Some(&mut of.columns))?;
                    }
                    sink.close(1);
                }
                None => steps(members, absent, input, None)?,
            },
            Self::Leaf { is, path } => leaf(is, path, input, sink)?,
        }
        Ok(())
    }
}

fn leaf(is: &Avro, path: &str, input: &mut Input<'_>, sink: Option<&mut Sink>) -> Result<(), Unfit> {
    match (is, sink) {
        (Avro::Boolean, sink) => {
            let value = match input.byte()? {
                0 => false,
                1 => true,
                _ => return Err(Unfit::Number),
            };
            if let Some(Sink::Boolean(b)) = sink {
                b.append_value(value);
            }
        }
        (Avro::Int, sink) => {
            let value = input.int()?;
            match sink {
                Some(Sink::Int(b)) => b.append_value(value),
                Some(Sink::Long(b)) => b.append_value(i64::from(value)),
                _ => {}
            }
        }
        (Avro::Long, sink) => {
            let value = input.long()?;
            if let Some(Sink::Long(b)) = sink {
                b.append_value(value);
            }
        }
        (Avro::Float, sink) => {
            let bytes = input.take(4)?;
            let value = f32::from_le_bytes(bytes.try_into().map_err(|_| Unfit::Short)?);
            match sink {
                Some(Sink::Float(b)) => b.append_value(value),
                Some(Sink::Double(b)) => b.append_value(f64::from(value)),
                _ => {}
            }
        }
        (Avro::Double, sink) => {
            let value = f64::from_le_bytes(input.take(8)?.try_into().map_err(|_| Unfit::Short)?);
            if let Some(Sink::Double(b)) = sink {
                b.append_value(value);
            }
        }
        (Avro::Bytes, sink) => {
            let value = input.bytes()?;
            if let Some(Sink::Bytes(b)) = sink {
                b.append_value(value);
            }
        }
        (Avro::Text, sink) => {
            let value = input.text()?;
            if let Some(Sink::Text(b)) = sink {
                b.append_value(value);
            }
        }
        (Avro::Enum(symbols), sink) => {
            let symbol = usize::try_from(input.int()?).ok().and_then(|at| symbols.get(at)).ok_or(Unfit::Branch)?;
            if let Some(Sink::Text(b)) = sink {
                b.append_value(symbol);
            }
        }
        (Avro::Date, sink) => {
            let value = input.int()?;
            if !DAYS.contains(&value) {
                return Err(Unfit::Time { column: path.to_owned() });
            }
            if let Some(Sink::Date(b)) = sink {
                b.append_value(value);
            }
        }
        (Avro::Micros, sink) => {
            let value = input.long()?;
            if !MICROS.contains(&value) {
                return Err(Unfit::Time { column: path.to_owned() });
            }
            if let Some(Sink::Micros(b)) = sink {
                b.append_value(value);
            }
        }
        (Avro::Decimal { precision, .. }, sink) => {
            let value = unscaled(input.bytes()?, *precision);
            let value = value.ok_or_else(|| Unfit::Decimal { column: path.to_owned(), precision: *precision })?;
            if let Some(Sink::Decimal(b)) = sink {
                b.append_value(value);
            }
        }
        // Every other type has a node of its own.
        _ => return Err(Unfit::Branch),
    }
    Ok(())
}

/// The value of big-endian two's complement of any length; none where it has more digits than allowed.
fn unscaled(bytes: &[u8], precision: u32) -> Option<i128> {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let sign = if negative { 0xff } else { 0 };
    let mut value = if negative { -1 } else { 0_i128 };
    let significant = bytes.iter().position(|byte| *byte != sign).map_or(&bytes[bytes.len()..], |at| &bytes[at..]);
    if significant.len() > 16 {
        return None;
    }
    // The seventeenth byte of a value that needs its own sign bit is gone with the leading ones.
    if significant.len() == 16 && (significant[0] & 0x80 != 0) != negative {
        return None;
    }
    for byte in significant {
        value = (value << 8) | i128::from(*byte);
    }
    let limit = 10_i128.checked_pow(precision)?;
    (-limit < value && value < limit).then_some(value)
}

#[cfg(test)]
mod tests;

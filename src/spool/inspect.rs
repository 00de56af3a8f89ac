//! What stands in the bytes of a segment, whatever they are: what fuzzing comes in by.

use std::ops::Range;

use super::entry::{self, Entry, EntryError};
use super::format::{self, Head};
use crate::avro::Schema;

/// What a segment holds. Places count from its first byte.
#[derive(Debug)]
pub struct Inspection {
    /// Where its records begin.
    pub start: usize,
    /// Whole records in their order.
    pub records: Vec<InspectedRecord>,
    /// Bytes that hold no record where there should be some, and how many records they cost; none where that is unknown.
    pub damage: Vec<(Range<usize>, Option<u64>)>,
}

/// A whole record of a segment.
#[derive(Debug)]
pub struct InspectedRecord {
    /// Its number in the segment, from 0.
    pub sequence: u64,
    /// Where it stands, with what precedes its payload.
    pub place: Range<usize>,
    /// Its event, where it can be read.
    pub entry: Result<Entry, EntryError>,
}

/// Records and damage in the bytes of a segment; none where it has no head that can be read.
#[must_use]
pub fn inspect(segment: &[u8]) -> Option<Inspection> {
    let (head, start) = Head::find(segment).ok()?;
    let schema = Schema::parse("of a segment", &head.schema).ok()?;
    let bytes = segment.get(start..)?;
    let scan = format::scan(bytes, &head.salt, 0);
    let records = scan.records.into_iter().map(|found| InspectedRecord {
        sequence: found.sequence,
        place: start + found.payload.start - format::RECORD_HEAD..start + found.payload.end,
        entry: entry::decode(&schema, bytes.get(found.payload).unwrap_or_default()),
    });
    let damage = scan.damage.iter().map(|damage| (start + damage.at..start + damage.at + damage.bytes, damage.lost));
    Some(Inspection { start, records: records.collect(), damage: damage.collect() })
}

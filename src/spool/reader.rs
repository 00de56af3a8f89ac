//! The reading side: durable events in the spool's order, and what is damaged.
//!
//! How far it has drained is not written down. A restart reads a segment that was not removed from its beginning, and
//! sends at most one segment's worth of events again; the router takes each once. A cursor on disk would be one more
//! thing whose truth has to be argued, to save that.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::disk::Disk;
use super::entry::{self, Entry, EntryError};
use super::format::{self, Scan};
use super::ledger::{Key, Ledger, Position};
use super::log;
use crate::avro::Schema;
use crate::event::Timestamp;

/// Reads what is durable and not acknowledged.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    ledger: Arc<Ledger>,
    at: Cursor,
    /// Someone else may be appending: what stands behind the last whole record is no damage.
    is_beside_writer: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    segment: u64,
    offset: u64,
    sequence: u64,
}

/// What is to be read next.
struct Piece {
    number: u64,
    key: Key,
    from: Cursor,
    to: u64,
    /// Sequence behind the last event; none where the segment was not counted yet.
    next: Option<u64>,
    acknowledged: u64,
}

/// Some events of one segment, in order.
#[derive(Debug)]
pub struct Batch {
    schema: Arc<Schema>,
    bytes: Vec<u8>,
    records: Vec<(Position, Range<usize>)>,
}

/// One event of a batch.
#[derive(Debug)]
pub struct Item {
    /// Its place.
    pub position: Position,
    /// When it was received.
    pub received_at: Timestamp,
    /// The event, where it can be read.
    pub entry: Result<Entry, EntryError>,
}

impl Batch {
    /// The events in order, each read when it is asked for.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.records.iter().map(|(position, range)| {
            let payload = self.bytes.get(range.clone()).unwrap_or_default();
            Item {
                position: *position,
                received_at: entry::received_at(payload).unwrap_or_default(),
                entry: entry::decode(&self.schema, payload),
            }
        })
    }

    /// Payloads as they were appended.
    #[cfg(test)]
    pub(super) fn payloads(&self) -> Vec<(Position, Vec<u8>)> {
        self.records.iter().map(|(at, range)| (*at, self.bytes[range.clone()].to_vec())).collect()
    }
}

impl Reader {
    pub(super) fn new(disk: Arc<dyn Disk>, ledger: Arc<Ledger>, is_beside_writer: bool) -> Self {
        Self { disk, ledger, at: Cursor::default(), is_beside_writer }
    }

    /// Counts what earlier processes left, and says loudly what is damaged. Blocks; ten gigabytes take some ten seconds,
    /// while events are already taken.
    ///
    /// # Errors
    /// When a file cannot be opened: for want of descriptors, say. Pages that cannot be read count as damage.
    pub fn survey(&mut self) -> io::Result<()> {
        loop {
            let uncounted = {
                let known = self.ledger.lock();
                known.segments.iter().find(|(_, s)| !s.is_counted).map(|(number, s)| (*number, s.start))
            };
            let Some((segment, offset)) = uncounted else { return Ok(()) };
            let Some(piece) = self.piece(Cursor { segment, offset, sequence: 0 }) else { return Ok(()) };
            match self.scan(&piece) {
                // Its owner has drained it meanwhile.
                Err(error) if self.is_beside_writer && error.kind() == io::ErrorKind::NotFound => {
                    self.ledger.lock().segments.remove(&segment);
                }
                scanned => drop(scanned?),
            }
        }
    }

    /// The next durable events after those given before, none where there are no more now. Blocks.
    ///
    /// # Errors
    /// As [`Reader::survey`].
    pub fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        loop {
            let Some(cursor) = self.seek() else { return Ok(None) };
            self.at = cursor;
            let Some(piece) = self.piece(cursor) else { return Ok(None) };
            let (bytes, scan) = self.scan(&piece)?;
            self.at.offset = piece.to;
            self.at.sequence = scan.records.last().map_or(cursor.sequence, |last| last.sequence + 1);
            if let Some(next) = piece.next {
                self.at.sequence = next;
            }
            let position = |sequence| Position { segment: piece.number, sequence };
            let left = scan.records.into_iter().filter(|found| found.sequence >= piece.acknowledged);
            let records: Vec<_> = left.map(|found| (position(found.sequence), found.payload)).collect();
            if !records.is_empty() {
                return Ok(Some(Batch { schema: piece.key.schema, bytes, records }));
            }
        }
    }

    /// Starts again with the first event that is not acknowledged.
    pub fn rewind(&mut self) {
        self.at = Cursor::default();
    }

    /// Where something durable stands that was not read.
    fn seek(&self) -> Option<Cursor> {
        let known = self.ledger.lock();
        known.segments.range(self.at.segment..).find_map(|(number, segment)| {
            let begin = Cursor { segment: *number, offset: segment.start, sequence: 0 };
            let cursor = if *number == self.at.segment && self.at.offset > 0 { self.at } else { begin };
            (cursor.offset < segment.durable && !segment.is_drained()).then_some(cursor)
        })
    }

    fn piece(&self, from: Cursor) -> Option<Piece> {
        let known = self.ledger.lock();
        let segment = known.segments.get(&from.segment)?;
        Some(Piece {
            number: from.segment,
            key: segment.key.clone(),
            from,
            to: segment.durable,
            next: segment.is_counted.then_some(segment.next),
            acknowledged: segment.acknowledged,
        })
    }

    fn scan(&self, piece: &Piece) -> io::Result<(Vec<u8>, Scan)> {
        let name = log::name(piece.number);
        let bytes = match self.disk.read(&name, piece.from.offset, piece.to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, file = name, "a segment of the spool cannot be read whole");
                self.disk.salvage(&name, piece.from.offset, piece.to)?
            }
            read => read?,
        };
        let mut scan = format::scan(&bytes, &piece.key.salt, piece.from.sequence);
        if self.is_beside_writer {
            scan.damage.retain(|damage| damage.lost.is_some());
        }
        self.account(piece, &bytes, &scan);
        Ok((bytes, scan))
    }

    fn account(&self, piece: &Piece, bytes: &[u8], scan: &Scan) {
        let end = scan.records.last().map_or(piece.from.sequence, |last| last.sequence + 1);
        let mut known = self.ledger.lock();
        let Some(segment) = known.segments.get_mut(&piece.number) else { return };
        let mut lost: u64 = scan.damage.iter().filter_map(|damage| damage.lost).sum();
        if segment.is_counted {
            // Written by this process: what is missing behind the last one is known too.
            lost += piece.next.unwrap_or(end).saturating_sub(end);
            if lost == 0 || segment.keep.is_some() {
                return;
            }
            segment.left = segment.left.saturating_sub(lost);
        } else {
            segment.is_counted = true;
            segment.next = end;
            segment.left = scan.records.len() as u64;
            let payloads = scan.records.iter().map(|found| bytes.get(found.payload.clone()).unwrap_or_default());
            segment.received_at = payloads.filter_map(entry::received_at).min();
        }
        if scan.damage.is_empty() && lost == 0 {
            return;
        }
        let damaged: usize = scan.damage.iter().map(|damage| damage.bytes).sum();
        let at = scan.damage.first().map_or(bytes.len(), |damage| damage.at) as u64 + piece.from.offset;
        let torn = scan.damage.iter().any(|damage| damage.lost.is_none());
        let reason = format!(
            "{damaged} bytes from byte {at} on hold no whole record: {lost} events lost{}",
            if torn { ", and the end is torn, as after a crash in a write that nobody was answered for" } else { "" }
        );
        tracing::error!(
            file = super::log::name(piece.number),
            reason,
            "a segment of the spool is damaged; the rest is kept"
        );
        segment.keep = Some(reason);
        known.lost_events += lost;
        known.damaged_bytes += damaged as u64;
    }
}

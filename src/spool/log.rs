//! The writing side: groups of payloads made durable with one sync each, segment after segment.
//!
//! No segment of an earlier process is appended to, and none in which a write or a sync failed is ever written or synced
//! again: after a failed sync the kernel may call dirty pages clean, so that the next sync succeeds without them
//! ([fsyncgate](https://wiki.postgresql.org/wiki/Fsync_Errors)).

use std::sync::Arc;

use tokio::time::Instant;

use super::SCHEMA;
use super::disk::{Disk, Output};
use super::entry;
use super::error::SpoolError;
use super::format::{self, Head, PAGE};
use super::ledger::{Key, Ledger, Position, Segment};
use super::status::SetAside;
use crate::avro::{self, AvroError, Schema};

/// Bounds of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most bytes that all segments take.
    pub(super) max_size: u64,
    /// Bytes after which a segment is closed.
    pub(super) segment_size: u64,
    /// Zeros written ahead of the records, in bytes. A sync of pages that the file has already needs no new entry in the
    /// file system's own journal, which halves its time on ext4 and xfs; and a disk that is full shows it early.
    pub(super) ahead: u64,
}

/// The writing side of a spool.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    ledger: Arc<Ledger>,
    bounds: Bounds,
    schema: Arc<Schema>,
    schema_text: String,
    next: u64,
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    number: u64,
    salt: [u8; 16],
    file: Box<dyn Output>,
    sequence: u64,
    at: u64,
    /// Up to where the file has pages.
    filled: u64,
}

/// Name of a segment's file.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// Number of a segment by its file's name; none for a file that is not ours.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Name under which a segment is kept for people.
pub(super) fn aside(number: u64) -> String {
    format!("{}.damaged", name(number))
}

impl Log {
    /// A log whose first segment will have the number `next`. Writes nothing yet.
    pub(super) fn new(disk: Arc<dyn Disk>, ledger: Arc<Ledger>, bounds: Bounds, next: u64) -> Result<Self, AvroError> {
        let schema = Arc::new(Schema::ours(SCHEMA)?);
        let schema_text = avro::canonical(SCHEMA)?;
        Ok(Self { disk, ledger, bounds, schema, schema_text, next, active: None })
    }

    /// Makes all of these payloads durable, or none of them known to be.
    pub(super) fn commit(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Position>, SpoolError> {
        self.ledger.lock().writing_since = Some(Instant::now());
        let committed = self.write(payloads);
        self.ledger.lock().writing_since = None;
        committed
    }

    fn write(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Position>, SpoolError> {
        let size: usize = payloads.iter().map(|payload| payload.len() + format::RECORD_HEAD).sum();
        let size = u64::try_from(format::whole_pages(size)).unwrap_or(u64::MAX);
        if self.active.as_ref().is_some_and(|active| active.at.saturating_add(size) > self.bounds.segment_size) {
            self.close();
        }
        if self.active.is_none() {
            self.open(size)?;
        }
        let Some(active) = self.active.as_mut() else { return Err(SpoolError::Closed) };
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        for (sequence, payload) in (active.sequence..).zip(payloads) {
            format::put_record(&mut bytes, &active.salt, sequence, payload);
        }
        bytes.resize(format::whole_pages(bytes.len()), 0);
        let end = active.at + size;
        let ahead = if end > active.filled {
            end.saturating_add(self.bounds.ahead).min(self.bounds.segment_size.max(end))
        } else {
            active.filled
        };
        Self::fits(&self.ledger, self.bounds.max_size, ahead - active.filled)?;
        match active.append(&bytes, ahead) {
            Ok(()) => {}
            Err(error) => {
                self.abandon(&error);
                return Err(error);
            }
        }
        let number = active.number;
        let first = active.sequence;
        active.sequence += payloads.len() as u64;
        active.at = end;
        let mut known = self.ledger.lock();
        if let Some(segment) = known.segments.get_mut(&number) {
            segment.bytes = active.filled;
            segment.durable = end;
            segment.next = first + payloads.len() as u64;
            segment.left += payloads.len() as u64;
            if segment.received_at.is_none() || segment.left == payloads.len() as u64 {
                segment.received_at = payloads.iter().filter_map(|payload| entry::received_at(payload)).min();
            }
        }
        known.is_full = false;
        drop(known);
        Ok((first..active.sequence).map(|sequence| Position { segment: number, sequence }).collect())
    }

    /// Tries the disk after a failure: whether a segment can be opened.
    pub(super) fn probe(&mut self) -> Result<(), SpoolError> {
        if self.active.is_none() { self.open(PAGE as u64) } else { Ok(()) }
    }

    /// Removes segments whose events are all acknowledged; with `idle` the active one too, so that a spool that is not
    /// needed any more is empty, and one that is does not make a segment for every event.
    pub(super) fn tidy(&mut self, idle: bool) {
        let active = self.active.as_ref().map(|active| active.number).filter(|_| !idle);
        let drained: Vec<(u64, Option<String>)> = {
            let known = self.ledger.lock();
            let drained = known.segments.iter().filter(|(number, s)| s.is_drained() && Some(**number) != active);
            drained.map(|(number, segment)| (*number, segment.keep.clone())).collect()
        };
        if drained.is_empty() {
            return;
        }
        for (number, keep) in drained {
            if self.active.as_ref().is_some_and(|active| active.number == number) {
                self.active = None;
            }
            self.discard(number, keep);
        }
        // Should this be forgotten in a crash, events come to Kafka twice, and the router takes each once.
        if let Err(cause) = self.disk.sync_folder() {
            tracing::warn!(%cause, "the spool's folder was not synced; after a crash drained events may be sent again");
        }
    }

    /// Closes the active segment; removes it where it is empty.
    pub(super) fn end(&mut self) {
        self.close();
        self.tidy(true);
    }

    fn close(&mut self) {
        if let Some(active) = self.active.take()
            && let Some(segment) = self.ledger.lock().segments.get_mut(&active.number)
        {
            segment.is_open = false;
        }
    }

    /// Never writes to the active segment again. What was made durable in it before is still drained.
    fn abandon(&mut self, error: &SpoolError) {
        let number = self.active.as_ref().map(|active| active.number);
        self.close();
        self.ledger.lock().failing = Some(error.to_string());
        // Nothing acknowledged in it: it is of no use, and its room may be needed.
        let is_drained = |number: &u64| self.ledger.lock().segments.get(number).is_some_and(Segment::is_drained);
        if let Some(number) = number.filter(is_drained) {
            self.discard(number, None);
        }
    }

    fn discard(&mut self, number: u64, keep: Option<String>) {
        let name = name(number);
        let done = match &keep {
            Some(_) => self.disk.rename(&name, &aside(number)),
            None => self.disk.remove(&name),
        };
        if let Err(cause) = done {
            // It stays known, so that it is tried again with the next.
            tracing::warn!(%cause, file = name, "a drained segment of the spool could not be removed");
            return;
        }
        let mut known = self.ledger.lock();
        known.segments.remove(&number);
        known.is_full = false;
        if let Some(reason) = keep {
            tracing::error!(file = aside(number), reason, "a segment of the spool is kept for people to look at");
            known.set_aside.push(SetAside { file: aside(number), reason });
        }
    }

    fn fits(ledger: &Ledger, max_size: u64, more: u64) -> Result<(), SpoolError> {
        let mut known = ledger.lock();
        let bytes = known.bytes();
        if bytes.saturating_add(more) <= max_size {
            return Ok(());
        }
        known.is_full = true;
        Err(SpoolError::Full { bytes, max_size })
    }

    /// Opens the next segment: its head and its name durable.
    fn open(&mut self, room: u64) -> Result<(), SpoolError> {
        let number = self.next;
        let head = Head { number, salt: rand::random(), schema: self.schema_text.clone() };
        let bytes = head.encode();
        let start = bytes.len() as u64;
        Self::fits(&self.ledger, self.bounds.max_size, start.saturating_add(room))?;
        // Used up even where it fails: the file may exist all the same.
        self.next += 1;
        let disk = Arc::clone(&self.disk);
        let opened = (|| -> Result<Box<dyn Output>, SpoolError> {
            let mut file = disk.create(&name(number)).map_err(|cause| SpoolError::of("create a segment", &cause))?;
            file.write_at(0, &bytes).map_err(|cause| SpoolError::of("write a segment's head", &cause))?;
            file.sync().map_err(|cause| SpoolError::of("sync a segment's head", &cause))?;
            disk.sync_folder().map_err(|cause| SpoolError::of("sync the folder", &cause))?;
            Ok(file)
        })();
        let mut known = self.ledger.lock();
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                // At the next start it is a segment without records.
                let _ = self.disk.remove(&name(number));
                known.failing = Some(SpoolError::to_string(&error));
                return Err(error);
            }
        };
        known.failing = None;
        let key = Key { salt: head.salt, schema: Arc::clone(&self.schema) };
        let segment = Segment {
            key,
            bytes: start,
            start,
            durable: start,
            is_open: true,
            is_counted: true,
            next: 0,
            left: 0,
            acknowledged: 0,
            received_at: None,
            keep: None,
        };
        known.segments.insert(number, segment);
        self.active = Some(Active { number, salt: head.salt, file, sequence: 0, at: start, filled: start });
        Ok(())
    }
}

impl Active {
    /// Writes one group, zeros up to `ahead` where the file ends before, and syncs.
    fn append(&mut self, bytes: &[u8], ahead: u64) -> Result<(), SpoolError> {
        let written = self.at + bytes.len() as u64;
        if ahead > self.filled {
            let zeros = vec![0; usize::try_from(ahead - written.max(self.filled)).unwrap_or_default()];
            let at = written.max(self.filled);
            self.file.write_at(at, &zeros).map_err(|cause| SpoolError::of("prepare a segment", &cause))?;
        }
        self.file.write_at(self.at, bytes).map_err(|cause| SpoolError::of("write a segment", &cause))?;
        self.file.sync().map_err(|cause| SpoolError::of("sync a segment", &cause))?;
        self.filled = ahead;
        Ok(())
    }
}

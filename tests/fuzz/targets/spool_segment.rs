//! Whatever became of a segment on its disk: every record that is still whole is found, in its order, nothing is found
//! that was not written, and every other byte is told as damage.
//!
//! Input: `edit` and a line for each edit (see `edit` below) of a segment that was written by a spool; `payload` and the
//! payload of a record with right checksums, which no edit makes; or `raw` and all bytes of a segment.

#![no_main]

use std::ops::Range;
use std::sync::LazyLock;

use ledgerhook::event::{Envelope, Evidence, MAX_EVENT_ID_BYTES, Origin, Sha256, Timestamp};
use ledgerhook::spool::{Entry, Inspection, Options, Spool, inspect};
use ledgerhook_fuzz::cut;
use libfuzzer_sys::fuzz_target;

const PAGE: usize = 4096;
/// Bytes of a head before its schema, and of a record before its payload.
const FIXED: usize = 40;
const RECORD_HEAD: usize = 20;
/// Bounds of what is made of an input.
const MAX_EDITS: usize = 32;
const MAX_BYTES: usize = 256 * 1024;

/// What was made durable together, as lengths of bodies: less than a page, more than three, records that fill their page
/// and others. All bodies are zeros, which a scan must not take for the end of a group.
const GROUPS: [&[usize]; 5] = [&[1, 40, 700], &[3 * PAGE], &[0, 300], &[PAGE, PAGE], &[90]];
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

static SEGMENT: LazyLock<Segment> = LazyLock::new(Segment::written);

fuzz_target!(|input: &[u8]| {
    let Some(([mode], rest)) = cut::<1>(input) else { return };
    match mode {
        b"edit" => SEGMENT.check(&SEGMENT.edited(rest)),
        b"payload" => SEGMENT.check_payload(rest),
        b"raw" => {
            if let Some(found) = inspect(rest) {
                is_sound(rest, &found);
            }
        }
        _ => {}
    }
});

/// A segment as a spool wrote it.
struct Segment {
    bytes: Vec<u8>,
    /// Bytes of both copies of its head, and of one without the zeros behind it.
    start: usize,
    head: usize,
    /// Where each record stands, and what it holds.
    records: Vec<(Range<usize>, Entry)>,
}

impl Segment {
    /// Written by a spool one by one, which puts each record on a page of its own; then put together as groups, which
    /// depend on the time if the spool is let to form them.
    fn written() -> Self {
        let folder = std::env::temp_dir().join(format!("ledgerhook-fuzz-{}", std::process::id()));
        let options = Options { folder: folder.clone(), max_size: 64 << 20, segment_size: 8 << 20 };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let spool = Spool::open(&options).expect("a spool in the temporary folder");
        let envelopes: Vec<_> = GROUPS.concat().into_iter().zip(0..).map(|(body, n)| envelope(n, body)).collect();
        for envelope in &envelopes {
            runtime.block_on(spool.append(envelope, TRACE)).expect("it is durable");
        }
        let file = std::fs::read(folder.join(format!("{:020}.seg", 0))).expect("its first segment");
        drop(spool);
        std::fs::remove_dir_all(&folder).expect("the folder is ours");

        let found = inspect(&file).expect("it has a head");
        assert!(found.damage.is_empty() && found.records.len() == envelopes.len(), "{found:?}");
        let schema = u32::from_le_bytes(file[FIXED - 4..FIXED].try_into().expect("4 bytes"));
        let head = FIXED + usize::try_from(schema).expect("of some kilobytes") + 4;
        let (mut bytes, mut records) = (file[..found.start].to_vec(), Vec::new());
        let mut written = found.records.iter().zip(&envelopes);
        for group in GROUPS {
            for (record, envelope) in written.by_ref().take(group.len()) {
                let place = bytes.len()..bytes.len() + record.place.len();
                bytes.extend_from_slice(&file[record.place.clone()]);
                // A record that began with a zero would be passed over behind zeros where an edit has moved it to the end
                // of a page, to which no disk moves anything.
                assert_ne!(bytes[place.start], 0, "another length of body is needed");
                let entry = record.entry.as_ref().expect("it was written");
                assert_eq!((&entry.envelope, entry.traceparent.as_str()), (envelope, TRACE));
                records.push((place, Entry { envelope: envelope.clone(), traceparent: TRACE.to_owned() }));
            }
            bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        }
        bytes.resize(bytes.len() + 2 * PAGE, 0);
        Self { start: found.start, bytes, head, records }
    }

    fn record(&self, sequence: usize) -> &[u8] {
        &self.bytes[self.records[sequence].0.clone()]
    }

    fn edited(&self, edits: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for line in edits.split(|byte| *byte == b'\n').take(MAX_EDITS) {
            let _ = std::str::from_utf8(line).ok().and_then(|line| self.edit(&mut bytes, line));
            bytes.truncate(MAX_BYTES);
        }
        bytes
    }

    /// One edit; none where the line is no edit. Places are counted from the first byte, or as `r3+8` from where the
    /// record 3 was written.
    ///
    /// None of them writes four bytes of the input's choice in a row: libFuzzer takes the checksums that it misses out
    /// of the comparisons, and would forge records, for which everybody else would need the salt.
    fn edit(&self, bytes: &mut Vec<u8>, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let what = words.next()?;
        let at = self.place(words.next()?)?.min(bytes.len());
        let rest = bytes.len() - at;
        match what {
            // flip AT BITS
            "flip" => *bytes.get_mut(at)? ^= number(words.next()?)?.to_le_bytes()[0],
            // zero AT BYTES
            "zero" => bytes[at..at + number(words.next()?)?.min(rest)].fill(0),
            // cut AT BYTES: taken out, what follows moves
            "cut" => drop(bytes.drain(at..at + number(words.next()?)?.min(rest))),
            // end AT
            "end" => bytes.truncate(at),
            // put AT BYTES BYTE: what follows moves
            "put" => {
                let (count, byte) = (number(words.next()?)?.min(2 * PAGE), number(words.next()?)?.to_le_bytes()[0]);
                drop(bytes.splice(at..at, vec![byte; count]));
            }
            // over AT FROM BYTES: bytes as they were written, over others
            "over" => {
                let from = self.copy(&mut words)?;
                let from = &from[..from.len().min(rest)];
                bytes[at..at + from.len()].copy_from_slice(from);
            }
            // into AT FROM BYTES: the same between others, which move
            "into" => drop(bytes.splice(at..at, self.copy(&mut words)?.iter().copied())),
            // move AT RECORD: a whole record over others
            "move" => {
                let record = self.record(number(words.next()?)? % self.records.len());
                bytes.resize(bytes.len().max(at + record.len()), 0);
                bytes[at..at + record.len()].copy_from_slice(record);
            }
            _ => return None,
        }
        Some(())
    }

    fn copy<'a>(&self, words: &mut impl Iterator<Item = &'a str>) -> Option<&[u8]> {
        let from = self.place(words.next()?)?.min(self.bytes.len());
        Some(&self.bytes[from..from + number(words.next()?)?.min(self.bytes.len() - from)])
    }

    fn place(&self, text: &str) -> Option<usize> {
        let Some(place) = text.strip_prefix('r') else { return number(text) };
        let (record, offset) = place.split_once('+').unwrap_or((place, "0"));
        Some(self.records[number(record)? % self.records.len()].0.start + number(offset)?)
    }

    /// What a scan has to find: of all places with exactly the bytes of a record, from the first on, those of the least
    /// sequence not below what is expected. By comparing bytes, where the scan only has checksums.
    fn expected(&self, bytes: &[u8], start: usize) -> Vec<(u64, Range<usize>)> {
        let (mut found, mut at, mut least) = (Vec::new(), start, 0);
        while let Some(head) = bytes.get(at..at + RECORD_HEAD) {
            let sequence = u64::from_le_bytes(head[4..12].try_into().expect("8 bytes"));
            let here = usize::try_from(sequence).ok().filter(|n| (least..self.records.len()).contains(n));
            let Some(n) = here.filter(|n| bytes[at..].starts_with(self.record(*n))) else {
                at += 1;
                continue;
            };
            let place = at..at + self.record(n).len();
            (at, least) = (place.end, n + 1);
            found.push((sequence, place));
        }
        found
    }

    fn check(&self, bytes: &[u8]) {
        // The head is found in the first place, or in the next page that begins with a whole copy of it.
        let copy = (0..bytes.len()).step_by(PAGE).find(|at| bytes[*at..].starts_with(&self.bytes[..self.head]));
        let start = copy.map(|at| if at == 0 { self.start } else { at + self.start / 2 });
        let Some(start) = start.filter(|start| *start <= bytes.len()) else {
            assert!(inspect(bytes).is_none(), "events without a head");
            return;
        };
        let found = inspect(bytes).expect("a head is whole");
        is_sound(bytes, &found);
        assert_eq!(found.start, start);
        let places: Vec<_> = found.records.iter().map(|record| (record.sequence, record.place.clone())).collect();
        assert_eq!(places, self.expected(bytes, start));
        for (record, n) in found.records.iter().map(|record| (record, usize::try_from(record.sequence).expect("few"))) {
            assert_eq!(record.entry.as_ref().expect("it is as it was written"), &self.records[n].1);
        }
        // Whatever came behind: nothing before the first edit is lost.
        let same = bytes.iter().zip(&self.bytes).take_while(|(now, then)| now == then).count();
        let before = self.records.iter().take_while(|(place, _)| place.end <= same).map(|(place, _)| place);
        assert!(before.eq(places.iter().map(|(_, place)| place).take_while(|place| place.end <= same)));
    }

    fn check_payload(&self, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_le_bytes();
        let crc = crc32c::crc32c(&[&self.bytes[20..36], &length, &[0; 8]].concat());
        let whole = crc32c::crc32c_append(crc, payload);
        let record = [&length[..], &[0; 8], &crc.to_le_bytes(), &whole.to_le_bytes(), payload].concat();
        let bytes = [&self.bytes[..self.start], &record].concat();
        let found = inspect(&bytes).expect("it has a head");
        is_sound(&bytes, &found);
        assert_eq!(found.records.len(), usize::from(!payload.is_empty()));
        for entry in found.records.iter().filter_map(|record| record.entry.as_ref().ok()) {
            assert!(entry.envelope.body.len() + entry.traceparent.len() <= payload.len());
        }
    }
}

/// What holds of any bytes: records in the order of their numbers and places, and no byte that is left out.
fn is_sound(bytes: &[u8], found: &Inspection) {
    let mut next = 0;
    for record in &found.records {
        assert!(record.sequence >= next && record.place.len() > RECORD_HEAD, "{record:?}");
        next = record.sequence + 1;
    }
    let lost: u64 = found.damage.iter().filter_map(|(_, lost)| *lost).sum();
    assert_eq!(lost + u64::try_from(found.records.len()).expect("few"), next, "{:?}", found.damage);
    let unknown = found.damage.iter().position(|(_, lost)| lost.is_none());
    assert!(unknown.is_none_or(|at| at + 1 == found.damage.len()), "{:?}", found.damage);

    let damage = found.damage.iter().map(|(place, _)| place.clone());
    let mut places: Vec<_> = found.records.iter().map(|record| record.place.clone()).chain(damage).collect();
    // Damage of no bytes stands before the record that is not the one expected there.
    places.sort_by_key(|place| (place.start, place.end));
    let mut told = found.start;
    for place in places.into_iter().chain([bytes.len()..bytes.len()]) {
        assert!(bytes[told..place.start].iter().all(|byte| *byte == 0), "bytes that nobody speaks of before {place:?}");
        told = place.end;
    }
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| *number <= MAX_BYTES)
}

fn envelope(n: u8, body: usize) -> Envelope {
    let body = vec![0; body];
    Envelope {
        event_id: format!("{n}").repeat(if n == 5 { MAX_EVENT_ID_BYTES } else { 3 }),
        source: "accbooks".to_owned(),
        event_type: "invoice.paid".to_owned(),
        occurred_at: None,
        received_at: Timestamp::from_micros(1_777_000_000_000_000 + i64::from(n)),
        content_type: Some("application/json".to_owned()),
        body_sha256: Sha256::of(&body),
        body: body.into(),
        unusable: None,
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    }
}

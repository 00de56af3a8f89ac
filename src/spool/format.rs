//! What stands in a segment: its head, written twice, and records. Pure.
//!
//! ```text
//! head:   magic 8 | version 4 | number 8 | salt 16 | schema length 4 | schema | crc 4, with zeros to a whole page; twice
//! record: length 4 | sequence 8 | crc of salt and these 4 | crc of all of it and the payload 4 | payload
//! ```
//!
//! Numbers are little-endian, checksums CRC32C. Records that were made durable together begin on a page of their own and
//! end with zeros to the next, so that no page which holds an acknowledged record is ever written again. Behind the last
//! record everything is zero.
//!
//! The salt is random for each segment and known to nobody outside: bytes of a webhook's body that look like a record
//! have a wrong checksum, so a scan that looks for the next record behind damage cannot take one for it.

use std::ops::Range;

/// What disks and page caches write at once, in bytes.
pub(super) const PAGE: usize = 4096;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEAD: usize = 20;
/// Largest payload: as much as Kafka takes in one record, with room for what stands around it.
pub(super) const MAX_PAYLOAD: usize = 4 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"LHSPOOL\n";
const VERSION: u32 = 1;
/// Bytes of a head before the schema.
const FIXED: usize = 40;
/// Longest schema believed: ours is 5 KiB.
const MAX_SCHEMA: usize = 256 * 1024;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) salt: [u8; 16],
    /// The Avro schema that payloads were written with, as JSON: a segment is read by itself, also by a later version.
    pub(super) schema: String,
}

/// Why a segment's head says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// Nothing was made durable in it: no byte, zeros, or less than a whole head.
    Unfinished,
    /// Neither copy is whole, and there is more behind them.
    Damaged,
    /// Written by a later version.
    Later(u32),
}

impl Head {
    /// Both copies, each of whole pages.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(FIXED + self.schema.len() + 4 + PAGE);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&self.number.to_le_bytes());
        copy.extend_from_slice(&self.salt);
        copy.extend_from_slice(&u32::try_from(self.schema.len()).unwrap_or(u32::MAX).to_le_bytes());
        copy.extend_from_slice(self.schema.as_bytes());
        let crc = crc32c::crc32c(&copy);
        copy.extend_from_slice(&crc.to_le_bytes());
        copy.resize(whole_pages(copy.len()), 0);
        copy.repeat(2)
    }

    /// The head of a segment, from whichever copy is whole, and where its records begin.
    pub(super) fn find(segment: &[u8]) -> Result<(Self, usize), NoHead> {
        let mut later = None;
        for at in (0..segment.len().min(2 * MAX_SCHEMA)).step_by(PAGE) {
            match Self::decode(segment.get(at..).unwrap_or_default()) {
                // The second copy is only looked for where the first is broken.
                Ok((head, length)) => return Ok((head, if at == 0 { 2 * length } else { at + length })),
                Err(Some(version)) => later = later.or(Some(version)),
                Err(None) => {}
            }
        }
        match later {
            Some(version) => Err(NoHead::Later(version)),
            // A record begins behind two copies of a page each at the least.
            None if segment.len() <= 2 * PAGE || is_blank(segment) => Err(NoHead::Unfinished),
            None => Err(NoHead::Damaged),
        }
    }

    /// One copy and the pages it takes; the version where it is another than ours.
    fn decode(copy: &[u8]) -> Result<(Self, usize), Option<u32>> {
        let fixed = copy.get(..FIXED).filter(|fixed| fixed.starts_with(&MAGIC)).ok_or(None)?;
        let version = u32_at(fixed, 8).ok_or(None)?;
        let length = u32_at(fixed, 36).and_then(|length| usize::try_from(length).ok()).ok_or(None)?;
        if length > MAX_SCHEMA {
            return Err(None);
        }
        let end = FIXED + length;
        let whole = copy.get(..end).ok_or(None)?;
        if u32_at(copy, end) != Some(crc32c::crc32c(whole)) {
            return Err(None);
        }
        if version != VERSION {
            return Err(Some(version));
        }
        let salt = fixed.get(20..36).and_then(|salt| salt.try_into().ok()).ok_or(None)?;
        let schema = whole.get(FIXED..).and_then(|text| std::str::from_utf8(text).ok()).ok_or(None)?;
        let head = Self { number: u64_at(fixed, 12).ok_or(None)?, salt, schema: schema.to_owned() };
        Ok((head, whole_pages(end + 4)))
    }
}

/// Appends a record to what is to be written together.
pub(super) fn put_record(out: &mut Vec<u8>, salt: &[u8; 16], sequence: u64, payload: &[u8]) {
    // Longer ones are refused before they come here.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let head = head_crc(salt, length, sequence);
    out.extend_from_slice(&length);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&head.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c_append(head, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// A whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sequence: u64,
    /// Where its payload stands in the bytes that were scanned.
    pub(super) payload: Range<usize>,
}

/// Bytes that hold no record, where there should be some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where it begins, from the start of the bytes scanned.
    pub(super) at: usize,
    /// How long it is.
    pub(super) bytes: usize,
    /// How many records it cost; unknown behind the last whole one, where an unfinished write looks the same.
    pub(super) lost: Option<u64>,
}

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) records: Vec<Found>,
    pub(super) damage: Vec<Damage>,
}

/// Every whole record in `bytes`, which begin on a page where the record of sequence `first` was written.
pub(super) fn scan(bytes: &[u8], salt: &[u8; 16], first: u64) -> Scan {
    let mut scan = Scan::default();
    let (mut at, mut expected) = (0, first);
    while at < bytes.len() {
        if let Some(found) = record_at(bytes, at, salt).filter(|found| found.sequence == expected) {
            (at, expected) = (found.payload.end, expected + 1);
            scan.records.push(found);
            continue;
        }
        // Records made durable together end with zeros to the next page, unless they fill it.
        let page = whole_pages(at).min(bytes.len());
        if page > at && is_blank(bytes.get(at..page).unwrap_or_default()) {
            at = page;
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        match next_record(bytes, at, salt, expected) {
            Some((next, found)) => {
                scan.damage.push(Damage { at, bytes: next - at, lost: Some(found.sequence - expected) });
                (at, expected) = (found.payload.end, found.sequence + 1);
                scan.records.push(found);
            }
            None => {
                if !is_blank(rest) {
                    let written = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                    scan.damage.push(Damage { at, bytes: written, lost: None });
                }
                break;
            }
        }
    }
    scan
}

/// The first whole record from `from` on whose sequence is not below `least`.
fn next_record(bytes: &[u8], from: usize, salt: &[u8; 16], least: u64) -> Option<(usize, Found)> {
    // No more records than fit can have been lost: rules out nearly every offset before a checksum is taken.
    let most = least.saturating_add(u64::try_from(bytes.len() / RECORD_HEAD).unwrap_or(u64::MAX));
    (from..bytes.len().saturating_sub(RECORD_HEAD)).find_map(|at| {
        let sequence = u64_at(bytes, at + 4)?;
        if sequence < least || sequence > most {
            return None;
        }
        Some((at, record_at(bytes, at, salt)?))
    })
}

fn record_at(bytes: &[u8], at: usize, salt: &[u8; 16]) -> Option<Found> {
    let head: &[u8; RECORD_HEAD] = bytes.get(at..at + RECORD_HEAD)?.try_into().ok()?;
    let length = u32_at(head, 0)?;
    let sequence = u64_at(head, 4)?;
    let crc = head_crc(salt, length.to_le_bytes(), sequence);
    let length = usize::try_from(length).ok().filter(|length| (1..=MAX_PAYLOAD).contains(length))?;
    if u32_at(head, 12) != Some(crc) {
        return None;
    }
    let payload = at + RECORD_HEAD..at + RECORD_HEAD + length;
    let whole = crc32c::crc32c_append(crc, bytes.get(payload.clone())?);
    (u32_at(head, 16) == Some(whole)).then_some(Found { sequence, payload })
}

fn head_crc(salt: &[u8; 16], length: [u8; 4], sequence: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(salt), &length), &sequence.to_le_bytes())
}

/// A length rounded up to whole pages.
pub(super) const fn whole_pages(length: usize) -> usize {
    length.next_multiple_of(PAGE)
}

/// Whether all of it is zero.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    // By blocks, which the compiler turns into wide compares: tails of segments are megabytes of zeros.
    bytes.chunks(256).all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: [u8; 16] = [7; 16];

    /// Payloads in groups, as a segment holds them behind its head.
    fn written(groups: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sequence = 0;
        for group in groups {
            for payload in group {
                put_record(&mut bytes, &SALT, sequence, payload);
                sequence += 1;
            }
            bytes.resize(whole_pages(bytes.len()), 0);
        }
        bytes.resize(bytes.len() + 2 * PAGE, 0);
        bytes
    }

    fn payloads<'b>(bytes: &'b [u8], scan: &Scan) -> Vec<&'b [u8]> {
        scan.records.iter().map(|found| &bytes[found.payload.clone()]).collect()
    }

    #[test]
    fn a_head_is_found_in_either_copy() {
        let head = Head { number: 3, salt: SALT, schema: "\"bytes\"".repeat(1000) };
        let whole = head.encode();
        assert_eq!(Head::find(&whole), Ok((head.clone(), whole.len())));
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            assert_eq!(Head::find(&flipped), Ok((head.clone(), whole.len())), "byte {at}");
        }
        assert_eq!(Head::find(&[]), Err(NoHead::Unfinished));
        assert_eq!(Head::find(&vec![0; 5 * PAGE]), Err(NoHead::Unfinished));
        assert_eq!(Head::find(&vec![9; 5 * PAGE]), Err(NoHead::Damaged));
        let mut later = whole[..whole.len() / 2].to_vec();
        later[8] = 2;
        let crc = crc32c::crc32c(&later[..FIXED + head.schema.len()]).to_le_bytes();
        later[FIXED + head.schema.len()..][..4].copy_from_slice(&crc);
        assert_eq!(Head::find(&later), Err(NoHead::Later(2)));
    }

    #[test]
    fn a_body_cannot_hold_a_record() {
        let mut forged = Vec::new();
        put_record(&mut forged, &[8; 16], 1, b"forged");
        let mut bytes = written(&[vec![b"first".to_vec(), forged], vec![b"last".to_vec()]]);
        let clean = scan(&bytes, &SALT, 0);
        assert!(clean.records.len() == 3 && clean.damage.is_empty(), "{clean:?}");
        // The record around it is damaged, so that the scan walks through the forged one.
        let at = clean.records[1].payload.start - 3;
        bytes[at] ^= 1;
        let damaged = scan(&bytes, &SALT, 0);
        assert_eq!(payloads(&bytes, &damaged), [&b"first"[..], b"last"]);
        assert_eq!(damaged.damage.iter().map(|d| d.lost).collect::<Vec<_>>(), [Some(1)]);
    }

    #[test]
    fn zeros_where_a_page_was_lost_are_damage_and_zeros_at_the_end_are_not() {
        let big = vec![5; 3 * PAGE];
        let mut bytes = written(&[vec![b"a".to_vec()], vec![big], vec![b"c".to_vec()]]);
        bytes[PAGE..2 * PAGE].fill(0);
        let found = scan(&bytes, &SALT, 0);
        assert_eq!(payloads(&bytes, &found), [b"a", b"c"]);
        assert_eq!(found.damage, [Damage { at: PAGE, bytes: 4 * PAGE, lost: Some(1) }]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_found(
            groups in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6000), 1..5), 0..6),
        ) {
            let bytes = written(&groups);
            let found = scan(&bytes, &SALT, 0);
            prop_assert_eq!(payloads(&bytes, &found), groups.iter().flatten().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert!(found.damage.is_empty());
        }

        #[test]
        fn a_flipped_bit_costs_no_more_than_its_record(
            sizes in prop::collection::vec(1..3000_usize, 1..12), at in any::<prop::sample::Index>(), bit in 0..8_u32,
        ) {
            let groups: Vec<Vec<Vec<u8>>> = sizes.chunks(3).map(|g| g.iter().map(|n| vec![3; *n]).collect()).collect();
            let mut bytes = written(&groups);
            let whole = scan(&bytes, &SALT, 0).records;
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let found = scan(&bytes, &SALT, 0);
            let hit = |r: &&Found| (r.payload.start - RECORD_HEAD..r.payload.end).contains(&at);
            let kept: Vec<_> = whole.iter().filter(|r| !hit(r)).cloned().collect();
            prop_assert_eq!(found.records, kept);
            prop_assert_eq!(found.damage.len(), 1);
        }

        #[test]
        fn no_bytes_panic_or_become_records(bytes in prop::collection::vec(any::<u8>(), 0..20_000), first in any::<u64>()) {
            prop_assert!(scan(&bytes, &SALT, first).records.is_empty());
            let _ = Head::find(&bytes);
        }
    }
}

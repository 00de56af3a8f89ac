//! Starts on what a crash or a bad disk left.

use super::lossy::Lossy;
use super::{BOUNDS, id, open, payload};
use crate::event::Timestamp;
use crate::spool::format::PAGE;
use crate::spool::log;

/// Two segments, the second with these many entries in groups of three; the entries' ids count up.
fn written(disk: &Lossy, second: u64) {
    let mut parts = open(&disk.arc(), BOUNDS).unwrap();
    parts.log.commit(&[payload(0, 100), payload(1, 60_000)]).unwrap();
    let ids: Vec<u64> = (2..2 + second).collect();
    for group in ids.chunks(3) {
        parts.log.commit(&group.iter().map(|id| payload(*id, 700)).collect::<Vec<_>>()).unwrap();
    }
    assert_eq!(disk.names(), [log::name(0), log::name(1)]);
}

/// Ids found at a start, and whether damage was reported.
fn start(disk: &Lossy) -> (Vec<u64>, bool) {
    let mut parts = open(&disk.arc(), BOUNDS).unwrap();
    parts.reader.survey().unwrap();
    let all = parts.all();
    let status = parts.ledger.lock().status();
    assert_eq!(status.events, all.len() as u64);
    // It takes new ones whatever it found, and never in a segment that it found.
    assert_eq!(parts.log.commit(&[payload(1000, 9)]).unwrap()[0].segment, 2);
    assert_eq!(parts.all().len(), all.len() + 1);
    let damaged = status.damaged_bytes > 0 || status.lost_events > 0 || !status.set_aside.is_empty();
    (all.iter().map(|(_, payload)| id(payload)).collect(), damaged)
}

/// Where the payload of an entry begins in the newest segment.
fn place(bytes: &[u8], id: u64) -> usize {
    let wanted = payload(id, 700);
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

#[test]
fn cut_at_every_byte_of_its_end_it_keeps_what_came_before() {
    let disk = Lossy::new(1);
    written(&disk, 9);
    let whole = disk.bytes(&log::name(1));
    let end = place(&whole, 10) + 700;
    let ends: Vec<usize> = (2..11).map(|id| place(&whole, id) + 700).collect();
    for cut in end - PAGE..=end {
        let disk = Lossy::new(2);
        disk.foreign(&log::name(0), &[]);
        disk.foreign(&log::name(1), &whole[..cut]);
        let (found, damaged) = start(&disk);
        let kept = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(found, (2..2 + kept).collect::<Vec<_>>(), "cut at {cut}");
        // A cut between two records, or within the zeros behind them, leaves no trace.
        let rest = ends.iter().copied().filter(|end| *end <= cut).max().unwrap_or(0);
        assert_eq!(damaged, whole[rest..cut].iter().any(|byte| *byte != 0), "cut at {cut}");
    }
}

#[test]
fn one_flipped_byte_costs_one_entry_and_is_told() {
    let disk = Lossy::new(3);
    written(&disk, 9);
    let name = log::name(1);
    let whole = disk.bytes(&name);
    let begin = place(&whole, 2) - 20;
    let end = place(&whole, 10) + 700;
    for at in (begin..end).step_by(7).chain(end - 60..end) {
        let disk = Lossy::new(4);
        disk.foreign(&log::name(0), &[]);
        disk.foreign(&name, &whole);
        disk.tamper(&name, |bytes| bytes[at] ^= 0x10);
        let (found, damaged) = start(&disk);
        let hit = (2..11).find(|id| (place(&whole, *id) - 20..place(&whole, *id) + 700).contains(&at));
        assert_eq!(found, (2..11).filter(|id| Some(*id) != hit).collect::<Vec<_>>(), "byte {at}");
        assert!(damaged, "byte {at}");
    }
}

#[test]
fn a_damaged_segment_is_set_aside_once_drained() {
    let disk = Lossy::new(5);
    written(&disk, 9);
    let at = place(&disk.bytes(&log::name(1)), 5) + 3;
    disk.tamper(&log::name(1), |bytes| bytes[at] ^= 1);
    let mut parts = open(&disk.arc(), BOUNDS).unwrap();
    for (position, _) in parts.all() {
        parts.ledger.lock().acknowledged(position, Timestamp::default());
    }
    parts.log.tidy(true);
    assert_eq!(disk.names(), [log::aside(1)]);
    let status = parts.ledger.lock().status();
    assert_eq!((status.events, status.lost_events, status.bytes), (0, 1, 0));
    assert!(status.set_aside[0].reason.contains("1 events lost"), "{status:?}");
    let again = open(&disk.arc(), BOUNDS).unwrap();
    assert_eq!(again.ledger.lock().status().set_aside[0].file, log::aside(1));
}

#[test]
fn what_is_no_segment_stops_no_start() {
    let disk = Lossy::new(6);
    written(&disk, 3);
    let head = disk.bytes(&log::name(1))[..3 * PAGE].to_vec();
    for (name, bytes) in [
        (log::name(2), vec![]),
        (log::name(3), vec![0; 20 * PAGE]),
        (log::name(4), head[..PAGE].to_vec()),
        (log::name(5), vec![0x55; 20 * PAGE]),
        ("notes.txt".to_owned(), b"not ours".to_vec()),
        ("5.seg".to_owned(), b"nor this".to_vec()),
    ] {
        disk.foreign(&name, &bytes);
    }
    let mut parts = open(&disk.arc(), BOUNDS).unwrap();
    assert_eq!(parts.all().iter().map(|(_, p)| id(p)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let mut names = vec![log::name(0), log::name(1), log::aside(5), "5.seg".to_owned(), "notes.txt".to_owned()];
    names.sort();
    assert_eq!(disk.names(), names);
    assert_eq!(parts.log.commit(&[payload(9, 9)]).unwrap()[0].segment, 6);
}

/// What was left by a start that failed may be neither removed nor renamed: entries are taken and drained all the same.
#[test]
fn leftovers_that_stay_stop_no_start() {
    let disk = Lossy::new(9);
    written(&disk, 3);
    disk.foreign(&log::name(2), &[]);
    disk.foreign(&log::name(3), &vec![0x55; 20 * PAGE]);
    disk.arm(1.0, u64::MAX);
    let mut parts = open(&disk.arc(), BOUNDS).unwrap();
    disk.arm(0.0, u64::MAX);
    assert_eq!(parts.all().iter().map(|(_, p)| id(p)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(parts.ledger.lock().status().set_aside[0].file, log::name(3));
    assert_eq!(parts.log.commit(&[payload(9, 9)]).unwrap()[0].segment, 4);
    let again = open(&disk.arc(), BOUNDS).unwrap();
    assert_eq!(again.ledger.lock().status().set_aside[0].file, log::aside(3));
    assert!(!disk.names().contains(&log::name(2)));
}

#[test]
fn a_full_disk_or_spool_refuses_and_recovers() {
    let disk = Lossy::new(7);
    let mut parts = open(&disk.arc(), super::Bounds { max_size: 200 * 1024, ..BOUNDS }).unwrap();
    let mut taken = 0;
    let error = loop {
        match parts.log.commit(&[payload(taken, 3000)]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, crate::spool::SpoolError::Full { .. }), "{error}");
    assert!(taken > 30, "{taken}");
    assert!(parts.ledger.lock().status().failing.is_some());
    assert!(disk.names().iter().map(|name| disk.bytes(name).len()).sum::<usize>() <= 200 * 1024);
    for (position, _) in parts.all().into_iter().take(40) {
        parts.ledger.lock().acknowledged(position, Timestamp::default());
    }
    parts.log.tidy(false);
    parts.log.commit(&[payload(taken, 3000)]).unwrap();
    assert_eq!(parts.ledger.lock().status().failing, None);

    disk.arm(1.0, u64::MAX);
    let error = parts.log.commit(&[payload(taken + 1, 10)]).unwrap_err();
    assert!(matches!(error, crate::spool::SpoolError::NoRoom { .. } | crate::spool::SpoolError::Io { .. }), "{error}");
    assert!(parts.log.probe().is_err() && parts.ledger.lock().status().failing.is_some());
    disk.arm(0.0, u64::MAX);
    parts.log.probe().unwrap();
    assert_eq!(parts.ledger.lock().status().failing, None);
    let ids: Vec<u64> = parts.all().iter().map(|(_, p)| id(p)).collect();
    assert!(ids.is_sorted() && ids.contains(&taken), "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_told() {
    let parts = open(&Lossy::new(8).arc(), BOUNDS).unwrap();
    let failing = || parts.ledger.lock().status().failing;
    parts.ledger.lock().writing_since = Some(tokio::time::Instant::now());
    assert_eq!(failing(), None);
    tokio::time::advance(std::time::Duration::from_secs(4)).await;
    assert!(failing().is_some_and(|why| why.contains("has not answered for 3s")), "{:?}", failing());
}

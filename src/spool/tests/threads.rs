//! The whole spool, with its thread, on a real folder.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use crate::event::{Envelope, Evidence, Origin, Sha256, Timestamp};
use crate::spool::{OpenError, Options, Spool, SpoolError, inspect, look};

fn envelope(id: &str, body: Vec<u8>) -> Envelope {
    Envelope {
        event_id: id.to_owned(),
        source: "accbooks".to_owned(),
        event_type: "invoice.paid".to_owned(),
        occurred_at: None,
        received_at: Timestamp::parse("2026-05-02T09:14:03Z").unwrap(),
        content_type: Some("application/json".to_owned()),
        body_sha256: Sha256::of(&body),
        body: body.into(),
        unusable: None,
        test: Some("secret".to_owned()),
        evidence: Evidence { headers: BTreeMap::from([("a".into(), "b".into())]), ..Evidence::absent() },
        origin: Origin::Live,
    }
}

fn options(folder: &std::path::Path) -> Options {
    Options { folder: folder.join("deep/spool"), max_size: 64 << 20, segment_size: 8 << 20 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_together_is_read_back_and_an_idle_spool_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let spool = Arc::new(Spool::open(&options).unwrap());
    assert!(matches!(Spool::open(&options), Err(OpenError::Locked { .. })));
    let appends = (0..200).map(|n| {
        let spool = Arc::clone(&spool);
        tokio::spawn(async move { spool.append(&envelope(&format!("e{n}"), vec![1; n]), "00-trace").await.unwrap() })
    });
    let mut positions = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        positions.push(append.await.unwrap());
    }
    positions.sort();
    assert_eq!(positions.iter().map(|p| p.sequence).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    let status = spool.status();
    assert_eq!((status.events, status.segments, status.failing), (200, 1, None));
    assert_eq!(status.oldest_received_at.unwrap().to_string(), "2026-05-02T09:14:03.000000Z");
    for (path, mode) in [(options.folder.clone(), 0o700), (options.folder.join(format!("{:020}.seg", 0)), 0o600)] {
        let is = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(is & 0o777, mode, "{}", path.display());
    }
    let (seen, is_used) = look(&options.folder).unwrap();
    assert!(seen.events == 200 && is_used && seen.set_aside.is_empty(), "{seen:?}");
    let segment = fs::read(options.folder.join(format!("{:020}.seg", 0))).unwrap();
    let inspected = inspect(&segment).unwrap();
    assert!(inspected.records.len() == 200 && inspected.damage.is_empty(), "{inspected:?}");
    for (record, n) in inspected.records.iter().zip(0..) {
        assert!(record.sequence == n && record.entry.is_ok() && record.place.start >= inspected.start, "{record:?}");
    }
    assert!(inspect(&segment[..100]).is_none());
    let mut flipped = segment.clone();
    flipped[inspected.records[1].place.start] ^= 1;
    let damaged = inspect(&flipped).unwrap();
    assert_eq!(damaged.records.len(), 199);
    assert_eq!(damaged.damage, [(inspected.records[1].place.start..inspected.records[2].place.start, Some(1))]);
    drop(spool);

    let spool = Spool::open(&options).unwrap();
    let mut reader = spool.reader();
    reader.survey().unwrap();
    assert_eq!(spool.status().events, 200);
    let batch = reader.next_batch().unwrap().unwrap();
    let items: Vec<_> = batch.items().collect();
    assert_eq!(items.len(), 200);
    for item in items {
        let entry = item.entry.unwrap();
        let n: usize = entry.envelope.event_id[1..].parse().unwrap();
        assert_eq!(entry.envelope, envelope(&format!("e{n}"), vec![1; n]));
        assert_eq!(entry.traceparent, "00-trace");
        spool.acknowledged(item.position, item.received_at);
    }
    assert!(reader.next_batch().unwrap().is_none());
    spool.append(&envelope("last", vec![]), "").await.unwrap();
    let batch = reader.next_batch().unwrap().unwrap();
    batch.items().for_each(|item| spool.acknowledged(item.position, item.received_at));
    spool.close();
    assert_eq!(fs::read_dir(&options.folder).unwrap().count(), 0);
    assert_eq!(spool.append(&envelope("late", vec![]), "").await, Err(SpoolError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_drained_is_kept_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let spool = Spool::open(&options).unwrap();
    for id in ["bad", "good"] {
        spool.append(&envelope(id, vec![2; 100]), "").await.unwrap();
    }
    let too_large = spool.append(&envelope("large", vec![0; 5 << 20]), "").await;
    assert!(matches!(too_large, Err(SpoolError::TooLarge { .. })), "{too_large:?}");
    let batch = spool.reader().next_batch().unwrap().unwrap();
    let items: Vec<_> = batch.items().collect();
    for _ in 0..2 {
        spool.set_aside(items[0].position, items[0].received_at, "no such source");
    }
    spool.acknowledged(items[1].position, items[1].received_at);
    spool.close();
    let status = spool.status();
    assert!(status.events == 0 && status.set_aside[0].reason.contains("no such source"), "{status:?}");
    assert_eq!(status.undrainable, 1, "however often it was read");
    let names: Vec<_> = fs::read_dir(&options.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [format!("{:020}.seg.damaged", 0).as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_stands_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let spool = Spool::open(&options).unwrap();
    spool.append(&envelope("one", vec![1; 100]), "").await.unwrap();
    assert!(look(&options.folder).unwrap().1, "it is used");
    assert!(matches!(Spool::open(&options), Err(OpenError::Locked { .. })));
    drop(spool);
    assert!(!look(&options.folder).unwrap().1, "it is used no more");
    // Someone who looks holds it when the next process starts.
    let looking = fs::File::open(&options.folder).unwrap();
    looking.try_lock_shared().unwrap();
    assert!(!look(&options.folder).unwrap().1, "who else looks does not use it");
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| Spool::open(&options).map(drop));
        // Not given back before the other one has found it taken, mostly; it is right either way.
        std::thread::sleep(std::time::Duration::from_millis(30));
        looking.unlock().unwrap();
        opening.join().unwrap().unwrap();
    });
}

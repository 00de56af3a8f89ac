//! Markers in tables and in batches come to the same.

use std::time::Duration;

use super::super::super::identity::Identity;
use super::*;
use crate::event::{SeenState, Sha256};

fn open(folder: &std::path::Path) -> Store {
    Store::open(folder, &Identity::new("cluster", "seen.a", "1", 3), Duration::from_secs(3600)).unwrap()
}

fn seen(key: &str) -> Seen {
    Seen {
        state: SeenState::Routed,
        body_sha256: vec![Sha256::of(key.as_bytes())],
        first_routed_at: Timestamp::now(),
        record_topic: Some("invoices".to_owned()),
        record_key: Some(key.to_owned()),
        decided: Vec::new(),
    }
}

/// Ids 0 to `n` with their markers' offsets.
fn gather(store: &Store, filling: &mut Filling, partition: i32, n: usize, key: &str) {
    for id in 0..n {
        store.gather(filling, partition, format!("e{id}").as_bytes(), Marker::Seen(seen(key))).unwrap();
    }
    filling.reached(partition, i64::try_from(n).unwrap());
}

fn known(store: &Store, partition: i32, id: usize) -> Option<String> {
    store.get(partition, &format!("e{id}")).unwrap().and_then(|seen| seen.record_key)
}

#[test]
fn few_and_many_are_there_after_a_restart() {
    for n in [1, FEW, FEW + 1, 5 * FEW] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut filling = Filling::default();
        gather(&store, &mut filling, 1, n, "a");
        store.fill(&mut filling).unwrap();
        assert!(filling.entries.is_empty() && filling.bytes == 0 && filling.positions.is_empty());
        holds(&store, n);
        drop(store);
        holds(&open(folder.path()), n);
    }
}

fn holds(store: &Store, n: usize) {
    assert!((0..n).all(|id| known(store, 1, id).as_deref() == Some("a")), "{n}");
    assert_eq!((known(store, 1, n), known(store, 0, 0)), (None, None));
    assert_eq!((store.position(1).unwrap(), store.position(0).unwrap()), (i64::try_from(n).ok(), None));
}

#[test]
fn the_last_marker_of_an_id_counts_whether_it_came_in_a_batch_or_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let many = 2 * FEW;
    // In turns: each over the one before, in the same table too; then all are forgotten, and one comes back.
    for (n, keys) in [(many, ["a", "b"]), (10, ["c", "d"]), (many, ["e", "f"]), (10, ["g", "h"])] {
        let mut filling = Filling::default();
        keys.iter().for_each(|key| gather(&store, &mut filling, 0, n, key));
        store.fill(&mut filling).unwrap();
        assert!((0..n).all(|id| known(&store, 0, id).as_deref() == Some(keys[1])), "{keys:?}");
    }
    assert_eq!(known(&store, 0, many - 1).as_deref(), Some("f"));
    let mut filling = Filling::default();
    for id in 0..many {
        store.gather(&mut filling, 0, format!("e{id}").as_bytes(), Marker::Gone).unwrap();
    }
    store.gather(&mut filling, 0, b"e7", Marker::Seen(seen("i"))).unwrap();
    store.fill(&mut filling).unwrap();
    let left: Vec<usize> = (0..many).filter(|id| known(&store, 0, *id).is_some()).collect();
    assert_eq!((left, known(&store, 0, 7).as_deref()), (vec![7], Some("i")));
    drop(store);
    assert_eq!(known(&open(folder.path()), 0, 7).as_deref(), Some("i"));
}

#[test]
fn what_others_write_meanwhile_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    std::thread::scope(|scope| {
        for partition in [0, 1] {
            let store = &store;
            scope.spawn(move || {
                for round in 0..5 {
                    let mut filling = Filling::default();
                    gather(store, &mut filling, partition, 2 * FEW, &format!("{round}"));
                    store.fill(&mut filling).unwrap();
                }
            });
        }
        for id in 0..2000 {
            let id = format!("e{id}");
            store.write([(2, id.as_str(), Some(&seen("own")))], [(2, 1)]).unwrap();
        }
    });
    let whole = |store: &Store| {
        assert!(
            (0..2 * FEW).all(|id| [0, 1].iter().all(|partition| known(store, *partition, id).as_deref() == Some("4")))
        );
        assert!((0..2000).all(|id| known(store, 2, id).as_deref() == Some("own")));
    };
    whole(&store);
    drop(store);
    whole(&open(folder.path()));
}

#[test]
fn it_is_full_by_the_bytes_that_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut filling = Filling::default();
    let value = || Marker::Framed(Framed { at: Timestamp::now(), value: vec![0; 1 << 20] });
    let gathered =
        std::iter::from_fn(|| (!filling.is_full()).then(|| store.gather(&mut filling, 0, b"e", value()).unwrap()));
    assert_eq!(gathered.count(), 16);
}

//! A store survives restarts, refuses what is not its own, and finds changed bytes.

use super::*;
use crate::event::{SeenState, Sha256};

const WINDOW: Duration = Duration::from_secs(3600);

fn identity() -> Identity {
    Identity::new("cluster", "seen.a", "1", 3)
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(folder, &identity(), WINDOW)
}

fn seen(n: u64) -> Seen {
    Seen {
        state: SeenState::Routed,
        body_sha256: vec![Sha256::of(&n.to_be_bytes())],
        first_routed_at: Timestamp::now(),
        record_topic: Some("invoices".to_owned()),
        record_key: Some(format!("a/{n}")),
        decided: Vec::new(),
    }
}

/// Ids 0 to `n` in batches of ten, each with the offset behind it.
fn fill(store: &Store, n: u64) {
    for first in (0..n).step_by(10) {
        let ids: Vec<(String, Seen)> = (first..first + 10).map(|n| (format!("e{n}"), seen(n))).collect();
        let next = i64::try_from(first + 10).unwrap();
        store.write(ids.iter().map(|(id, seen)| (0, id.as_str(), Some(seen))), [(0, next)]).unwrap();
    }
}

/// Every id before the offset is there: what is not there is read again from the offset on.
fn is_whole(store: &Store) -> Result<i64, StoreError> {
    let next = store.position(0)?.unwrap_or(0);
    for n in 0..next {
        assert!(store.get(0, &format!("e{n}"))?.is_some(), "e{n} is missing, and the offset is {next}");
    }
    Ok(next)
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(store.position(0).unwrap(), None);
    fill(&store, 100);
    store.write([], [(2, 7)]).unwrap();
    drop(store);
    let store = open(folder.path()).unwrap();
    assert_eq!(is_whole(&store).unwrap(), 100);
    assert_eq!((store.position(1).unwrap(), store.position(2).unwrap()), (None, Some(7)));
    assert_eq!(store.get(0, "e5").unwrap().unwrap().record_key.as_deref(), Some("a/5"));
    assert_eq!(store.get(1, "e5").unwrap(), None);
}

#[test]
fn a_store_of_something_else_is_refused_and_can_be_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a");
    drop(open(&folder).unwrap());
    for other in [
        Identity::new("other", "seen.a", "1", 3),
        Identity::new("cluster", "seen.b", "1", 3),
        Identity::new("cluster", "seen.a", "2", 3),
        Identity::new("cluster", "seen.a", "1", 4),
    ] {
        let Err(error) = Store::open(&folder, &other, WINDOW) else { panic!("{other:?} was taken") };
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        assert_eq!(error.distrusted(), Some(folder.as_path()));
    }
    std::fs::remove_file(folder.join("identity")).unwrap();
    assert!(matches!(open(&folder), Err(StoreError::Damaged { .. })));
    set_aside(&folder).unwrap();
    set_aside(&folder).unwrap();
    assert_eq!(open(&folder).unwrap().position(0).unwrap(), None);
}

use super::super::identity::set_aside;

/// Whatever byte is changed: the store is refused, or what it says is a state it once had.
#[test]
fn flipped_bytes_are_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let store = open(&whole).unwrap();
    fill(&store, 400);
    store.ids.rotate_memtable_and_wait().unwrap();
    fill(&store, 600);
    drop(store);
    let mut files: Vec<PathBuf> = Vec::new();
    walk(&whole, &mut files);
    let (mut refused, mut served) = (0, 0);
    for (number, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).unwrap();
        let steps = 12.min(bytes.len());
        for step in 0..steps {
            let copy = folder.path().join(format!("{number}-{step}"));
            copy_all(&whole, &copy);
            let mut changed = bytes.clone();
            changed[bytes.len() * step / steps] ^= 1 << (step % 8);
            std::fs::write(copy.join(file.strip_prefix(&whole).unwrap()), &changed).unwrap();
            match open(&copy).and_then(|store| is_whole(&store)) {
                Ok(_) => served += 1,
                Err(_) => refused += 1,
            }
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn copy_all(from: &Path, to: &Path) {
    let mut files = Vec::new();
    walk(from, &mut files);
    for file in files {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, &target).unwrap();
    }
    // Folders without files.
    std::fs::create_dir_all(to.join("ids")).unwrap();
}

#[test]
fn ids_past_their_window_leave_when_tables_are_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &identity(), Duration::from_secs(60)).unwrap();
    let old = Seen { first_routed_at: Timestamp::from_micros(1), ..seen(1) };
    store.write([(0, "old", Some(&old)), (0, "new", Some(&seen(2)))], [(0, 2)]).unwrap();
    assert!(store.get(0, "old").unwrap().is_some(), "how old an id may be is not the store's to say");
    store.ids.rotate_memtable_and_wait().unwrap();
    store.ids.major_compact().unwrap();
    assert_eq!(store.get(0, "old").unwrap(), None);
    assert!(store.get(0, "new").unwrap().is_some());
    assert_eq!(store.position(0).unwrap(), Some(2));
}

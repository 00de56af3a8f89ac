//! Replays by every idempotency class, at a system that counts its documents.

use std::sync::Mutex;

use super::*;
use crate::common::books::{Books, CLASSES, Mood};

const GOOD: &str = "evt-good-0000";
/// Nothing was done with this one, and its answer says so.
const REFUSED: &str = "evt-refused-0000";
/// This one became a document, and its answer says that it did not.
const LIED: &str = "evt-lied-0000";
const MORE: &str = r#"retry = { first = "100ms", max = "400ms", give_up_after = "1h" }"#;

fn deliverer(installation: &Installation) -> Process {
    Process::start(&installation.file(), &["run", "--role", "delivery"], &[])
}

async fn until_waiting(installation: &Installation, count: usize) {
    for _ in 0..120 {
        if waiting(installation).await.len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{:?} wait, not {count}", waiting(installation).await);
}

/// What is at each class's target of this record: documents, requests that wrote it, requests that looked for it.
fn counts(books: &Books, id: &str) -> Vec<(usize, usize, usize)> {
    CLASSES.map(|class| books.of(class, |book| book.of(id))).to_vec()
}

/// This operation had each record delivered to this class's target, by one try that ended well.
fn assert_delivered_by(attempts: &[Attempt], (operation, class): (&str, &str), ids: &[&str]) {
    for id in ids {
        let theirs = attempts.iter().filter(|attempt| {
            attempt.replay_id.as_deref() == Some(operation) && attempt.target == class && attempt.event_id == *id
        });
        let well = [AttemptOutcome::Delivered, AttemptOutcome::Duplicate];
        let ends = theirs.filter(|attempt| well.contains(&attempt.outcome)).count();
        assert_eq!(ends, 1, "{id} at {class} by operation {operation}");
    }
}

/// The dead letter of each record at each target is settled as delivered, by one of these operations.
async fn assert_settled_by(installation: &Installation, operations: &[String], ids: &[&str]) {
    let letters = dead_letters(installation).await;
    for (class, id) in CLASSES.iter().flat_map(|class| ids.iter().map(move |id| (*class, *id))) {
        let theirs: Vec<&DeadLetter> =
            letters.iter().filter(|letter| letter.target == class && letter.event_id == id).collect();
        assert_eq!(theirs.iter().filter(|letter| letter.settled.is_none()).count(), 1, "{id} at {class}");
        let settled: Vec<&&DeadLetter> = theirs.iter().filter(|letter| letter.settled.is_some()).collect();
        assert!(!settled.is_empty(), "{id} at {class}");
        for letter in settled {
            assert_eq!(letter.settled.as_deref(), Some("delivered"));
            assert!(letter.replay_id.as_ref().is_some_and(|id| operations.contains(id)), "{letter:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_its_repeat_make_one_document_in_each_class() {
    let mended = Arc::new(AtomicBool::new(false));
    let books = {
        let mended = Arc::clone(&mended);
        Books::open(move |_, id| match id {
            REFUSED if !mended.load(Ordering::SeqCst) => Mood::Refuses,
            LIED if !mended.load(Ordering::SeqCst) => Mood::WorksAndRefuses,
            _ => Mood::Fine,
        })
        .await
    };
    let folder = tempfile::tempdir().unwrap();
    let installation = install(&books.targets(folder.path(), MORE)).await;
    let program = deliverer(&installation);
    produce(&installation, [invoice("refused", 0), invoice("good", 0), invoice("lied", 0)]).await;
    eventually("good ones arrive", || counts(&books, GOOD) == [(1, 1, 0); 4]).await;
    until_waiting(&installation, 2 * CLASSES.len()).await;
    assert_eq!((counts(&books, REFUSED), counts(&books, LIED)), (vec![(0, 1, 0); 4], vec![(1, 1, 0); 4]));

    // While nobody delivers, so that the second replay is asked for before the first is over.
    program.kill();
    mended.store(true, Ordering::SeqCst);
    let mut operations = Vec::new();
    for _ in 0..2 {
        let (operation, events) = operation(&installation, &["dlq", "replay", "--all"]).await;
        assert_eq!(events, 2 * CLASSES.len() as u64);
        operations.push(operation);
    }
    let program = deliverer(&installation);
    until_none_waits(&installation).await;
    let none = cli(&installation, &["dlq", "replay", "--all", "--yes"]).await;
    assert_eq!(none.code, Some(1), "{none:?}");

    // And once more, of what is delivered.
    let mut again = Vec::new();
    for class in CLASSES {
        let (operation, events) = operation(&installation, &["replay", "--target", class, REFUSED, LIED]).await;
        assert_eq!(events, 2, "{class}");
        again.push((operation, class));
    }
    // What is in doubt is looked for where that is how the class repeats; it is sent where the target knows its own, and
    // found out about behind a refusal.
    let (refused, lied) = ([(1, 4, 0), (1, 2, 3), (1, 2, 3), (1, 4, 2)], [(1, 4, 0), (1, 1, 3), (1, 1, 3), (1, 4, 3)]);
    eventually("all replays are over", || counts(&books, REFUSED) == refused && counts(&books, LIED) == lied).await;
    program.terminate();
    drop(program.ended().await);

    assert_eq!((counts(&books, REFUSED), counts(&books, LIED)), (refused.to_vec(), lied.to_vec()));
    assert!(counts(&books, GOOD).iter().all(|(documents, ..)| *documents == 1), "{:?}", counts(&books, GOOD));
    let attempts = attempts(&installation).await;
    let by_class = operations.iter().flat_map(|operation| CLASSES.map(|class| (operation.clone(), class)));
    for (operation, class) in by_class.chain(again) {
        assert_delivered_by(&attempts, (&operation, class), &[REFUSED, LIED]);
    }
    assert_settled_by(&installation, &operations, &[REFUSED, LIED]).await;
}

/// Everything that may befall a request befalls replays too, and their deliverer is killed in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_through_faults_and_kills_makes_one_document_in_each_class() {
    const RECORDS: usize = 40;
    let mended = Arc::new(AtomicBool::new(false));
    let books = {
        let (mended, rng) = (Arc::clone(&mended), Mutex::new(SmallRng::seed_from_u64(7)));
        Books::open(move |_, _| match rng.lock().unwrap().random_range(0..10) {
            _ if !mended.load(Ordering::SeqCst) => Mood::Refuses,
            0..6 => Mood::Fine,
            6 => Mood::Fails,
            7 => Mood::WorksAndFails,
            8 => Mood::WorksAndCuts,
            _ => Mood::Cuts,
        })
        .await
    };
    let folder = tempfile::tempdir().unwrap();
    let installation = install(&books.targets(folder.path(), MORE)).await;
    let program = deliverer(&installation);
    let records: Vec<InvoiceRecord> = (0..RECORDS).map(|n| invoice(&format!("lost-{n:02}"), 0)).collect();
    let ids: Vec<String> = records.iter().map(|record| record.event_id.clone()).collect();
    produce(&installation, records).await;
    let all = RECORDS * CLASSES.len();
    until_waiting(&installation, all).await;
    program.kill();
    mended.store(true, Ordering::SeqCst);
    let mut operations = Vec::new();
    for _ in 0..2 {
        let (operation, events) = operation(&installation, &["dlq", "replay", "--all", "--rate", "20"]).await;
        assert_eq!(events, all as u64);
        operations.push(operation);
    }
    let mut program = deliverer(&installation);
    for kill in 1..=3 {
        eventually("some more are made", || books.made() >= all * kill / 4).await;
        program.kill();
        program = deliverer(&installation);
    }
    // Both replays are over: each settles what it was asked for, also where the other has done so.
    let mut settled = 0;
    for _ in 0..120 {
        settled = dead_letters(&installation).await.iter().filter(|letter| letter.settled.is_some()).count();
        if settled == 2 * all {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!((settled, waiting(&installation).await.len(), books.made()), (2 * all, 0, all));
    for class in CLASSES {
        books.of(class, |book| assert_eq!(book.doubled(), Vec::<&str>::new(), "{class}"));
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let attempts = attempts(&installation).await;
    for (operation, class) in operations.iter().flat_map(|operation| CLASSES.map(|class| (operation, class))) {
        assert_delivered_by(&attempts, (operation, class), &ids);
    }
    assert_settled_by(&installation, &operations, &ids).await;
}

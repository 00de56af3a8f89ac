//! A deliverer that dies between any two of its writes, and between a write and a request, against a system that counts
//! its documents: what had reached it is not made again, by any idempotency class, and nothing is left out.

use super::once::{assert_whole, deliverer_at};
use super::*;
use crate::common::books::{Books, CLASSES, Mood};
use crate::common::within;

/// Where it dies.
const STEPS: [&str; 6] = [
    "delivery.before_send",
    "delivery.after_send",
    "delivery.after_rows",
    "delivery.after_offsets",
    "transaction.before_commit",
    "delivery.after_commit",
];
/// Records of each of the keys, for one death.
const EACH: usize = 2;
const KEYS: usize = 30;
/// Of those, the ones whose records fail now and then: they park, with all that follows.
const FAILING: std::ops::Range<usize> = 0..6;
const MORE: &str = "max_concurrency = 16\nretry = { first = \"100ms\", max = \"1s\", give_up_after = \"6h\" }";

/// Dies this often at each step, each time later or sooner.
async fn deaths(each: usize) {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let books = Books::open(move |_, id| {
        let failing = FAILING.map(|key| format!("inv-{key:02}")).any(|key| id.contains(&key));
        match turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 12 {
            0 if failing => Mood::Fails,
            1 if failing => Mood::WorksAndFails,
            2 if failing => Mood::WorksAndCuts,
            _ => Mood::Fine,
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let installation = install(&books.targets(folder.path(), MORE)).await;
    let mut records = 0;
    for round in 0..each {
        for (n, step) in STEPS.iter().enumerate() {
            let (from, to) = (records / KEYS, records / KEYS + EACH);
            let rows = (from..to).flat_map(|n| (0..KEYS).map(move |key| invoice(&format!("inv-{key:02}"), n)));
            produce(&installation, rows).await;
            records += EACH * KEYS;
            // The first steps come with each request, the others with each transaction.
            let times = if n < 2 { 1 + (round * 37 + n * 11) % 90 } else { 1 + (round * 7 + n * 3) % 12 };
            let began = tokio::time::Instant::now();
            let ended = deliverer_at(&installation, 0, &format!("{step}:{times}")).ended().await;
            assert_eq!(ended.code, None, "died of itself at {step}:{times}\n{}", ended.stderr);
            println!(
                "{step}:{times} after {:?}, {} of {} documents",
                began.elapsed(),
                books.made(),
                records * CLASSES.len()
            );
        }
    }
    let began = tokio::time::Instant::now();
    let last = deliverer_at(&installation, 0, "");
    // Keys that fail come to little in lives as short as these: what is left of them grows with the deaths.
    let bound = 120 + 30 * u64::try_from(each).unwrap();
    within(bound, "all have a document", || books.made() == records * CLASSES.len()).await;
    println!("the rest after {:?}", began.elapsed());
    // What is in doubt at the end is looked for, and would double now.
    within(60, "nothing is under way", || CLASSES.iter().all(|class| books.of(class, |book| book.in_flight == 0)))
        .await;
    last.terminate();
    drop(last.ended().await);
    assert_whole(&installation, &books, records).await;
    for class in CLASSES {
        books.of(class, |book| assert_eq!(book.doubled(), Vec::<&str>::new(), "{class}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deliverer_that_dies_between_any_two_writes_doubles_nothing() {
    deaths(2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_deaths_of_a_deliverer_between_any_two_writes() {
    deaths(20).await;
}

/// It had said that it might send a thousand records more of each partition. Those that are written when it can send nothing
/// any more are sent as all others are, by the classes that look too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_a_death_is_not_looked_for() {
    let books = Books::open(|_, _| Mood::Fine).await;
    let folder = tempfile::tempdir().unwrap();
    let installation = install(&books.targets(folder.path(), MORE)).await;
    let entity = |key: usize| format!("inv-{key:02}");
    let round = async |n: usize| {
        produce(&installation, (0..KEYS).map(|key| invoice(&entity(key), n))).await;
        eventually("all have a document", || books.made() == (n + 1) * KEYS * CLASSES.len()).await;
    };
    // Requests that wrote the records of a round, and those that looked for one of them.
    let requests = |n: usize| {
        let ids: Vec<String> = (0..KEYS).map(|key| invoice(&entity(key), n).event_id).collect();
        let of = |class| books.of(class, |book| ids.iter().map(|id| book.of(id)).collect::<Vec<_>>());
        let all: Vec<(usize, usize, usize)> = CLASSES.into_iter().flat_map(of).collect();
        (all.iter().map(|of| of.1).sum::<usize>(), all.iter().map(|of| of.2).sum::<usize>())
    };
    let once = (KEYS * CLASSES.len(), 0);
    let first = deliverer_at(&installation, 0, "");
    round(0).await;
    assert_eq!(requests(0), once);
    first.kill();
    let second = deliverer_at(&installation, 0, "");
    round(1).await;
    assert!(requests(1).1 > 0, "its predecessor might be alive, and have sent them");
    let mut n = 1;
    while requests(n).1 > 0 {
        assert!(n < 8, "{} requests looked for the records of round {n}", requests(n).1);
        n += 1;
        round(n).await;
    }
    println!("in no doubt from round {n} on");
    round(n + 1).await;
    assert_eq!(requests(n + 1), once);
    second.terminate();
    drop(second.ended().await);
    assert_whole(&installation, &books, (n + 2) * KEYS).await;
    for class in CLASSES {
        books.of(class, |book| assert_eq!(book.doubled(), Vec::<&str>::new(), "{class}"));
    }
}

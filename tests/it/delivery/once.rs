//! Once at the target, by every idempotency class at the same time: faults, kills and freezes against a system that
//! counts its documents.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::*;
use crate::common::books::{Books, CLASSES, LATE, Mood};
use crate::common::process::Process;
use crate::common::within;

const SEED: u64 = 20_261_122;
/// Between two words of how far a run is.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Records of each key.
const EACH: usize = 20;
const MORE: &str = "max_concurrency = 48\nretry = { first = \"100ms\", max = \"2s\", give_up_after = \"6h\" }";

/// Everything that may befall a request, in shuffled order.
fn shuffled(roll: u32) -> Mood {
    match roll {
        0..8_600 => Mood::Fine,
        8_600..8_800 => Mood::Slow(Duration::from_millis(300)),
        8_800..9_100 => Mood::Fails,
        9_100..9_300 => Mood::WorksAndFails,
        9_300..9_500 => Mood::Cuts,
        9_500..9_800 => Mood::WorksAndCuts,
        9_800..9_890 => Mood::Hangs,
        9_890..9_998 => Mood::WorksLate(LATE),
        _ => Mood::Busy,
    }
}

fn deliverer(installation: &Installation, n: usize) -> Process {
    deliverer_at(installation, n, "")
}

/// A deliverer that dies at this failpoint.
pub(super) fn deliverer_at(installation: &Installation, n: usize, failpoint: &str) -> Process {
    let home = installation.data_dir.path().join(format!("home-{n}")).display().to_string();
    let settings = [("LEDGERHOOK__DATA_DIR", home.as_str()), ("LEDGERHOOK_FAILPOINT", failpoint)];
    Process::start(&installation.file(), &["run", "--role", "delivery"], &settings)
}

/// Nothing is missing, nothing came out of order, nothing is given up.
pub(super) async fn assert_whole(installation: &Installation, books: &Books, records: usize) {
    for class in CLASSES {
        books.of(class, |book| {
            println!("{class}: {} writes for {records} records, {} doubled", book.writes, book.doubled().len());
            assert_eq!(book.len(), records, "{class}");
            assert_eq!(book.inversions, Vec::<String>::new(), "{class}, seed {SEED}");
        });
    }
    assert_eq!(dead_letters(installation).await, []);
}

/// Writes the records of the storm: those side by side are of different keys.
async fn feed(installation: &Installation, records: usize) {
    let keys = records / EACH;
    let cluster = &installation.ground.cluster;
    let producer = Producer::new(cluster, Duration::from_secs(60), Duration::from_millis(5)).unwrap();
    let encoder = installation.encoders.of("invoices").unwrap();
    let rows = dealt(keys, records).into_iter().map(|invoice| Outgoing {
        topic: cluster.topic("invoices"),
        partition: None,
        key: format!("{}/{}", invoice.source, invoice.entity_id).into_bytes(),
        value: encoder.encode(&invoice).unwrap(),
        headers: Headers::default(),
        timestamp_ms: None,
    });
    let rows: Vec<Outgoing> = rows.collect();
    for together in rows.chunks(keys) {
        for written in futures::future::join_all(together.iter().map(|row| producer.send(row))).await {
            written.unwrap();
        }
    }
}

/// A run against the books, and how far it is.
struct Storm<'a> {
    installation: &'a Installation,
    books: &'a Books,
    /// Of each class.
    records: usize,
    began: Instant,
    /// All of it has to be over by then.
    deadline: Instant,
}

impl Storm<'_> {
    fn all(&self) -> usize {
        self.records * CLASSES.len()
    }

    /// Says how far it is, also where the output of tests is kept back: a long one is watched.
    fn tell(&self, what: &str) {
        let made = CLASSES.map(|class| self.books.of(class, |book| format!("{class} {}/{}", book.len(), book.writes)));
        let told = format!("{:4} s: {what}; documents/writes: {}", self.began.elapsed().as_secs(), made.join(", "));
        drop(writeln!(std::io::stderr(), "{told}"));
    }

    /// Waits until that many documents are there.
    async fn until(&self, made: usize, what: &str) {
        let mut told = Instant::now();
        while self.books.made() < made {
            assert!(Instant::now() < self.deadline, "not in time: {what}, {} of {made} made", self.books.made());
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                self.tell(what);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills or stops deliverers, one after the other, always when some more is made.
    async fn kill(&self, mut deliverers: Vec<Option<Process>>, kills: usize) -> Vec<Option<Process>> {
        let mut rng = SmallRng::seed_from_u64(SEED + 1);
        for kill in 0..kills {
            self.until(self.all() * (kill + 1) / (kills + 2), "until the next kill").await;
            let which = rng.random_range(0..3);
            let how = match deliverers[which].take() {
                None => "is away",
                // Told to stop, it hands over; killed, it does not.
                Some(told) if rng.random_bool(0.2) => {
                    told.terminate();
                    drop(told.ended().await);
                    "stopped"
                }
                Some(killed) => {
                    killed.kill();
                    "killed"
                }
            };
            // One that stays away loses its partitions to the others.
            let back = rng.random_bool(0.7) || deliverers.iter().all(Option::is_none);
            if back {
                deliverers[which] = Some(deliverer(self.installation, which));
            }
            let then = if back { "started again" } else { "left away" };
            self.tell(&format!("{} of {kills}: deliverer {which} {how}, {then}", kill + 1));
        }
        deliverers
    }
}

/// Three deliverers, killed or told to stop one after the other, some staying away for longer than a session.
async fn storm(records: usize, kills: usize, bound: Duration) {
    let rng = Mutex::new(SmallRng::seed_from_u64(SEED));
    let calm = std::sync::Arc::new(AtomicBool::new(false));
    let books = {
        let calm = std::sync::Arc::clone(&calm);
        Books::open(move |_, _| {
            let roll = rng.lock().unwrap().random_range(0..10_000);
            if calm.load(Ordering::SeqCst) { Mood::Fine } else { shuffled(roll) }
        })
        .await
    };
    let folder = tempfile::tempdir().unwrap();
    let installation = install(&books.targets(folder.path(), MORE)).await;
    let (began, deadline) = (Instant::now(), Instant::now() + bound);
    let storm = Storm { installation: &installation, books: &books, records, began, deadline };
    let deliverers = (0..3).map(|n| Some(deliverer(&installation, n))).collect();
    let (mut deliverers, ()) = tokio::join!(storm.kill(deliverers, kills), feed(&installation, records));
    for (n, gone) in deliverers.iter_mut().enumerate() {
        gone.get_or_insert_with(|| deliverer(&installation, n));
    }
    storm.until(storm.all(), "until all have a document").await;
    storm.tell("all have a document");
    // What is under way or in doubt ends, and would double now.
    calm.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(8)).await;
    drop(deliverers);
    assert_whole(&installation, &books, records).await;
    for class in CLASSES {
        books.of(class, |book| assert_eq!(book.doubled(), Vec::<&str>::new(), "{class}, seed {SEED}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_class_makes_one_document_in_order_through_faults_and_kills() {
    storm(400, 3, Duration::from_secs(240)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_each_class_makes_one_document_in_order_through_faults_and_kills() {
    // Of each of the four classes.
    storm(12_500, 40, Duration::from_secs(840)).await;
}

/// A deliverer stands still in the middle of its sends for longer than its session, and another takes over. What it had
/// written to its connections arrives, what it had not it may still write: only where looking up is all that the target
/// offers can that make a second document, and of no more than was under way.
async fn frozen(rounds: usize, at_least: Duration) {
    const AT_ONCE: usize = 24;
    let books = Books::open(|_, _| Mood::Slow(Duration::from_millis(200))).await;
    let folder = tempfile::tempdir().unwrap();
    let more =
        format!("max_concurrency = {AT_ONCE}\nretry = {{ first = \"100ms\", max = \"1s\", give_up_after = \"6h\" }}");
    let installation = install(&books.targets(folder.path(), &more)).await;
    let first = deliverer(&installation, 0);
    let mut records = 0;
    let mut second = None;
    for round in 0..rounds {
        // As many of every key in each round.
        let (from, to) = (round * 30, (round + 1) * 30);
        produce(&installation, (from..to).flat_map(|n| (0..40).map(move |key| invoice(&format!("inv-{key:02}"), n))))
            .await;
        records += 1200;
        let before = books.made();
        within(120, "some are made", || books.made() >= before + 600).await;
        first.signal("-STOP");
        let (standing, since) = (books.made(), Instant::now());
        second.get_or_insert_with(|| deliverer(&installation, 1));
        // The other has all partitions when everything is made.
        within(180, "the other makes the rest", || books.made() == records * CLASSES.len()).await;
        assert!(standing < books.made(), "it was frozen in the middle");
        tokio::time::sleep_until(since + at_least).await;
        first.signal("-CONT");
        // It finds out that it has nothing any more, and comes back as a member.
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
    drop((first, second));
    for class in CLASSES {
        books.of(class, |book| {
            let (doubled, late) = (book.doubled().len(), book.inversions.len());
            println!("{class}: {} writes for {records} records, {doubled} doubled, {late} came late", book.writes);
            assert_eq!(book.len(), records, "{class}");
            assert!(doubled == 0 || class == "lookup", "{class}: {:?}", book.doubled());
            assert!(doubled <= rounds * AT_ONCE && late <= rounds * AT_ONCE, "{class}: {:?}", book.inversions);
            assert!(book.most_in_flight <= 2 * AT_ONCE, "{class}: {} at a time", book.most_in_flight);
        });
    }
    assert_eq!(dead_letters(&installation).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_deliverer_leaves_no_more_than_what_it_was_sending() {
    frozen(1, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_frozen_deliverers_leave_no_more_than_what_they_were_sending() {
    frozen(3, Duration::from_secs(60)).await;
}

/// A target that does nothing with a request until ten seconds after our timeout, and then acts. Each record's first write
/// is such a one.
async fn late(settle: Duration) -> [(usize, usize); 4] {
    const AFTER: Duration = Duration::from_secs(10);
    const RECORDS: usize = 40;
    let seen: Mutex<BTreeSet<(String, String)>> = Mutex::default();
    let books = Books::open(move |class, id| {
        let first = seen.lock().unwrap().insert((class.to_owned(), id.to_owned()));
        if first { Mood::WorksLate(AFTER) } else { Mood::Fine }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let more = "max_concurrency = 64\nretry = { first = \"100ms\", max = \"500ms\", give_up_after = \"6h\" }";
    let installation = install(&books.targets_that_settle(settle, folder.path(), more)).await;
    produce(&installation, (0..RECORDS).map(|key| invoice(&format!("inv-{key:02}"), 0))).await;
    let role = start(&installation);
    let all = RECORDS * CLASSES.len();
    let ended = || {
        let count = |class: &&str, outcome: &&str| {
            installation.metrics.delivery_attempts.with_label_values(&[class, outcome]).get()
        };
        let good = CLASSES.iter().flat_map(|class| ["delivered", "duplicate"].map(|outcome| count(class, &outcome)));
        usize::try_from(good.sum::<u64>()).unwrap()
    };
    within(60, "all are delivered", || ended() == all).await;
    // Until the last of the late ones has acted.
    tokio::time::sleep(AFTER + Duration::from_secs(3)).await;
    stop(&installation, role).await;
    assert_eq!(dead_letters(&installation).await, []);
    CLASSES.map(|class| {
        books.of(class, |book| {
            assert_eq!((book.len(), book.inversions.len()), (RECORDS, 0), "{class}");
            (book.doubled().len(), book.writes)
        })
    })
}

/// What a repeat costs where the target acts long after it was given up, by its class: nothing where it says truly how long
/// it may take, and one more document only where looking is all that it offers and it acts later than it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_acts_ten_seconds_after_our_timeout_doubles_where_it_said_otherwise() {
    let (truly, falsely) = tokio::join!(late(Duration::from_secs(14)), late(Duration::from_secs(4)));
    for (class, ((doubled, writes), (doubled_then, _))) in CLASSES.iter().zip(truly.into_iter().zip(falsely)) {
        println!("{class}: {writes} writes; {doubled} doubled, {doubled_then} where it acts later than it says");
        assert_eq!(doubled, 0, "{class}");
        assert!(if *class == "lookup" { doubled_then > 0 } else { doubled_then == 0 }, "{class}: {doubled_then}");
    }
}

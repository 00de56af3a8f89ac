//! Kafka, a target and some deliverers as a model: what is committed is committed whole, everything else can be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::flight::{Fate, Flight, verdict};
use super::store::{Batch, Sealed, Store};
use super::target::Target;
use crate::config::{OnGiveUp, OnStale, Retry};
use crate::delivery::engine::{Engine, Rules};
use crate::delivery::lane::{Allowance, Fetch, Go, Lane, Limits, Seat, Try};
use crate::delivery::latest::Latest;
use crate::delivery::room::Asked;
use crate::delivery::schedule::Policy;
use crate::delivery::tally::{Tally, Weigh};
use crate::event::{AttemptOutcome, Timestamp};
use crate::kafka::group::Partition;
use crate::targets::{Idempotency, Reason, Scope, Verdict};

/// Longest a request takes.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest the target may act after a request began.
pub(super) const SETTLE: Duration = Duration::from_secs(20);
/// How long the target remembers keys.
pub(super) const VALIDITY: Duration = Duration::from_secs(40);
/// How long a limit that is used up takes to be full again.
pub(super) const LIMIT: Duration = Duration::from_secs(3);
pub(super) const MAX_IN_FLIGHT: usize = 6;
pub(super) const PARTITIONS: usize = 3;
pub(super) const NODES: usize = 3;
pub(super) const KEYS: Key = 6;
/// What is still on the wire when a process is killed arrives within this time.
pub(super) const WIRE: Duration = Duration::from_millis(100);

/// A record's key.
pub(super) type Key = u16;

/// Partition and index of a record.
pub(super) type Id = (usize, usize);

/// What is delivered: a record as it came, or as a replay asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Job {
    pub(super) id: Id,
    /// Index in the partition's redeliveries.
    pub(super) again: Option<usize>,
}

impl Weigh for Job {
    fn bytes(&self) -> usize {
        1 + self.id.1 % 5
    }
}

/// A redelivery as it stands in its topic: a record's index, and whether it goes though it is stale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) offset: i64,
    pub(super) index: usize,
    pub(super) allow_stale: bool,
    pub(super) tried: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) key: Key,
    pub(super) poisoned: bool,
    pub(super) at: Instant,
}

pub(super) struct Node {
    pub(super) engine: Engine<Job>,
    pub(super) latest: Latest,
    /// How many processes it has been.
    pub(super) incarnation: u64,
    pub(super) generation: u64,
    pub(super) owned: BTreeSet<usize>,
    pub(super) read_to: [i64; PARTITIONS],
    /// The same of redeliveries.
    pub(super) again_to: [i64; PARTITIONS],
    pub(super) batch: Batch,
    pub(super) sealed: Option<Sealed>,
    pub(super) fetches: Vec<Fetch>,
    pub(super) frozen: bool,
    /// Until when it goes on sending, unaware that others have its partitions.
    pub(super) deaf: Option<Instant>,
    /// Whether it has to prove its membership before it sends.
    pub(super) unproven: bool,
    pub(super) not_before: Instant,
    pub(super) window: Option<Instant>,
}

/// What happened, for the tests of the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) tries: usize,
    pub(super) repeats: usize,
    pub(super) look_ups: usize,
    pub(super) parked: usize,
    pub(super) fetches: usize,
    pub(super) dead: usize,
    pub(super) crashes: usize,
    pub(super) zombies: usize,
    pub(super) again: usize,
    pub(super) stale: usize,
    pub(super) looked: usize,
    /// Records that a deposed node sent, and that were written when others had its partitions.
    pub(super) unaware: usize,
    /// Ends of partitions that were asked for.
    pub(super) ends: usize,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.tries += other.tries;
        self.repeats += other.repeats;
        self.look_ups += other.look_ups;
        self.parked += other.parked;
        self.fetches += other.fetches;
        self.dead += other.dead;
        self.crashes += other.crashes;
        self.zombies += other.zombies;
        self.again += other.again;
        self.stale += other.stale;
        self.looked += other.looked;
        self.unaware += other.unaware;
        self.ends += other.ends;
    }
}

pub(super) struct World {
    pub(super) rng: SmallRng,
    pub(super) counts: Counts,
    pub(super) most_in_flight: usize,
    pub(super) class: Idempotency,
    pub(super) t0: Instant,
    pub(super) now: Instant,
    pub(super) logs: Vec<Vec<Record>>,
    /// Redeliveries.
    pub(super) asked: Vec<Vec<Again>>,
    pub(super) store: Store,
    pub(super) target: Target,
    pub(super) nodes: Vec<Node>,
    pub(super) generation: u64,
    pub(super) flights: Vec<Flight>,
    /// The last record of each key that was sent.
    pub(super) sent: BTreeMap<(usize, Key), usize>,
    pub(super) faults: bool,
    /// What befalls poisoned records.
    pub(super) poison: Fate,
    /// Seed of the times on the wire where they go by the record alone, whatever else is sent.
    pub(super) steady: Option<u64>,
    pub(super) down: Option<Instant>,
    pub(super) tries_while_down: usize,
    pub(super) aloud: bool,
}

pub(super) fn partition(p: usize) -> Partition {
    Partition { topic: "invoices".to_owned(), number: i32::try_from(p).unwrap() }
}

/// The lane of a partition's key.
pub(super) fn lane(p: usize, key: Key) -> Lane {
    Lane { partition: partition(p), key: key.to_be_bytes().to_vec() }
}

/// When a record happened: in the order of its topic.
pub(super) fn happened((_, i): Id) -> Timestamp {
    Timestamp::from_micros(i64::try_from(i).unwrap())
}

/// The partition of redeliveries beside it.
pub(super) fn again(p: usize) -> Partition {
    Partition { topic: "redeliver.erp".to_owned(), number: i32::try_from(p).unwrap() }
}

pub(super) fn number(partition: &Partition) -> usize {
    usize::try_from(partition.number).unwrap()
}

fn rules(class: Idempotency, rng: &mut SmallRng) -> Rules {
    let second = Duration::from_secs(1);
    let retry = Retry { first: second / 10, max: second * 5, give_up_after: second * 90 };
    let on_give_up = if rng.random_bool(0.5) { OnGiveUp::DeadLetter } else { OnGiveUp::Hold };
    Rules {
        policy: Policy { retry, on_give_up },
        limits: Limits {
            read_ahead: Tally { records: rng.random_range(2..20), bytes: rng.random_range(4..60) },
            keep_parked: Tally { records: rng.random_range(0..4), bytes: rng.random_range(1..12) },
            class,
        },
        allowance: Allowance { at_once: MAX_IN_FLIGHT, unsettled: MAX_IN_FLIGHT + rng.random_range(0..=MAX_IN_FLIGHT) },
        rate: None,
        requests: 1,
        hold_back: TIMEOUT,
    }
}

impl World {
    pub(super) fn new(seed: u64, class: Idempotency) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        let now = Instant::now();
        let mut world = Self {
            rng,
            counts: Counts::default(),
            most_in_flight: 0,
            class,
            t0: now,
            now,
            logs: vec![Vec::new(); PARTITIONS],
            asked: vec![Vec::new(); PARTITIONS],
            store: Store { log: vec![Vec::new(); PARTITIONS], ends: vec![0; PARTITIONS], ..Store::default() },
            target: Target::new(class),
            nodes: Vec::new(),
            generation: 0,
            flights: Vec::new(),
            sent: BTreeMap::new(),
            faults: true,
            poison: Fate::Refused,
            steady: None,
            down: None,
            tries_while_down: 0,
            aloud: std::env::var("LEDGERHOOK_SEED").is_ok(),
        };
        let rules = rules(class, &mut world.rng);
        for node in 0..NODES {
            let rng = SmallRng::seed_from_u64(seed + u64::try_from(node).unwrap());
            world.nodes.push(Node {
                engine: Engine::new(rules, rng),
                latest: Latest::new(OnStale::Skip),
                incarnation: 0,
                generation: 0,
                owned: BTreeSet::new(),
                read_to: [0; PARTITIONS],
                again_to: [0; PARTITIONS],
                batch: Batch::default(),
                sealed: None,
                fetches: Vec::new(),
                frozen: false,
                deaf: None,
                unproven: false,
                not_before: now,
                window: None,
            });
        }
        world
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.aloud {
            println!("{:>9.3} {}", (self.now - self.t0).as_secs_f64(), what());
        }
    }

    pub(super) fn produce(&mut self) {
        let p = self.rng.random_range(0..PARTITIONS);
        if self.logs[p].len() >= 60 {
            return;
        }
        for _ in 0..self.rng.random_range(1..6) {
            // Gaps as transactions leave them.
            let offset = self.logs[p].last().map_or(0, |r| r.offset) + self.rng.random_range(1..3);
            let (key, poisoned) = (self.rng.random_range(0..KEYS), self.rng.random_bool(0.03));
            self.logs[p].push(Record { offset, key, poisoned, at: self.now });
        }
    }

    pub(super) fn some_node(&mut self, fit: impl Fn(&Node) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..NODES).filter(|n| !self.nodes[*n].frozen && fit(&self.nodes[*n])).collect();
        (!fit.is_empty()).then(|| fit[self.rng.random_range(0..fit.len())])
    }

    pub(super) fn read(&mut self) {
        let Some(n) = self.some_node(|node| !node.owned.is_empty() && !node.engine.plan.is_full()) else { return };
        let owned: Vec<usize> = self.nodes[n].owned.iter().copied().collect();
        let p = owned[self.rng.random_range(0..owned.len())];
        for _ in 0..self.rng.random_range(1..5) {
            self.read_one(n, p);
        }
    }

    pub(super) fn read_one(&mut self, n: usize, p: usize) {
        let node = &mut self.nodes[n];
        let i = self.logs[p].partition_point(|r| r.offset < node.read_to[p]);
        let Some(record) = self.logs[p].get(i).copied().filter(|_| !node.engine.plan.is_full()) else { return };
        node.read_to[p] = record.offset + 1;
        let lane = lane(p, record.key);
        let job = Job { id: (p, i), again: None };
        let change = node.engine.plan.read(lane, record.offset, Timestamp::default(), job, self.now);
        node.batch.changes.extend(change);
    }

    /// An operator asks for a record again that is over, whatever became of it.
    pub(super) fn ask_again(&mut self) {
        let over: Vec<Id> = self.store.delivered.iter().chain(&self.store.dead).copied().collect();
        if over.is_empty() || self.asked.iter().map(Vec::len).sum::<usize>() >= 40 {
            return;
        }
        let (p, index) = over[self.rng.random_range(0..over.len())];
        // Twice at a time is as good as once.
        for _ in 0..self.rng.random_range(1..3) {
            let offset = self.asked[p].last().map_or(0, |again| again.offset) + self.rng.random_range(1..3);
            // Upserts of what is old would undo what is new.
            let allow_stale = self.class != Idempotency::Upsert && self.rng.random_bool(0.5);
            self.asked[p].push(Again { offset, index, allow_stale, tried: self.now });
        }
    }

    pub(super) fn read_again(&mut self) {
        let Some(n) = self.some_node(|node| !node.owned.is_empty() && !node.engine.room.is_full()) else { return };
        let owned: Vec<usize> = self.nodes[n].owned.iter().copied().collect();
        let p = owned[self.rng.random_range(0..owned.len())];
        self.read_again_one(n, p);
    }

    pub(super) fn read_again_one(&mut self, n: usize, p: usize) {
        let node = &mut self.nodes[n];
        let next = self.asked[p].iter().position(|again| again.offset >= node.again_to[p]);
        let Some(i) = next.filter(|_| !node.engine.room.is_full()) else { return };
        let Again { offset, index, tried, .. } = self.asked[p][i];
        node.again_to[p] = offset + 1;
        node.engine.redeliver(Asked {
            lane: lane(p, self.logs[p][index].key),
            from: again(p),
            offset,
            record: Arc::new(Job { id: (p, index), again: Some(i) }),
            tried,
            interval: Duration::from_millis(50),
        });
    }

    pub(super) fn admit(&mut self, n: usize) {
        let changes = self.nodes[n].engine.admit(self.now);
        self.nodes[n].batch.changes.extend(changes);
    }

    pub(super) fn dispatch(&mut self) {
        let now = self.now;
        let may = |node: &Node| !node.unproven && node.deaf.is_none_or(|until| now < until);
        let Some(n) = self.some_node(may) else { return };
        if self.now >= self.nodes[n].not_before {
            self.admit(n);
        }
        for _ in 0..self.rng.random_range(1..8) {
            if !self.dispatch_one(n) {
                return;
            }
        }
    }

    pub(super) fn dispatch_one(&mut self, n: usize) -> bool {
        let node = &mut self.nodes[n];
        if self.now < node.not_before {
            return false;
        }
        match node.engine.next(self.now) {
            None => return false,
            Some(Go::Fetch(fetch)) => node.fetches.push(fetch),
            Some(Go::Try(next)) => {
                let job = *next.record;
                assert!(node.window.is_none_or(|until| self.now >= until), "a try inside a window");
                let happened = Some(happened(job.id));
                let allowed = job.again.map(|i| self.asked[job.id.0][i].allow_stale);
                if node.latest.supersedes(&next.ticket.lane, happened, allowed) {
                    self.leave_out(n, job, &next);
                    return true;
                }
                self.check_order(job);
                self.depart(n, job, next.ticket, next.n, next.step);
            }
        }
        let engine = &self.nodes[n].engine;
        let (in_flight, unsettled) = (engine.plan.in_flight(), engine.plan.unsettled());
        self.most_in_flight = self.most_in_flight.max(unsettled);
        assert!(in_flight <= MAX_IN_FLIGHT, "{in_flight} tries under way");
        assert!(unsettled <= engine.rules().allowance.unsettled, "{unsettled} tries that a crash would repeat");
        true
    }

    /// What is older than what the target has had is not sent.
    fn leave_out(&mut self, n: usize, job: Job, next: &Try<Job>) {
        assert!(job.again.is_some(), "records come in the order in which they happened");
        self.counts.stale += 1;
        self.tell(|| format!("node {n} leaves {job:?} out"));
        let verdict = Verdict {
            outcome: AttemptOutcome::Filtered,
            reason: Reason::named("superseded", false),
            scope: Scope::Record,
            retry_after: None,
            spent: None,
        };
        let node = &mut self.nodes[n];
        let ended = node.engine.settle(&next.ticket, next.n, &verdict, self.now, self.now);
        if ended.head.is_some() {
            node.batch.attempts.push((job, next.n));
            node.batch.left_out.push(job);
        }
        node.batch.changes.extend(ended.changes);
    }

    /// What stands before a record of its key is over, for good, and nothing behind it was ever sent. Of one key there is
    /// one try at a time that anyone waits for.
    fn check_order(&mut self, Job { id: (p, i), again }: Job) {
        let key = self.logs[p][i].key;
        for flight in self.flights.iter().filter(|flight| flight.heard && flight.end_at > self.now) {
            let (of, at) = flight.job.id;
            let same = of == p && self.logs[p][at].key == key;
            assert!(!same || self.nodes[flight.node].frozen, "{:?} is sent beside {:?}", (p, i), flight.job);
        }
        if again.is_some() {
            return;
        }
        for earlier in (0..i).filter(|j| self.logs[p][*j].key == key) {
            let over = self.store.delivered.contains(&(p, earlier)) || self.store.dead.contains(&(p, earlier));
            assert!(over, "{:?} overtakes {earlier}", (p, i));
        }
        assert!(
            !self.store.delivered.contains(&(p, i)),
            "{:?} is sent again although it is known as delivered",
            (p, i)
        );
        let last = self.sent.entry((p, key)).or_insert(i);
        assert!(*last <= i, "{:?} is sent behind {last}", (p, i));
        *last = i;
    }

    pub(super) fn advance(&mut self, time: Duration) {
        self.now += time;
        let mut acting: Vec<usize> = (0..self.flights.len())
            .filter(|f| self.flights[*f].made.is_none() && self.flights[*f].act_at.is_some_and(|at| at <= self.now))
            .collect();
        acting.sort_by_key(|f| self.flights[*f].act_at);
        for f in acting {
            let (job, step, at) = (self.flights[f].job, self.flights[f].step, self.flights[f].act_at.unwrap());
            let key = self.logs[job.id.0][job.id.1].key;
            self.flights[f].made = Some(self.target.act(job, key, step, at));
        }
        let now = self.now;
        self.flights.retain(|f| f.heard || (f.act_at.is_some() && f.made.is_none() && f.act_at.unwrap() > now));
    }

    pub(super) fn settle(&mut self) {
        let Some(n) = self.some_node(|_| true) else { return };
        self.settle_all(n);
    }

    pub(super) fn settle_all(&mut self, n: usize) {
        loop {
            let ended: Vec<usize> = (0..self.flights.len())
                .filter(|f| {
                    let flight = &self.flights[*f];
                    flight.heard && flight.node == n && flight.end_at <= self.now
                })
                .collect();
            if ended.is_empty() {
                return;
            }
            let f = ended[self.rng.random_range(0..ended.len())];
            self.settle_one(f);
        }
    }

    fn settle_one(&mut self, f: usize) {
        let flight = &mut self.flights[f];
        flight.heard = false;
        let (n, job, made) = (flight.node, flight.job, flight.made);
        let verdict = verdict(flight.fate, flight.class_says(made));
        let node = &mut self.nodes[n];
        let ended = node.engine.settle(&flight.ticket, flight.n, &verdict, flight.started, self.now);
        if let Some(wait) = verdict.retry_after.max(verdict.spent) {
            node.window = node.window.max(Some(self.now + wait));
        }
        let tries = flight.n;
        let told = format!("node {n}: {job:?} n {tries} ended {:?}, due {:?}", verdict.outcome, ended.due.is_some());
        if flight.act_at.is_none() || made.is_some() {
            self.flights.swap_remove(f);
        }
        if ended.head.is_some() {
            node.batch.attempts.push((job, tries));
            match (ended.finished, ended.gave_up) {
                (true, Some(_)) => node.batch.dead.push(job),
                (true, None) => {
                    node.batch.delivered.push(job);
                    let lane = lane(job.id.0, self.logs[job.id.0][job.id.1].key);
                    if node.latest.note(&lane, happened(job.id)) {
                        node.batch.latest.push((lane, happened(job.id)));
                    }
                }
                (false, _) => {}
            }
        }
        node.batch.changes.extend(ended.changes);
        self.tell(|| told);
    }

    pub(super) fn fetch(&mut self) {
        let Some(n) = self.some_node(|node| !node.fetches.is_empty()) else { return };
        let node = &mut self.nodes[n];
        let fetch = node.fetches.swap_remove(self.rng.random_range(0..node.fetches.len()));
        let p = number(&fetch.ticket.lane.partition);
        let found = self.store.log[p].iter().find(|(offset, job, row)| {
            let tries = row.as_ref().map(|row| row.standing.tries);
            *offset >= fetch.place && self.seat(*job) == fetch.ticket.seat && tries == Some(fetch.tries)
        });
        let job = found.unwrap_or_else(|| panic!("node {n} finds no row for {fetch:?}")).1;
        self.counts.fetches += usize::from(self.nodes[n].engine.plan.fetched(&fetch.ticket, job));
    }

    /// The row that a job came by.
    pub(super) fn seat(&self, job: Job) -> Seat {
        let (p, i) = job.id;
        job.again
            .map_or_else(|| Seat::Record(self.logs[p][i].offset), |again| Seat::Redelivery(self.asked[p][again].offset))
    }

    pub(super) fn commit(&mut self) {
        let Some(n) = self.some_node(|node| node.generation > 0) else { return };
        if self.nodes[n].sealed.is_some() {
            self.end_commit(n);
        } else {
            self.begin_commit(n, false);
        }
    }
}

//! Tries on their way: what befalls them, when they arrive and when they are answered.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::group::UNAWARE;
use super::world::{Job, LIMIT, SETTLE, TIMEOUT, WIRE, World};
use crate::delivery::lane::Ticket;
use crate::delivery::repeat::Step;
use crate::event::{AttemptOutcome, Timestamp};
use crate::targets::{Fault, Idempotency, Reason, Scope, Verdict, of_answer, of_fault};

/// The same as [`WIRE`] where the times go by the record alone.
pub(super) const STEADY_WIRE: Duration = Duration::from_millis(30);

/// What becomes of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    /// Done, and it says that nothing is left of its limit.
    LimitSpent,
    Refused,
    Fails,
    ActsAndFails,
    Cut,
    ActsAndCut,
    Late,
    RateLimited,
    Away,
}

/// A try on its way.
pub(super) struct Flight {
    pub(super) node: usize,
    pub(super) ticket: Ticket,
    pub(super) job: Job,
    pub(super) n: u32,
    pub(super) step: Step,
    pub(super) started: Instant,
    pub(super) act_at: Option<Instant>,
    pub(super) end_at: Instant,
    pub(super) fate: Fate,
    pub(super) made: Option<bool>,
    /// Whether anyone waits for its end.
    pub(super) heard: bool,
}

impl World {
    pub(super) fn depart(&mut self, node: usize, job: Job, ticket: Ticket, n: u32, step: Step) {
        let id = job.id;
        let record = self.logs[id.0][id.1];
        if job.again.is_some() && n == 1 {
            self.counts.looked += usize::from(step == Step::LookUp);
            let looks = matches!(self.class, Idempotency::LookUp { .. } | Idempotency::Key { .. });
            assert_eq!(step == Step::LookUp, looks, "the first try of a redelivery");
        }
        self.counts.tries += 1;
        self.counts.look_ups += usize::from(step == Step::LookUp);
        self.counts.repeats += usize::from(n > 1 || self.target.has(id));
        let down = self.down.is_some_and(|until| self.now < until);
        self.tries_while_down += usize::from(down);
        let deaf = self.nodes[node].deaf;
        self.counts.unaware +=
            usize::from(job.again.is_none() && deaf.is_some_and(|until| record.at + UNAWARE > until));
        let fate = match self.rng.random_range(0..100) {
            _ if down => Fate::Fails,
            _ if record.poisoned => self.poison,
            _ if !self.faults => Fate::Fine,
            0..47 => Fate::Fine,
            47..50 => Fate::LimitSpent,
            50..58 => Fate::Fails,
            58..66 => Fate::ActsAndFails,
            66..73 => Fate::Cut,
            73..81 => Fate::ActsAndCut,
            81..90 => Fate::Late,
            90..96 => Fate::RateLimited,
            _ => Fate::Away,
        };
        let (there, back) = self.wire(job, n);
        let acts = matches!(fate, Fate::Fine | Fate::LimitSpent | Fate::ActsAndFails | Fate::ActsAndCut | Fate::Late);
        let late = match (fate, self.class) {
            // A late write of an upsert comes behind its repeat: nobody could tell it from a new one.
            (Fate::Late, Idempotency::Upsert) => Duration::ZERO,
            (Fate::Late, _) => SETTLE.mul_f64(self.rng.random_range(0.0..0.99)).saturating_sub(there),
            _ => Duration::ZERO,
        };
        let end_at = if fate == Fate::Late { self.now + TIMEOUT } else { self.now + there + back };
        self.tell(|| format!("node {node} tries {job:?} key {} n {n} {step:?}: {fate:?}", record.key));
        self.flights.push(Flight {
            node,
            ticket,
            job,
            n,
            step,
            started: self.now,
            act_at: acts.then(|| self.now + there + late),
            end_at,
            fate,
            made: None,
            heard: true,
        });
    }

    /// How long a request is on its way, and its answer.
    fn wire(&mut self, Job { id: (p, i), .. }: Job, n: u32) -> (Duration, Duration) {
        let mut own = self.steady.map(|seed| {
            let place = u64::try_from(p * 1_000_000 + i).unwrap();
            SmallRng::seed_from_u64(seed ^ (place << 20) ^ u64::from(n))
        });
        let longest: u64 = own.as_ref().map_or(WIRE, |_| STEADY_WIRE).as_millis().try_into().unwrap();
        let rng = own.as_mut().unwrap_or(&mut self.rng);
        let mut time = || Duration::from_millis(rng.random_range(1..longest));
        (time(), time())
    }
}

impl Flight {
    /// Whether the target says that it had the record already.
    pub(super) fn class_says(&self, made: Option<bool>) -> bool {
        made == Some(false)
    }
}

pub(super) fn verdict(fate: Fate, had_it: bool) -> Verdict {
    let now = Timestamp::default();
    match fate {
        Fate::Fine if had_it => Verdict {
            outcome: AttemptOutcome::Duplicate,
            reason: Reason::Status(200),
            scope: Scope::Record,
            retry_after: None,
            spent: None,
        },
        Fate::LimitSpent => Verdict { spent: Some(LIMIT), ..verdict(Fate::Fine, had_it) },
        Fate::Fine => of_answer(200, None, now),
        Fate::Refused => of_answer(422, None, now),
        Fate::Fails | Fate::ActsAndFails => of_answer(500, None, now),
        Fate::Cut | Fate::ActsAndCut => of_fault(&Fault::Cut(String::new())),
        Fate::Late => of_fault(&Fault::Timeout),
        Fate::RateLimited => of_answer(429, Some("2"), now),
        Fate::Away => of_fault(&Fault::Connect(String::new())),
    }
}

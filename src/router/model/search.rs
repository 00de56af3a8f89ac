//! Every reachable state, breadth first, so that a counterexample is a shortest one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::rules::Rules;
use super::{INSTANCES, Instance, State, Step, cluster, instance};

/// Why a state must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Two records of one event.
    Double,
    /// The group's offset is past a row without a record.
    Loss,
    /// No way leads from here to all rows being processed, even if nothing more goes wrong.
    Stuck,
}

/// What the search found.
pub(super) struct Found {
    /// Distinct states.
    pub(super) states: usize,
    /// Steps between them.
    pub(super) steps: usize,
    /// The first violation, and the steps that lead to it.
    pub(super) violation: Option<(Violation, Vec<(Instance, Step)>)>,
}

/// How a state was first reached: the state before, the step, and whether the names were exchanged after it.
type From = (u32, Instance, Step, bool);

/// States by number.
#[derive(Default)]
struct Reached {
    numbers: HashMap<State, u32, BuildHasherDefault<Mix>>,
    states: Vec<State>,
    from: Vec<Option<From>>,
}

impl Reached {
    fn add(&mut self, state: State, from: Option<From>) -> u32 {
        let next = self.states.len() as u32;
        let number = *self.numbers.entry(state).or_insert(next);
        if number == next {
            self.states.push(state);
            self.from.push(from);
        }
        number
    }

    fn way_to(&self, mut number: u32) -> Vec<(Instance, Step)> {
        let mut back = Vec::new();
        while let Some(from) = self.from[number as usize] {
            back.push(from);
            number = from.0;
        }
        let mut mirrored = false;
        let mut way = Vec::new();
        for (_, instance, step, mirrors) in back.into_iter().rev() {
            way.push((if mirrored { 1 - instance } else { instance }, step));
            mirrored ^= mirrors;
        }
        way
    }
}

/// Walks through every state that is reachable with so many faults, until one violates the promise.
pub(super) fn search(rules: &Rules, faults: u8) -> Found {
    let mut reached = Reached::default();
    reached.add(State::new(faults), None);
    let mut recovering = Recovering::default();
    let (mut at, mut steps) = (0, 0);
    while let Some(state) = reached.states.get(at as usize).copied() {
        if let Some(violation) = state.violation() {
            let violation = Some((violation, reached.way_to(at)));
            return Found { states: reached.states.len(), steps, violation };
        }
        for i in 0..INSTANCES {
            for step in Step::ALL {
                let Some(after) = successor(&state, rules, i, step) else { continue };
                steps += 1;
                let mirrors = !after.is_canonical();
                let to = reached.add(if mirrors { after.mirrored() } else { after }, Some((at, i, step, mirrors)));
                if after.faults == state.faults && !state.leans_on_a_restart(i, step) {
                    recovering.add(at, to);
                }
            }
        }
        at += 1;
    }
    let stuck = recovering.first_stuck(&reached.states);
    let violation = stuck.map(|number| (Violation::Stuck, reached.way_to(number)));
    Found { states: reached.states.len(), steps, violation }
}

/// The state after a step, if it can be taken.
fn successor(state: &State, rules: &Rules, i: Instance, step: Step) -> Option<State> {
    match instance::step(state, rules, i, step) {
        None => cluster::step(state, rules, i, step),
        after => after,
    }
}

/// Steps that need no fault, backwards: for each state a list of those that lead to it.
#[derive(Default)]
struct Recovering {
    /// The newest of each state's list.
    newest: Vec<Option<u32>>,
    /// Where the step comes from, and the next of the list.
    steps: Vec<(u32, Option<u32>)>,
}

impl Recovering {
    fn add(&mut self, from: u32, to: u32) {
        let to = to as usize;
        if self.newest.len() <= to {
            self.newest.resize(to + 1, None);
        }
        let next = self.newest[to].replace(self.steps.len() as u32);
        self.steps.push((from, next));
    }

    /// The first state from which no way without faults leads to the end.
    fn first_stuck(&self, states: &[State]) -> Option<u32> {
        let mut ends: Vec<bool> = states.iter().map(State::is_done).collect();
        let mut open: Vec<usize> = (0..states.len()).filter(|number| ends[*number]).collect();
        while let Some(number) = open.pop() {
            let mut step = self.newest.get(number).copied().flatten();
            while let Some(at) = step {
                let (from, next) = self.steps[at as usize];
                if !std::mem::replace(&mut ends[from as usize], true) {
                    open.push(from as usize);
                }
                step = next;
            }
        }
        ends.iter().position(|ends| !ends).map(|number| number as u32)
    }
}

/// A hash that is cheap without optimisation too; states are compared in full besides.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, discriminant: isize) {
        self.write_u64(discriminant as u64);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

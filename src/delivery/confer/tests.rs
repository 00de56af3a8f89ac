//! Words of instances in every order, and what each makes of them.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::delivery::lane::Allowance;

const HOLD_BACK: Duration = Duration::from_secs(7);
const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 3] = ["a", "b", "c"];

/// An instance, with what it has heard of `control`.
struct Instance {
    name: &'static str,
    window: Window,
    conferred: Conferred,
    heard: usize,
    /// Its system's clock goes wrong by this.
    skew: Duration,
}

impl Instance {
    fn new(name: &'static str, skew: u64) -> Self {
        let (window, conferred) = (Window::new(HOLD_BACK), Conferred::default());
        Self { name, window, conferred, heard: 0, skew: Duration::from_millis(skew) }
    }
}

/// `control`: who said what, in order.
type Log = Vec<(&'static str, TargetFact)>;

fn confer(instance: &mut Instance, log: &mut Log, upto: usize, (t0, now): (Instant, Instant)) {
    let clock = Clock { now, at: Timestamp::from_micros(1_000_000_000).plus(now - t0 + instance.skew) };
    if let Some(fact) = instance.conferred.say(&instance.window, instance.name, &clock) {
        log.push((instance.name, fact));
    }
    let mut windows = Windows::default();
    for (who, fact) in log.iter().take(upto) {
        let TargetFact::Window { trouble, until } = fact else { panic!("{fact:?}") };
        windows.hear(who, trouble.clone(), *until);
    }
    instance.heard = upto;
    instance.conferred.hear(&windows, instance.name, &mut instance.window, &clock);
}

fn probes(instance: &Instance, now: Instant) -> bool {
    instance.window.allows(Allowance::of(4), now) == Allowance::of(1)
}

#[test]
fn a_word_that_the_target_works_ends_no_window_opened_since() {
    let t0 = Instant::now();
    let at = |s: u32| t0 + SECOND * s;
    let (mut log, [mut a, mut b]) = (Log::new(), [Instance::new("a", 0), Instance::new("b", 0)]);
    // The first window, its probe by a, and its end.
    a.window.failed(Trouble::Unreachable, None, SECOND, at(0), at(0));
    confer(&mut a, &mut log, 0, (t0, at(0)));
    confer(&mut b, &mut log, 1, (t0, at(0)));
    a.window.worked(at(1), at(2));
    confer(&mut a, &mut log, 1, (t0, at(2)));
    // b is told to wait before it hears that the target works, and a before that hears of an operator's word.
    b.window.failed(Trouble::RateLimited, Some(SECOND * 600), SECOND, at(0), at(2));
    confer(&mut b, &mut log, 2, (t0, at(3)));
    confer(&mut a, &mut log, 2, (t0, at(3)));
    confer(&mut a, &mut log, 3, (t0, at(3)));
    for instance in [&a, &b] {
        assert_eq!(instance.window.until(), Some(at(602)), "{}", instance.name);
    }
    // Who starts now knows it too, and nobody says anything again.
    let mut c = Instance::new("c", 0);
    let said = log.len();
    confer(&mut c, &mut log, said, (t0, at(4)));
    confer(&mut c, &mut log, said, (t0, at(4)));
    assert_eq!((c.window.until(), log.len()), (Some(at(602)), said));
    assert!(probes(&b, at(602)) && !probes(&a, at(602)) && !probes(&c, at(602)), "one asks");
    b.window.worked(at(602), at(603));
    confer(&mut b, &mut log, said, (t0, at(603)));
    for instance in [&mut a, &mut c] {
        confer(instance, &mut log, said + 1, (t0, at(603)));
        assert_eq!(instance.window.trouble(), None);
    }
    assert_eq!(log.len(), said + 1);
}

#[derive(Clone, Debug)]
enum Step {
    /// So many milliseconds go by.
    Time(u64),
    /// An instance's try finds trouble; the seconds that the target asks for, if any.
    Trouble(usize, Option<u64>),
    /// An instance's probe, if it may ask, finds the target working, or not.
    Probe(usize, bool),
    /// An instance hears some of what was said, in the order of the topic.
    Confer(usize, usize),
    /// An instance starts anew.
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_u64..3000).prop_map(Step::Time),
        2 => (0_usize..3, prop::option::of(1_u64..20)).prop_map(|(n, asked)| Step::Trouble(n, asked)),
        3 => (0_usize..3, any::<bool>()).prop_map(|(n, works)| Step::Probe(n, works)),
        6 => (0_usize..3, 0_usize..4).prop_map(|(n, more)| Step::Confer(n, more)),
        1 => (0_usize..3).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// However late words arrive: no instance tries inside a window that it opened itself, a window that was heard
    /// of is kept by all, and when all have heard everything, all know the same.
    #[test]
    fn instances_agree_and_keep_what_was_asked_for(steps in steps(), skews in prop::array::uniform3(0_u64..2000)) {
        let t0 = Instant::now();
        let (mut now, mut log) = (t0, Log::new());
        let mut all: Vec<Instance> = NAMES.iter().zip(skews).map(|(name, skew)| Instance::new(name, skew)).collect();
        // Until when each was told to wait by the target itself.
        let mut asked_until = [t0; 3];
        for step in steps {
            match step {
                Step::Time(ms) => now += Duration::from_millis(ms),
                Step::Trouble(n, asked) => {
                    let wait = asked.map(Duration::from_secs);
                    if let Some(wait) = wait {
                        asked_until[n] = asked_until[n].max(now + wait);
                    }
                    // Under way since before any window.
                    all[n].window.failed(Trouble::RateLimited, wait, SECOND, t0, now);
                    let heard = all[n].heard;
                    confer(&mut all[n], &mut log, heard, (t0, now));
                }
                Step::Probe(n, works) if probes(&all[n], now) => {
                    if works {
                        all[n].window.worked(now, now);
                    } else {
                        all[n].window.failed(Trouble::Unreachable, None, SECOND, now, now);
                    }
                    let heard = all[n].heard;
                    confer(&mut all[n], &mut log, heard, (t0, now));
                }
                Step::Probe(..) => {}
                Step::Confer(n, more) => {
                    let upto = log.len().min(all[n].heard + more);
                    confer(&mut all[n], &mut log, upto, (t0, now));
                }
                Step::Restart(n) => {
                    // It reads control to its end before it tries anything.
                    all[n] = Instance::new(NAMES[n], u64::try_from(all[n].skew.as_millis()).unwrap());
                    let end = log.len();
                    confer(&mut all[n], &mut log, end, (t0, now));
                }
            }
            for (instance, until) in all.iter().zip(asked_until) {
                let tries = instance.window.allows(Allowance::of(4), now).at_once;
                // Clocks that go apart by two seconds can end a window as much too early after a restart.
                let kept = now + SECOND * 2 >= until || tries == 0;
                prop_assert!(kept, "{} tries inside its window", instance.name);
            }
        }
        for _ in 0..4 {
            for instance in &mut all {
                let end = log.len();
                confer(instance, &mut log, end, (t0, now));
            }
        }
        let known: Vec<Option<Timestamp>> = all.iter().map(|i| i.conferred.windows.open().map(|w| w.until)).collect();
        prop_assert!(known.windows(2).all(|pair| pair[0] == pair[1]), "{known:?}");
        for instance in &all {
            prop_assert_eq!(instance.window.trouble().is_some(), known[0].is_some(), "{}", instance.name);
        }
        let asking = all.iter().filter(|instance| {
            let until = instance.window.until();
            until.is_some_and(|until| probes(instance, until))
        });
        prop_assert!(asking.count() <= 1, "one asks first");
    }
}

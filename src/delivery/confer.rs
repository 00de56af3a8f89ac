//! A worker and the other instances of its target: what they said is taken in, what we found is told.

use tokio::time::Instant;

use super::clock::Clock;
use super::state::TargetState;
use super::window::Trouble;
use super::worker::Worker;
use crate::event::TargetFact;

/// How far a worker has come with what is said of its target.
#[derive(Debug, Default)]
pub(super) struct Conferred {
    /// The notice that was taken in last.
    seen: u64,
    /// The operator's word that has to be confirmed.
    unconfirmed: Option<String>,
    /// What others know of the window.
    told: Option<(Trouble, Instant)>,
}

impl Worker {
    /// Takes in what was said of the target, and says what others should know.
    pub(super) fn confer(&mut self) {
        if let Some(notice) = self.s.notices.news(&self.s.target.name, &mut self.conferred.seen) {
            let clock = Clock::now();
            let mut by = String::new();
            if let Some(pause) = notice.pause {
                self.engine.window.pause(pause.paused, clock.now);
                by = pause.reason.map_or_else(|| pause.by.clone(), |reason| format!("{}: {reason}", pause.by));
                self.conferred.unconfirmed = Some(pause.id);
            }
            if let Some((trouble, until)) = notice.window {
                let said = trouble.map(|trouble| (Trouble::named(&trouble), clock.instant(until)));
                self.engine.window.hear(said, clock.now);
                self.conferred.told = self.engine.window.shown();
            }
            self.s.gauges.state(TargetState::of(&self.engine.window), "", &by);
        }
        // Nothing of before the word is under way.
        if self.engine.plan.in_flight() == 0
            && let Some(id) = self.conferred.unconfirmed.take()
        {
            self.s.notices.say(&self.s.target.name, TargetFact::Heard { id });
        }
        let shown = self.engine.window.shown();
        if shown != self.conferred.told {
            self.conferred.told = shown;
            let clock = Clock::now();
            let fact = TargetFact::Window {
                trouble: shown.map(|(trouble, _)| trouble.name().to_owned()),
                until: shown.map_or(clock.at, |(_, until)| clock.wall(until)),
            };
            self.s.notices.say(&self.s.target.name, fact);
        }
    }
}

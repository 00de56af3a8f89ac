//! A worker and the other instances of its target: what they said is taken in, what we found is told.

use tokio::time::Instant;

use super::clock::Clock;
use super::state::TargetState;
use super::window::{Trouble, Window};
use super::worker::Worker;
use crate::event::{TargetFact, Timestamp, Windows};

/// How far a worker has come with what is said of its target.
#[derive(Debug, Default)]
pub(super) struct Conferred {
    /// Whether everything was taken in that was said before we came.
    complete: bool,
    /// The notice that was taken in last.
    seen: u64,
    /// The operator's word that is gone by.
    word: Option<String>,
    /// The same, where it has to be confirmed.
    unconfirmed: Option<String>,
    /// What was said of windows, by others and by us, also where that is not written yet.
    windows: Windows,
    /// The end of the window that others know of, by our clock and by the system's: its name among instances.
    told: Option<(Instant, Timestamp)>,
}

impl Conferred {
    /// Whether everything is known that was said before we came: before that nothing is tried, nor given up.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes in what `heard` says of the target's windows, behind [`Self::say`]. `me` is this instance.
    fn hear(&mut self, heard: &Windows, me: &str, window: &mut Window, clock: &Clock) {
        self.windows.merge(heard);
        let ends = window.until().map(|until| match self.told {
            Some((told, at)) if told == until => at,
            _ => clock.wall(until),
        });
        // One that was opened while the others' answer was under way ends later, and stays.
        if ends.is_some() && ends <= self.windows.over() {
            window.end(clock.now);
            self.told = None;
        }
        if let Some(open) = self.windows.open() {
            let until = clock.instant(open.until);
            window.hear((Trouble::named(&open.trouble), until), open.instance == me, clock.now);
            if window.until() == Some(until) {
                self.told = Some((until, open.until));
            }
        }
    }

    /// What others should know of the window that they do not know.
    fn say(&mut self, window: &Window, me: &str, clock: &Clock) -> Option<TargetFact> {
        let (trouble, until) = match (window.shown(), self.told) {
            (Some((_, until)), Some((told, _))) if told == until => return None,
            (Some((trouble, until)), _) => {
                let at = clock.wall(until);
                self.told = Some((until, at));
                (Some(trouble.name().to_owned()), at)
            }
            (None, told) => (None, told?.1),
        };
        if trouble.is_none() {
            self.told = None;
        }
        self.windows.hear(me, trouble.clone(), until);
        Some(TargetFact::Window { trouble, until })
    }
}

impl Worker {
    /// Takes in what was said of the target, and says what others should know.
    pub(super) fn confer(&mut self) {
        let clock = Clock::now();
        // Ours first: a window that has ended here must not be taken for open because others did not hear of it yet.
        if let Some(fact) = self.conferred.say(&self.engine.window, &self.s.instance, &clock) {
            self.s.notices.say(&self.s.target.name, fact);
        }
        // Asked before the news, which then hold all of it.
        let complete = self.s.notices.is_complete();
        if let Some(notice) = self.s.notices.news(&self.s.target.name, &mut self.conferred.seen) {
            let mut by = String::new();
            if let Some(pause) = notice.pause {
                self.engine.window.pause(pause.paused, clock.now);
                by = pause.reason.map_or_else(|| pause.by.clone(), |reason| format!("{}: {reason}", pause.by));
                if self.conferred.word.as_ref() != Some(&pause.id) {
                    self.conferred.word = Some(pause.id.clone());
                    self.conferred.unconfirmed = Some(pause.id);
                }
            }
            self.conferred.hear(&notice.windows, &self.s.instance, &mut self.engine.window, &clock);
            self.s.gauges.state(TargetState::of(&self.engine.window), "", &by);
        }
        self.conferred.complete |= complete;
        // Nothing of before the word is under way.
        if self.engine.plan.in_flight() == 0
            && let Some(id) = self.conferred.unconfirmed.take()
        {
            self.s.notices.say(&self.s.target.name, TargetFact::Heard { id });
        }
    }
}

#[cfg(test)]
mod tests;

//! A cluster that is away: said once, looked after now and then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::lifecycle::Role;

/// Pause between looks at a cluster that is away.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// When to look again; nothing while the cluster is there.
#[derive(Debug, Default)]
pub(super) struct Away(Mutex<Option<Instant>>);

impl Away {
    /// The client words one absence in many ways; the first says it.
    pub(super) fn lost_sight(&self, role: &Role, why: &str) {
        let mut at = self.at();
        if at.is_none() {
            role.health.not_ready(why);
            *at = Some(Instant::now() + LOOK_EVERY);
        }
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self) -> bool {
        self.at().is_some_and(|at| Instant::now() >= at)
    }

    /// It is there.
    pub(super) fn is_back(&self) {
        *self.at() = None;
    }

    /// It is not, still.
    pub(super) fn look_later(&self) {
        *self.at() = Some(Instant::now() + LOOK_EVERY);
    }

    fn at(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

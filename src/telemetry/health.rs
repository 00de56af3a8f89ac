//! Whether each role can do its work, and why not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// State of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does its work.
    Ready,
    /// It cannot, for this reason.
    NotReady(String),
}

/// State of every role of this process.
#[derive(Clone, Debug, Default)]
pub struct Health {
    roles: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

/// One role's handle on its state.
#[derive(Clone, Debug)]
pub struct RoleHealth {
    health: Health,
    role: &'static str,
}

impl Health {
    /// Adds a role, not ready until it says so.
    #[must_use]
    pub fn role(&self, role: &'static str) -> RoleHealth {
        self.lock().insert(role, State::NotReady("starting".to_owned()));
        RoleHealth { health: self.clone(), role }
    }

    /// State of every role.
    #[must_use]
    pub fn states(&self) -> BTreeMap<&'static str, State> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoleHealth {
    /// Says that the role does its work. Logs a change, and only a change.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// Says why the role cannot work. Logs a change, and only a change.
    pub fn not_ready(&self, reason: &str) {
        self.set(State::NotReady(reason.to_owned()));
    }

    /// Whether the role said it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.health.lock().get(self.role) == Some(&State::Ready)
    }

    /// What the role said last.
    #[must_use]
    pub fn state(&self) -> State {
        self.health.lock().get(self.role).cloned().unwrap_or_else(|| State::NotReady("starting".to_owned()))
    }

    fn set(&self, state: State) {
        let before = self.health.lock().insert(self.role, state.clone());
        if before.as_ref() == Some(&state) {
            return;
        }
        match state {
            State::Ready => tracing::info!(role = self.role, "ready"),
            State::NotReady(reason) => tracing::warn!(role = self.role, reason, "not ready"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_starts_not_ready() {
        let health = Health::default();
        let role = health.role("router");
        assert!(!role.is_ready());
        role.ready();
        assert!(role.is_ready());
        role.not_ready("Kafka is away");
        assert_eq!(health.states()["router"], State::NotReady("Kafka is away".to_owned()));
    }
}

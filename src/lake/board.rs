//! Health of all tables together.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::telemetry::RoleHealth;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Standby,
    NotReady(String),
    Stopped(String),
}

/// What is said of each table.
pub(super) struct Board {
    health: RoleHealth,
    tables: Mutex<BTreeMap<String, State>>,
}

impl Board {
    /// None of these tables is ready yet.
    pub(super) fn new(health: RoleHealth, tables: impl Iterator<Item = String>) -> Self {
        Self { health, tables: Mutex::new(tables.map(|table| (table, State::Starting)).collect()) }
    }

    /// Rows flow.
    pub(super) fn ready(&self, table: &str) {
        self.set(table, State::Ready);
    }

    /// Another instance writes; this one could.
    pub(super) fn standby(&self, table: &str) {
        self.set(table, State::Standby);
    }

    /// Something is away; it is tried again.
    pub(super) fn not_ready(&self, table: &str, why: &str) {
        self.set(table, State::NotReady(why.to_owned()));
    }

    /// It needs an operator.
    pub(super) fn stopped(&self, table: &str, why: &str) {
        if self.set(table, State::Stopped(why.to_owned())) {
            tracing::error!(table, "the table {why}");
        }
    }

    fn set(&self, table: &str, state: State) -> bool {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if tables.get(table) == Some(&state) {
            return false;
        }
        tables.insert(table.to_owned(), state);
        let trouble = tables.iter().find_map(|(table, state)| match state {
            State::Ready | State::Standby => None,
            State::Starting => Some("starting".to_owned()),
            State::NotReady(why) => Some(format!("table {table}: {why}")),
            State::Stopped(why) => Some(format!("table {table} is stopped: it {why}")),
        });
        match trouble {
            None => self.health.ready(),
            Some(why) => self.health.not_ready(&why),
        }
        true
    }
}

//! What is counted of connections. Who holds them nobody knows, and no source is named.

use super::routes::Receiver;
use crate::server::Watch;

impl Watch for Receiver {
    fn open(&self, connections: usize) {
        self.role.metrics.receiver_connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    fn asked_to_go(&self) {
        self.role.metrics.receiver_connections_evicted.inc();
    }
}

//! What is counted of connections, and of what comes in on them and is no request. Who sent it nobody knows, and no source
//! is named.

use std::net::SocketAddr;

use super::routes::{Receiver, request_id};
use crate::outcome::Answer;
use crate::server::{NoRequest, Watch};

impl Watch for Receiver {
    fn open(&self, connections: usize) {
        self.role.metrics.receiver_connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    fn asked_to_go(&self) {
        self.role.metrics.receiver_connections_evicted.inc();
    }

    fn no_request(&self, peer: SocketAddr, why: NoRequest) {
        let reason = match why {
            NoRequest::Malformed => Answer::RequestMalformed,
            NoRequest::HeadTooLarge => Answer::HeadersTooLarge,
        };
        // For whom a proxy forwards stands in headers, and there are none.
        self.refused("", reason, peer.ip().to_canonical(), request_id());
    }
}

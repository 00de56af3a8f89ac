//! The console: every process's admin port.
//!
//! - **Reads** the process's own health, metrics and refused requests.
//! - **Writes** nothing.
//! - **Promises** that nobody without the token, where one is configured, sees more than health.
//! - **On failure** ends only when the address cannot be had.
//!
//! | file | idea |
//! |---|---|
//! | `routes` | every path, and the answers |
//! | `access` | who may see what |

mod access;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::server::{self, Limits};
use crate::telemetry::{Health, Metrics, RejectedRequests};

/// Operators and scrapers are few and near: bounds are not theirs to set.
const LIMITS: Limits = Limits {
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(60),
    max_header_bytes: 16 * 1024,
    max_connections: 256,
};
/// Answers come from memory: one that is not finished by then has no reader.
const DRAIN: Duration = Duration::from_secs(2);

/// Why the admin port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("the admin server cannot listen on {address}: {cause}; is it taken by another process? (`admin.listen`)")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        cause: std::io::Error,
    },
}

/// Serves the admin port until told to stop. `bound` hears the address it listens on.
///
/// # Errors
/// When it cannot listen.
pub async fn run(
    admin: config::Admin,
    health: Health,
    metrics: Arc<Metrics>,
    rejected: RejectedRequests,
    stop: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> Result<(), Error> {
    let listen = |cause| Error::Listen { address: admin.listen, cause };
    let listener = TcpListener::bind(admin.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    bound(address);
    let service = TowerToHyperService::new(routes::routes(health, metrics, rejected, admin.token));
    server::serve(listener, LIMITS, server::plain, &stop, DRAIN, Arc::new(()), move |_| service.clone()).await;
    Ok(())
}

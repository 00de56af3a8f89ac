//! How roles run: what each is given, threads for work that blocks, stopping.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Metrics, RejectedRequests, RoleHealth};

/// What every role is given.
#[derive(Clone)]
pub struct Role {
    /// Its name, as in `--role`.
    pub name: &'static str,
    /// Id of this instance of it: stable over restarts, unique among instances.
    pub instance: String,
    /// Where it says whether it can work.
    pub health: RoleHealth,
    /// The program's metrics.
    pub metrics: Arc<Metrics>,
    /// Where it puts requests that it refused.
    pub rejected: RejectedRequests,
    /// Says when to stop: finish what is in flight, take nothing new.
    pub stop: CancellationToken,
}

/// The thread ended without a result: it panicked.
#[derive(Debug, thiserror::Error)]
#[error("thread {0} panicked")]
pub struct Panicked(pub String);

/// Runs work that blocks on a thread of its own, with this name.
///
/// # Errors
/// When the thread cannot be started or panics.
pub async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (done, result) = oneshot::channel();
    let panicked = || Panicked(name.to_owned());
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody waits any more only when the program is being torn down.
            drop(done.send(work()));
        })
        .map_err(|_| panicked())?;
    result.await.map_err(|_| panicked())
}

/// What `LEDGERHOOK_FAILPOINT` says, with how often each point is still to be passed. For crash tests, and in builds for
/// them alone.
#[cfg(debug_assertions)]
fn failpoints() -> &'static [(String, std::sync::atomic::AtomicU64)] {
    static POINTS: std::sync::OnceLock<Vec<(String, std::sync::atomic::AtomicU64)>> = std::sync::OnceLock::new();
    POINTS.get_or_init(|| {
        let value = std::env::var("LEDGERHOOK_FAILPOINT").unwrap_or_default();
        let points = value.split(',').filter_map(|point| point.split_once(':'));
        points.filter_map(|(name, times)| Some((name.to_owned(), times.parse::<u64>().ok()?.into()))).collect()
    })
}

/// Where the program dies at once when told so: `LEDGERHOOK_FAILPOINT=name:n` ends it at the n-th time it comes here;
/// commas between several.
#[cfg(debug_assertions)]
pub fn failpoint(name: &'static str) {
    let found = failpoints().iter().find(|(point, _)| point == name);
    if found.is_some_and(|(_, left)| left.fetch_sub(1, std::sync::atomic::Ordering::AcqRel) == 1) {
        // As kill -9 would: no destructor runs.
        std::process::abort();
    }
}

/// Whether the program was told this name: how a test has it do what it never would, to see that it does no harm.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_told(name: &'static str) -> bool {
    failpoints().iter().any(|(point, _)| point == name)
}

/// Nothing: failpoints are for builds of crash tests.
#[cfg(not(debug_assertions))]
pub const fn failpoint(_: &'static str) {}

/// Never: see [`failpoint`].
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_told(_: &'static str) -> bool {
    false
}

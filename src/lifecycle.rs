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

/// Where the program dies at once when told so: `LEDGERHOOK_FAILPOINT=name:n` ends it at the n-th time it comes here.
/// For crash tests, and in builds for them alone.
#[cfg(debug_assertions)]
pub fn failpoint(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static POINT: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let point = POINT.get_or_init(|| {
        let value = std::env::var("LEDGERHOOK_FAILPOINT").ok()?;
        let (name, times) = value.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
    });
    if let Some((_, left)) = point.as_ref().filter(|(point, _)| point == name)
        && left.fetch_sub(1, Ordering::AcqRel) == 1
    {
        // As kill -9 would: no destructor runs.
        std::process::abort();
    }
}

/// Nothing: failpoints are for builds of crash tests.
#[cfg(not(debug_assertions))]
pub const fn failpoint(_: &'static str) {}

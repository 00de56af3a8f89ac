//! The composition root: a configuration becomes roles. The only file that names every stage.

mod reload;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Faults};
use crate::instance::{Instance, InstanceError};
use crate::kafka::layout::{Ground, LayoutError};
use crate::lifecycle::Role;
use crate::telemetry::{Health, Metrics, RejectedRequests};
use crate::{console, delivery, lake, receiver, router, topics};
use reload::Reload;

/// Roles of the program, in path order.
pub const ROLES: [&str; 5] = ["receiver", "router", "delivery", "lake", "console"];

/// How long behind its budget a role is waited for before the process leaves it.
const GRACE: Duration = Duration::from_secs(2);

/// Why the program stopped by itself or could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is nothing to receive.
    #[error(
        "no sources are configured: give [sources.accelex] or [sources.accbooks] its secret; `ledgerhook config default` shows how"
    )]
    NoSources,
    /// Cluster or registry settings are unusable, or topics and schemas are wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// This instance's identity is taken or cannot be kept.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The table of metrics is at fault.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The receiver stopped.
    #[error("receiver: {0}")]
    Receiver(#[from] receiver::Error),
    /// The router stopped.
    #[error("router: {0}")]
    Router(#[from] router::Error),
    /// Delivery stopped.
    #[error("delivery: {0}")]
    Delivery(#[from] delivery::Error),
    /// The lake stopped.
    #[error("lake: {0}")]
    Lake(#[from] lake::Error),
    /// The admin port stopped.
    #[error("admin: {0}")]
    Console(#[from] console::Error),
    /// A role panicked.
    #[error("a role ended without a result: {0}")]
    Panicked(#[from] JoinError),
    /// Roles did not stop within the budget.
    #[error("not stopped within {budget:?}: {roles}; what they had in flight is repeated after the next start")]
    Overrun {
        /// `shutdown.budget`.
        budget: Duration,
        /// Names of the roles.
        roles: String,
    },
}

/// The ground of a configuration: its topics on its cluster.
///
/// # Errors
/// When client settings are unusable.
pub fn ground(config: &Config) -> Result<Ground, LayoutError> {
    let sources = config.sources.keys().map(String::as_str);
    let targets = config.targets.keys().map(String::as_str);
    let topics = topics::all(sources, targets, config.router.dedupe_window);
    Ground::new(&config.kafka, &config.schema_registry, topics)
}

/// Roles running side by side.
struct Running {
    tasks: JoinSet<Result<(), AppError>>,
    names: Vec<(Id, &'static str, CancellationToken)>,
}

/// Runs the roles until `stop`, or until one of them cannot go on. Each configuration that comes from `reloads` is taken
/// over as far as a running process can; faults leave all as it was.
///
/// # Errors
/// Why a role could not start or go on, or did not stop in time.
pub async fn run(
    config: Config,
    roles: &[&'static str],
    stop: CancellationToken,
    mut reloads: mpsc::Receiver<Result<Config, Faults>>,
) -> Result<(), AppError> {
    let wants = |role: &str| roles.contains(&role);
    if config.sources.is_empty() && (wants("receiver") || wants("router")) {
        return Err(AppError::NoSources);
    }
    let metrics = Arc::new(Metrics::new()?);
    let health = Health::default();
    let mut reload = Reload::new(config.clone(), Arc::clone(&metrics));
    let rejected = RejectedRequests::default();
    let ground = Arc::new(ground(&config)?);
    let mut instances = Vec::new();
    let mut role = |name: &'static str| -> Result<Role, AppError> {
        let instance = Instance::claim(&config.data_dir, name)?;
        let id = instance.id.clone();
        instances.push(instance);
        let (health, metrics) = (health.role(name), Arc::clone(&metrics));
        let rejected = rejected.clone();
        Ok(Role { name, instance: id, health, metrics, rejected, stop: CancellationToken::new() })
    };
    let mut running = Running { tasks: JoinSet::new(), names: Vec::new() };
    let budget = config.shutdown.budget;

    if wants("receiver") {
        let settings = receiver::Settings {
            receiver: config.receiver.clone(),
            sources: config.sources.values().cloned().collect(),
            live: reload.receiver()?,
            data_dir: config.data_dir.clone(),
            shutdown_budget: budget,
        };
        let (role, ground) = (role("receiver")?, Arc::clone(&ground));
        running.add("receiver", role.stop.clone(), async move {
            let bound = |address| tracing::info!(%address, "the receiver listens");
            Ok(receiver::run(settings, ground, role, bound).await?)
        });
    }
    if wants("router") {
        let settings = router::Settings {
            router: config.router.clone(),
            sources: config.sources.values().map(|s| (s.name.clone(), s.routes.clone())).collect(),
            routes: config.routes.clone(),
            data_dir: config.data_dir.clone(),
        };
        let (role, ground) = (role("router")?, Arc::clone(&ground));
        running.add("router", role.stop.clone(), async move { Ok(router::run(settings, ground, role).await?) });
    }
    if wants("delivery") && config.targets.is_empty() {
        tracing::warn!("no targets are configured: records stay in their topics");
    } else if wants("delivery") {
        let settings = delivery::Settings {
            delivery: config.delivery.clone(),
            targets: config.targets.values().cloned().collect(),
            shutdown_budget: budget,
        };
        let (role, ground) = (role("delivery")?, Arc::clone(&ground));
        running.add("delivery", role.stop.clone(), async move { Ok(delivery::run(settings, ground, role).await?) });
    }
    if wants("lake") && config.lake.enabled {
        let sources = config.sources.keys().cloned().collect();
        let settings = lake::Settings { lake: config.lake.clone(), sources };
        let (role, ground) = (role("lake")?, Arc::clone(&ground));
        running.add("lake", role.stop.clone(), async move { Ok(lake::run(settings, ground, role).await?) });
    } else if roles == ["lake"] {
        tracing::warn!("no [lake] is configured: nothing is written");
    }
    // Every process has its admin port; the role of that name will bring the pages on it.
    let admin = CancellationToken::new();
    {
        let (settings, health, stop) = (config.admin.clone(), health.clone(), admin.clone());
        let rejected = rejected.clone();
        running.add("console", admin, async move {
            let bound = |address| tracing::info!(%address, "the admin port listens");
            Ok(console::run(settings, health, metrics, rejected, stop, bound).await?)
        });
    }
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                tracing::info!("stopping");
                break;
            }
            Some(ended) = running.tasks.join_next_with_id() => {
                outcome = running.ended(ended);
                break;
            }
            Some(read) = reloads.recv() => reload.take(read),
        }
    }
    outcome.and(running.stop(budget).await)
}

impl Running {
    fn add(
        &mut self,
        name: &'static str,
        stop: CancellationToken,
        role: impl Future<Output = Result<(), AppError>> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(role);
        self.names.push((handle.id(), name, stop));
    }

    /// Stops the roles: first the receiver, so that nothing new comes in, last the admin port, so that the end can be
    /// watched.
    async fn stop(mut self, budget: Duration) -> Result<(), AppError> {
        let mut outcome = Ok(());
        let deadline = tokio::time::Instant::now() + budget + GRACE;
        for group in [&["receiver"][..], &["router", "delivery", "lake"], &["console"]] {
            for (_, name, stop) in &self.names {
                if group.contains(name) {
                    stop.cancel();
                }
            }
            while self.names.iter().any(|(_, name, _)| group.contains(name)) {
                match tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
                    Ok(Some(ended)) => outcome = outcome.and(self.ended(ended)),
                    Ok(None) => break,
                    Err(_) => {
                        let roles = self.names.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ");
                        return outcome.and(Err(AppError::Overrun { budget, roles }));
                    }
                }
            }
        }
        outcome
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), AppError>), JoinError>) -> Result<(), AppError> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(panicked) => (panicked.id(), Err(panicked.into())),
        };
        self.names.retain(|(known, _, _)| *known != id);
        result
    }
}

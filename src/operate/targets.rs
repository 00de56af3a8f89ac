//! Targets: what is known of them by all instances, and an operator's word on them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{OperateError, audit};
use crate::avro::AvroError;
use crate::event::{AuditEntry, ControlKind, Pause, TargetFact, Timestamp, Windows};
use crate::kafka::admin::AdminError;
use crate::kafka::control::{self, ControlError};
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::topics::CONTROL;

/// Bound on the transaction that writes a word down.
const TRANSACTION: Duration = Duration::from_secs(30);
/// Between two looks who has confirmed.
const LOOK: Duration = Duration::from_millis(200);

/// Why targets cannot be paused, or nothing be said of them.
#[derive(Debug, thiserror::Error)]
pub enum TargetsError {
    /// `control` cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Who delivers cannot be found out.
    #[error(transparent)]
    Members(#[from] AdminError),
    /// Topics cannot be read.
    #[error(transparent)]
    Read(#[from] OperateError),
    /// A row does not fit its schema.
    #[error(transparent)]
    Avro(#[from] AvroError),
    /// Kafka did not take the word, or its answer was lost.
    #[error("{0}; to ask again is safe")]
    Transaction(#[from] TransactionError),
}

/// What all instances know of a target.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The operator's last word.
    pub pause: Option<Pause>,
    /// The troubles that it was and is in.
    pub windows: Windows,
    /// The word that each instance goes by.
    pub heard: BTreeMap<String, String>,
}

/// What is known of targets, by name. Blocks.
///
/// # Errors
/// When `control` cannot be read.
pub fn known(ground: &Ground, runtime: &Handle) -> Result<BTreeMap<String, Known>, TargetsError> {
    let mut targets: BTreeMap<String, Known> = BTreeMap::new();
    for (name, fact) in control::read(ground, runtime, ControlKind::Target)?.0 {
        let target = targets.entry(TargetFact::target(&name).to_owned()).or_default();
        match serde_json::from_str::<TargetFact>(&fact.body) {
            Ok(TargetFact::Pause(pause)) => target.pause = Some(pause),
            Ok(TargetFact::Window { trouble, until }) => {
                target.windows.hear(&fact.instance, trouble, until);
            }
            Ok(TargetFact::Heard { id }) => drop(target.heard.insert(fact.instance, id)),
            // Written by a newer version: not ours to understand.
            Err(_) => {}
        }
    }
    Ok(targets)
}

/// Instances that deliver to the target now. Blocks.
///
/// # Errors
/// When the cluster is away.
pub fn instances(ground: &Ground, target: &str) -> Result<Vec<String>, TargetsError> {
    Ok(ground.admin().members(&format!("delivery.{target}"))?)
}

/// Pauses a target or lets it go on: the word and its entry in `audit` are one transaction. Blocks.
///
/// # Errors
/// When Kafka does not take it.
pub fn pause(
    ground: &Ground,
    encoders: &Encoders,
    target: &str,
    paused: bool,
    reason: Option<String>,
) -> Result<Pause, TargetsError> {
    let id = uuid::Uuid::now_v7().to_string();
    let pause = Pause { id: id.clone(), paused, by: audit::actor(), reason, at: Timestamp::now() };
    let fact = TargetFact::Pause(pause.clone());
    let encoder = encoders.of(CONTROL).ok_or_else(|| AvroError::Unknown(CONTROL.to_owned()))?;
    let body = serde_json::to_string(&fact).map_err(|error| AvroError::Unknown(error.to_string()))?;
    let about = (ControlKind::Target, fact.name(target, ""));
    let word = control::record(&ground.cluster, encoder, about, "operator", body)?;
    let entry = AuditEntry {
        at: pause.at,
        actor: pause.by.clone(),
        action: if paused { "target.pause" } else { "target.resume" }.to_owned(),
        subject: target.to_owned(),
        detail: Some(json!({ "operation": id, "reason": pause.reason }).to_string()),
        request_id: None,
    };
    let entry = audit::record(ground, encoders, &entry)?;
    let transactions = Transactions::open(&ground.cluster, &format!("operate.{id}"), TRANSACTION)?;
    let written = transactions.begin().and_then(|()| {
        transactions.send(&word)?;
        transactions.send(&entry)?;
        transactions.commit(&|why| tracing::warn!(why, "still waiting for Kafka"))
    });
    if let Err(error) = written {
        // Where the broker does not hear it, it ends the transaction at its timeout.
        drop(transactions.abort());
        return Err(error.into());
    }
    Ok(pause)
}

/// Waits until every instance that delivers to the target goes by this word, at most this long; names those that do not
/// yet. Blocks.
///
/// # Errors
/// When the cluster is away.
pub fn unconfirmed(
    ground: &Ground,
    runtime: &Handle,
    target: &str,
    word: &Pause,
    longest: Duration,
) -> Result<Vec<String>, TargetsError> {
    let deadline = Instant::now() + longest;
    loop {
        let mut missing = instances(ground, target)?;
        let known = known(ground, runtime)?.remove(target).unwrap_or_default();
        missing.retain(|instance| known.heard.get(instance) != Some(&word.id));
        if missing.is_empty() || Instant::now() >= deadline {
            return Ok(missing);
        }
        std::thread::sleep(LOOK);
    }
}

//! Identities of topics: a UUID for each, in `control`, so that what was kept of a topic is never taken for knowledge
//! of another one under its name. The client library tells no topic ids.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::Encoder;
use super::control::{self, ControlError};
use super::layout::{Ground, LayoutError};
use super::produce::{Outgoing, Producer};
use crate::event::ControlKind;
use crate::topics::{self, Kind};

/// Bound on reading `control`, and on writing to it.
const BOUND: Duration = Duration::from_secs(30);

/// What is known of a topic since it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Made when the topic was created, or first seen.
    pub id: Uuid,
    /// Partitions it had then; of `received` and `seen`, in how many event ids have their places.
    pub partitions: usize,
}

/// Why identities cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// `control` cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The cluster or the registry is away, or refuses.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// `control` cannot be written.
    #[error("identities of topics cannot be written: {0}")]
    Write(String),
}

/// Identities of topics, by name without prefix, as `control` has them. Blocks.
///
/// # Errors
/// When the cluster is away, or a schema.
pub fn read(ground: &Ground, runtime: &tokio::runtime::Handle) -> Result<BTreeMap<String, Identity>, IdentityError> {
    let (facts, _) = control::read(ground, runtime, ControlKind::Topic)?;
    // A fact that a newer version wrote differently is no identity, so nothing is trusted.
    Ok(facts.into_iter().filter_map(|(name, fact)| Some((name, serde_json::from_str(&fact.body).ok()?))).collect())
}

/// The record in `control` of a topic's identity (name without prefix).
///
/// # Errors
/// When it does not fit its schema.
pub fn record(ground: &Ground, encoder: &Encoder, name: &str, identity: &Identity) -> Result<Outgoing, IdentityError> {
    let refused = |error: &dyn std::fmt::Display| IdentityError::Write(error.to_string());
    let body = serde_json::to_string(identity).map_err(|error| refused(&error))?;
    let about = (ControlKind::Topic, name.to_owned());
    control::record(&ground.cluster, encoder, about, "topics", body).map_err(|error| refused(&error))
}

/// Gives identities to the topics that need one and have none, and new ones to those just created (Kafka's names);
/// names the topics it did. Does nothing before the schema of `control` is registered.
///
/// # Errors
/// When cluster or registry are away, or refuse.
pub async fn give(ground: &Ground, created: &[String]) -> Result<Vec<String>, IdentityError> {
    let subject = format!("{}-value", ground.cluster.topic(topics::CONTROL));
    let Some(id) = ground.registry.lookup(&subject, "Control").await.map_err(LayoutError::from)? else {
        return Ok(Vec::new());
    };
    let refused = |error: &dyn std::fmt::Display| IdentityError::Write(error.to_string());
    let encoder = Encoder::new("Control", id).map_err(|error| refused(&error))?;
    let runtime = tokio::runtime::Handle::current();
    let known = tokio::task::block_in_place(|| read(ground, &runtime))?;
    let producer = Producer::new(&ground.cluster, BOUND, Duration::ZERO).map_err(|error| refused(&error))?;
    let mut given = Vec::new();
    for topic in ground.topics.iter().filter(|topic| matches!(topic.kind, Kind::Received | Kind::Seen | Kind::Records))
    {
        let full = topic.full_name(ground.cluster.prefix());
        if known.contains_key(&topic.name) && !created.contains(&full) {
            continue;
        }
        let partitions = tokio::task::block_in_place(|| ground.partitions_of(&topic.name))?.len();
        if partitions == 0 {
            continue;
        }
        let identity = Identity { id: Uuid::now_v7(), partitions };
        let record = record(ground, &encoder, &topic.name, &identity)?;
        producer.send(&record).await.map_err(|error| refused(&error))?;
        given.push(full);
    }
    Ok(given)
}

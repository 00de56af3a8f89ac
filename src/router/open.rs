//! The stores of every source, opened only where they are of the very topics that are there now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::Again;
use super::places::Places;
use super::run::Router;
use super::state::{Identity, State, Store};
use crate::event::Timestamp;
use crate::kafka::group::Partition;
use crate::kafka::identity;
use crate::kafka::layout::{Ground, LayoutError};
use crate::kafka::places;
use crate::kafka::restore::RestoreError;
use crate::topics;

/// The state of all sources, and in how many partitions their ids have their places.
///
/// # Errors
/// When cluster or registry are away, or a store may not be trusted.
pub(super) fn state(router: &Router) -> Result<(State, Places), Again> {
    let Router { ground, runtime, settings, role, .. } = router;
    let identities = identity::read(ground, runtime)?;
    let cluster = ground.admin().cluster_id().map_err(LayoutError::from).map_err(identity::IdentityError::from)?;
    let mut stores = BTreeMap::new();
    for (source, _) in &settings.sources {
        let topic = topics::seen(source);
        let known = identities.get(&topic);
        let partitions = ground.partitions_of(&topic).map_err(identity::IdentityError::from)?.len();
        let id = match known {
            Some(known) => known.id.to_string(),
            None => {
                tracing::warn!(
                    topic,
                    "has no identity, so the dedupe state is read whole at every start; `ledgerhook topics apply` gives one"
                );
                format!("unknown to {}", uuid::Uuid::now_v7())
            }
        };
        let name = ground.cluster.topic(&topic);
        let of = Identity::new(&cluster, &name, &id, partitions);
        let folder = settings.data_dir.join("router").join(source);
        let store = Store::open(&folder, &of, settings.router.dedupe_window)?;
        stores.insert(source.clone(), Arc::new(store));
    }
    tracing::debug!(instance = role.instance, sources = stores.len(), "dedupe state opened");
    Ok((State::new(settings.router.dedupe_window, stores), Places::of(router, &identities)))
}

/// Looks at partitions of `received` that the group has no offset in: why one may not be read from its beginning. Where its
/// ids are known it was read before, and what is older than the window was routed and has no marker any more.
///
/// # Errors
/// When the cluster is away.
pub(super) fn forgotten(
    ground: &Ground,
    window: Duration,
    without: &[Partition],
) -> Result<Option<String>, RestoreError> {
    let cluster = &ground.cluster;
    let marker = |received: &Partition| {
        let source = received.topic.strip_prefix(&cluster.topic(&topics::received("")))?;
        Some(Partition { topic: cluster.topic(&topics::seen(source)), number: received.number })
    };
    let markers: Vec<Partition> = without.iter().filter_map(marker).collect();
    let markers = places::bounds(cluster, &markers)?;
    // That there ever was one: all of them may have left after their time.
    let is_known = |received: &&Partition| {
        marker(received).and_then(|marker| markers.get(&marker)).is_some_and(|(_, ends)| *ends > 0)
    };
    let known: Vec<Partition> = without.iter().filter(is_known).cloned().collect();
    let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
    let begins = Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(window));
    let (all, inside) =
        (places::since(cluster, &known, Timestamp::default())?, places::since(cluster, &known, begins)?);
    for partition in known {
        let Partition { topic, number } = &partition;
        if all.get(&partition) != inside.get(&partition) {
            return Ok(Some(format!(
                "it has no committed offset in {topic}/{number}, whose ids are known: Kafka forgets the offsets of a group \
                 that is away for long (offsets.retention.minutes). Rows there that are older than the dedupe window would be \
                 routed again"
            )));
        }
        tracing::warn!(topic, number, "the group has no offset here: it is read again, all of it inside the window");
    }
    Ok(None)
}

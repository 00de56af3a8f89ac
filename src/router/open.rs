//! The stores of every source, opened only where they are of the very topics that are there now.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Again;
use super::places::Places;
use super::run::Router;
use super::state::{Identity, State, Store};
use crate::kafka::identity;
use crate::kafka::layout::LayoutError;
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

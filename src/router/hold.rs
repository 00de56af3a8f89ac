//! Rows whose schema has to be asked for. Each holds up its partition alone, for as long as the registry is away: what
//! was written with schemas known already goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::kafka::group::{Incoming, Partition};
use crate::kafka::registry::{Registry, RegistryError};

/// Pause between tries while the registry is away.
const PAUSE: Duration = Duration::from_millis(500);

/// At most one row of each partition: none of it is read behind that one.
#[derive(Default)]
pub(super) struct Held(BTreeMap<Partition, Waiting>);

struct Waiting {
    row: Incoming,
    schema: u32,
    asked: JoinHandle<Result<(), RegistryError>>,
    /// Why it waits for longer than one answer.
    why: Option<String>,
}

impl Held {
    /// Keeps a row until the registry has answered for this schema id.
    pub(super) fn keep(&mut self, row: Incoming, schema: u32, registry: &Arc<Registry>, runtime: &Handle) {
        let asked = ask(registry, schema, runtime, Duration::ZERO);
        self.0.insert(row.partition.clone(), Waiting { row, schema, asked, why: None });
    }

    /// Rows whose schema is known now, or known not to be had; asks again for those that the registry was away for.
    pub(super) fn answered(
        &mut self,
        registry: &Arc<Registry>,
        runtime: &Handle,
    ) -> Vec<(Incoming, Result<(), RegistryError>)> {
        let done: Vec<Partition> =
            self.0.iter().filter(|(_, waiting)| waiting.asked.is_finished()).map(|(p, _)| p.clone()).collect();
        let mut answered = Vec::new();
        for partition in done {
            let Some(mut waiting) = self.0.remove(&partition) else { continue };
            match runtime.block_on(&mut waiting.asked) {
                // One that panicked has no answer: another is tried.
                Err(_) => {}
                Ok(Err(error)) if error.is_away() => waiting.why = Some(error.to_string()),
                Ok(answer) => {
                    answered.push((waiting.row, answer));
                    continue;
                }
            }
            waiting.asked = ask(registry, waiting.schema, runtime, PAUSE);
            self.0.insert(partition, waiting);
        }
        answered
    }

    /// Whether a row of this partition waits.
    pub(super) fn has(&self, partition: &Partition) -> bool {
        self.0.contains_key(partition)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why rows wait for longer than one answer.
    pub(super) fn why(&self) -> Option<&str> {
        self.0.values().find_map(|waiting| waiting.why.as_deref())
    }

    /// Lets all go: their places, to be read again.
    pub(super) fn let_go(&mut self) -> Vec<(Partition, i64)> {
        let held = std::mem::take(&mut self.0);
        held.into_iter()
            .map(|(partition, waiting)| {
                waiting.asked.abort();
                (partition, waiting.row.offset)
            })
            .collect()
    }
}

/// Asks after a pause. The registry's own timeout bounds the wait.
fn ask(
    registry: &Arc<Registry>,
    schema: u32,
    runtime: &Handle,
    pause: Duration,
) -> JoinHandle<Result<(), RegistryError>> {
    let registry = Arc::clone(registry);
    runtime.spawn(async move {
        tokio::time::sleep(pause).await;
        registry.schema(schema).await.map(drop)
    })
}

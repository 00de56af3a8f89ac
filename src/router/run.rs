//! The router from outside: what it is told, and starting over for as long as that can help.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::error::{Again, Error};
use super::mapping::Mapper;
use super::serve::Serving;
use super::state::set_aside;
use crate::config;
use crate::kafka::codec::Decoder;
use crate::kafka::group::{GroupError, Partition};
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::leftovers::Reach;
use crate::lifecycle::{self, Role};
use crate::topics;

/// Pause before starting over.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);

/// What the router is told.
#[derive(Debug)]
pub struct Settings {
    /// `[router]`.
    pub router: config::Router,
    /// Sources whose events it routes: name, and whose routes apply.
    pub sources: Vec<(String, String)>,
    /// The table of routes.
    pub routes: Vec<config::Route>,
    /// Where it keeps its state.
    pub data_dir: PathBuf,
}

/// Routes until told to stop.
///
/// # Errors
/// When the topics or routes are wrong, or the position in `received` is lost: things that waiting cannot mend.
pub async fn run(settings: Settings, ground: Arc<Ground>, role: Role) -> Result<(), Error> {
    let families = settings.sources.iter().map(|(name, family)| (name.as_str(), family.as_str()));
    let mapper = Mapper::new(families, &settings.routes)?;
    let waiting = |why: &str| role.health.not_ready(why);
    let Some(encoders) = ground.ready(&role.stop, waiting).await? else { return Ok(()) };
    let router = Router {
        received: settings.sources.iter().map(|(name, _)| ground.cluster.topic(&topics::received(name))).collect(),
        settings,
        decoder: ground.decoder(),
        ground,
        encoders,
        mapper,
        role,
        runtime: Handle::current(),
    };
    lifecycle::on_thread("router", move || router.keep_running()).await?
}

/// What stays the same over all incarnations.
pub(super) struct Router {
    pub(super) settings: Settings,
    /// Kafka's names of the topics it reads.
    pub(super) received: Vec<String>,
    pub(super) ground: Arc<Ground>,
    pub(super) decoder: Decoder,
    pub(super) encoders: Encoders,
    pub(super) mapper: Mapper,
    pub(super) role: Role,
    pub(super) runtime: Handle,
}

impl Router {
    /// Starts over from what is committed for as long as that can help.
    fn keep_running(self) -> Result<(), Error> {
        while !self.role.stop.is_cancelled() {
            let again = match Serving::start(&self).and_then(Serving::until_stopped) {
                Ok(()) => break,
                Err(again) => again,
            };
            match &again {
                Again::Group(GroupError::PositionLost { .. } | GroupError::Forgotten { .. }) | Again::Fewer { .. } => {
                    return Err(Error::Lost(Box::new(again)));
                }
                Again::Store(error) if error.distrusted().is_some() => {
                    tracing::warn!(%error, "the dedupe state is set aside, and read again from Kafka");
                    if let Some(Err(error)) = error.distrusted().map(set_aside) {
                        self.role.health.not_ready(&error.to_string());
                    }
                }
                again => self.role.health.not_ready(&again.to_string()),
            }
            self.pause(AGAIN_PAUSE);
        }
        Ok(())
    }

    /// What its transactions may touch.
    pub(super) fn reach(&self) -> Reach {
        let sources = self.settings.sources.iter().flat_map(|(name, _)| [topics::received(name), topics::seen(name)]);
        let records = topics::RECORDS.iter().map(|(name, _)| (*name).to_owned());
        let names = sources.chain(records).chain([topics::QUARANTINE.to_owned()]);
        Reach {
            group: topics::ROUTERS.to_owned(),
            topics: names.map(|name| self.ground.cluster.topic(&name)).collect(),
        }
    }

    /// Name of the source whose `received` topic this is.
    pub(super) fn source_of<'a>(&self, partition: &'a Partition) -> &'a str {
        let name = partition.topic.strip_prefix(self.ground.cluster.prefix()).unwrap_or(&partition.topic);
        name.strip_prefix("received.").unwrap_or(name)
    }

    pub(super) fn pause(&self, time: Duration) {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.role.stop.cancelled() => {}
                () = tokio::time::sleep(time) => {}
            }
        });
    }
}

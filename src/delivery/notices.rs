//! What instances tell each other of targets, through `control`: an operator's pause, and that a target as a whole is
//! left alone. One thread for all targets reads the topic to its end before anything is sent, and follows it from there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::event::{Control, ControlKind, Pause, TargetFact, Windows};
use crate::kafka::codec::Encoder;
use crate::kafka::control::{self, ControlError, Follower};
use crate::kafka::layout::Ground;
use crate::kafka::produce::Producer;

/// Longest wait for a fact, and so how late one of ours goes out and a stop is noticed.
const LISTEN: Duration = Duration::from_millis(50);
/// Before the topic is read again after a fault.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest wait for one fact to be written.
const WAIT: Duration = Duration::from_secs(5);

/// What is said of a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Notice {
    /// The operator's last word.
    pub(super) pause: Option<Pause>,
    /// What instances found, this one included: what we said before a restart is as good as another's word.
    pub(super) windows: Windows,
    /// Counts the changes.
    version: u64,
}

#[derive(Default)]
struct State {
    /// Whether the topic was read to its end.
    complete: bool,
    notices: BTreeMap<String, Notice>,
    /// Ours to be written, by name: the latest of each.
    outbox: BTreeMap<String, TargetFact>,
}

/// What is said of all targets, and what is still to be said.
pub(super) struct Notices {
    state: Mutex<State>,
    instance: String,
}

impl Notices {
    /// Nothing is known yet.
    pub(super) fn new(instance: &str) -> Self {
        Self { state: Mutex::default(), instance: instance.to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything said before is known.
    pub(super) fn is_complete(&self) -> bool {
        self.state().complete
    }

    /// What is said of a target, where it changed since it was asked for; `seen` remembers that.
    pub(super) fn news(&self, target: &str, seen: &mut u64) -> Option<Notice> {
        let state = self.state();
        let notice = state.notices.get(target).filter(|notice| notice.version > *seen)?;
        *seen = notice.version;
        Some(notice.clone())
    }

    /// Tells all instances of a target.
    pub(super) fn say(&self, target: &str, fact: TargetFact) {
        self.state().outbox.insert(fact.name(target, &self.instance), fact);
    }

    fn take(&self, fact: &Control) {
        let body = match serde_json::from_str::<TargetFact>(&fact.body) {
            Ok(body) => body,
            Err(error) => return tracing::warn!(name = fact.name, %error, "a fact of control is not understood"),
        };
        let mut state = self.state();
        let notice = state.notices.entry(TargetFact::target(&fact.name).to_owned()).or_default();
        match body {
            TargetFact::Pause(pause) => notice.pause = Some(pause),
            TargetFact::Window { trouble, until } => notice.windows.hear(&fact.instance, trouble, until),
            TargetFact::Heard { .. } => return,
        }
        notice.version += 1;
    }

    /// Reads, follows and writes until `gone`. Blocks.
    pub(super) fn keep_telling(&self, ground: &Ground, encoder: &Encoder, runtime: &Handle, gone: &CancellationToken) {
        let producer = match Producer::new(&ground.cluster, WAIT, Duration::ZERO) {
            Ok(producer) => producer,
            Err(error) => return tracing::error!(%error, "control cannot be written"),
        };
        while !gone.is_cancelled() {
            let tell = |follower: Follower| self.tell(ground, (encoder, &producer), runtime, follower, gone);
            if let Err(error) = self.catch_up(ground, runtime).and_then(tell) {
                tracing::warn!(%error, "control cannot be read; nothing new is sent where it was not read yet");
                runtime.block_on(async { tokio::time::timeout(AGAIN, gone.cancelled()).await.unwrap_or_default() });
            }
        }
    }

    fn catch_up(&self, ground: &Ground, runtime: &Handle) -> Result<Follower, ControlError> {
        let (facts, end) = control::read(ground, runtime, ControlKind::Target)?;
        facts.values().for_each(|fact| self.take(fact));
        self.state().complete = true;
        Follower::new(ground, runtime, end)
    }

    fn tell(
        &self,
        ground: &Ground,
        (encoder, producer): (&Encoder, &Producer),
        runtime: &Handle,
        mut follower: Follower,
        gone: &CancellationToken,
    ) -> Result<(), ControlError> {
        while !gone.is_cancelled() {
            if let Some(fact) = follower.next(LISTEN)?.filter(|fact| fact.kind == ControlKind::Target) {
                self.take(&fact);
            }
            let waiting = std::mem::take(&mut self.state().outbox);
            for (name, fact) in waiting {
                if let Err(error) = self.write(ground, (encoder, producer), runtime, &name, &fact) {
                    tracing::warn!(name, error, "what others should know of a target is not written yet");
                    // Unless there is something newer to say.
                    self.state().outbox.entry(name).or_insert(fact);
                }
            }
        }
        Ok(())
    }

    fn write(
        &self,
        ground: &Ground,
        (encoder, producer): (&Encoder, &Producer),
        runtime: &Handle,
        name: &str,
        fact: &TargetFact,
    ) -> Result<(), String> {
        let body = serde_json::to_string(fact).map_err(|error| error.to_string())?;
        let about = (ControlKind::Target, name.to_owned());
        let record = control::record(&ground.cluster, encoder, about, &self.instance, body);
        let record = record.map_err(|error| error.to_string())?;
        runtime.block_on(producer.send(&record)).map(drop).map_err(|error| error.to_string())
    }
}

/// The thread's work, as long as it is wanted.
pub(super) fn start(
    notices: Arc<Notices>,
    ground: Arc<Ground>,
    encoder: Encoder,
    gone: CancellationToken,
) -> impl FnOnce() + Send + 'static {
    let runtime = Handle::current();
    move || notices.keep_telling(&ground, &encoder, &runtime, &gone)
}

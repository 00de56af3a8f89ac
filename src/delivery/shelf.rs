//! Fetches parked records whose contents are not in memory, on a thread of its own, when their turn comes.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::lane::{Fetch, Ticket};
use super::plan::MAX_FETCHES;
use super::results::Heard;
use super::task::{Reader, Task};
use crate::event::{Attempt, Parked};
use crate::kafka::client::Cluster;
use crate::kafka::group::Partition;
use crate::kafka::lookup::Lookup;
use crate::topics;

/// Longest wait for one record; it is committed, so it is there as soon as the broker answers.
const BOUND: Duration = Duration::from_secs(10);
/// Fetches waiting: those of the present session, and of sessions just ended.
pub(super) const MAX_WAITING: usize = MAX_FETCHES * 4;

/// A fetch that ended.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Which.
    pub(super) ticket: Ticket,
    /// The record with its tries, or why it could not be had.
    pub(super) found: Result<(Task, Vec<Attempt>), String>,
}

/// Where fetches are asked for.
pub(super) struct Shelf {
    asks: SyncSender<Fetch>,
}

impl Shelf {
    /// Starts the thread; it ends with this. Results come through `heard`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(
        cluster: &Cluster,
        target: &str,
        reader: Reader,
        heard: SyncSender<Heard>,
    ) -> Result<Self, String> {
        let (asks, asked) = sync_channel(MAX_WAITING);
        let (cluster, topic, target) = (cluster.clone(), cluster.topic(&topics::parked(target)), target.to_owned());
        let name = format!("delivery.{target}.shelf");
        std::thread::Builder::new()
            .name(name)
            .spawn(move || serve(&cluster, (&topic, &target), &reader, &asked, &heard))
            .map_err(|error| format!("cannot start the thread that fetches parked records: {error}"))?;
        Ok(Self { asks })
    }

    /// Asks for a record.
    ///
    /// # Errors
    /// When the thread does not keep up or is gone.
    pub(super) fn ask(&self, fetch: Fetch) -> Result<(), String> {
        self.asks.try_send(fetch).map_err(|error| {
            match error {
                TrySendError::Full(_) => "parked records are not fetched in time",
                TrySendError::Disconnected(_) => "the thread that fetches parked records is gone",
            }
            .to_owned()
        })
    }
}

fn serve(cluster: &Cluster, from: (&str, &str), reader: &Reader, asked: &Receiver<Fetch>, heard: &SyncSender<Heard>) {
    let mut lookup = None;
    while let Ok(fetch) = asked.recv() {
        let found = find(cluster, from, reader, &fetch, &mut lookup);
        if heard.send(Heard::Fetched(Box::new(Fetched { ticket: fetch.ticket, found }))).is_err() {
            return;
        }
    }
}

fn find(
    cluster: &Cluster,
    (topic, target): (&str, &str),
    reader: &Reader,
    fetch: &Fetch,
    kept: &mut Option<Lookup>,
) -> Result<(Task, Vec<Attempt>), String> {
    let lookup = match kept {
        Some(lookup) => lookup,
        None => kept.insert(Lookup::new(cluster).map_err(|error| error.to_string())?),
    };
    let records = &fetch.ticket.lane.partition;
    let key = fetch.ticket.seat.key(reader.short(&records.topic), records.number, target);
    let partition = Partition { topic: topic.to_owned(), number: records.number };
    let mut row: Option<Result<Parked, String>> = None;
    lookup
        .find(&partition, fetch.place, BOUND, |found| {
            if found.key.as_deref() != Some(key.as_bytes()) || found.value.is_none() {
                return false;
            }
            let decoded = reader.parked(found).map_err(|error| error.to_string());
            // An older row of the record is not the one.
            let wanted = decoded.as_ref().map_or(true, |row| u32::try_from(row.tries) == Ok(fetch.tries));
            if wanted {
                row = Some(decoded);
            }
            wanted
        })
        .map_err(|error| error.to_string())?;
    let row = row.unwrap_or_else(|| Err("nothing found".to_owned()))?;
    let task = reader.unpark(&row).map_err(|error| error.to_string())?;
    Ok((task, row.attempts))
}

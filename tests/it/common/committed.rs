//! A group's committed offsets, as anybody may ask for them.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::Installation;

const WAIT: Duration = Duration::from_secs(5);

/// Asks what the router's group has committed. A client that gets no answer may have lost its brokers for good
/// (`kafka::sight` says why), so the next question is asked by a new one.
pub(crate) struct Committed {
    config: ClientConfig,
    client: Mutex<BaseConsumer>,
}

impl Committed {
    /// Of the router of this installation.
    pub(crate) fn of_router(installation: &Installation) -> Self {
        let kafka = &installation.config.kafka;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka.bootstrap_servers.join(","))
            .set("group.id", format!("{}router", kafka.topic_prefix))
            // What is committed is asked for; readers of committed records alone get no answer while a transaction that
            // moves the offsets is open.
            .set("isolation.level", "read_uncommitted");
        let client = Mutex::new(config.create().unwrap());
        Self { config, client }
    }

    /// For each partition of `received.accbooks` the next offset that a committed transaction leaves to be read, and the
    /// partition's end; none where nobody says in time. Blocks.
    pub(crate) fn of_accbooks(&self, installation: &Installation) -> Option<Vec<(i64, i64)>> {
        self.ask(|client| {
            let mut list = TopicPartitionList::new();
            let mut ends = Vec::new();
            for partition in installation.ground.partitions_of("received.accbooks").ok()? {
                ends.push(client.fetch_watermarks(&partition.topic, partition.number, WAIT).ok()?.1);
                list.add_partition(&partition.topic, partition.number);
            }
            let committed = client.committed_offsets(list, WAIT).ok()?;
            let next = |offset| if let Offset::Offset(next) = offset { next } else { 0 };
            Some(committed.elements().iter().map(|partition| next(partition.offset())).zip(ends).collect())
        })
    }

    /// Asks by a client that is replaced where it gets no answer.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&BaseConsumer) -> Option<T>) -> Option<T> {
        let mut client = self.client.lock().unwrap();
        let answer = question(&client);
        if answer.is_none() {
            *client = self.config.create().unwrap();
        }
        answer
    }
}

//! Topics as they should be: created where missing, compared where they exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use tokio::time::Instant;

use super::client::{Cluster, REQUEST_TIMEOUT};
use super::complaints::Complaints;
use super::group::Partition;
use super::report::{Existing, Fault, Report, compare, compare_pairs, is_config};
use super::sight::CUT_OFF;
use super::standing::instance_of;
use crate::topics::{Cleanup, MAX_RECORD_BYTES, Partitions, Topic};

/// Between two looks for topics just created.
const SHOWN_PAUSE: Duration = Duration::from_millis(50);
/// First wait for metadata. A cluster that refuses the connection is known to be away by then; one that says nothing is
/// given [`REQUEST_TIMEOUT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Bound on one change, and on waiting until it is shown: the controller syncs its log to the disk for each, which on a
/// busy disk takes longer than any question.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// For taking over what the library has said meanwhile; a poll without time takes one line of many.
const HEAR: Duration = Duration::from_millis(5);

/// Creates and checks topics.
pub struct Admin {
    cluster: Cluster,
    clients: RwLock<Arc<Clients>>,
    brokers: String,
    prefix: String,
    partitions: i32,
    replication: i32,
}

struct Clients {
    client: AdminClient<DefaultClientContext>,
    /// For metadata. It sends nothing, but unlike the other client it hands over what the library complains of.
    looker: BaseProducer<Complaints>,
    /// Since when they have found nobody.
    lost: Mutex<Option<Instant>>,
}

impl Clients {
    fn new(cluster: &Cluster) -> Result<Self, AdminError> {
        let mut settings = cluster.plain();
        // Whatever our own filter leaves out: the complaints come as log lines.
        settings.set_log_level(RDKafkaLogLevel::Error);
        let looker = settings.create_with_context(Complaints::default()).map_err(AdminError::Settings)?;
        let client = cluster.plain().create().map_err(AdminError::Settings)?;
        Ok(Self { client, looker, lost: Mutex::default() })
    }

    /// They found the cluster.
    fn found(&self) {
        self.looker.context().forget();
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// They did not; says for how long now.
    fn lost(&self) -> Duration {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now).elapsed()
    }
}

/// Why topics could not be checked or created.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The cluster did not answer: waiting may help.
    #[error("Kafka at {brokers} is away: cannot {what}: {cause}")]
    Away {
        /// `kafka.bootstrap_servers`.
        brokers: String,
        /// What was asked.
        what: String,
        /// What the client says of it.
        cause: String,
    },
    /// The client's settings are unusable: waiting would not help.
    #[error("the Kafka client cannot be made, see [kafka.properties]: {0}")]
    Settings(KafkaError),
    /// The cluster refused.
    #[error("Kafka refused to {what}: {code}")]
    Refused {
        /// What was asked.
        what: String,
        /// The broker's error.
        code: RDKafkaErrorCode,
    },
}

/// What was done to a topic (Kafka's name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was missing.
    Created(String),
    /// Settings of it broke a promise.
    Corrected(String),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Created(topic) => write!(f, "created {topic}"),
            Self::Corrected(topic) => write!(f, "corrected {topic}"),
        }
    }
}

impl Admin {
    /// Instances that are members of a group (name without prefix) now. Blocks.
    ///
    /// # Errors
    /// When the cluster is away.
    pub fn members(&self, group: &str) -> Result<Vec<String>, AdminError> {
        let name = format!("{}{group}", self.prefix);
        let clients = self.clients();
        let list = clients.looker.client().fetch_group_list(Some(&name), REQUEST_TIMEOUT);
        let list = list.map_err(|cause| self.away(&clients, &format!("list the members of {name}"), &cause))?;
        let members = list.groups().iter().flat_map(|group| group.members());
        // For a session's time an instance may be a member under an earlier name, too.
        let instances: BTreeSet<&str> = members.map(|member| instance_of(member.id())).collect();
        Ok(instances.into_iter().map(str::to_owned).collect())
    }

    /// An administrator of this cluster; `partitions` and `replication` are for topics it creates.
    ///
    /// # Errors
    /// When the client settings are unusable.
    pub fn new(cluster: &Cluster, partitions: i32, replication: i32) -> Result<Self, AdminError> {
        Ok(Self {
            cluster: cluster.clone(),
            clients: RwLock::new(Arc::new(Clients::new(cluster)?)),
            brokers: cluster.brokers(),
            prefix: cluster.prefix().to_owned(),
            partitions,
            replication,
        })
    }

    /// Compares topics with the table.
    ///
    /// # Errors
    /// When the cluster is away.
    pub async fn check(&self, topics: &[Topic]) -> Result<Report, AdminError> {
        let existing = self.existing(topics).await?;
        let mut report = Report::default();
        for topic in topics {
            let name = topic.full_name(&self.prefix);
            match existing.get(&name) {
                None => report.faults.push(Fault::Missing { topic: name }),
                Some(is) => compare(topic, &name, is, &mut report),
            }
        }
        compare_pairs(topics, &self.prefix, &existing, &mut report);
        report.tell_weak();
        Ok(report)
    }

    /// The cluster's id, the same for as long as the cluster lives. Blocks.
    ///
    /// # Errors
    /// When the cluster is away. Every broker we speak to has an id, so none is no other cluster, but no answer.
    pub fn cluster_id(&self) -> Result<String, AdminError> {
        let clients = self.clients();
        let id = clients.looker.client().fetch_cluster_id(REQUEST_TIMEOUT);
        let timed_out = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        id.ok_or_else(|| self.away(&clients, "ask for the cluster's id", &timed_out))
    }

    /// `retention.ms` of topics (Kafka's names), -1 for ever; without those that do not exist or do not say.
    ///
    /// # Errors
    /// When the cluster is away.
    pub async fn retention(&self, topics: &[String]) -> Result<BTreeMap<String, i64>, AdminError> {
        let resources: Vec<ResourceSpecifier<'_>> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let clients = self.clients();
        let described = clients.client.describe_configs(&resources, &options()).await;
        let described = described.map_err(|cause| self.away(&clients, "ask for the topics' retention", &cause))?;
        let of = |resource: ConfigResource| {
            let entry = resource.entries.into_iter().find(|entry| entry.name == "retention.ms")?;
            entry.value?.parse::<i64>().ok()
        };
        let all = topics.iter().zip(described);
        Ok(all.filter_map(|(name, resource)| Some((name.clone(), of(resource.ok()?)?))).collect())
    }

    /// Creates topics that are missing and corrects settings that break a promise; says what it did. It never shrinks,
    /// resets or deletes what an operator set.
    ///
    /// # Errors
    /// When the cluster is away or refuses.
    pub async fn apply(&self, topics: &[Topic]) -> Result<Vec<Change>, AdminError> {
        let existing = self.existing(topics).await?;
        let mut done = Vec::new();
        for topic in topics {
            let name = topic.full_name(&self.prefix);
            match existing.get(&name) {
                None => {
                    self.create(topic, &name).await?;
                    done.push(Change::Created(name));
                }
                Some(is) => {
                    let mut report = Report::default();
                    compare(topic, &name, is, &mut report);
                    if report.faults.iter().any(|f| matches!(f, Fault::Wrong { setting, .. } if is_config(setting))) {
                        self.correct(topic, &name, is).await?;
                        done.push(Change::Corrected(name));
                    }
                }
            }
        }
        if !done.is_empty() {
            self.until_shown(topics).await?;
        }
        Ok(done)
    }

    /// A broker confirms a topic before every broker, itself included, shows it in its metadata: who checks right after
    /// creating would miss some.
    async fn until_shown(&self, topics: &[Topic]) -> Result<(), AdminError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        while self.existing(topics).await?.len() < topics.len() {
            if Instant::now() >= deadline {
                let what = "show the topics it created".to_owned();
                return Err(AdminError::Refused { what, code: RDKafkaErrorCode::RequestTimedOut });
            }
            tokio::time::sleep(SHOWN_PAUSE).await;
        }
        Ok(())
    }

    /// Gives a topic (Kafka's name) so many partitions, where it has fewer, and waits until they are shown.
    ///
    /// # Errors
    /// When the cluster is away or refuses.
    pub async fn grow(&self, topic: &str, partitions: usize) -> Result<(), AdminError> {
        let has = || tokio::task::block_in_place(|| self.partitions(topic)).map(|partitions| partitions.len());
        if has()? >= partitions {
            return Ok(());
        }
        let what = format!("give {topic} {partitions} partitions");
        let more = NewPartitions::new(topic, partitions);
        let clients = self.clients();
        let grown = clients.client.create_partitions([&more], &changes()).await;
        let grown = grown.map_err(|cause| self.away(&clients, &what, &cause))?;
        if let Some(Err((_, code))) = grown.into_iter().next() {
            return Err(AdminError::Refused { what, code });
        }
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        while has()? < partitions {
            if Instant::now() >= deadline {
                return Err(AdminError::Refused { what, code: RDKafkaErrorCode::RequestTimedOut });
            }
            tokio::time::sleep(SHOWN_PAUSE).await;
        }
        Ok(())
    }

    /// The partitions of a topic (Kafka's name); none where it does not exist. Blocks.
    ///
    /// # Errors
    /// When the cluster is away.
    pub fn partitions(&self, topic: &str) -> Result<Vec<Partition>, AdminError> {
        let metadata = self.metadata(Some(topic), &format!("look up {topic}"))?;
        let partitions = metadata.topics().iter().filter(|t| t.name() == topic).flat_map(|t| t.partitions());
        Ok(partitions.map(|p| Partition { topic: topic.to_owned(), number: p.id() }).collect())
    }

    /// Metadata of one topic or of all. Blocks.
    fn metadata(&self, topic: Option<&str>, what: &str) -> Result<Metadata, AdminError> {
        let by = Instant::now() + REQUEST_TIMEOUT;
        let mut wait = FIRST_WAIT;
        let clients = self.clients();
        let looker = &clients.looker;
        loop {
            let looked = looker.client().fetch_metadata(topic, wait);
            looker.poll(HEAR);
            match looked {
                Ok(metadata) => {
                    clients.found();
                    return Ok(metadata);
                }
                Err(cause) => {
                    wait = (wait * 2).min(by.saturating_duration_since(Instant::now()));
                    if wait.is_zero() || looker.context().last().is_some() {
                        return Err(self.away(&clients, what, &cause));
                    }
                }
            }
        }
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::clone(&*self.clients.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The cluster is away, or these clients cut off, see `sight`: those that complain of nothing are replaced, and those
    /// that have found nobody for long, whose complaint may be of another time.
    fn away(&self, clients: &Arc<Clients>, what: &str, cause: &KafkaError) -> AdminError {
        let complaint = clients.looker.context().last();
        if (clients.lost() >= CUT_OFF || complaint.is_none())
            && let Ok(new) = Clients::new(&self.cluster)
        {
            let mut current = self.clients.write().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&current, clients) {
                *current = Arc::new(new);
            }
        }
        let cause = complaint.unwrap_or_else(|| cause.to_string());
        AdminError::Away { brokers: self.brokers.clone(), what: what.to_owned(), cause }
    }

    async fn existing(&self, topics: &[Topic]) -> Result<BTreeMap<String, Existing>, AdminError> {
        // Asking for one topic by name could create it on a cluster that creates topics by itself.
        let metadata = tokio::task::block_in_place(|| self.metadata(None, "list the topics"))?;
        let wanted: Vec<String> = topics.iter().map(|t| t.full_name(&self.prefix)).collect();
        let mut existing: BTreeMap<String, Existing> = metadata
            .topics()
            .iter()
            .filter(|t| wanted.iter().any(|w| w == t.name()) && !t.partitions().is_empty())
            .map(|t| {
                let replication = t.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
                let partitions = i32::try_from(t.partitions().len()).unwrap_or(i32::MAX);
                (t.name().to_owned(), Existing { partitions, replication, ..Existing::default() })
            })
            .collect();
        let names: Vec<String> = existing.keys().cloned().collect();
        let resources: Vec<ResourceSpecifier<'_>> = names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
        if resources.is_empty() {
            return Ok(existing);
        }
        let clients = self.clients();
        let described = clients
            .client
            .describe_configs(&resources, &options())
            .await
            .map_err(|cause| self.away(&clients, "describe the topics", &cause))?;
        for (name, resource) in names.iter().zip(described) {
            let resource = resource
                .map_err(|code| AdminError::Refused { what: format!("describe the settings of {name}"), code })?;
            if let Some(topic) = existing.get_mut(name) {
                for entry in resource.entries {
                    let Some(value) = entry.value else { continue };
                    if entry.source == ConfigSource::DynamicTopic {
                        topic.set.push(entry.name.clone());
                    }
                    topic.settings.insert(entry.name, value);
                }
            }
        }
        Ok(existing)
    }

    async fn create(&self, topic: &Topic, name: &str) -> Result<(), AdminError> {
        let partitions = match topic.partitions {
            Partitions::Configured => self.partitions,
            Partitions::One => 1,
        };
        let settings = self.settings(topic);
        let mut new = NewTopic::new(name, partitions, TopicReplication::Fixed(self.replication));
        for (key, value) in &settings {
            new = new.set(key, value);
        }
        let what = format!("create {name}");
        let clients = self.clients();
        let made = clients.client.create_topics([&new], &changes()).await;
        let made = made.map_err(|cause| self.away(&clients, &what, &cause))?;
        match made.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
            Some(Err((_, code))) => Err(AdminError::Refused { what, code }),
        }
    }

    async fn correct(&self, topic: &Topic, name: &str, is: &Existing) -> Result<(), AdminError> {
        let what = format!("alter {name}");
        let should = self.settings(topic);
        // Altering replaces every setting of the topic, so what the operator set goes along.
        let mut settings = is.settings.clone();
        settings.retain(|key, _| is.set.contains(key));
        let keep_longer = |key: &str, ours: &str| match is.settings.get(key).and_then(|v| v.parse::<i64>().ok()) {
            Some(theirs) if theirs == -1 || ours.parse::<i64>().is_ok_and(|ours| ours != -1 && theirs > ours) => {
                theirs.to_string()
            }
            _ => ours.to_owned(),
        };
        for (key, value) in &should {
            settings.insert((*key).to_owned(), keep_longer(key, value));
        }
        let alter =
            settings.iter().fold(AlterConfig::new(ResourceSpecifier::Topic(name)), |alter, (k, v)| alter.set(k, v));
        let clients = self.clients();
        let answers = clients.client.alter_configs([&alter], &changes()).await;
        let answers = answers.map_err(|cause| self.away(&clients, &what, &cause))?;
        match answers.into_iter().next() {
            Some(Err((_, code))) => Err(AdminError::Refused { what, code }),
            _ => Ok(()),
        }
    }

    fn settings(&self, topic: &Topic) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("cleanup.policy", topic.cleanup.policy().to_owned()),
            ("retention.ms", topic.cleanup.retention_ms().to_string()),
            ("max.message.bytes", MAX_RECORD_BYTES.to_string()),
            // One replica may be away without stopping the writers, none may be lost with an acknowledged record.
            ("min.insync.replicas", (self.replication - 1).clamp(1, 2).to_string()),
        ];
        // A broker's default bound on size would delete what age does not.
        if matches!(topic.cleanup, Cleanup::CompactDelete(_) | Cleanup::Keep) {
            settings.push(("retention.bytes", "-1".to_owned()));
        }
        settings
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

fn changes() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CHANGE_TIMEOUT)).operation_timeout(Some(CHANGE_TIMEOUT))
}

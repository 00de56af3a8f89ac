//! The ground a role stands on: topics as they should be and schemas registered. Away is waited for; wrong is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::admin::{Admin, AdminError};
use super::client::Cluster;
use super::codec::{Decoder, Encoder};
use super::group::Partition;
use super::registry::{Registry, RegistryError};
use super::report::{Fault, Warning};
use crate::avro::AvroError;
use crate::config;
use crate::topics::Topic;

/// Longest pause between two looks at a cluster or registry that is away.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Cluster, registry and table of topics of one configuration.
pub struct Ground {
    /// The cluster.
    pub cluster: Cluster,
    /// The registry.
    pub registry: Arc<Registry>,
    /// Every topic of the installation.
    pub topics: Vec<Topic>,
    admin: Admin,
}

/// Why a role cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Topics are missing or wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Topics(Vec<Fault>),
    /// A schema is not registered.
    #[error("{subject} has no schema {schema} at the registry; register it with `ledgerhook schemas apply`")]
    NotRegistered {
        /// Subject.
        subject: String,
        /// Schema.
        schema: &'static str,
    },
    /// Versions at the registry that our schema cannot follow.
    #[error(
        "{subject}: the registry has versions that {schema} is not FULL_TRANSITIVE compatible with; another installation's prefix, or a newer Ledgerhook, uses it"
    )]
    Incompatible {
        /// Subject.
        subject: String,
        /// Schema.
        schema: &'static str,
    },
    /// The registry refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The cluster refuses.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A schema of ours is unusable.
    #[error(transparent)]
    Avro(#[from] AvroError),
}

impl LayoutError {
    fn is_away(&self) -> bool {
        match self {
            Self::Registry(e) => e.is_away(),
            Self::Admin(AdminError::Away { .. }) => true,
            // A broker that just came up may refuse for a moment.
            Self::Admin(AdminError::Refused { code, .. }) => {
                matches!(
                    code,
                    super::RDKafkaErrorCode::RequestTimedOut
                        | super::RDKafkaErrorCode::NotController
                        | super::RDKafkaErrorCode::CoordinatorNotAvailable
                        | super::RDKafkaErrorCode::LeaderNotAvailable
                )
            }
            _ => false,
        }
    }
}

/// Encoders of every topic, by its name without prefix.
#[derive(Clone, Debug, Default)]
pub struct Encoders(HashMap<String, Encoder>);

impl Encoders {
    /// The encoder of a topic (without prefix); none for a topic that is not in the table.
    #[must_use]
    pub fn of(&self, topic: &str) -> Option<&Encoder> {
        self.0.get(topic)
    }
}

impl Ground {
    /// The ground of this configuration; asks nothing yet.
    ///
    /// # Errors
    /// When client settings are unusable.
    pub fn new(
        kafka: &config::Kafka,
        registry: &config::SchemaRegistry,
        topics: Vec<Topic>,
    ) -> Result<Self, LayoutError> {
        let cluster = Cluster::new(kafka);
        let admin = Admin::new(&cluster, kafka.partitions, kafka.replication_factor)?;
        Ok(Self { admin, cluster, registry: Arc::new(Registry::new(registry)?), topics })
    }

    /// The topics' administrator.
    #[must_use]
    pub const fn admin(&self) -> &Admin {
        &self.admin
    }

    /// A decoder of any record.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        Decoder::new(Arc::clone(&self.registry))
    }

    /// Looks once: the encoders, and what an operator should know.
    ///
    /// # Errors
    /// When something is away, missing or wrong.
    pub async fn look(&self) -> Result<(Encoders, Vec<Warning>), LayoutError> {
        let report = self.admin.check(&self.topics).await?;
        if !report.faults.is_empty() {
            return Err(LayoutError::Topics(report.faults));
        }
        Ok((self.encoders().await?, report.warnings))
    }

    /// The encoders of all topics, by the ids the registry has for our schemas.
    ///
    /// # Errors
    /// When the registry is away or lacks a schema.
    pub async fn encoders(&self) -> Result<Encoders, LayoutError> {
        let mut encoders = HashMap::new();
        for topic in &self.topics {
            let subject = topic.subject(self.cluster.prefix());
            let id = self
                .registry
                .lookup(&subject, topic.schema)
                .await?
                .ok_or(LayoutError::NotRegistered { subject, schema: topic.schema })?;
            let encoder = Encoder::new(topic.schema, id)?;
            // Most records are of these: the first ones after a start must not wait for a registry that is slow, or gone.
            let (id, schema) = encoder.writes();
            self.registry.remember(id, schema);
            encoders.insert(topic.name.clone(), encoder);
        }
        Ok(Encoders(encoders))
    }

    /// Registers every schema that is missing, each subject fixed to `FULL_TRANSITIVE`; names the subjects with their
    /// ids. Refuses before it registers anything where one of ours is incompatible with what is there.
    ///
    /// # Errors
    /// When the registry is away, refuses, or has incompatible versions.
    pub async fn apply_schemas(&self) -> Result<Vec<(String, u32)>, LayoutError> {
        let subjects: Vec<(String, &'static str)> =
            self.topics.iter().map(|topic| (topic.subject(self.cluster.prefix()), topic.schema)).collect();
        for (subject, schema) in &subjects {
            // The registry compares by the subject's own level, and a lax one lets everything in.
            self.registry.require_full_transitive(subject).await?;
            if !self.registry.is_compatible(subject, schema).await? {
                return Err(LayoutError::Incompatible { subject: subject.clone(), schema });
            }
        }
        let mut registered = Vec::with_capacity(subjects.len());
        for (subject, schema) in subjects {
            let id = self.registry.register(&subject, schema).await?;
            // Some registries know no level of a subject without versions.
            self.registry.require_full_transitive(&subject).await?;
            registered.push((subject, id));
        }
        Ok(registered)
    }

    /// The partitions of a topic (without prefix) as the cluster has them. Blocks.
    ///
    /// # Errors
    /// When the cluster is away.
    pub fn partitions_of(&self, topic: &str) -> Result<Vec<Partition>, LayoutError> {
        Ok(self.admin.partitions(&self.cluster.topic(topic))?)
    }

    /// Looks until everything is there; `waiting` hears why not, each time. None when told to stop.
    ///
    /// # Errors
    /// When something is missing or wrong: waiting would not help.
    pub async fn ready(
        &self,
        stop: &CancellationToken,
        waiting: impl Fn(&str),
    ) -> Result<Option<Encoders>, LayoutError> {
        let mut pause = Duration::from_millis(100);
        loop {
            let looked = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                looked = self.look() => looked,
            };
            match looked {
                Ok((encoders, _)) => return Ok(Some(encoders)),
                Err(error) if error.is_away() => waiting(&error.to_string()),
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
            }
        }
    }
}

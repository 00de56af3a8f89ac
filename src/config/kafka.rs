//! `[kafka]` and `[schema_registry]`: where the records live.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::checks;
use super::fault::Complaint;
use super::reader::{Reader, not};
use super::secret::{self, Secret};
use super::tree::{Node, Table, Value};
use super::values::text;

/// `[kafka]`: the brokers, and how topics are named and laid out.
#[derive(Clone, PartialEq, Eq)]
pub struct Kafka {
    /// Brokers to ask first, each `host:port`; at least one.
    pub bootstrap_servers: Vec<String>,
    /// What every topic and consumer group begins with.
    pub topic_prefix: String,
    /// Partitions of topics that `topics apply` creates.
    pub partitions: i32,
    /// Copies of each partition of topics that `topics apply` creates.
    pub replication_factor: i32,
    /// Further librdkafka properties for every client, secrets among them in clear: `Debug` shows the names alone.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("topic_prefix", &self.topic_prefix)
            .field("partitions", &self.partitions)
            .field("replication_factor", &self.replication_factor)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// `[schema_registry]`: any Confluent-compatible registry.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaRegistry {
    /// Its base URL, http or https.
    pub url: String,
    /// How to log in.
    pub auth: RegistryAuth,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

/// How the schema registry knows us.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistryAuth {
    /// It does not ask.
    None,
    /// HTTP basic authentication.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

const ACKNOWLEDGED: &str = "an acknowledged event is durable";
const ONCE: &str = "an event is routed once";
const COMPLETE: &str = "nothing vanishes";
const ORDERED: &str = "one entity's records stay in order";

/// Properties that would break a promise, with that promise; `*` stands for any ending.
const REFUSED: [(&str, &str); 29] = [
    ("acks", ACKNOWLEDGED),
    ("request.required.acks", ACKNOWLEDGED),
    ("message.timeout.ms", ACKNOWLEDGED),
    ("delivery.timeout.ms", ACKNOWLEDGED),
    ("request.timeout.ms", ACKNOWLEDGED),
    ("retries", ACKNOWLEDGED),
    ("message.send.max.retries", ACKNOWLEDGED),
    ("message.max.bytes", ACKNOWLEDGED),
    ("linger.ms", ACKNOWLEDGED),
    ("queue.buffering.max.ms", ACKNOWLEDGED),
    // Without reports of success no event would ever count as acknowledged.
    ("delivery.report.*", ACKNOWLEDGED),
    // A cluster made up by the client acknowledges and keeps nothing.
    ("test.*", ACKNOWLEDGED),
    ("enable.idempotence", ONCE),
    ("isolation.level", ONCE),
    ("group.*", ONCE),
    // A follower may tell an end of `seen` behind which there are markers.
    ("client.rack", ONCE),
    ("session.timeout.ms", ONCE),
    ("heartbeat.interval.ms", ONCE),
    ("transactional.*", ONCE),
    ("transaction.*", ONCE),
    ("enable.auto.*", COMPLETE),
    ("auto.commit.*", COMPLETE),
    ("auto.offset.reset", COMPLETE),
    ("offset.store.*", COMPLETE),
    ("partitioner", ORDERED),
    ("max.in.flight*", ORDERED),
    ("queuing.strategy", ORDERED),
    ("bootstrap.servers", ""),
    ("metadata.broker.list", ""),
];

impl Kafka {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let bootstrap_servers = r.texts("bootstrap_servers", checks::host_port);
        if r.clean("bootstrap_servers") && bootstrap_servers.is_empty() {
            r.fault("bootstrap_servers", Complaint::new("names no broker"));
        }
        let kafka = Self {
            bootstrap_servers,
            topic_prefix: r.text("topic_prefix", topic_prefix),
            // More than a broker is asked for in one go only by mistake; each partition costs open files.
            partitions: r.number("partitions", 1..=1_000),
            replication_factor: r.number("replication_factor", 1..=9),
            properties: properties(&mut r),
        };
        r.finish();
        kafka
    }
}

impl SchemaRegistry {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let registry = Self {
            url: r.text("url", checks::url),
            auth: r.optional_section("auth").map_or(RegistryAuth::None, RegistryAuth::read),
            timeout: r.duration("timeout", Duration::from_millis(100)..=Duration::from_secs(300)),
        };
        r.finish();
        registry
    }
}

impl RegistryAuth {
    fn read(mut r: Reader<'_>) -> Self {
        let bearer = r.has("token");
        let basic = r.has("user") || r.has("password");
        if bearer == basic {
            let complaint = Complaint::new(if bearer { "says two ways to log in" } else { "says no way to log in" });
            r.fault("", complaint.hint("either `user` and `password`, or `token`"));
        }
        for key in ["user", "password"] {
            if basic && !bearer && !r.has(key) {
                r.missing(key, "basic authentication takes `user` and `password`");
            }
        }
        let token = r.optional_secret("token");
        let user = r.optional_text("user", checks::some);
        let password = r.optional_secret("password");
        // Whatever falls to the last arm has a fault on record.
        let auth = match (token, user, password) {
            (Some(token), None, None) => Self::Bearer(token),
            (None, Some(user), Some(password)) => Self::Basic { user, password },
            _ => Self::None,
        };
        r.finish();
        auth
    }
}

/// Letters, digits, `.`, `_`, `-`, and short enough that prefix, name and a target's name fit Kafka's 249.
fn topic_prefix(text: &str) -> Result<(), Complaint> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !text.is_empty() && text.len() <= 100 && text.bytes().all(inside) && !text.starts_with('.') {
        return Ok(());
    }
    Err(Complaint::new("cannot begin a topic's name").hint("up to 100 of letters, digits, `.`, `_`, `-`"))
}

fn properties(r: &mut Reader<'_>) -> BTreeMap<String, String> {
    let table = r.require("properties", "", |node| match node.value {
        Value::Table(table) => Ok(table),
        other => Err(not("a table", &other)),
    });
    let mut flat = Vec::new();
    flatten("", table.unwrap_or_default(), &mut flat);
    let mut properties = BTreeMap::new();
    for (name, node) in flat {
        let place = node.place.clone();
        match property(&name, node, r.cx.env) {
            Ok(value) => {
                properties.insert(name, value);
            }
            Err(complaint) => r.cx.fault(&place, &r.path_of(&format!("properties.{name}")), complaint),
        }
    }
    properties
}

/// `security.protocol = ".."` without quotes around the key is a table in TOML: both spellings are meant alike.
fn flatten(path: &str, table: Table, flat: &mut Vec<(String, Node)>) {
    for (key, node) in table {
        let name = if path.is_empty() { key } else { format!("{path}.{key}") };
        match node.value {
            Value::Table(below) => flatten(&name, below, flat),
            value => flat.push((name, Node { value, place: node.place })),
        }
    }
}

fn property(name: &str, node: Node, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Complaint> {
    if let Some(promise) = refused(name) {
        if promise.is_empty() {
            return Err(Complaint::new("is not set here").hint("use `kafka.bootstrap_servers`"));
        }
        return Err(Complaint::new(format!("is refused: it would break the promise that {promise}"))
            .hint("leave it out: the program sets what the promise needs"));
    }
    let value = match node.value {
        Value::Integer(number) => return Ok(number.to_string()),
        Value::Flag(flag) => return Ok(flag.to_string()),
        _ => text(node)?,
    };
    if !secret::is_reference(&value) && !holds_secret(name) {
        return Ok(value);
    }
    let secret = secret::resolve(&value, env)?;
    let text = secret.expose_str().ok_or_else(|| Complaint::new("leads to a secret that is not UTF-8 text"))?;
    Ok(text.to_owned())
}

fn refused(name: &str) -> Option<&'static str> {
    let hit = REFUSED.iter().find(|(pattern, _)| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *pattern,
    });
    hit.map(|(_, promise)| *promise)
}

/// librdkafka's names of passwords, passphrases, client secrets and private keys.
fn holds_secret(name: &str) -> bool {
    name.ends_with("password") || name.ends_with("passphrase") || name.ends_with("secret") || name.ends_with("key.pem")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_promise_is_refused() {
        for name in [
            "acks",
            "enable.idempotence",
            "partitioner",
            "isolation.level",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "group.id",
            "group.instance.id",
            "session.timeout.ms",
            "client.rack",
            "transactional.id",
            "transaction.timeout.ms",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "request.timeout.ms",
            "message.max.bytes",
            "max.in.flight",
            "delivery.report.only.error",
            "test.mock.num.brokers",
            "max.in.flight.requests.per.connection",
            "bootstrap.servers",
            "metadata.broker.list",
        ] {
            assert!(refused(name).is_some(), "{name}");
        }
        for name in [
            "client.id",
            "security.protocol",
            "sasl.mechanisms",
            "ssl.ca.location",
            "socket.keepalive.enable",
            "compression.type",
        ] {
            assert_eq!(refused(name), None, "{name}");
        }
    }
}

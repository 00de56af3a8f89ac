//! A new configuration for a running process: what changes at once, what waits for a restart, and all or nothing.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::AppError;
use crate::config::{Config, Faults, Receiver, Source};
use crate::receiver::Live;
use crate::telemetry::Metrics;

/// What a reload can change, and what runs now.
pub(super) struct Reload {
    /// What runs now: of a new configuration only what was taken from it.
    config: Config,
    receiver: Option<watch::Sender<Arc<Live>>>,
    metrics: Arc<Metrics>,
}

impl Reload {
    pub(super) fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        warn_of_certificate(&config);
        Self { config, receiver: None, metrics }
    }

    /// What the receiver judges requests by, from now on kept up to date.
    pub(super) fn receiver(&mut self) -> Result<watch::Receiver<Arc<Live>>, AppError> {
        let live = Live::new(&self.config.receiver, self.config.sources.values())?;
        let (say, heard) = watch::channel(Arc::new(live));
        self.receiver = Some(say);
        Ok(heard)
    }

    /// Takes a new configuration over, or says why not. With a fault in it nothing changes.
    pub(super) fn take(&mut self, read: Result<Config, Faults>) {
        let outcome = match self.apply(read) {
            Ok(waiting) => {
                for option in waiting {
                    tracing::warn!(option, "changed in the configuration, and takes effect at the next start");
                }
                tracing::info!("configuration reloaded");
                "applied"
            }
            Err(faults) => {
                for fault in &faults {
                    tracing::error!(%fault, "fault in the new configuration");
                }
                tracing::error!(faults = faults.len(), "configuration not reloaded: the one before stays");
                "refused"
            }
        };
        self.metrics.config_reloads.with_label_values(&[outcome]).inc();
    }

    fn apply(&mut self, read: Result<Config, Faults>) -> Result<Vec<String>, Vec<String>> {
        let new = read.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let (config, waiting) = merge(&self.config, &new);
        // Made before anything is replaced: it is the last thing that can fail.
        if let Some(receiver) = &self.receiver {
            let live = Live::new(&config.receiver, config.sources.values()).map_err(|error| vec![error.to_string()])?;
            receiver.send_replace(Arc::new(live));
        }
        warn_of_certificate(&config);
        self.config = config;
        Ok(waiting)
    }
}

fn warn_of_certificate(config: &Config) {
    let tls = config.receiver.tls.as_ref();
    if let Some(why) = tls.and_then(|tls| tls.identity.outdated(Timestamp::now())) {
        tracing::warn!(option = "receiver.tls.certificate", "{why}");
    }
}

/// What runs from now on, and the options that differ from it until a restart.
///
/// The receiver's listener, limits and Kafka clients are made once; a source that comes or goes needs topics, and a
/// consumer in the router; targets hold what they have in flight. Settings of the sources there are, certificates and
/// proxies are looked up per request. A producer alone keeps the record timeout of the deadline it was made for: after a
/// shorter one, a record that was not waited for may still arrive beside its copy in the spool, or after its 503, as after
/// any lost acknowledgement; after a longer one it is given up early, and goes to the spool.
fn merge(running: &Config, new: &Config) -> (Config, Vec<String>) {
    let mut next = running.clone();
    next.receiver.trusted_proxies = new.receiver.trusted_proxies.clone();
    // Plain or TLS is the listener's; what is asked of clients' certificates comes and goes with it.
    let same_listener = running.receiver.tls.is_some() == new.receiver.tls.is_some();
    if same_listener {
        next.receiver.tls = new.receiver.tls.clone();
    }
    for (name, source) in &mut next.sources {
        if let Some(new) = new.sources.get(name) {
            let client = if same_listener { new } else { &*source }.client.clone();
            // The routes are the router's, which maps by those it started with.
            *source = Source { routes: source.routes.clone(), client, ..new.clone() };
        }
    }
    let waiting = differences(&next, new);
    (next, waiting)
}

/// Options in which two configurations differ, of those that a reload does not take over. Every field is named, so that
/// a new one cannot be forgotten.
fn differences(running: &Config, new: &Config) -> Vec<String> {
    let Config {
        data_dir,
        kafka,
        schema_registry,
        receiver,
        router,
        delivery,
        sources,
        routes,
        targets,
        lake,
        admin,
        sandbox: _,
        log,
        shutdown,
    } = running;
    let Receiver {
        listen,
        header_timeout,
        body_timeout,
        idle_timeout,
        max_header_bytes,
        max_in_flight,
        max_connections,
        linger,
        trusted_proxies: _,
        tls,
        spool,
    } = receiver;
    let mut found: Vec<String> = [
        ("data_dir", *data_dir != new.data_dir),
        ("kafka", *kafka != new.kafka),
        ("schema_registry", *schema_registry != new.schema_registry),
        ("receiver.listen", *listen != new.receiver.listen),
        ("receiver.header_timeout", *header_timeout != new.receiver.header_timeout),
        ("receiver.body_timeout", *body_timeout != new.receiver.body_timeout),
        ("receiver.idle_timeout", *idle_timeout != new.receiver.idle_timeout),
        ("receiver.max_header_bytes", *max_header_bytes != new.receiver.max_header_bytes),
        ("receiver.max_in_flight", *max_in_flight != new.receiver.max_in_flight),
        ("receiver.max_connections", *max_connections != new.receiver.max_connections),
        ("receiver.linger", *linger != new.receiver.linger),
        ("receiver.spool", *spool != new.receiver.spool),
        // Whether there is TLS at all; what is in it was taken over.
        ("receiver.tls", tls.is_some() != new.receiver.tls.is_some()),
        ("router", *router != new.router),
        ("delivery", *delivery != new.delivery),
        ("routes", *routes != new.routes),
        ("lake", *lake != new.lake),
        ("admin", *admin != new.admin),
        ("log", *log != new.log),
        ("shutdown", *shutdown != new.shutdown),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(option, _)| option.to_owned())
    .collect();
    for (name, source) in sources {
        match new.sources.get(name) {
            None => found.push(format!("sources.{name}")),
            Some(new) if source.routes != new.routes => found.push(format!("sources.{name}.routes")),
            Some(_) => {}
        }
    }
    found.extend(new.sources.keys().filter(|name| !sources.contains_key(*name)).map(|name| format!("sources.{name}")));
    found.extend(
        targets
            .iter()
            .filter(|(name, target)| new.targets.get(*name) != Some(*target))
            .map(|(name, _)| format!("targets.{name}")),
    );
    found.extend(new.targets.keys().filter(|name| !targets.contains_key(*name)).map(|name| format!("targets.{name}")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[sources.accelex]\nsecrets = [{ id = \"a\", value = \"env:A\" }]\n[targets.sandbox]\nrecords = [\"invoices\"]\nstart = \"now\"\n";

    fn config(text: &str, secret: &str) -> Config {
        let secret = secret.to_owned();
        Config::parse(text, "t.toml", &move |_| Some(secret.clone()), &[]).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn with(more: &str) -> Config {
        // What stands in front of the first table keeps its own.
        config(&format!("{more}\n{BASE}"), "s")
    }

    #[test]
    fn what_changes_at_once() {
        let running = with("");
        let (same, waiting) = merge(&running, &running.clone());
        assert_eq!((format!("{same:?}"), waiting), (format!("{running:?}"), vec![]));

        let text = BASE.replacen(
            "\n[targets",
            "\nallow_ips = true\nmax_body = \"1KiB\"\npath = \"/p\"\ndeadline = \"3s\"\n[targets",
            1,
        );
        let new = config(&format!("[receiver]\ntrusted_proxies = [\"10.0.0.0/8\"]\n{text}"), "new");
        let (next, waiting) = merge(&running, &new);
        // The other secret of the target's kind is not taken over; sandbox has none.
        assert_eq!(waiting, Vec::<String>::new());
        let source = &next.sources["accelex"];
        assert_eq!((source.max_body, source.path.as_str(), source.addresses.is_some()), (1024, "/p", true));
        assert_eq!((source.secrets[0].value.expose(), source.deadline.as_secs()), (b"new".as_slice(), 3));
        assert!(next.receiver.trusted_proxies.contains("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn what_waits_for_a_restart_is_named_and_not_taken() {
        for (more, waiting) in [
            ("data_dir = \"x\"", "data_dir"),
            ("[kafka]\npartitions = 3", "kafka"),
            ("[kafka.properties]\n\"client.id\" = \"x\"", "kafka"),
            ("[schema_registry]\nurl = \"http://r/\"", "schema_registry"),
            ("[schema_registry.auth]\ntoken = \"env:T\"", "schema_registry"),
            ("[receiver]\nlisten = \"127.0.0.1:1\"", "receiver.listen"),
            ("[receiver]\nheader_timeout = \"1s\"", "receiver.header_timeout"),
            ("[receiver]\nbody_timeout = \"1s\"", "receiver.body_timeout"),
            ("[receiver]\nidle_timeout = \"1s\"", "receiver.idle_timeout"),
            ("[receiver]\nmax_header_bytes = \"8KiB\"", "receiver.max_header_bytes"),
            ("[receiver]\nmax_in_flight = 1", "receiver.max_in_flight"),
            ("[receiver]\nmax_connections = 1", "receiver.max_connections"),
            ("[receiver]\nlinger = \"1ms\"", "receiver.linger"),
            ("[router]\nbatch_events = 1", "router"),
            ("[delivery]\nread_ahead = 1", "delivery"),
            ("[sources.accbooks]\nsecrets = [{ id = \"a\", value = \"env:A\" }]", "sources.accbooks"),
            ("[targets.sandbox.retry]\nfirst = \"2s\"", "targets.sandbox"),
            (
                "[targets.other]\npreset = \"sandbox\"\nrecords = [\"cases\"]\nstart = \"now\"\nurl = \"http://h/\"",
                "targets.other",
            ),
            ("[lake]\nnamespace = \"other\"", "lake"),
            ("[admin]\ntoken = \"env:T\"", "admin"),
            ("[log]\nlevel = \"debug\"", "log"),
            ("[shutdown]\nbudget = \"1s\"", "shutdown"),
            (
                "[[routes]]\nsource = \"accelex\"\nevent_type = \"x\"\nrecord = \"cases\"\nmembers = \"/o\"\nentity = \"/i\"",
                "routes",
            ),
        ] {
            let (running, new) = (with(""), with(more));
            let (next, found) = merge(&running, &new);
            assert_eq!(found, [waiting], "{more}");
            assert_eq!(format!("{next:?}"), format!("{running:?}"), "{more}");
            // The other way round too: taken out of the file again.
            assert_eq!(merge(&new, &running).1, [waiting], "{more}");
        }
    }

    #[test]
    fn a_secret_that_waits_is_named_too() {
        let (running, new) = (config("[admin]\ntoken = \"env:T\"", "old"), config("[admin]\ntoken = \"env:T\"", "new"));
        assert_eq!(merge(&running, &new).1, ["admin"]);
        assert_eq!(merge(&running, &running.clone()).1, Vec::<String>::new());
    }
}

//! One broker and one schema registry for the whole test binary, started by the first test that asks.
//!
//! Three ways, forced by `LEDGERHOOK_KAFKA`: `docker` (containers), `jvm` (`scripts/kafka`), `external`
//! (`LEDGERHOOK_KAFKA_BOOTSTRAP` and `LEDGERHOOK_REGISTRY_URL`). Without it: external where a bootstrap address is given,
//! docker where an engine has the images, jvm otherwise. Tests keep apart by topic prefix.
//!
//! Nothing outlives the test process, not even after `kill -9`: a watcher in a process group of its own holds the reading
//! end of a pipe, which the kernel closes together with this process, and then clears away what was started.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use testcontainers_modules::kafka::apache::Kafka;
use testcontainers_modules::testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers_modules::testcontainers::core::IntoContainerPort;
use testcontainers_modules::testcontainers::runners::AsyncRunner;
use testcontainers_modules::testcontainers::{ContainerAsync, GenericImage, ImageExt};

const KAFKA_VERSION: &str = "4.3.1";
const REGISTRY_VERSION: &str = "3.0.9";
/// A start takes several times longer on a busy machine than on an idle one.
const START: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(200);

/// Where the broker and the registry of this test run are.
#[derive(Debug)]
pub(crate) struct Servers {
    /// `host:port` of the broker.
    pub(crate) bootstrap: String,
    /// Address of the registry's Confluent-compatible API, without a trailing slash.
    pub(crate) registry_url: String,
    /// `docker`, `jvm` or `external`.
    pub(crate) way: &'static str,
}

static SERVERS: OnceLock<Result<Servers, String>> = OnceLock::new();

/// The servers, started on first use. Blocks until they are ready; may be called from any thread, also inside a runtime.
///
/// # Panics
/// When they cannot be started: with the same message for every test, since a second try would fail the same way.
pub(crate) fn servers() -> &'static Servers {
    let started = SERVERS.get_or_init(|| {
        // A thread of its own: the caller may already be inside a runtime, which must not block on another one.
        let result = thread::spawn(start).join().unwrap_or_else(|_| Err(anyhow!("the starting thread panicked")));
        result.map_err(|e| format!("{e:#}"))
    });
    match started {
        Ok(servers) => servers,
        Err(e) => panic!("no Kafka to test against: {e}"),
    }
}

fn start() -> Result<Servers> {
    let (way, why) = choose()?;
    let servers = match way {
        "docker" => docker()?,
        "jvm" => jvm()?,
        _ => external()?,
    };
    // Past the capture of test output: whoever runs the tests should see what they ran against.
    let _ = writeln!(
        std::io::stderr(),
        "Kafka by way of {} ({why}): {}, {}",
        servers.way,
        servers.bootstrap,
        servers.registry_url
    );
    Ok(servers)
}

fn choose() -> Result<(&'static str, String)> {
    let forced = env::var("LEDGERHOOK_KAFKA").unwrap_or_default();
    match forced.as_str() {
        "docker" => return Ok(("docker", "LEDGERHOOK_KAFKA says so".into())),
        "jvm" => return Ok(("jvm", "LEDGERHOOK_KAFKA says so".into())),
        "external" => return Ok(("external", "LEDGERHOOK_KAFKA says so".into())),
        "" => {}
        other => bail!("LEDGERHOOK_KAFKA is '{other}': use docker, jvm or external"),
    }
    if env::var_os("LEDGERHOOK_KAFKA_BOOTSTRAP").is_some() {
        return Ok(("external", "LEDGERHOOK_KAFKA_BOOTSTRAP is set".into()));
    }
    if !succeeds("docker", &["info"]) {
        return Ok(("jvm", "no container engine answers".into()));
    }
    for image in [kafka_image(), registry_image()] {
        if !has_image(&image) {
            return Ok(("jvm", format!("the engine has no image {}:{}", image.0, image.1)));
        }
    }
    Ok(("docker", "an engine answers and has the images".into()))
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let status =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success())
}

fn has_image((name, tag): &(String, String)) -> bool {
    succeeds("docker", &["image", "inspect", &format!("{name}:{tag}")])
}

/// Name and tag: the one in `variable`; otherwise the public image, or the one of `scripts/kafka-image` where only that is here.
fn image(variable: &str, public: &str, own: &str, version: &str) -> (String, String) {
    if let Ok(given) = env::var(variable) {
        // A colon before the last slash belongs to a registry's port.
        return match given.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((name, tag)) => (name.into(), tag.into()),
            None => (given, "latest".into()),
        };
    }
    let [public, own] = [public, own].map(|name| (name.to_owned(), version.to_owned()));
    if !has_image(&public) && has_image(&own) { own } else { public }
}

fn kafka_image() -> (String, String) {
    image("LEDGERHOOK_KAFKA_IMAGE", "apache/kafka", "ledgerhook/kafka", KAFKA_VERSION)
}

fn registry_image() -> (String, String) {
    image("LEDGERHOOK_REGISTRY_IMAGE", "apicurio/apicurio-registry", "ledgerhook/registry", REGISTRY_VERSION)
}

fn external() -> Result<Servers> {
    let given = |name: &str| env::var(name).with_context(|| format!("the external way needs {name}"));
    let registry_url = given("LEDGERHOOK_REGISTRY_URL")?.trim_end_matches('/').to_owned();
    Ok(Servers { bootstrap: given("LEDGERHOOK_KAFKA_BOOTSTRAP")?, registry_url, way: "external" })
}

fn jvm() -> Result<Servers> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
    let dir = tempfile::Builder::new().prefix("ledgerhook-it-").tempdir()?.keep();
    after_our_death("\"$1\" down --purge --dir \"$2\"; rm -rf \"$2\"", &[script.clone(), dir.clone()])?;
    let out = Command::new(&script)
        .args([Path::new("up"), Path::new("--dir"), &dir])
        .env("LEDGERHOOK_KAFKA", "jvm")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    ensure!(out.status.success(), "scripts/kafka up: {}", String::from_utf8_lossy(&out.stderr).trim());
    let written = std::fs::read_to_string(dir.join("servers.env")).context("reading servers.env of scripts/kafka")?;
    let value = |key: &str| {
        let line = written.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned).with_context(|| format!("servers.env of scripts/kafka has no {key}"))
    };
    Ok(Servers { bootstrap: value("KAFKA_BOOTSTRAP")?, registry_url: value("REGISTRY_URL")?, way: "jvm" })
}

fn docker() -> Result<Servers> {
    let mark = format!("ledgerhook-it-{}", std::process::id());
    // The pause is for a container that the engine was still making when this process died.
    let clear = "clear() { docker ps -aq --filter \"label=$1\" | xargs -r docker rm -fv; }; clear \"$1\"; sleep 5; clear \"$1\"";
    after_our_death(clear, &[PathBuf::from(&mark)])?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(containers(&mark))
}

async fn containers(mark: &str) -> Result<Servers> {
    let (name, tag) = kafka_image();
    let kafka = Kafka::default()
        .with_jvm_image()
        .with_name(&name)
        .with_tag(&tag)
        // The module leaves these at what a cluster of three wants.
        .with_env_var("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
        .with_env_var("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
        .with_env_var("KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS", "4")
        .with_env_var("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "4")
        .with_env_var("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        .with_env_var("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        .with_env_var("KAFKA_MESSAGE_MAX_BYTES", "4259840")
        .with_env_var("KAFKA_REPLICA_FETCH_MAX_BYTES", "4259840")
        .with_label(mark, "kafka")
        .with_host_config_modifier(|c| loopback(c, 9092))
        .with_startup_timeout(START);
    let (name, tag) = registry_image();
    let registry = GenericImage::new(&name, &tag)
        .with_exposed_port(8080.tcp())
        .with_label(mark, "registry")
        .with_host_config_modifier(|c| loopback(c, 8080))
        .with_startup_timeout(START);
    let (kafka, registry) = tokio::try_join!(kafka.start(), registry.start()).context("starting the containers")?;
    let bootstrap = format!("127.0.0.1:{}", kafka.get_host_port_ipv4(9092.tcp()).await?);
    let registry_url = format!("http://127.0.0.1:{}/apis/ccompat/v7", registry.get_host_port_ipv4(8080.tcp()).await?);
    // Dropping a container removes it; these two end with the process, by the watcher's hand.
    let _: (&ContainerAsync<Kafka>, &ContainerAsync<GenericImage>) =
        (Box::leak(Box::new(kafka)), Box::leak(Box::new(registry)));

    let mut polls = START.as_millis() / POLL.as_millis();
    while http("GET", &format!("{registry_url}/subjects"), "").ok() != Some(200) {
        polls = polls.checked_sub(1).context("the registry's container did not become ready")?;
        tokio::time::sleep(POLL).await;
    }
    // Apicurio's own default lets every schema in.
    let status = http("PUT", &format!("{registry_url}/config"), r#"{"compatibility":"FULL_TRANSITIVE"}"#)?;
    ensure!(status == 200, "the registry answered {status} to FULL_TRANSITIVE");
    Ok(Servers { bootstrap, registry_url, way: "docker" })
}

/// Publishes one port, to this machine alone: by default every interface would have it.
fn loopback(config: &mut HostConfig, port: u16) {
    let binding = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: None };
    config.publish_all_ports = Some(false);
    config.port_bindings = Some([(format!("{port}/tcp"), Some(vec![binding]))].into());
}

/// The status of one request; plain HTTP, enough for a registry on this machine.
fn http(method: &str, url: &str, body: &str) -> Result<u16> {
    let (host, path) =
        url.strip_prefix("http://").and_then(|u| u.split_once('/')).context("not a plain HTTP address")?;
    let address = host.to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    write!(
        stream,
        "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(std::str::from_utf8(&head[9..])?.parse()?)
}

/// Runs `script` with `args` as soon as this process is gone, however it went.
pub(crate) fn after_our_death(script: &str, args: &[PathBuf]) -> Result<()> {
    // Of the pipe, this process holds the only writing end and never writes: `cat` ends when the kernel closes it.
    let mut watcher = Command::new("sh")
        .args(["-c", &format!("trap '' HUP INT TERM; cat >/dev/null; {script}"), "watcher"])
        .args(args)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("starting the watcher")?;
    let pipe = watcher.stdin.take().context("the watcher has no pipe")?;
    std::mem::forget(pipe);
    Ok(())
}

//! Brokers and a registry of a test's own, to be killed and frozen.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::Path;
use std::process::{Command, Stdio};

use super::cannot;

/// Brokers and one registry by way of `scripts/kafka`, ended with this.
pub(crate) struct OwnServers {
    dir: tempfile::TempDir,
    /// How many brokers.
    pub(crate) nodes: usize,
    pub(crate) bootstrap: String,
    pub(crate) registry_url: String,
}

impl OwnServers {
    /// Starts one broker; none, with a line that says so, where this machine has no Java.
    pub(crate) fn start() -> Option<Self> {
        Self::cluster(1)
    }

    /// As [`OwnServers::start`], with so many brokers.
    pub(crate) fn cluster(nodes: usize) -> Option<Self> {
        if Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            cannot("no Java, so no broker of this test's own (Debian: openjdk-17-jdk-headless)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ledgerhook-own-").tempdir().unwrap();
        script(dir.path(), &["up", "--nodes", &nodes.to_string()]);
        let written = std::fs::read_to_string(dir.path().join("servers.env")).unwrap();
        let value =
            |key: &str| written.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap().to_owned();
        Some(Self { bootstrap: value("KAFKA_BOOTSTRAP"), registry_url: value("REGISTRY_URL"), nodes, dir })
    }

    /// Kills the one broker: `kill -9`.
    pub(crate) fn kill(&self) {
        self.kill_node(1);
    }

    /// Kills a broker, the first of which is 1.
    pub(crate) fn kill_node(&self, node: i32) {
        script(self.dir.path(), &["kill", &node.to_string()]);
    }

    /// Starts the one broker again, where it was, with its data.
    pub(crate) fn restart(&self) {
        self.restart_node(1);
    }

    /// Starts a broker again.
    pub(crate) fn restart_node(&self, node: i32) {
        script(self.dir.path(), &["restart", &node.to_string()]);
    }

    /// Stops the broker's process without ending it: connections stay open, and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let file = std::fs::read_to_string(self.dir.path().join("node1/pid")).unwrap();
        let pid = file.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        script(self.dir.path(), &["down", "--purge"]);
    }
}

fn script(dir: &Path, args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
    let mut command = Command::new(script);
    command.args(args).arg("--dir").arg(dir).env("LEDGERHOOK_KAFKA", "jvm").stdin(Stdio::null());
    let out = command.output().unwrap();
    assert!(out.status.success() || std::thread::panicking(), "{}", String::from_utf8_lossy(&out.stderr));
}

//! The sections of the process as a whole: `[admin]`, `[sandbox]`, `[log]`, `[shutdown]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::fault::{Complaint, did_you_mean};
use super::reader::Reader;
use super::secret::Secret;

/// `[admin]`: metrics, health and API of every process.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Its address. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Bearer token that the API asks for; always there when `listen` is not loopback.
    pub token: Option<Secret>,
}

/// `[sandbox]`: the local stand-in for business systems.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its address. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Key of the Standard Webhooks signature that deliveries must have; none: they need no signature.
    pub signing_secret: Option<Secret>,
    /// Documents, and requests, that it can show; of older ones it keeps the counts and the ids.
    pub max_documents: usize,
}

/// `[log]`: what is logged, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or a comma-separated list of levels with or without a module: `info,rdkafka=warn`.
    pub level: String,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[shutdown]`: the way down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Time from SIGTERM to the end of the process, all stages together.
    pub budget: Duration,
}

impl Admin {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let has_token = r.has("token");
        let admin = Self { listen: r.listen("listen"), token: r.optional_secret("token") };
        if !admin.listen.ip().is_loopback() && !has_token {
            let complaint = Complaint::new("is reachable from other machines, and no token protects it");
            r.fault("listen", complaint.hint("set `admin.token`, or listen on 127.0.0.1"));
        }
        r.finish();
        admin
    }
}

impl Sandbox {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let sandbox = Self {
            listen: r.listen("listen"),
            signing_secret: r.optional_secret("signing_secret"),
            max_documents: r.number("max_documents", 1..=1_000_000),
        };
        r.finish();
        sandbox
    }
}

impl Log {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log =
            Self { format: r.choice("format", &formats).unwrap_or(LogFormat::Text), level: r.text("level", level) };
        r.finish();
        log
    }
}

impl Shutdown {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let shutdown = Self { budget: r.duration("budget", Duration::from_secs(1)..=Duration::from_secs(600)) };
        r.finish();
        shutdown
    }
}

fn level(text: &str) -> Result<(), Complaint> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !LEVELS.contains(&level) {
            let hint = did_you_mean(level, LEVELS);
            let hint = hint.unwrap_or_else(|| format!("levels are {}", LEVELS.join(", ")));
            return Err(Complaint::new(format!("has no level `{level}`")).hint(hint));
        }
    }
    Ok(())
}

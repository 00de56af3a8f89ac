//! Structured logs on standard error; standard output is for what a command prints.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The Kafka library writes several lines a second for as long as a broker is away. Roles say the same once per change.
const QUIET: &str = "librdkafka=off,rdkafka=off";

/// Starts logging; `filter` as in `RUST_LOG`, e.g. `info` or `ledgerhook::router=debug`. The Kafka library's own lines
/// are left out unless the filter names it. A second call does nothing.
pub fn start(format: Format, filter: &str) {
    let whole = if filter.contains("rdkafka") { filter.to_owned() } else { format!("{filter},{QUIET}") };
    let filter = EnvFilter::try_new(whole).unwrap_or_else(|_| EnvFilter::new(format!("info,{QUIET}")));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    // Only tests start it twice.
    drop(started);
}

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

/// The Kafka library writes several lines a second for as long as a broker is away; roles say the same once per change.
const KAFKA: &str = "librdkafka=off,rdkafka=off";
/// The store of ids tells of every table it makes; why one could not be written is told by it alone.
const STORE: &str = "lsm_tree=warn,fjall=warn";

/// Starts logging; `filter` as in `RUST_LOG`, e.g. `info` or `ledgerhook::router=debug`. The Kafka library's own lines,
/// and what the store of ids tells, are left out unless the filter names them (`rdkafka`, `lsm_tree`). A second call does
/// nothing.
pub fn start(format: Format, filter: &str) {
    let filter = EnvFilter::try_new(quieted(filter)).unwrap_or_else(|_| EnvFilter::new(quieted("info")));
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

fn quieted(filter: &str) -> String {
    // Whoever asks for less than warnings is not to get more of the store.
    let is_less = |level: &str| ["off", "error"].iter().any(|less| level.trim().eq_ignore_ascii_case(less));
    let mut whole = filter.to_owned();
    for (less, is_left_out) in
        [(KAFKA, !filter.contains("rdkafka")), (STORE, !filter.contains("lsm_tree") && !filter.split(',').any(is_less))]
    {
        if is_left_out {
            whole = format!("{whole},{less}");
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_left_out_unless_it_is_named() {
        for (filter, whole) in [
            ("info", "info,librdkafka=off,rdkafka=off,lsm_tree=warn,fjall=warn"),
            ("info,librdkafka=debug", "info,librdkafka=debug,lsm_tree=warn,fjall=warn"),
            ("lsm_tree=trace", "lsm_tree=trace,librdkafka=off,rdkafka=off"),
            ("off", "off,librdkafka=off,rdkafka=off"),
            ("Error,ledgerhook=info", "Error,ledgerhook=info,librdkafka=off,rdkafka=off"),
        ] {
            assert_eq!(quieted(filter), whole);
            assert!(EnvFilter::try_new(whole).is_ok());
        }
    }
}

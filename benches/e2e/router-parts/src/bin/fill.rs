//! Writes rows as fast as the broker takes them.
//!
//! `fill events CONFIG FIRST ROWS REPEATS` writes rows of `received`, each the event of its number, or, with REPEATS
//! `repeats`, one of ten a repeat of an earlier one; `fill seen CONFIG ROWS` markers of the events from 0 on, as routed
//! a minute ago; `fill peer BROKERS TOPIC ROWS` the same ids as the peer's changelog has them.

use anyhow::bail;
use ledgerhook::event::Timestamp;
use router_parts::{Events, SOURCE, Writer, ground, id, with_repeats};

/// Fills batches: nobody waits for a single row.
const LINGER_MS: u32 = 50;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["events", config, first, rows, repeats] => {
            let (config, ground) = ground(config)?;
            let mut events = Events::new(&ground)?;
            let brokers = config.kafka.bootstrap_servers.join(",");
            let writer = Writer::new(&brokers, &ground.cluster.topic(&format!("received.{SOURCE}")), LINGER_MS)?;
            let first: u64 = first.parse()?;
            for row in first..first + rows.parse::<u64>()? {
                let row = events.row(if *repeats == "repeats" { with_repeats(row) } else { row })?;
                writer.write(row.key.as_bytes(), &row.value, Some(row.headers))?;
            }
            writer.done()
        }
        ["seen", config, rows] => {
            let (config, ground) = ground(config)?;
            let mut events = Events::new(&ground)?;
            let brokers = config.kafka.bootstrap_servers.join(",");
            let writer = Writer::new(&brokers, &ground.cluster.topic(&format!("seen.{SOURCE}")), LINGER_MS)?;
            let then = Timestamp::from_micros(Timestamp::now().as_micros() - 60_000_000);
            for n in 0..rows.parse()? {
                let (key, value) = events.marker(n, then)?;
                writer.write(key.as_bytes(), &value, None)?;
            }
            writer.done()
        }
        ["peer", brokers, topic, rows] => {
            let writer = Writer::new(brokers, topic, LINGER_MS)?;
            let then = Timestamp::now().as_millis() - 60_000;
            for n in 0..rows.parse()? {
                writer.write(id(n).as_bytes(), &then.to_be_bytes(), None)?;
            }
            writer.done()
        }
        _ => bail!(
            "fill events CONFIG FIRST ROWS repeats|distinct | fill seen CONFIG ROWS | fill peer BROKERS TOPIC ROWS"
        ),
    }
}

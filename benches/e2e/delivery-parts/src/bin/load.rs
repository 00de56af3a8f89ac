//! Writes records, and reads from the target what became of them.
//!
//! `load fill CONFIG FIRST RECORDS KEYS CROWDED` writes records as fast as the broker takes them.
//! `load trickle CONFIG FIRST RATE SECONDS KEYS TARGET` writes them in an open loop: record n is due at n / RATE, and its
//! time counts from there to its arrival at the target, however late anything was. Key 0's are left out: they may be
//! the poisoned ones.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use delivery_parts::{Keys, Records, TOPIC};
use router_parts::{Writer, ground};

/// Fills batches: nobody waits for a single row.
const FILL_LINGER_MS: u32 = 50;
/// As the router's own rows wait, at most.
const LINGER_MS: u32 = 1;
/// After the last record was written: longer than anything is away.
const AWAY_MICROS: u64 = 120_000_000;
/// Between two looks for the last ones.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fill", config, first, records, keys, crowded] => {
            let (config, ground) = ground(config)?;
            let mut made = Records::new(&ground, Keys { all: keys.parse()?, crowded: crowded.parse()? })?;
            let brokers = config.kafka.bootstrap_servers.join(",");
            let writer = Writer::new(&brokers, &ground.cluster.topic(TOPIC), FILL_LINGER_MS)?;
            let first: u64 = first.parse()?;
            for n in first..first + records.parse::<u64>()? {
                let row = made.row(n)?;
                writer.write(row.key.as_bytes(), &row.value, Some(row.headers))?;
            }
            writer.done()
        }
        ["trickle", config, first, rate, seconds, keys, target] => {
            trickle(config, first.parse()?, rate.parse()?, seconds.parse()?, keys.parse()?, target)
        }
        _ => bail!(
            "load fill CONFIG FIRST RECORDS KEYS CROWDED | load trickle CONFIG FIRST RATE SECONDS KEYS TARGET"
        ),
    }
}

fn trickle(config: &str, first: u64, rate: f64, seconds: f64, keys: u64, target: &str) -> anyhow::Result<()> {
    let keys = Keys { all: keys, crowded: 0 };
    let (config, ground) = ground(config)?;
    let mut made = Records::new(&ground, keys)?;
    let brokers = config.kafka.bootstrap_servers.join(",");
    let writer = Writer::new(&brokers, &ground.cluster.topic(TOPIC), LINGER_MS)?;
    let records = (rate * seconds) as u64;
    let began = now_micros()? + 200_000;
    let due = |n: u64| began + (n as f64 / rate * 1e6) as u64;
    for n in 0..records {
        if let wait @ 1.. = due(n).saturating_sub(now_micros()?) {
            std::thread::sleep(Duration::from_micros(wait));
        }
        let row = made.row(first + n)?;
        writer.write(row.key.as_bytes(), &row.value, Some(row.headers))?;
    }
    writer.done()?;
    let others: Vec<u64> = (0..records).filter(|n| keys.of(first + n) != 0).collect();
    // Records of key 0 may or may not come, so their number is none to wait for.
    let until = now_micros()? + AWAY_MICROS;
    let arrivals = loop {
        let arrivals = get(target, "/_arrivals")?;
        let arrivals: Vec<u64> = arrivals.lines().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(arrivals.len() as u64 >= records, "the target was told of fewer records");
        if now_micros()? > until || others.iter().all(|n| arrivals.get(*n as usize).is_some_and(|at| *at > 0)) {
            break arrivals;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let at = |n: &u64| arrivals.get(*n as usize).copied().filter(|at| *at > 0);
    let lost = others.iter().filter(|n| at(n).is_none()).count();
    let mut millis: Vec<f64> =
        others.iter().filter_map(|n| Some(at(n)?.saturating_sub(due(*n)) as f64 / 1000.0)).collect();
    millis.sort_unstable_by(f64::total_cmp);
    let percentile =
        |percent: usize| millis.get((millis.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
    println!(
        "records={records} lost={lost} p50={:.1} p99={:.1} max={:.1}",
        percentile(50),
        percentile(99),
        percentile(100)
    );
    Ok(())
}

fn now_micros() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

/// What the target says there.
fn get(target: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(target).with_context(|| format!("reaching the target at {target}"))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: target\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(body.to_owned())
}

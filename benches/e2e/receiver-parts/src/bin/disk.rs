//! What the disk itself bears: write a batch, fdatasync, again; one writer, into a file whose bytes are written before.
//!
//! `disk FILE EVENTS BYTES SECONDS`: batches of EVENTS entries of BYTES each.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use anyhow::bail;

/// The file: as long as a spool's segment, written again from its start when it is full.
const FILE: usize = 16 << 20;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, events, bytes, seconds] = args.as_slice() else { bail!("disk FILE EVENTS BYTES SECONDS") };
    let (events, bytes): (usize, usize) = (events.parse()?, bytes.parse()?);
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    file.write_all_at(&vec![0; FILE], 0)?;
    file.sync_all()?;
    let batch = vec![b'x'; events * bytes];
    let (mut at, mut micros) = (0, Vec::new());
    let began = Instant::now();
    while began.elapsed() < seconds {
        let start = Instant::now();
        file.write_all_at(&batch, at as u64)?;
        file.sync_data()?;
        micros.push(start.elapsed().as_micros() as u64);
        at = if at + 2 * batch.len() > FILE { 0 } else { at + batch.len() };
    }
    let rate = (micros.len() * events) as f64 / began.elapsed().as_secs_f64();
    micros.sort_unstable();
    let percentile = |percent: usize| micros.get(micros.len() * percent / 100).map_or(0.0, |m| *m as f64 / 1000.0);
    println!("rate={rate:.0} p50={:.2} p99={:.2}", percentile(50), percentile(99));
    Ok(())
}

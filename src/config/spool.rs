//! `[receiver.spool]`: where events wait on disk while Kafka is away.

use std::path::PathBuf;

use super::checks;
use super::fault::Complaint;
use super::reader::Reader;

/// `[receiver.spool]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Whether there is one; without it an outage of Kafka is answered 503.
    pub enabled: bool,
    /// Its folder; none: `spool` in the data directory.
    pub dir: Option<PathBuf>,
    /// Most bytes that it takes on the disk.
    pub max_size: u64,
    /// Bytes of one of its files, the unit in which it is read and removed.
    pub segment_size: u64,
    /// Most events per second sent to Kafka from it.
    pub drain_rate: u32,
}

impl Spool {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let spool = Self {
            enabled: r.flag("enabled"),
            dir: r.optional_text("dir", checks::some).map(PathBuf::from),
            max_size: r.size("max_size", 1 << 20..=1 << 44, ""),
            // One is held in memory while it is drained.
            segment_size: r.size("segment_size", 1 << 20..=1 << 26, ""),
            drain_rate: r.number("drain_rate", 1..=1_000_000),
        };
        if r.clean("max_size") && r.clean("segment_size") && spool.max_size < spool.segment_size {
            let complaint = Complaint::new("is less than one segment").hint("raise it, or lower `segment_size`");
            r.fault_between("max_size", "segment_size", complaint);
        }
        r.finish();
        spool
    }
}

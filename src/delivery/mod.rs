//! Records to targets: in order per key, once at the target, one bad thing stopping one thing.
//!
//! | | |
//! |---|---|
//! | reads | the record topics of each target and `redeliver.<target>`, as consumer group `delivery.<target>`; `progress.<target>` and `parked.<target>` when partitions are gained; `control` |
//! | writes | `attempts`, `dead-letters`, `parked.<target>`, `progress.<target>` and the group's offsets, always in one transaction; windows and confirmed pauses to `control` |
//! | promise | a target sees the records of one key in the order of the topic, retries included (G4); none is left out (G3); a failing record holds its key, a failing target itself (G5); a repeat obeys what the target offers against a second document (G6) |
//! | on failure | what is not committed is repeated: at most `max_unsettled` records, each one in doubt |
//! | metrics | `delivery_attempts_total`, `delivery_lag_seconds`, `delivery_parked_keys`, `delivery_retention_seconds`, `target_state` |
//!
//! # The protocol
//!
//! ```text
//! record topic --> plan --> try --> outcome --+--> one transaction: attempts, dead-letters, parked, progress, offsets
//!                   ^  ^                      |
//!                   |  +---- parked heads, when due (fetched from `parked` where not in memory)
//!                   +------- what was waiting for the commit
//! ```
//!
//! A *lane* is one key of one partition. Of a lane only the head is tried, and the record behind it only when the end of
//! the head is committed: so a crash repeats no record whose successor was sent. A lane is *live*, its records open in
//! the record topic, or *parked*, its records in `parked`:
//!
//! ```text
//!            delivered, given up                 failed: with all its successors, in order
//!   live ----------------------> next record  live ------------------------------------> parked
//!   parked, due --> tried --delivered, given up--> next record at once --none left--> live
//!                         \-failed--> parked, due later
//! ```
//!
//! What is parked holds up neither the position nor memory: contents beyond a bound are dropped and fetched by their
//! place in `parked`. New records of a parked key queue behind. What the target as a whole is at fault for (no
//! connection, refused credentials, a rate limit, failure upon failure) parks nothing and gives nothing up: the window
//! closes, and when its time is over one try at a time asks whether the target works again.
//!
//! Windows and an operator's pause go through `control` to every instance of the target: it is read to its end before
//! the first try. A window has its end for a name, so that a word that the target works, late on its way, ends none that
//! was opened since; of all instances the one that opened it asks whether the target works again. A pause is confirmed
//! when nothing of before it is under way. While a window is open or the target is paused, nothing becomes a dead letter,
//! and the clock that gives records up stands still.
//!
//! A step changes memory first and Kafka with the next transaction. Steps that end together share one: it is due as soon
//! as something waits for it, a little later where others are ready to take every place, soon where nothing else is under
//! way, at the latest after `commit_every`. It is made beside the work: what ends meanwhile is for the next one. It holds
//!
//! | row | when |
//! |---|---|
//! | `attempts` | a try ended |
//! | `dead-letters` | a record is given up, or cannot be decoded |
//! | `parked` | a head failed (with its tries and times), a record queued behind one; a tombstone when it is finished |
//! | `progress` | anything changed in its partition: next offset, what is open above it, what may have been sent |
//! | the group's offsets | those that moved, or else one: it proves that the partitions are ours |
//!
//! A *redelivery* is a record that an operator asks for again, in the partition of `redeliver` that goes with its own. It
//! waits in a room until no live record is ready and its replay's rate allows it, comes in behind all that its key has,
//! and is parked there: it is sent when that is committed, and its place among the others outlives a crash. What may
//! have been sent before is in doubt, so that it is looked for first. What is older than what the target has had of its
//! entity is left out, unless the replay says otherwise; the end of one that was a dead letter settles that.
//!
//! # Failure at each step
//!
//! - *Before the transaction commits* nothing of it happened: the successor restores `progress` and `parked`, reads on
//!   from there and repeats what was under way. It cannot park or dead-letter twice, nor skip.
//! - *The outcome of a commit is unknown*: the session ends, and the next one restores what is there.
//! - *Someone else has the partitions*: the transaction fails by the group's generation, memory is dropped. Who stood
//!   still for half a session's time commits before it sends.
//! - *Partitions are gained*: progress is read to its true end, rows of the predecessor's last transaction included. Open
//!   records below `sent_below` may have been sent: they count as repeats. A bound is committed before a record beyond it
//!   is sent. What is written when the predecessor begins no try any more is free of that doubt, though below the bound:
//!   the partition's end is asked for then. Unless the predecessor gave them back in order, or was this very instance, its
//!   requests are waited for, and those that it begins unaware, for as long as its last commit lets it.
//! - *The broker forgot the group's offsets*: `progress` counts. *The record is gone* (retention): the target stops and
//!   says so.
//! - *Kafka is away*: nothing is sent, since nothing could be written down.
//!
//! What stays: a process frozen in the middle of a send, or a target that acts later than it says, can double where
//! looking up is all that the target offers. A record whose end was not committed before a crash may have an older
//! redelivery of its entity behind it; it is then sent again, and stands in the end. Where `on_stale` is "deliver", what
//! the target has had is asked for with the replay's command and remembered by the instance alone.
//!
//! | file | what |
//! |---|---|
//! | `engine` | what a try means for record, key and target: the pure core, with `plan`, `lane`, `queue` (which record goes next), `progress` (how far a partition is), `places` (where parked rows stand), `tally` (how much is in memory), `repeat` (what doubt asks for), `room` (redeliveries that wait), `ends` (from where on no earlier owner sent anything), `latest` (what comes too late), `schedule` (what follows from a try), `window`, `breaker`, `bucket` (when the target may be tried) |
//! | `engine/tests` | the core in thousands of random histories of faults, crashes, freezes and rebalances |
//! | `task`, `attempt` | a record as read; one try |
//! | `rows`, `commit` | rows, and the transaction they go in |
//! | `restore`, `shelf` | what is known of partitions gained; parked records fetched |
//! | `worker`, `intake`, `results` | the loop of one target, on a thread of its own; what it reads; what comes back to it |
//! | `state`, `retention`, `clock` | what is said of targets; how far the reader is from losing records; one moment on both clocks |
//! | `run` | all targets side by side |
//!
//! Limits hold per target: each instance takes the share that goes with its partitions.

mod attempt;
mod breaker;
mod bucket;
mod clock;
mod commit;
mod committer;
mod confer;
mod ends;
mod engine;
mod error;
mod intake;
mod lane;
mod latest;
mod notices;
mod places;
mod plan;
mod progress;
mod queue;
mod repeat;
mod restore;
mod results;
mod retention;
mod room;
mod rows;
mod run;
mod schedule;
mod shelf;
mod state;
mod tally;
mod task;
mod window;
mod worker;

pub use error::Error;
pub use run::{Settings, run};

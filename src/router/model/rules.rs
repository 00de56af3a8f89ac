//! How the router is built: the rules that the model checks, and what can be put in their place.

/// What a restore takes for the end of `seen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Asked for by a read_uncommitted client.
    HighWatermark,
    /// What a read_committed client calls its high watermark.
    LastStable,
}

/// When a restore has read up to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// When its position has come there.
    ByPosition,
    /// When it is said that the partition ends.
    BySaying,
}

/// In which order a restore fetches the committed offset, establishes the end and reads up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    OffsetEndRead,
    EndOffsetRead,
    EndReadOffset,
}

/// When the group metadata of a batch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    WithBatch,
    AtCommit,
}

/// What is done with the metadata of a client that is no member (generation -1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unjoined {
    /// Nothing is collected or sent without membership.
    NeverUsed,
    /// Sent; the broker looks for the static member behind the instance id.
    WithInstanceId,
    /// Sent; the broker takes offsets that name neither member nor instance from anyone.
    Bare,
}

/// When a batch becomes part of the local state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    AfterCommit,
    BeforeCommit,
}

/// When partitions are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// When the transaction has ended; what was collected beyond it is dropped.
    WhenEnded,
    /// At once: the transaction's thread goes on with its batch.
    AtOnce,
}

/// How the router is built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Two transactional ids take turns, so that a transaction need not wait for the markers of the one before.
    pub(super) alternate: bool,
    /// The next batch is collected and decided while one commits.
    pub(super) pipelined: bool,
    pub(super) end: End,
    pub(super) ended: Ended,
    pub(super) order: Order,
    /// Committed offsets are asked for only when no commit of them is pending.
    pub(super) require_stable: bool,
    pub(super) metadata: Metadata,
    pub(super) unjoined: Unjoined,
    pub(super) merge: Merge,
    pub(super) release: Release,
    /// What was collected behind a batch goes with it when it is aborted.
    pub(super) drops_successor: bool,
    /// The coordinator ends transactions at their timeout.
    pub(super) transactions_expire: bool,
}

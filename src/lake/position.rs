//! How far a table is: the next offset of every topic partition, kept in the table itself by the same commit that adds
//! the rows. And what a table as found says of that: pure.
//!
//! It stands twice: in a property of the table, which other engines carry along and no expiry of snapshots removes, and
//! in the summary of the snapshot that brought the rows. The two differ when somebody moved the table to another
//! snapshot: a rollback takes rows away and leaves the property.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of the property, and of the same member of snapshot summaries.
pub(super) const POSITION: &str = "ledgerhook.position";
/// Id of the last commit of ours, likewise.
pub(super) const COMMIT: &str = "ledgerhook.commit";

/// How far a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Id of the Kafka cluster.
    pub(super) cluster: String,
    /// Topics without prefix.
    pub(super) topics: BTreeMap<String, TopicPosition>,
}

/// How far a table is in one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicPosition {
    /// Which topic of that name: see [`crate::kafka::identity`].
    pub(super) id: Uuid,
    /// Partition to the offset of the next record.
    pub(super) next: BTreeMap<i32, i64>,
}

impl Position {
    /// The form in a table: always the same text for the same position.
    pub(super) fn text(&self) -> String {
        // Maps of text and numbers: nothing that JSON lacks.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The next offset of a partition; none where it was never read.
    pub(super) fn next(&self, topic: &str, partition: i32) -> Option<i64> {
        self.topics.get(topic).and_then(|topic| topic.next.get(&partition)).copied()
    }

    fn is_empty(&self) -> bool {
        self.topics.values().all(|topic| topic.next.is_empty())
    }
}

/// A snapshot, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// Its id.
    pub(super) id: i64,
    /// What it did: append, replace, overwrite, delete.
    pub(super) operation: String,
    /// The position in its summary.
    pub(super) position: Option<String>,
    /// Whether it had one before it.
    pub(super) has_parent: bool,
}

/// What a table says of how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) position: Position,
    /// Snapshots of others since our last one, the newest first: those that did more than to arrange files anew.
    pub(super) others: Vec<(i64, String)>,
}

/// Why a table may not be written to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Moved {
    #[error("was not made by Ledgerhook: it has no property {POSITION}. Choose another `lake.namespace`, or drop it")]
    Foreign,
    #[error(
        "has a property {POSITION} that cannot be read: {0}. Set it to its value in the current snapshot's summary"
    )]
    Unreadable(String),
    #[error(
        "was moved to another snapshot (rolled back, or made anew by another engine): its rows are those of {snapshot}, its property {POSITION} is of a later commit. To go on from the rows that are there, so that what was taken away is written again, set the property to {to}; to keep what was taken away from coming back, roll forward to the snapshot that has the property's value; `ledgerhook lake rebuild` makes the table anew"
    )]
    RolledBack { snapshot: String, to: String },
    #[error(
        "was replaced: no snapshot of Ledgerhook leads to its current one, and its property {POSITION} says that rows were written. `ledgerhook lake rebuild` makes it anew"
    )]
    Replaced,
    #[error(
        "belongs to the Kafka cluster {table}, and this is {here}: its offsets mean nothing here. Choose another `lake.namespace`"
    )]
    OtherCluster { table: String, here: String },
    #[error(
        "has rows of another topic under the name {topic}, which was made anew since: offsets began again. Choose another `lake.namespace`, or `ledgerhook lake rebuild`, which starts from what the topic holds"
    )]
    OtherTopic { topic: String },
}

/// What a table says: its property, and its current snapshot with all before it that are known, the newest first.
///
/// # Errors
/// Why it may not be written to.
pub(super) fn judge(property: Option<&str>, past: &[Past]) -> Result<Found, Moved> {
    let property = property.ok_or(Moved::Foreign)?;
    let position = Position::parse(property).ok_or_else(|| Moved::Unreadable(property.to_owned()))?;
    let mut others = Vec::new();
    for snapshot in past {
        match &snapshot.position {
            Some(text) if Position::parse(text).as_ref() == Some(&position) => return Ok(Found { position, others }),
            Some(text) => {
                return Err(Moved::RolledBack { snapshot: format!("snapshot {}", snapshot.id), to: text.clone() });
            }
            None if snapshot.operation != "replace" => others.push((snapshot.id, snapshot.operation.clone())),
            None => {}
        }
    }
    let to = || Position { cluster: position.cluster.clone(), topics: BTreeMap::new() }.text();
    match past.last() {
        _ if position.is_empty() => Ok(Found { position, others }),
        None => Err(Moved::RolledBack { snapshot: "no snapshot at all".to_owned(), to: to() }),
        // What lies before was expired, and ours with it.
        Some(oldest) if oldest.has_parent => Ok(Found { position, others }),
        Some(_) => Err(Moved::Replaced),
    }
}

/// Takes a table's position for this cluster and these topics.
///
/// # Errors
/// When it is another cluster's, or a topic is another one under its name.
pub(super) fn claim(position: Position, cluster: &str, topics: &[(String, Uuid)]) -> Result<Position, Moved> {
    if position.cluster != cluster {
        return Err(Moved::OtherCluster { table: position.cluster, here: cluster.to_owned() });
    }
    let mut position = position;
    for (topic, id) in topics {
        let known = position.topics.entry(topic.clone());
        let known = known.or_insert_with(|| TopicPosition { id: *id, next: BTreeMap::new() });
        if known.id != *id && !known.next.is_empty() {
            return Err(Moved::OtherTopic { topic: topic.clone() });
        }
        known.id = *id;
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn at(next: i64) -> Position {
        let next = BTreeMap::from([(0, next)]);
        Position { cluster: "c".to_owned(), topics: BTreeMap::from([("t".to_owned(), TopicPosition { id: A, next })]) }
    }

    fn ours(next: i64) -> Past {
        Past { id: next, operation: "append".to_owned(), position: Some(at(next).text()), has_parent: next > 1 }
    }

    fn other(operation: &str, has_parent: bool) -> Past {
        Past { id: 99, operation: operation.to_owned(), position: None, has_parent }
    }

    #[test]
    fn what_a_table_says() {
        let empty = Position { cluster: "c".to_owned(), topics: BTreeMap::new() };
        let fine = |position: Position, others: Vec<(i64, String)>| Ok(Found { position, others });
        let back =
            |snapshot: &str, to: Position| Err(Moved::RolledBack { snapshot: snapshot.to_owned(), to: to.text() });
        let append = || vec![(99, "append".to_owned())];
        let cases = [
            ("not ours", None, vec![], Err(Moved::Foreign)),
            ("new", Some(empty.text()), vec![], fine(empty.clone(), vec![])),
            (
                "rows of others before ours",
                Some(empty.text()),
                vec![other("append", false)],
                fine(empty.clone(), append()),
            ),
            ("ours", Some(at(2).text()), vec![ours(2), ours(1)], fine(at(2), vec![])),
            ("compacted", Some(at(2).text()), vec![other("replace", true), ours(2)], fine(at(2), vec![])),
            ("edited", Some(at(2).text()), vec![other("append", true), ours(2)], fine(at(2), append())),
            ("compacted, ours expired", Some(at(2).text()), vec![other("replace", true)], fine(at(2), vec![])),
            ("rolled back", Some(at(2).text()), vec![ours(1)], back("snapshot 1", at(1))),
            (
                "rolled back, then compacted",
                Some(at(2).text()),
                vec![other("replace", true), ours(1)],
                back("snapshot 1", at(1)),
            ),
            ("rolled back to nothing", Some(at(2).text()), vec![], back("no snapshot at all", empty.clone())),
            ("replaced", Some(at(2).text()), vec![other("overwrite", false)], Err(Moved::Replaced)),
            ("unreadable", Some("?".to_owned()), vec![], Err(Moved::Unreadable("?".to_owned()))),
        ];
        for (what, property, past, verdict) in cases {
            assert_eq!(judge(property.as_deref(), &past), verdict, "{what}");
        }
    }

    #[test]
    fn whose_offsets_they_are() {
        let topics = |id| vec![("t".to_owned(), id), ("u".to_owned(), B)];
        let taken = claim(at(5), "c", &topics(A)).unwrap();
        assert_eq!((taken.next("t", 0), taken.next("t", 1), taken.next("u", 0)), (Some(5), None, None));
        assert_eq!(taken.topics["u"].id, B);
        assert!(matches!(claim(at(5), "d", &topics(A)), Err(Moved::OtherCluster { .. })));
        assert!(matches!(claim(at(5), "c", &topics(B)), Err(Moved::OtherTopic { .. })));
        let unread = claim(Position { cluster: "c".to_owned(), topics: BTreeMap::new() }, "c", &topics(A)).unwrap();
        assert_eq!(claim(unread, "c", &topics(B)).unwrap().topics["t"].id, B, "nothing was read of the former one");
    }
}

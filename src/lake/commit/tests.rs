//! Commits that succeed, fail, or leave it open, on a catalog of SQLite and local files.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use iceberg::{Error, ErrorKind, Namespace, NamespaceIdent, Result, TableCommit, TableCreation, TableIdent};

use super::*;
use crate::config::{Config, Lake};
use crate::event::{FeedRecord, Sha256, Timestamp};
use crate::lake::batch::Rows;
use crate::lake::files;
use crate::lake::memory::Memory;
use crate::lake::plan::Plan;
use crate::lake::position::TopicPosition;
use crate::lake::table::{Opened, Wanted};
use crate::lake::{catalog, datum::Avro, schema, table};

const TOPIC: Uuid = Uuid::from_u128(7);
const WAIT: Duration = Duration::from_secs(60);

fn lake(dir: &tempfile::TempDir) -> Lake {
    let at = dir.path().display();
    let text = format!("[lake]\nwarehouse = \"file:{at}/w\"\ncatalog = {{ uri = \"sqlite:{at}/c.db\" }}\n");
    Config::parse(&text, "t", &|_| None, &[]).unwrap_or_else(|faults| panic!("{faults}")).lake
}

fn feeds() -> Wanted {
    let avro = Avro::parse(crate::avro::Schema::ours("FeedRecord").unwrap().tree()).unwrap();
    Wanted { name: "feeds".to_owned(), topics: vec!["feeds".to_owned()], schema: schema::of(&avro).unwrap() }
}

fn at(next: i64) -> Position {
    let next = BTreeMap::from([(0, next)]);
    let topics = BTreeMap::from([("feeds".to_owned(), TopicPosition { id: TOPIC, next })]);
    Position { cluster: "c".to_owned(), topics }
}

async fn open(catalog: &Arc<dyn Catalog>, lake: &Lake) -> Opened {
    table::open(catalog, &catalog::namespace(lake).unwrap(), &feeds(), None, "c").await.unwrap()
}

/// Files with these records, in no table yet.
async fn files(table: &Table, offsets: std::ops::Range<i64>) -> Vec<DataFile> {
    let ours = crate::avro::Schema::ours("FeedRecord").unwrap();
    let plan = Arc::new(Plan::new(&Avro::parse(ours.tree()).unwrap(), table.metadata().current_schema()).unwrap());
    let mut rows = Rows::new(Memory::new(1 << 20, 1).slabs(0));
    for offset in offsets {
        let json = serde_json::json!({
            "event_id": format!("e{offset}"), "source": "s", "event_type": "t", "entity_id": "x", "attributes": "{}",
        });
        let record = FeedRecord {
            event_id: json["event_id"].as_str().unwrap().to_owned(),
            source: "s".to_owned(),
            event_type: "t".to_owned(),
            entity_id: "x".to_owned(),
            occurred_at: None,
            received_at: Timestamp::from_micros(offset),
            body_sha256: Sha256::of(b""),
            work_unit_id: None,
            provenance: None,
            validation: vec![],
            attributes: json.to_string(),
            bank_feed_id: None,
            bank: None,
            transactions_imported: None,
            synced_at: None,
        };
        let datum = ours.write(&record, Vec::new()).unwrap();
        rows.add(&"feeds".into(), (0, offset), (plan.check(&datum).unwrap(), Arc::clone(&plan)), &datum);
    }
    files::write(table, Uuid::now_v7(), &mut rows, 1 << 20).await.unwrap()
}

fn records(table: &Table) -> i64 {
    let total = table.metadata().current_snapshot().map(|s| s.summary().additional_properties["total-records"].clone());
    total.map_or(0, |total| total.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_one_wins_each_round() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(&dir);
    let catalog = catalog::open(&lake).await.unwrap();
    let mut from = open(&catalog, &lake).await.found.position;
    for round in 0..8 {
        let to = at((round + 1) * 3);
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let (lake, from, to) = (lake.clone(), from.clone(), to.clone());
            writers.spawn(async move {
                let catalog = catalog::open(&lake).await.unwrap();
                let table = open(&catalog, &lake).await.table;
                let files = files(&table, round * 3..(round + 1) * 3).await;
                commit(&catalog, &table, Uuid::now_v7(), files, (&from, &to), WAIT).await.map(drop)
            });
        }
        let mut won = 0;
        while let Some(ended) = writers.join_next().await {
            match ended.unwrap() {
                Ok(()) => won += 1,
                Err(CommitError::Fenced(error)) => assert!(error.message().contains("batch begins at"), "{error}"),
                // A database that is busy for too long: as good as no answer.
                Err(CommitError::Unknown(_)) => {}
            }
        }
        let table = open(&catalog, &lake).await;
        assert!(won <= 1, "round {round}: {won} winners");
        assert_eq!((records(&table.table), &table.found.position), ((round + 1) * 3, &to), "round {round}");
        from = to;
    }
}

/// Each table of a lake is opened by a thread of its own: where there is no namespace yet, all of them make it.
#[tokio::test(flavor = "multi_thread")]
async fn writers_that_make_a_namespace_at_the_same_time_all_go_on() {
    for round in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let lake = lake(&dir);
        let first = catalog::open(&lake).await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (catalog, namespace) = (Arc::clone(&first), catalog::namespace(&lake).unwrap());
            let wanted = Wanted { name: format!("feeds_{writer}"), ..feeds() };
            writers.spawn(async move {
                table::open(&catalog, &namespace, &wanted, None, "c").await.map(|opened| opened.made)
            });
        }
        while let Some(opened) = writers.join_next().await {
            assert!(opened.unwrap().unwrap(), "round {round}");
        }
    }
}

/// A catalog that does not say what it did.
#[derive(Debug)]
struct Mute {
    inner: Arc<dyn Catalog>,
    /// Whether it does it.
    does: bool,
    /// Whether it answers at all.
    answers: bool,
    asked: AtomicU32,
}

#[async_trait]
impl Catalog for Mute {
    async fn update_table(&self, commit: TableCommit) -> Result<Table> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.does {
            self.inner.update_table(commit).await?;
        }
        if !self.answers {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::Unexpected, "the commit state is unknown"))
    }
    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        self.inner.load_table(table).await
    }
    async fn list_namespaces(&self, _: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        unreachable!()
    }
    async fn create_namespace(&self, _: &NamespaceIdent, _: HashMap<String, String>) -> Result<Namespace> {
        unreachable!()
    }
    async fn get_namespace(&self, _: &NamespaceIdent) -> Result<Namespace> {
        unreachable!()
    }
    async fn namespace_exists(&self, _: &NamespaceIdent) -> Result<bool> {
        unreachable!()
    }
    async fn update_namespace(&self, _: &NamespaceIdent, _: HashMap<String, String>) -> Result<()> {
        unreachable!()
    }
    async fn drop_namespace(&self, _: &NamespaceIdent) -> Result<()> {
        unreachable!()
    }
    async fn list_tables(&self, _: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        unreachable!()
    }
    async fn create_table(&self, _: &NamespaceIdent, _: TableCreation) -> Result<Table> {
        unreachable!()
    }
    async fn drop_table(&self, _: &TableIdent) -> Result<()> {
        unreachable!()
    }
    async fn purge_table(&self, _: &TableIdent) -> Result<()> {
        unreachable!()
    }
    async fn table_exists(&self, _: &TableIdent) -> Result<bool> {
        unreachable!()
    }
    async fn rename_table(&self, _: &TableIdent, _: &TableIdent) -> Result<()> {
        unreachable!()
    }
    async fn register_table(&self, _: &TableIdent, _: String) -> Result<Table> {
        unreachable!()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_end_is_read_back_from_the_table() {
    for (does, answers) in [(true, true), (false, true), (true, false), (false, false)] {
        let dir = tempfile::tempdir().unwrap();
        let lake = lake(&dir);
        let real = catalog::open(&lake).await.unwrap();
        let Opened { table, found, made } = open(&real, &lake).await;
        assert!(made);
        let mute = Arc::new(Mute { inner: Arc::clone(&real), does, answers, asked: AtomicU32::new(0) });
        let as_catalog: Arc<dyn Catalog> = Arc::clone(&mute) as _;
        let (first, second) = (files(&table, 0..2).await, files(&table, 0..2).await);
        let wait = if answers { WAIT } else { Duration::from_secs(2) };
        let ended = commit(&as_catalog, &table, Uuid::now_v7(), first, (&found.position, &at(2)), wait).await;
        assert!(matches!(ended, Err(CommitError::Unknown(_))), "{ended:?}");
        assert_eq!(mute.asked.load(Ordering::Relaxed), 1, "it is not repeated");

        let again = open(&real, &lake).await;
        assert_eq!((records(&again.table), again.found.position == at(2)), if does { (2, true) } else { (0, false) });
        // Had it been taken for lost, the fence would say otherwise.
        let blind = commit(&real, &table, Uuid::now_v7(), second, (&found.position, &at(2)), WAIT).await;
        assert_eq!(matches!(blind, Err(CommitError::Fenced(_))), does, "{blind:?}");
        assert_eq!(records(&open(&real, &lake).await.table), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_nested_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    let lake = lake(&dir);
    let catalog = catalog::open(&lake).await.unwrap();
    let namespace = catalog::namespace(&lake).unwrap();
    let tree = |fields: serde_json::Value, more: serde_json::Value| {
        let mut all = vec![
            serde_json::json!({"name": "received_at", "type": {"type": "long", "logicalType": "timestamp-micros"}}),
            serde_json::json!({"name": "source", "type": "string"}),
            serde_json::json!({"name": "event_id", "type": "string"}),
            serde_json::json!({"name": "lines", "default": [], "type": {"type": "array", "items":
                {"type": "record", "name": "L", "fields": fields}}}),
        ];
        all.extend(more.as_array().unwrap().iter().cloned());
        serde_json::json!({"type": "record", "name": "R", "fields": all})
    };
    let wanted =
        |tree: &serde_json::Value| Wanted { schema: schema::of(&Avro::parse(tree).unwrap()).unwrap(), ..feeds() };
    let x = serde_json::json!({"name": "x", "type": "int"});
    let y = serde_json::json!({"name": "y", "type": ["null", "string"], "default": null});
    let old = tree(serde_json::json!([x]), serde_json::json!([]));
    let new = tree(serde_json::json!([x, y]), serde_json::json!([y]));
    let before = table::open(&catalog, &namespace, &wanted(&old), None, "c").await.unwrap().table;
    let after = table::open(&catalog, &namespace, &wanted(&new), None, "c").await.unwrap().table;
    let id = |table: &Table, name: &str| table.metadata().current_schema().field_id_by_name(name);
    for name in ["received_at", "lines", "lines.element.x"] {
        assert_eq!(id(&before, name), id(&after, name), "{name} keeps its id");
    }
    assert!(id(&after, "y").is_some() && id(&after, "lines.element.y").is_some() && id(&before, "y").is_none());
    // A writer of the older version goes on with the newer table.
    assert!(table::open(&catalog, &namespace, &wanted(&old), None, "c").await.is_ok());
    let other = tree(serde_json::json!([{"name": "x", "type": "string"}]), serde_json::json!([]));
    let refused = table::open(&catalog, &namespace, &wanted(&other), None, "c").await.err().unwrap().to_string();
    assert!(
        refused.ends_with("column lines.element.x: the schema says string, the table has int"),
        "the reason is said: {refused}"
    );
}

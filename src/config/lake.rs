//! `[lake]`: where tables are, and how often they grow.

use std::time::Duration;

use super::checks;
use super::fault::{Complaint, Place};
use super::reader::Reader;
use super::secret::Secret;
use super::tree::{Node, Table, Value};

/// `[lake]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lake {
    /// Whether tables are written: where the configuration says anything of the lake, unless it says not to.
    pub enabled: bool,
    /// The catalog that says which files a table is made of.
    pub catalog: Catalog,
    /// Where files go: `file:PATH` or `s3://BUCKET/PREFIX`; for a REST catalog whatever it calls a warehouse.
    pub warehouse: String,
    /// Namespace of the tables; levels are separated by dots.
    pub namespace: String,
    /// Most bytes of records that all tables together hold before a commit.
    pub memory: u64,
    /// When a table is committed.
    pub commit: Commit,
    /// `[lake.s3]`.
    pub s3: S3,
}

/// `[lake.catalog]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// Which kind.
    pub kind: CatalogKind,
    /// Where it is: `sqlite:PATH`, `postgres://...`, or a URL.
    pub uri: String,
    /// Its name: a SQL catalog keeps tables under it.
    pub name: String,
    /// User and password of a SQL catalog in Postgres, as `user:password`.
    pub login: Option<Secret>,
    /// Bearer token of a REST catalog.
    pub token: Option<Secret>,
    /// OAuth 2 client credentials of a REST catalog, as `id:secret`.
    pub credential: Option<Secret>,
    /// Where OAuth 2 tokens are had; the catalog itself where it is not said.
    pub oauth2_server_uri: Option<String>,
    /// OAuth 2 scope.
    pub scope: Option<String>,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

/// Kinds of catalogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogKind {
    /// Two tables of a database, as PyIceberg's SQL catalog has them.
    Sql,
    /// The REST catalog protocol.
    Rest,
}

/// `[lake.commit]`: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Records of one table.
    pub rows: usize,
    /// Their bytes as they stand in Kafka.
    pub bytes: u64,
    /// Time since the first of them was read.
    pub every: Duration,
}

/// `[lake.s3]`: what the usual sources of AWS settings do not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct S3 {
    /// Address of a compatible store; none for AWS.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Whether the bucket stands in the path rather than in the host name.
    pub path_style: bool,
    /// Key id; without it the usual chain is asked (environment, profile, web identity, instance).
    pub access_key_id: Option<Secret>,
    /// Its secret.
    pub secret_access_key: Option<Secret>,
}

const KINDS: [(&str, CatalogKind); 2] = [("sql", CatalogKind::Sql), ("rest", CatalogKind::Rest)];
const SECOND: Duration = Duration::from_secs(1);

/// Whether the configuration itself, rather than the defaults alone, says anything of the lake and leaves `enabled` out.
pub(super) fn is_meant(root: &Table) -> bool {
    fn said(node: &Node) -> bool {
        match &node.value {
            Value::Table(table) => table.values().any(said),
            _ => !matches!(node.place, Place::BuiltIn { .. }),
        }
    }
    match root.get("lake").map(|node| &node.value) {
        Some(Value::Table(lake)) => !lake.get("enabled").is_some_and(said) && lake.values().any(said),
        _ => false,
    }
}

impl Lake {
    /// `meant`: see [`is_meant`].
    pub(super) fn read(mut r: Reader<'_>, meant: bool) -> Self {
        let lake = Self {
            enabled: r.flag("enabled") || meant,
            catalog: Catalog::read(r.section("catalog")),
            warehouse: r.text("warehouse", checks::some),
            namespace: r.text("namespace", namespace),
            memory: r.size("memory", 1 << 20..=1 << 36, ""),
            commit: Commit::read(r.section("commit")),
            s3: r.optional_section("s3").map(S3::read).unwrap_or_default(),
        };
        let store = lake.warehouse.starts_with("file:") || lake.warehouse.starts_with("s3://");
        if r.clean("warehouse") && lake.catalog.kind == CatalogKind::Sql && !store {
            let complaint = Complaint::new("is no place for files");
            r.fault("warehouse", complaint.hint("\"file:PATH\" or \"s3://BUCKET/PREFIX\""));
        }
        r.finish();
        lake
    }
}

impl Catalog {
    fn read(mut r: Reader<'_>) -> Self {
        let kind = r.choice("kind", &KINDS).unwrap_or(CatalogKind::Sql);
        let check = match kind {
            CatalogKind::Sql => database,
            CatalogKind::Rest => checks::url,
        };
        let catalog = Self {
            kind,
            uri: r.text("uri", check),
            name: r.text("name", checks::name),
            login: r.optional_secret("login"),
            token: r.optional_secret("token"),
            credential: r.optional_secret("credential"),
            oauth2_server_uri: r.optional_text("oauth2_server_uri", checks::url),
            scope: r.optional_text("scope", checks::some),
            timeout: r.duration("timeout", SECOND..=600 * SECOND),
        };
        if catalog.token.is_some() && catalog.credential.is_some() {
            r.fault("token", Complaint::new("stands beside `credential`").hint("a catalog is logged in to one way"));
        }
        r.finish();
        catalog
    }
}

impl Commit {
    fn read(mut r: Reader<'_>) -> Self {
        let commit = Self {
            // A file has one group of rows, of at most 1,048,576.
            rows: r.number("rows", 1..=1_000_000),
            bytes: r.size("bytes", 1 << 16..=1 << 32, ""),
            every: r.duration("every", SECOND / 10..=86_400 * SECOND),
        };
        r.finish();
        commit
    }
}

impl S3 {
    fn read(mut r: Reader<'_>) -> Self {
        let s3 = Self {
            endpoint: r.optional_text("endpoint", checks::url),
            region: r.optional_text("region", checks::some),
            path_style: r.optional_flag("path_style"),
            access_key_id: r.optional_secret("access_key_id"),
            secret_access_key: r.optional_secret("secret_access_key"),
        };
        if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
            let complaint = Complaint::new("is not there together with `secret_access_key`");
            r.fault("access_key_id", complaint.hint("give both, or neither for the usual chain"));
        }
        r.finish();
        s3
    }
}

/// Levels of a namespace: what every catalog and engine takes without quotes.
fn namespace(text: &str) -> Result<(), Complaint> {
    let level = |level: &str| {
        level.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && level.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if text.len() <= 128 && text.split('.').all(level) {
        return Ok(());
    }
    Err(Complaint::new("is not a usable namespace")
        .hint("a-z, 0-9 and `_`, beginning with a letter; dots between levels"))
}

/// A database for a SQL catalog. No message quotes it: it may carry a password.
fn database(text: &str) -> Result<(), Complaint> {
    if text.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty() && !path.contains('?')) {
        return Ok(());
    }
    let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) else {
        return Err(Complaint::new("is no database of a SQL catalog")
            .hint("\"sqlite:data/lake/catalog.db\" or \"postgres://host:5432/database\""));
    };
    if rest.contains('@') || rest.contains("password") {
        return Err(Complaint::new("has a user or password in it")
            .hint("give them as `login`, a reference to \"user:password\""));
    }
    Ok(())
}

//! Where a table's files are: this machine's disk, or S3 and what speaks like it.
//!
//! Both are written so that a file is durable before a commit names it. iceberg's own local storage, made for tests,
//! does not sync; its S3 storage comes with a second TLS library.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, OutputFile, S3_ACCESS_KEY_ID, S3_ENDPOINT, S3_PATH_STYLE_ACCESS,
    S3_REGION, S3_SECRET_ACCESS_KEY, S3_SESSION_TOKEN, Storage, StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use opendal::Operator;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::services::S3;
use serde::{Deserialize, Serialize};

/// Longest wait for one request to a store; a part of an upload is one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of one part of an upload.
const PART_BYTES: usize = 8 << 20;
const REGION: &str = "client.region";

/// Makes stores out of what the configuration, or a REST catalog, says of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stores;

/// A store: every place of a table by its URL.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Store {
    /// Keys among them: never shown, never serialised.
    #[serde(skip)]
    settings: HashMap<String, String>,
    #[serde(skip)]
    buckets: Arc<Mutex<HashMap<String, Operator>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// A file as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its URL, in the form that was listed.
    pub(super) url: String,
    /// When it was last written, milliseconds since 1970.
    pub(super) modified_ms: i64,
}

enum Place {
    File(PathBuf),
    Object(Operator, String),
}

#[typetag::serde]
impl StorageFactory for Stores {
    fn build(&self, config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(Store::new(config.props().clone())))
    }
}

fn failed(what: &str, url: &str, cause: impl Into<source::Cause>) -> Error {
    Error::new(ErrorKind::Unexpected, format!("{what} {url}")).with_source(cause.into().0)
}

/// What the library's errors take as their source.
mod source {
    pub(super) struct Cause(pub(super) std::io::Error);

    impl From<std::io::Error> for Cause {
        fn from(error: std::io::Error) -> Self {
            Self(error)
        }
    }

    impl From<opendal::Error> for Cause {
        fn from(error: opendal::Error) -> Self {
            Self(std::io::Error::other(error))
        }
    }
}

impl Store {
    /// A store with these settings, named as Iceberg names them.
    pub(super) fn new(settings: HashMap<String, String>) -> Self {
        Self { settings, buckets: Arc::default() }
    }

    fn place(&self, url: &str) -> Result<Place> {
        let invalid = || Error::new(ErrorKind::DataInvalid, format!("{url} is no place of a store"));
        if let Some(rest) = ["s3://", "s3a://", "s3n://"].iter().find_map(|scheme| url.strip_prefix(scheme)) {
            let (bucket, key) = rest.split_once('/').ok_or_else(invalid)?;
            return Ok(Place::Object(self.bucket(bucket)?, key.to_owned()));
        }
        let path = url.strip_prefix("file://").or_else(|| url.strip_prefix("file:")).unwrap_or(url);
        if path.starts_with('/') { Ok(Place::File(PathBuf::from(path))) } else { Err(invalid()) }
    }

    fn bucket(&self, name: &str) -> Result<Operator> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = buckets.get(name) {
            return Ok(known.clone());
        }
        let of = |key: &str| self.settings.get(key).map(String::as_str);
        let mut s3 = S3::default().bucket(name);
        if let Some(endpoint) = of(S3_ENDPOINT) {
            s3 = s3.endpoint(endpoint);
        }
        if let Some(region) = of(REGION).or(of(S3_REGION)) {
            s3 = s3.region(region);
        }
        if let (Some(id), Some(key)) = (of(S3_ACCESS_KEY_ID), of(S3_SECRET_ACCESS_KEY)) {
            s3 = s3.access_key_id(id).secret_access_key(key);
        }
        if let Some(token) = of(S3_SESSION_TOKEN) {
            s3 = s3.session_token(token);
        }
        if of(S3_PATH_STYLE_ACCESS) != Some("true") {
            s3 = s3.enable_virtual_host_style();
        }
        let made = Operator::new(s3).map_err(|error| failed("cannot use the bucket", name, error))?;
        let made = made
            .layer(TimeoutLayer::new().with_timeout(REQUEST_TIMEOUT).with_io_timeout(REQUEST_TIMEOUT))
            .layer(RetryLayer::new().with_jitter().with_max_times(4))
            .finish();
        buckets.insert(name.to_owned(), made.clone());
        Ok(made)
    }

    /// Every file below `url`.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn list(&self, url: &str) -> Result<Vec<Listed>> {
        let base = url.trim_end_matches('/');
        match self.place(&format!("{base}/"))? {
            Place::File(folder) => list_folder(&folder, base).map_err(|error| failed("cannot list", url, error)),
            Place::Object(bucket, key) => {
                let lister = bucket.lister_with(&key).recursive(true).await;
                let mut lister = lister.map_err(|error| failed("cannot list", url, error))?;
                let mut found = Vec::new();
                while let Some(entry) = lister.next().await {
                    let entry = entry.map_err(|error| failed("cannot list", url, error))?;
                    let (Some(name), true) = (entry.path().strip_prefix(&key), entry.metadata().is_file()) else {
                        continue;
                    };
                    let modified = entry.metadata().last_modified().map(|at| at.into_inner().as_millisecond());
                    // A file without an age is never old.
                    let modified_ms = modified.unwrap_or(i64::MAX);
                    found.push(Listed { url: format!("{base}/{name}"), modified_ms });
                }
                Ok(found)
            }
        }
    }
}

fn list_folder(folder: &Path, base: &str) -> std::io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let url = format!("{base}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            found.extend(list_folder(&entry.path(), &url)?);
        } else {
            let age = entry.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH);
            let modified_ms = age.ok().and_then(|age| i64::try_from(age.as_millis()).ok()).unwrap_or(i64::MAX);
            found.push(Listed { url, modified_ms });
        }
    }
    Ok(found)
}

#[async_trait]
#[typetag::serde]
impl Storage for Store {
    async fn exists(&self, url: &str) -> Result<bool> {
        match self.place(url)? {
            Place::File(path) => path.try_exists().map_err(|error| failed("cannot look for", url, error)),
            Place::Object(bucket, key) => {
                bucket.exists(&key).await.map_err(|error| failed("cannot look for", url, error))
            }
        }
    }

    async fn metadata(&self, url: &str) -> Result<FileMetadata> {
        let size = match self.place(url)? {
            Place::File(path) => std::fs::metadata(path).map_err(|error| failed("cannot look at", url, error))?.len(),
            Place::Object(bucket, key) => {
                bucket.stat(&key).await.map_err(|error| failed("cannot look at", url, error))?.content_length()
            }
        };
        Ok(FileMetadata { size })
    }

    async fn read(&self, url: &str) -> Result<Bytes> {
        match self.place(url)? {
            Place::File(path) => {
                std::fs::read(path).map(Bytes::from).map_err(|error| failed("cannot read", url, error))
            }
            Place::Object(bucket, key) => {
                let read = bucket.read(&key).await;
                read.map(|buffer| buffer.to_bytes()).map_err(|error| failed("cannot read", url, error))
            }
        }
    }

    async fn reader(&self, url: &str) -> Result<Box<dyn FileRead>> {
        Ok(match self.place(url)? {
            Place::File(path) => Box::new(LocalRead { url: url.to_owned(), path }),
            Place::Object(bucket, key) => {
                let reader = bucket.reader(&key).await.map_err(|error| failed("cannot read", url, error))?;
                Box::new(ObjectRead { url: url.to_owned(), reader })
            }
        })
    }

    async fn write(&self, url: &str, bytes: Bytes) -> Result<()> {
        let mut writer = self.writer(url).await?;
        writer.write(bytes).await?;
        writer.close().await
    }

    async fn writer(&self, url: &str) -> Result<Box<dyn FileWrite>> {
        Ok(match self.place(url)? {
            Place::File(path) => {
                let made = LocalWrite::new(url, path).map_err(|error| failed("cannot write", url, error))?;
                Box::new(made)
            }
            Place::Object(bucket, key) => {
                let writer = bucket.writer_with(&key).chunk(PART_BYTES).await;
                let writer = writer.map_err(|error| failed("cannot write", url, error))?;
                Box::new(ObjectWrite { url: url.to_owned(), writer })
            }
        })
    }

    async fn delete(&self, url: &str) -> Result<()> {
        match self.place(url)? {
            Place::File(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("cannot delete", url, error)),
                _ => Ok(()),
            },
            Place::Object(bucket, key) => {
                bucket.delete(&key).await.map_err(|error| failed("cannot delete", url, error))
            }
        }
    }

    async fn delete_prefix(&self, url: &str) -> Result<()> {
        for file in self.list(url).await? {
            self.delete(&file.url).await?;
        }
        Ok(())
    }

    async fn delete_stream(&self, mut urls: BoxStream<'static, String>) -> Result<()> {
        while let Some(url) = urls.next().await {
            self.delete(&url).await?;
        }
        Ok(())
    }

    fn new_input(&self, url: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), url.to_owned()))
    }

    fn new_output(&self, url: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), url.to_owned()))
    }
}

struct LocalRead {
    url: String,
    path: PathBuf,
}

#[async_trait]
impl FileRead for LocalRead {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(range.start))?;
            let mut bytes = Vec::new();
            file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map(Bytes::from).map_err(|error| failed("cannot read", &self.url, error))
    }
}

struct ObjectRead {
    url: String,
    reader: opendal::Reader,
}

#[async_trait]
impl FileRead for ObjectRead {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let read = self.reader.read(range).await;
        read.map(|buffer| buffer.to_bytes()).map_err(|error| failed("cannot read", &self.url, error))
    }
}

struct LocalWrite {
    url: String,
    path: PathBuf,
    file: std::fs::File,
    /// Folders that were made for it: their entries have to be durable too.
    made: Vec<PathBuf>,
    is_finished: bool,
}

impl LocalWrite {
    fn new(url: &str, path: PathBuf) -> std::io::Result<Self> {
        let mut made = Vec::new();
        let mut folder = path.parent();
        while let Some(missing) = folder.filter(|folder| !folder.exists()) {
            folder = missing.parent();
            made.extend(folder.map(Path::to_owned));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = std::fs::File::create(&path)?;
        Ok(Self { url: url.to_owned(), path, file, made, is_finished: false })
    }

    fn sync(&self) -> std::io::Result<()> {
        self.file.sync_all()?;
        for folder in self.path.parent().into_iter().chain(self.made.iter().map(PathBuf::as_path)) {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for LocalWrite {
    fn drop(&mut self) {
        // No commit names a file that was not finished, and on a full disk what is left of each attempt would take the
        // last of the space.
        if !self.is_finished && std::fs::remove_file(&self.path).is_err() {
            tracing::debug!(url = self.url, "a file that was begun stays behind");
        }
    }
}

#[async_trait]
impl FileWrite for LocalWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.file.write_all(&bytes).map_err(|error| failed("cannot write", &self.url, error))
    }

    async fn close(&mut self) -> Result<()> {
        self.sync().map_err(|error| failed("cannot sync", &self.url, error))?;
        self.is_finished = true;
        Ok(())
    }
}

struct ObjectWrite {
    url: String,
    writer: opendal::Writer,
}

#[async_trait]
impl FileWrite for ObjectWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.writer.write(bytes).await.map_err(|error| failed("cannot write", &self.url, error))
    }

    async fn close(&mut self) -> Result<()> {
        let closed = self.writer.close().await;
        closed.map(drop).map_err(|error| failed("cannot finish", &self.url, error))
    }
}

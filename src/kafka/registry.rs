//! A client of Confluent's schema registry REST API, as far as Ledgerhook needs it.
//!
//! Looked at before writing it: `schema_registry_converter` 6.0 remembers most failures for ever, so one bad minute of
//! the registry would need a restart, and keys its encoders by subject rather than schema; `schema-registry-client`
//! 0.4 brings rule engines and key management that nothing here uses. What is left is four requests.
//!
//! Source of the format: <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::avro::{self, AvroError, Schema};
use crate::config;

/// Most schemas by id that are kept parsed. Ids come from records, which a stranger on the topic could invent.
const MAX_CACHED_SCHEMAS: usize = 1000;
/// Largest id that a registry gives: Confluent's are Java's integers. A larger one, which only a stranger's bytes have, is
/// not asked for: Confluent's registry has no such path, and that answer is none about a schema.
const MAX_ID: u32 = i32::MAX as u32;
/// `error_code` of a registry that knows no schema of the id; the status alone is any server's for a wrong path.
const SCHEMA_NOT_FOUND: u32 = 40403;

/// Why the registry did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer, or one that says to try later: waiting may help.
    #[error("schema registry {url}: {what}: {detail}")]
    Away {
        /// Address of the registry.
        url: String,
        /// What was asked.
        what: String,
        /// What happened instead.
        detail: String,
    },
    /// It refused for good.
    #[error("schema registry {url}: {what}: {status} ({code}) {message}")]
    Refused {
        /// Address of the registry.
        url: String,
        /// What was asked.
        what: String,
        /// HTTP status.
        status: u16,
        /// `error_code` of its answer; 0 where it has none.
        code: u32,
        /// The registry's message.
        message: String,
    },
    /// It does not know the schema id.
    #[error("schema registry {url} knows no schema {id}")]
    UnknownId {
        /// Address of the registry.
        url: String,
        /// The id asked for.
        id: u32,
    },
    /// The schema it gave cannot be used.
    #[error(transparent)]
    Schema(#[from] AvroError),
}

impl RegistryError {
    /// Whether waiting may help.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// A schema registry, with what it was asked before.
pub struct Registry {
    http: reqwest::Client,
    url: String,
    auth: config::RegistryAuth,
    schemas: RwLock<HashMap<u32, Arc<Schema>>>,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Text {
    schema: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl Registry {
    /// The registry of this configuration; asks nothing yet.
    ///
    /// # Errors
    /// When no HTTP client can be made (no TLS roots).
    pub fn new(config: &config::SchemaRegistry) -> Result<Self, RegistryError> {
        let url = config.url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout.min(Duration::from_secs(3)))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| RegistryError::Away { url: url.clone(), what: "client".into(), detail: e.to_string() })?;
        Ok(Self { http, url, auth: config.auth.clone(), schemas: RwLock::default() })
    }

    /// Id of one of our schemas under `subject`, where it is registered there.
    ///
    /// # Errors
    /// When the registry is away or refuses.
    pub async fn lookup(&self, subject: &str, schema: &str) -> Result<Option<u32>, RegistryError> {
        let body = json!({ "schema": avro::canonical(schema)? });
        let what = format!("look up {schema} in {subject}");
        match self.ask(Method::POST, &format!("/subjects/{subject}"), Some(body), &what).await {
            Ok(Id { id }) => Ok(Some(id)),
            Err(RegistryError::Refused { status: 404, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Registers one of our schemas under `subject`; its id, also when it was there already.
    ///
    /// # Errors
    /// When the registry is away, or refuses: an incompatible schema is 409.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        // Registering anew may burn an id even where the same schema is there.
        if let Some(id) = self.lookup(subject, schema).await? {
            return Ok(id);
        }
        let body = json!({ "schema": avro::canonical(schema)? });
        let what = format!("register {schema} as {subject}");
        let Id { id } = self.ask(Method::POST, &format!("/subjects/{subject}/versions"), Some(body), &what).await?;
        Ok(id)
    }

    /// Fixes `FULL_TRANSITIVE` for `subject`, whatever the registry's own default is. Does nothing where the registry
    /// knows no such subject yet.
    ///
    /// # Errors
    /// When the registry is away or refuses.
    pub async fn require_full_transitive(&self, subject: &str) -> Result<(), RegistryError> {
        let body = json!({ "compatibility": "FULL_TRANSITIVE" });
        let what = format!("set the compatibility of {subject}");
        match self.ask::<serde_json::Value>(Method::PUT, &format!("/config/{subject}"), Some(body), &what).await {
            Ok(_) | Err(RegistryError::Refused { status: 404, .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether the schema could follow all versions of `subject`; true where there are none.
    ///
    /// # Errors
    /// When the registry is away or refuses to say.
    pub async fn is_compatible(&self, subject: &str, schema: &str) -> Result<bool, RegistryError> {
        #[derive(Deserialize)]
        struct Verdict {
            is_compatible: bool,
        }
        let body = json!({ "schema": avro::canonical(schema)? });
        let what = format!("compare {schema} with {subject}");
        let path = format!("/compatibility/subjects/{subject}/versions");
        match self.ask::<Verdict>(Method::POST, &path, Some(body), &what).await {
            Ok(verdict) => Ok(verdict.is_compatible),
            Err(RegistryError::Refused { status: 404, .. }) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// The schema of this id, from memory where it was asked before: ids never change their schema.
    ///
    /// # Errors
    /// When the registry is away, does not know the id, or gives something that is no Avro schema. A refusal counts as
    /// away: an expired token or a proxy's page says nothing about the id, and whoever asks would give a record up for it.
    pub async fn schema(&self, id: u32) -> Result<Arc<Schema>, RegistryError> {
        if let Some(schema) = self.cached(id) {
            return Ok(schema);
        }
        let unknown = || RegistryError::UnknownId { url: self.url.clone(), id };
        if id > MAX_ID {
            return Err(unknown());
        }
        let what = format!("get schema {id}");
        let text: Text = match self.ask(Method::GET, &format!("/schemas/ids/{id}"), None, &what).await {
            Ok(text) => text,
            Err(RegistryError::Refused { status: 404, code: SCHEMA_NOT_FOUND, .. }) => return Err(unknown()),
            Err(RegistryError::Refused { url, what, status, code, message }) => {
                return Err(RegistryError::Away { url, what, detail: format!("answered {status} ({code}) {message}") });
            }
            Err(e) => return Err(e),
        };
        let schema = Arc::new(Schema::parse(&format!("of id {id}"), &text.schema)?);
        self.remember(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// Keeps the schema of an id that is known without asking for it.
    pub(super) fn remember(&self, id: u32, schema: Arc<Schema>) {
        if let Ok(mut schemas) = self.schemas.write() {
            if schemas.len() >= MAX_CACHED_SCHEMAS {
                schemas.clear();
            }
            schemas.insert(id, schema);
        }
    }

    /// The schema of this id, if it is known without asking.
    #[must_use]
    pub fn cached(&self, id: u32) -> Option<Arc<Schema>> {
        self.schemas.read().ok()?.get(&id).cloned()
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        what: &str,
    ) -> Result<T, RegistryError> {
        let away = |detail: String| RegistryError::Away { url: self.url.clone(), what: what.to_owned(), detail };
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        request = match &self.auth {
            config::RegistryAuth::None => request,
            config::RegistryAuth::Basic { user, password } => request.basic_auth(user, password.expose_str()),
            config::RegistryAuth::Bearer(token) => request.bearer_auth(token.expose_str().unwrap_or_default()),
        };
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.schemaregistry.v1+json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|e| away(chain(&e)))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| away(chain(&e)))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|e| away(format!("unreadable answer: {e}")));
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
        {
            return Err(away(format!("answered {status}")));
        }
        let refusal: Refusal = serde_json::from_str(&text).unwrap_or(Refusal { error_code: 0, message: String::new() });
        Err(RegistryError::Refused {
            url: self.url.clone(),
            what: what.to_owned(),
            status: status.as_u16(),
            code: refusal.error_code,
            message: refusal.message.chars().take(500).collect(),
        })
    }
}

/// An error with its causes: reqwest's own text stops at "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Config;

    /// Address of a server that answers everything like this.
    async fn answering(status: &'static str, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                drop(stream.read(&mut [0; 4096]).await);
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            }
        });
        format!("http://{address}")
    }

    async fn ask(url: String, id: u32) -> Result<Arc<Schema>, RegistryError> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let config = Config::defaults().unwrap_or_else(|faults| panic!("{faults}")).schema_registry;
        Registry::new(&config::SchemaRegistry { url, ..config }).unwrap().schema(id).await
    }

    #[tokio::test]
    async fn only_a_registry_that_says_so_does_not_know_an_id() {
        for (status, body) in [
            ("302 Found", ""),
            ("400 Bad Request", "{}"),
            ("401 Unauthorized", r#"{"error_code":40101,"message":"token expired"}"#),
            ("403 Forbidden", "no"),
            ("404 Not Found", "<html>no such page</html>"),
            ("404 Not Found", r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
            ("404 Not Found", r#"{"error_code":40401,"message":"Subject not found"}"#),
            ("429 Too Many Requests", ""),
            ("500 Internal Server Error", ""),
            ("200 OK", "<html>log in</html>"),
        ] {
            let error = ask(answering(status, body).await, 7).await.unwrap_err();
            assert!(error.is_away(), "{status} {body}: {error}");
            let (code, said) = (&status[..3], error.to_string());
            assert!(said.contains("get schema 7") && (code == "200" || said.contains(code)), "{said}");
            assert!(!body.contains("token expired") || said.contains("401 (40101) token expired"), "{said}");
        }
        let unknown = answering("404 Not Found", r#"{"error_code":40403,"message":"Schema 7 not found"}"#).await;
        assert!(matches!(ask(unknown, 7).await, Err(RegistryError::UnknownId { id: 7, .. })));
        let known = answering("200 OK", r#"{"schema":"\"int\""}"#).await;
        assert!(ask(known, 7).await.is_ok());
        let foreign = answering("200 OK", r#"{"schema":"message M {}","schemaType":"PROTOBUF"}"#).await;
        assert!(matches!(ask(foreign, 7).await, Err(RegistryError::Schema(_))));
    }

    #[tokio::test]
    async fn an_id_that_no_registry_gives_is_not_asked_for() {
        // Nothing listens there: whoever asked would find it away.
        let nowhere = "http://127.0.0.1:9".to_owned();
        assert!(ask(nowhere.clone(), MAX_ID).await.unwrap_err().is_away());
        assert!(matches!(ask(nowhere, MAX_ID + 1).await, Err(RegistryError::UnknownId { .. })));
    }
}

//! The catalog of a configuration: SQL or REST, with the store behind it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use iceberg::io::{S3_ACCESS_KEY_ID, S3_ENDPOINT, S3_PATH_STYLE_ACCESS, S3_REGION, S3_SECRET_ACCESS_KEY};
use iceberg::{Catalog, CatalogBuilder as _, NamespaceIdent};
use iceberg_catalog_rest::{REST_CATALOG_PROP_URI, REST_CATALOG_PROP_WAREHOUSE, RestCatalogBuilder};
use iceberg_catalog_sql::{
    SQL_CATALOG_PROP_BIND_STYLE, SQL_CATALOG_PROP_URI, SQL_CATALOG_PROP_WAREHOUSE, SqlBindStyle, SqlCatalogBuilder,
};

use super::error::Error;
use super::store::{Store, Stores};
use crate::config::{self, CatalogKind, Secret};

/// Connects to the catalog; makes what a local one needs. A token that expired is had anew by connecting again.
///
/// # Errors
/// When it cannot be reached, or the configuration cannot work.
pub(super) async fn open(lake: &config::Lake) -> Result<Arc<dyn Catalog>, Error> {
    let mut settings = store_settings(lake)?;
    let failed = Error::catalog("cannot open the catalog");
    match lake.catalog.kind {
        CatalogKind::Sql => {
            let (uri, bind) = match lake.catalog.uri.strip_prefix("sqlite:") {
                Some(path) => {
                    let path = path.strip_prefix("//").unwrap_or(path);
                    if let Some(folder) = Path::new(path).parent() {
                        let unmade = |error| Error::Config(format!("cannot make {}: {error}", folder.display()));
                        std::fs::create_dir_all(folder).map_err(unmade)?;
                    }
                    (format!("sqlite://{path}?mode=rwc"), SqlBindStyle::QMark)
                }
                None => (with_login(&lake.catalog)?, SqlBindStyle::DollarNumeric),
            };
            settings.insert(SQL_CATALOG_PROP_URI.to_owned(), uri);
            settings.insert(SQL_CATALOG_PROP_WAREHOUSE.to_owned(), warehouse(lake)?);
            settings.insert(SQL_CATALOG_PROP_BIND_STYLE.to_owned(), bind.to_string());
            let builder = SqlCatalogBuilder::default().with_storage_factory(Arc::new(Stores));
            let opened = tokio::time::timeout(lake.catalog.timeout, builder.load(&lake.catalog.name, settings)).await;
            let late = || Error::Config(format!("the catalog did not answer within {:?}", lake.catalog.timeout));
            Ok(Arc::new(opened.map_err(|_| late())?.map_err(failed)?))
        }
        CatalogKind::Rest => {
            let client = reqwest_for_iceberg::Client::builder()
                .timeout(lake.catalog.timeout)
                .connect_timeout(lake.catalog.timeout)
                .build()
                .map_err(|error| Error::Config(format!("no HTTP client: {error}")))?;
            let uri = lake.catalog.uri.trim_end_matches('/').to_owned();
            settings.insert(REST_CATALOG_PROP_URI.to_owned(), uri);
            settings.insert(REST_CATALOG_PROP_WAREHOUSE.to_owned(), lake.warehouse.clone());
            let catalog = &lake.catalog;
            for (name, secret) in [("token", &catalog.token), ("credential", &catalog.credential)] {
                if let Some(secret) = secret {
                    settings.insert(name.to_owned(), text(secret, name)?);
                }
            }
            for (name, value) in [("oauth2-server-uri", &catalog.oauth2_server_uri), ("scope", &catalog.scope)] {
                settings.extend(value.clone().map(|value| (name.to_owned(), value)));
            }
            let builder = RestCatalogBuilder::default().with_client(client).with_storage_factory(Arc::new(Stores));
            Ok(Arc::new(builder.load(&catalog.name, settings).await.map_err(failed)?))
        }
    }
}

/// The store of the configuration, for what the library cannot do: listing.
///
/// # Errors
/// When a secret is no text.
pub(super) fn store(lake: &config::Lake) -> Result<Store, Error> {
    Ok(Store::new(store_settings(lake)?))
}

/// The namespace of the tables.
///
/// # Errors
/// Never for a configuration that was read: its levels are not empty.
pub(super) fn namespace(lake: &config::Lake) -> Result<NamespaceIdent, Error> {
    NamespaceIdent::from_strs(lake.namespace.split('.')).map_err(Error::catalog("the namespace"))
}

/// The warehouse as a URL: other engines have another working directory.
fn warehouse(lake: &config::Lake) -> Result<String, Error> {
    let warehouse = lake.warehouse.trim_end_matches('/');
    let Some(path) = warehouse.strip_prefix("file://").or_else(|| warehouse.strip_prefix("file:")) else {
        return Ok(warehouse.to_owned());
    };
    let path = std::path::absolute(path).map_err(|error| Error::Config(format!("{path}: {error}")))?;
    Ok(format!("file://{}", path.display()))
}

fn store_settings(lake: &config::Lake) -> Result<HashMap<String, String>, Error> {
    let mut settings = HashMap::new();
    let s3 = &lake.s3;
    for (name, value) in [(S3_ENDPOINT, &s3.endpoint), (S3_REGION, &s3.region)] {
        settings.extend(value.clone().map(|value| (name.to_owned(), value)));
    }
    if s3.path_style {
        settings.insert(S3_PATH_STYLE_ACCESS.to_owned(), "true".to_owned());
    }
    for (name, value) in [(S3_ACCESS_KEY_ID, &s3.access_key_id), (S3_SECRET_ACCESS_KEY, &s3.secret_access_key)] {
        if let Some(secret) = value {
            settings.insert(name.to_owned(), text(secret, name)?);
        }
    }
    Ok(settings)
}

/// The database's address with its login, each part percent-encoded.
fn with_login(catalog: &config::Catalog) -> Result<String, Error> {
    let Some(login) = &catalog.login else { return Ok(catalog.uri.clone()) };
    let login = text(login, "login")?;
    let (user, password) = login.split_once(':').unwrap_or((&login, ""));
    let encoded = |part: &str| {
        part.bytes().fold(String::new(), |text, byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                text + char::from(byte).encode_utf8(&mut [0; 4])
            }
            byte => text + &format!("%{byte:02X}"),
        })
    };
    let (scheme, rest) = catalog.uri.split_once("://").unwrap_or(("postgres", &catalog.uri));
    Ok(format!("{scheme}://{}:{}@{rest}", encoded(user), encoded(password)))
}

fn text(secret: &Secret, name: &str) -> Result<String, Error> {
    secret.expose_str().map(str::to_owned).ok_or_else(|| Error::Config(format!("{name} is not UTF-8")))
}

//! The arrows between modules go one way, and only the modules named own a library: checked on the source itself.
#![expect(clippy::unwrap_used, reason = "the lint's allowance for tests does not reach their helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the bottom up. A module may use what stands in a row before its own, and nothing else of the crate.
/// Those of one row are stages side by side, which meet in Kafka topics alone.
const ROWS: &[&[&str]] = &[
    &["config"],
    &["event", "outcome"],
    &["topics"],
    &["avro", "signature", "telemetry", "instance"],
    &["lifecycle"],
    &["kafka"],
    &["spool"],
    &["server"],
    &["targets"],
    &["receiver", "router", "delivery", "lake", "console", "simulate", "ledger", "operate"],
    &["app"],
    &["cli"],
];

/// Libraries with the only places that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("rdkafka", &["src/kafka/"]),
    ("fjall", &["src/router/state/"]),
    ("axum", &["src/console/", "src/simulate/"]),
    ("hyper_util", &["src/server", "src/receiver/", "src/console/", "src/simulate/"]),
    ("reqwest", &["src/kafka/registry.rs", "src/targets/", "src/simulate/"]),
    ("tokio_rustls", &["src/server/"]),
    ("arrow_array", &["src/lake/"]),
    ("arrow_schema", &["src/lake/"]),
    ("iceberg", &["src/lake/"]),
    ("iceberg_catalog_rest", &["src/lake/catalog.rs"]),
    ("iceberg_catalog_sql", &["src/lake/catalog.rs"]),
    ("opendal", &["src/lake/store.rs"]),
    ("parquet", &["src/lake/files.rs"]),
    ("x509_cert", &["src/config/tls.rs", "src/server/"]),
    ("ipnet", &["src/config/ranges.rs"]),
    ("serde_avro_fast", &["src/avro.rs"]),
    ("prometheus", &["src/telemetry/", "src/app.rs"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/"]),
    ("anyhow", &["src/cli/"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 30, "the walk found too little: {found:?}");
    found
}

/// Code without comments and without its tests: from `#[cfg(test)]` on nothing but tests follows in our files.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn module(path: &Path) -> String {
    let second = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    second.trim_end_matches(".rs").to_owned()
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// First segments behind `crate::` in the code, also in `use crate::{a, b}`.
fn uses(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(used.insert(word(rest))),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (n, c) in list.char_indices() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            used.insert(word(&list[n..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    used
}

#[test]
fn arrows_go_one_way() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let module = module(&path);
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(own) = row(&module) else {
            faults.push(format!("{}: module {module} has no row", path.display()));
            continue;
        };
        for used in uses(&code(&text)) {
            match row(&used) {
                _ if used == module => {}
                Some(other) if other < own => {}
                // The words may show each other.
                Some(other) if other == own && own == 1 => {}
                Some(_) => faults.push(format!("{}: {module} must not use {used}", path.display())),
                None => {}
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn libraries_have_their_owners() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let code = code(&text);
        for (library, owners) in OWNERS {
            let named = code.contains(&format!("{library}::"));
            let may = owners.iter().any(|owner| path.to_str().unwrap().starts_with(owner));
            if named && !may {
                faults.push(format!("{} names {library}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in sources() {
        let is_test = path.ends_with("tests.rs") || path.to_str().unwrap().contains("/tests/");
        assert!(is_test || text.starts_with("//!"), "{} does not begin with //!", path.display());
        assert!(text.lines().count() <= 600, "{} is over 600 lines", path.display());
    }
}

#[test]
fn the_reading_of_uses_sees_every_form() {
    let text = "use crate::{app, b::{c, d}, e};\nlet x = crate::f::g();\nuse crate::h;";
    let used: Vec<String> = uses(text).into_iter().collect();
    assert_eq!(used, ["app", "b", "e", "f", "h"]);
}

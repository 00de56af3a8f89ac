//! `default.toml` is the manual: complete, and nothing in it but what is true.

use std::collections::{BTreeMap, BTreeSet};

use super::{env, good};
use crate::config::fault::Place;
use crate::config::reader::{Context, DESCRIPTION};
use crate::config::tree::{self, Node, Table, Value};
use crate::config::{Config, DEFAULT_TOML};

/// `default.toml` with the options that are commented out.
fn documented_text() -> String {
    let uncommented = DEFAULT_TOML.lines().map(|line| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => option,
        _ => line,
    });
    uncommented.map(|line| line.to_owned() + "\n").collect()
}

/// Option to its value, in the form in which the reader records options: `*` for names and positions.
fn leaves(path: &str, table: &Table, found: &mut BTreeMap<String, Node>) {
    for (key, node) in table {
        let named = ["sources", "targets"].contains(&path);
        let key = if named { "*" } else { key };
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match &node.value {
            Value::Table(below) => {
                found.insert(path.clone(), node.clone());
                leaves(&path, below, found);
            }
            Value::List(items) if matches!(items.first().map(|item| &item.value), Some(Value::Table(_))) => {
                found.insert(path.clone(), node.clone());
                for item in items {
                    if let Value::Table(below) = &item.value {
                        leaves(&format!("{path}[*]"), below, found);
                    }
                }
            }
            _ => {
                found.insert(path, node.clone());
            }
        }
    }
}

fn documented() -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    leaves("", &tree::parse(&documented_text(), &Place::start_of("default.toml")).unwrap(), &mut found);
    found
}

/// Every option that reading the documented text asks for, with its limits.
fn options() -> BTreeMap<String, String> {
    let cx = Context::new(&env);
    let table = Config::layers(&cx, &documented_text(), "default.toml", &[]).unwrap();
    Config::read(&cx, "default.toml", table);
    // Options of descriptions stand in a page of their own.
    cx.options().into_iter().filter(|(path, _)| !path.starts_with(DESCRIPTION)).collect()
}

/// Every option of a description, by its last part.
fn described() -> BTreeSet<String> {
    let cx = Context::new(&env);
    let text = "[targets.t]\npreset = \"tests/it/targets/everything.toml\"\nrecords = [\"cases\"]\nstart = \"now\"\n";
    let table = Config::layers(&cx, text, "t.toml", &[]).unwrap();
    Config::read(&cx, "t.toml", table);
    let options = cx.options().into_keys().filter(|path| path.starts_with(DESCRIPTION));
    options.filter_map(|path| path.rsplit('.').next().map(str::to_owned)).filter(|key| key != "*").collect()
}

#[test]
fn every_option_of_a_description_has_its_place_in_the_reference() {
    let reference = include_str!("../../../docs/targets/FORMAT.md");
    let options = described();
    assert!(options.len() > 40, "{options:?}");
    let missing: Vec<_> = options.iter().filter(|option| !reference.contains(&format!("`{option}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_option_is_documented_and_every_documented_option_exists() {
    let free = ["kafka.properties.", "routes[*].set.", "routes[*].rename."];
    let documented: BTreeSet<String> =
        documented().into_keys().filter(|path| !free.iter().any(|free| path.starts_with(free))).collect();
    let sections: BTreeSet<String> = documented_sections(&documented);
    let options: BTreeSet<String> = options().into_keys().collect();
    assert_eq!(
        documented.difference(&sections).cloned().collect::<BTreeSet<_>>(),
        options.difference(&sections).cloned().collect()
    );
    assert!(options.is_subset(&documented), "{:?}", options.difference(&documented));
}

/// Paths that are tables of options rather than options.
fn documented_sections(documented: &BTreeSet<String>) -> BTreeSet<String> {
    let below = |path: &str| [format!("{path}."), format!("{path}[*].")];
    let is_section =
        |path: &String| documented.iter().any(|other| below(path).iter().any(|start| other.starts_with(start)));
    documented.iter().filter(|path| is_section(path)).cloned().collect()
}

#[test]
fn documented_options_are_read_without_a_fault() {
    let mut text = documented_text();
    for (documented, coherent) in [
        // The registry's token is the other way to log in, and may not stand beside user and password.
        ("token = \"env:REGISTRY_TOKEN\"\n", ""),
        // A catalog is logged in to one way.
        ("token = \"env:CATALOG_TOKEN\"\n", ""),
        // A time has one place, and places are for what is signed.
        ("timestamp_member = \"t=\"\n", ""),
        ("signed = \"{body}\"", "signed = \"{id}.{timestamp}.{body}\""),
        ("unsigned_headers = false", "unsigned_headers = true"),
    ] {
        assert_eq!(text.matches(documented).count(), 1, "{documented}");
        text = text.replace(documented, coherent);
    }
    let dir = super::tls::files(2020..4096);
    let of = |name: &str| dir.path().join(name).display().to_string();
    let text = text.replace("/etc/ledgerhook/tls.key", &of("key.pem"));
    let text = ["tls.pem", "clients.pem", "orders-clients.pem"]
        .into_iter()
        .fold(text, |text, name| text.replace(&format!("/etc/ledgerhook/{name}"), &of("cert.pem")));
    good(&text);
}

#[test]
fn limits_are_documented_as_they_are_checked() {
    let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
    for (option, limits) in options() {
        let Some(Place::Line { line, .. }) = documented().get(&option).map(|node| node.place.clone()) else {
            panic!("{option} is not documented");
        };
        let above = lines[..line - 1].iter().rev().take_while(|line| line.starts_with("# "));
        let words: Vec<&str> =
            above.collect::<Vec<_>>().into_iter().rev().flat_map(|line| line[2..].split(' ')).collect();
        assert!(words.join(" ").contains(&limits), "{option}: {limits}");
    }
}

#[test]
fn documented_defaults_of_sources_and_targets_are_those_of_their_base() {
    let documented = documented();
    for (kind, base) in [
        ("sources", include_str!("../../../config/sources/hmac.toml")),
        ("targets", include_str!("../../../config/targets.toml")),
    ] {
        let mut found = BTreeMap::new();
        leaves(&format!("{kind}.*"), &tree::parse(base, &Place::start_of("base")).unwrap(), &mut found);
        assert!(found.len() > 5);
        for (option, node) in found {
            let shown = |node: &Node| match &node.value {
                Value::Table(_) => String::new(),
                // Places differ, values must not.
                Value::List(items) => {
                    format!("{:?}", items.iter().map(|item| format!("{:?}", item.value)).collect::<Vec<_>>())
                }
                value => format!("{value:?}"),
            };
            assert_eq!(documented.get(&option).map(shown), Some(shown(&node)), "{option}");
        }
    }
}

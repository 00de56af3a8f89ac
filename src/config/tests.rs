//! Whole configurations: what is read from them.

mod documents;
mod faults;
mod tls;

use std::time::Duration;

use super::presets::SOURCES;
use super::*;

const CANARY: &str = "canary-5f1c";

/// Every variable is set, to a secret.
fn env(_: &str) -> Option<String> {
    Some(CANARY.to_owned())
}

fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse(text, "t.toml", &env, &[])
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

const SOURCE: &str = "path = \"/p\"\nid = [\"/id\"]\ntype = [\"/type\"]\nscheme.header = \"X-S\"\nsecrets = [{ id = \"a\", value = \"env:S\" }]\n";

/// A generic source, with further lines.
fn source(name: &str, more: &str) -> String {
    let path = SOURCE.replace("/p", &format!("/{name}"));
    format!("[sources.{name}]\npreset = \"hmac\"\n{path}{more}\n")
}

/// A target of the sandbox, with further lines.
fn target(more: &str) -> String {
    format!("[targets.sandbox]\nrecords = [\"invoices\"]\nstart = \"now\"\n{more}\n")
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = Config::defaults().unwrap();
    assert_eq!(format!("{:?}", good("")), format!("{config:?}"));
    assert_eq!(format!("{:?}", good(DEFAULT_TOML)), format!("{config:?}"));
    assert!(config.sources.is_empty() && config.targets.is_empty());
    assert_eq!(config.routes.len(), 16);
    assert_eq!(config.kafka.bootstrap_servers, ["127.0.0.1:9092"]);
    assert_eq!(config.router.dedupe_window, Duration::from_secs(30 * 86_400));
    assert_eq!(config.receiver.max_header_bytes, 16_384);
    assert!(matches!(config.schema_registry.auth, RegistryAuth::None));
}

#[test]
fn built_in_sources_follow_their_guides() {
    let config = good(
        "[sources.accelex]\nsecrets = [{ id = \"a\", value = \"env:A\" }]\n[sources.accbooks]\nsecrets = [{ id = \"b\", value = \"env:B\" }]",
    );
    let accelex = &config.sources["accelex"];
    assert_eq!(accelex.path, "/api/accelex/webhook");
    assert_eq!(
        (&*accelex.id[0], &*accelex.event_type[0], &*accelex.time[0]),
        ("/event_id", "/event_type", "/created_at")
    );
    assert_eq!(accelex.scheme.header, "X-AccelEx-Signature");
    assert_eq!(accelex.scheme.encodings, [Encoding::Hex, Encoding::Base64]);
    assert_eq!((accelex.scheme.prefix.as_deref(), accelex.scheme.prefix_required), (Some("sha256="), false));
    assert_eq!((accelex.deadline, accelex.ack_budget()), (Duration::from_secs(5), Duration::from_secs(2)));
    let minutes: Duration = accelex.retry_schedule.iter().sum();
    assert_eq!((accelex.retry_schedule.len(), minutes.as_secs()), (4 + 23, 5 + 30 + 120 + 600 + 23 * 3_600));
    assert_eq!((accelex.max_body, accelex.routes.as_str()), (1 << 20, "accelex"));
    assert_eq!(accelex.test_types, ["test", "ping", "*.test"]);
    assert_eq!(accelex.secrets[0].value.expose(), CANARY.as_bytes());
    assert!(accelex.addresses.is_none() && accelex.client.is_none());

    let accbooks = &config.sources["accbooks"];
    assert_eq!((&*accbooks.id[0], &*accbooks.event_type[0]), ("/id", "/type"));
    assert_eq!(accbooks.scheme.header, "AccBooks-Signature");
    assert_eq!((accbooks.scheme.prefix.as_deref(), accbooks.scheme.prefix_required), (Some("sha256="), true));
    assert_eq!(accbooks.retry_schedule, [1, 2, 4, 8, 16].map(Duration::from_secs));
    assert_eq!(accbooks.deadline, Duration::from_secs(10));
}

#[test]
fn published_addresses_are_checked_when_asked_for() {
    let text = "[sources.accelex]\nallow_ips = true\nsecrets = [{ id = \"a\", value = \"env:A\" }]";
    let addresses = good(text).sources["accelex"].addresses.clone().unwrap();
    let holds = |address: &str| addresses.contains(address.parse().unwrap());
    assert!(holds("52.44.120.9") && holds("3.216.98.255") && holds("::ffff:3.216.98.1"));
    assert!(!holds("52.44.121.9") && !holds("127.0.0.1"));
    let own = text.replace("true", "true\nip_ranges = [\"2001:db8::/32\"]");
    let addresses = good(&own).sources["accelex"].addresses.clone().unwrap();
    assert!(addresses.contains("2001:db8::1".parse().unwrap()) && !addresses.contains("52.44.120.9".parse().unwrap()));
}

#[test]
fn every_preset_of_sources_needs_little() {
    for name in SOURCES.names() {
        let needed = match name {
            "hmac" => "path = \"/x\"\nid = [\"/id\"]\ntype = [\"/type\"]\nscheme.header = \"X-S\"\n",
            "standard-webhooks" => "path = \"/x\"\n",
            _ => "",
        };
        let secrets = "secrets = [{ id = \"a\", value = \"env:S\" }]\n";
        let key = if name == "standard-webhooks" { "whsec_Y2FuYXJ5" } else { CANARY };
        let text = format!("[sources.{name}]\n{needed}{secrets}");
        let config = Config::parse(&text, "t.toml", &|_| Some(key.to_owned()), &[]);
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(config.sources[name].preset, name);
    }
}

#[test]
fn what_is_signed_is_named_for_the_evidence() {
    let env = |_: &str| Some("whsec_Y2FuYXJ5".to_owned());
    for (name, notation) in [
        ("github", "hmac-sha256"),
        ("stripe", "hmac-sha256 {stripe-signature:t=}.{body}"),
        ("slack", "hmac-sha256 v0:{x-slack-request-timestamp}:{body}"),
        ("standard-webhooks", "hmac-sha256 {webhook-id}.{webhook-timestamp}.{body}"),
    ] {
        let text = format!("[sources.{name}]\npath = \"/x\"\nsecrets = [{{ id = \"a\", value = \"env:S\" }}]\n");
        let config = Config::parse(&text, "t.toml", &env, &[]).unwrap();
        assert_eq!(config.sources[name].scheme.notation(), notation);
    }
}

#[test]
fn built_in_routes_are_those_of_the_two_guides() {
    let config = Config::defaults().unwrap();
    let table: Vec<_> = config
        .routes
        .iter()
        .map(|r| (r.source.as_str(), r.event_type.as_str(), r.record.as_str(), r.entity.as_str()))
        .collect();
    assert_eq!(
        table,
        [
            ("accelex", "invoice.resolved", "invoices", "/invoice_id"),
            ("accelex", "contract.processed", "contracts", "/contract_id"),
            ("accelex", "case.closed", "cases", "/case_id"),
            ("accelex", "compliance.record_generated", "compliance", "/record_id"),
            ("accelex", "workflow.failed", "reviews", "/workflow_id"),
            ("accbooks", "invoice.created", "invoices", "/invoice_id"),
            ("accbooks", "invoice.sent", "invoices", "/invoice_id"),
            ("accbooks", "invoice.paid", "invoices", "/invoice_id"),
            ("accbooks", "invoice.overdue", "invoices", "/invoice_id"),
            ("accbooks", "transaction.created", "transactions", "/transaction_id"),
            ("accbooks", "transaction.classified", "transactions", "/transaction_id"),
            ("accbooks", "payroll.run_finalised", "compliance", "/payroll_run_id"),
            ("accbooks", "vat.return_filed", "compliance", "/vat_return_id"),
            ("accbooks", "company.year_end_closed", "compliance", "/company_id"),
            ("accbooks", "bank_feed.error", "cases", "/bank_feed_id"),
            ("accbooks", "bank_feed.synced", "feeds", "/bank_feed_id"),
        ]
    );
    for route in &config.routes {
        assert_eq!(route.members, if route.source == "accelex" { "/outcome" } else { "/data" });
        assert_eq!(
            route.set.keys().map(String::as_str).collect::<Vec<_>>(),
            match route.record.as_str() {
                "invoices" => vec!["direction", "status"],
                _ => vec![],
            }
        );
    }
}

#[test]
fn overrides_go_over_the_file() {
    let text =
        "[router]\ndedupe_window = \"9d\"\n[kafka.properties]\nsecurity.protocol = \"SSL\"\n".to_owned() + &target("");
    let overrides = [
        ("LEDGERHOOK__ROUTER__DEDUPE_WINDOW", "10d"),
        ("LEDGERHOOK__KAFKA__PARTITIONS", "3"),
        ("LEDGERHOOK__KAFKA__BOOTSTRAP_SERVERS", "[\"a:1\", \"b:2\"]"),
        ("LEDGERHOOK__KAFKA__PROPERTIES", "{ \"client.id\" = \"me\" }"),
        ("LEDGERHOOK__SOURCES__ACCELEX__SECRETS", "[{ id = \"a\", value = \"env:A\" }]"),
        ("LEDGERHOOK__TARGETS__SANDBOX__START", "earliest"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(&text, "t.toml", &env, &overrides).unwrap();
    assert_eq!(config.router.dedupe_window, Duration::from_secs(10 * 86_400));
    assert_eq!((config.kafka.partitions, config.kafka.bootstrap_servers.len()), (3, 2));
    assert_eq!(config.kafka.properties.keys().collect::<Vec<_>>(), ["client.id", "security.protocol"]);
    assert_eq!(config.sources["accelex"].secrets[0].id, "a");
    assert_eq!(config.targets["sandbox"].start, Start::Earliest);
}

#[test]
fn routes_are_replaced_and_added() {
    let config = good(
        "[[routes]]\nsource = \"accbooks\"\nevent_type = \"invoice.paid\"\nrecord = \"feeds\"\nmembers = \"\"\nentity = \"/x\"\n\
         [[routes]]\nsource = \"accelex\"\nevent_type = \"new.type\"\nrecord = \"cases\"\nmembers = \"/outcome\"\nentity = \"/y\"\n",
    );
    assert_eq!(config.routes.len(), 17);
    let record = |event_type: &str| &config.routes.iter().find(|r| r.event_type == event_type).unwrap().record;
    assert_eq!((record("invoice.paid").as_str(), record("new.type").as_str()), ("feeds", "cases"));
}

#[test]
fn whose_routes_a_source_reads() {
    let own = "[[routes]]\nsource = \"b\"\nevent_type = \"x\"\nrecord = \"cases\"\nmembers = \"/d\"\nentity = \"/y\"\n";
    let secrets = "secrets = [{ id = \"a\", value = \"env:A\" }]\n";
    let text = format!(
        "{own}[sources.a]\npreset = \"accelex\"\npath = \"/a\"\n{secrets}{}[sources.c]\npreset = \"accelex\"\nroutes = \"b\"\n{secrets}",
        source("b", "")
    );
    let config = good(&text);
    let routes: Vec<_> = config.sources.values().map(|s| (s.name.as_str(), s.routes.as_str())).collect();
    assert_eq!(routes, [("a", "accelex"), ("b", "b"), ("c", "b")]);
}

#[test]
fn where_a_target_starts() {
    for (written, start) in [
        ("\"now\"", Start::Now),
        ("\"earliest\"", Start::Earliest),
        ("\"2026-05-01T00:00:00Z\"", Start::At("2026-05-01T00:00:00Z".parse().unwrap())),
        ("2026-05-01T02:00:00+02:00", Start::At("2026-05-01T00:00:00Z".parse().unwrap())),
    ] {
        let config = good(&target("").replace("\"now\"", written));
        assert_eq!(config.targets["sandbox"].start, start, "{written}");
    }
}

const EXAMPLE: &str = include_str!("../../config/example.toml");

#[test]
fn the_example_is_complete_and_shows_no_secret() {
    let config = good(EXAMPLE);
    assert_eq!((config.sources.len(), config.targets.len(), config.routes.len()), (3, 2, 17));
    assert_eq!(config.kafka.properties["sasl.password"], CANARY);
    assert!(matches!(config.schema_registry.auth, RegistryAuth::Basic { .. }));
    let shown = format!("{config:?}\n{config:#?}");
    assert!(!shown.contains(CANARY), "{shown}");
    // Bytes of a secret would show as a list of numbers.
    assert!(!shown.contains("99, 97, 110, 97, 114, 121"), "{shown}");
}

#[test]
fn files_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.toml");
    let absent = Config::load(Some(&path)).unwrap_err().to_string();
    assert!(absent.contains("l.toml: cannot be read: "), "{absent}");
    std::fs::write(&path, "[kafka]\npartitions = 5\n").unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap().kafka.partitions, 5);
}

#[test]
fn a_lake_that_is_spoken_of_is_meant() {
    for (text, enabled) in [
        ("", false),
        ("[lake]\nnamespace = \"n\"", true),
        ("[lake]\nenabled = false\nnamespace = \"n\"", false),
        ("[lake]\nenabled = true", true),
        ("[lake.commit]\nrows = 5", true),
    ] {
        assert_eq!(good(text).lake.enabled, enabled, "{text}");
    }
    assert_eq!(
        good("[lake]\ncatalog = { kind = \"rest\", uri = \"https://c.example\" }").lake.catalog.kind,
        super::CatalogKind::Rest
    );
}

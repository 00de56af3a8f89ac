//! Files with faults, and what is said about them.

use super::{CANARY, parse, source, target};
use crate::config::Config;

fn faults(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn one_line_faults() {
    for (text, expected) in [
        ("dato_dir = \"x\"", "t.toml:1: dato_dir: is not an option; did you mean `data_dir`?"),
        ("[kafka]\ntopics = 1", "t.toml:2: kafka.topics: is not an option; known here: `bootstrap_servers`"),
        ("\n[pond]\nx = 1", "t.toml:2: pond: is not an option"),
        ("[lake]\nwarehouse = \"gs://b\"", "t.toml:2: lake.warehouse: is no place for files"),
        ("[lake]\nnamespace = \"a.B\"", "t.toml:2: lake.namespace: is not a usable namespace"),
        ("[lake.catalog]\nuri = \"postgres://u:p@h/d\"", "lake.catalog.uri: has a user or password in it"),
        ("[lake.catalog]\nkind = \"rest\"\nuri = \"sqlite:x\"", "lake.catalog.uri: is not an http or https URL"),
        ("[lake.s3]\naccess_key_id = \"env:A\"", "access_key_id: is not there together with `secret_access_key`"),
        ("[receiver.tls]\nkey = \"env:K\"", "t.toml:1: receiver.tls.certificate: is missing"),
        ("[receiver]\ntls = true", "t.toml:2: receiver.tls: is true or false, where a table is expected"),
        ("[receiver.spol]", "t.toml:1: receiver.spol: is not an option; did you mean `spool`?"),
        (
            "[receiver.spool]\nmax_size = \"8MiB\"",
            "t.toml:2: receiver.spool.max_size: is less than one segment; raise it, or lower `segment_size`",
        ),
        ("[receiver]\nbody_timeout = \"5\"", "t.toml:2: receiver.body_timeout: has no unit; \"5s\"?"),
        ("[receiver]\nbody_timeout = 5", "t.toml:2: receiver.body_timeout: is a number without a unit; \"5s\"?"),
        ("[receiver]\nbody_timeout = true", "is true or false, where a duration such as \"5s\" is expected"),
        ("[receiver]\nmax_header_bytes = 65536", "is a number without a unit; \"65536B\"?"),
        ("[receiver]\nmax_header_bytes = \"1GiB\"", "is 1GiB, where 8KiB to 256KiB is allowed"),
        ("[receiver]\nmax_in_flight = \"many\"", "is text, where a whole number is expected"),
        ("[receiver]\nmax_in_flight = 0", "is 0, where 1 to 65536 is allowed"),
        ("[receiver]\nmax_in_flight = 99999999999999999999", "is a fraction or a number beyond 64 bits"),
        ("[receiver]\nlisten = \"localhost:80\"", "t.toml:2: receiver.listen: is not an IP address and port"),
        (
            "[receiver]\ntrusted_proxies = [\"10.0.0.0/8\",\n\"10.0.0.1/8\"]",
            "t.toml:3: receiver.trusted_proxies[1]: has address bits behind its prefix; \"10.0.0.0/8\"?",
        ),
        ("receiver = 1", "t.toml:1: receiver: is a whole number, where a table is expected"),
        ("[router]\ndedupe_window = \"7d\"", "t.toml:2: router.dedupe_window: is 7d, where 8d to 400d is allowed"),
        ("[kafka]\nbootstrap_servers = []", "kafka.bootstrap_servers: names no broker"),
        ("[kafka]\nbootstrap_servers = \"a:1\"", "put it into brackets: bootstrap_servers = [\"...\"]"),
        (
            "[kafka]\nbootstrap_servers = [\"a:1\",\n\"b\"]",
            "t.toml:3: kafka.bootstrap_servers[1]: is not a host and port",
        ),
        ("[kafka]\nbootstrap_servers = [1]", "kafka.bootstrap_servers[0]: is a whole number, where text is expected"),
        ("[kafka]\ntopic_prefix = \"a b\"", "kafka.topic_prefix: cannot begin a topic's name"),
        (
            "[kafka.properties]\nacks = \"1\"",
            "t.toml:2: kafka.properties.acks: is refused: it would break the promise that an acknowledged event is durable",
        ),
        ("[kafka.properties]\nenable.auto.commit = true", "kafka.properties.enable.auto.commit: is refused"),
        ("[kafka.properties]\n\"bootstrap.servers\" = \"a:1\"", "use `kafka.bootstrap_servers`"),
        ("[kafka.properties]\nsasl.password = \"literal\"", "is not a reference to a secret"),
        ("[kafka.properties]\nx = []", "kafka.properties.x: is a list, where text is expected"),
        ("[schema_registry]\nurl = \"registry:8081\"", "schema_registry.url: is not an http or https URL"),
        ("[schema_registry.auth]", "t.toml:1: schema_registry.auth: says no way to log in"),
        ("[schema_registry.auth]\nuser = \"u\"\ntoken = \"env:T\"", "schema_registry.auth: says two ways to log in"),
        ("[schema_registry.auth]\nuser = \"u\"", "schema_registry.auth.password: is missing"),
        ("[admin]\nlisten = \"0.0.0.0:1\"", "t.toml:2: admin.listen: is reachable from other machines, and no token"),
        ("[admin]\ntoken = \"literal\"", "t.toml:2: admin.token: is not a reference to a secret"),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            "t.toml:2: admin.listen: `receiver.listen` and `admin.listen` are the same",
        ),
        ("[log]\nformat = \"jsn\"", "t.toml:2: log.format: is \"jsn\"; did you mean `json`?"),
        ("[log]\nlevel = \"inof\"", "t.toml:2: log.level: has no level `inof`"),
        ("[shutdown]\nbudget = \"1d\"", "shutdown.budget: is 1d, where 1s to 10m is allowed"),
        ("a = \n", "t.toml:1: is not TOML: "),
    ] {
        let said = faults(text);
        assert!(said.contains(expected) && said.lines().count() == 1, "{text}\n{said}");
    }
}

#[test]
fn faults_of_sources() {
    for (text, expected) in [
        ("[sources.accelex]".to_owned(), "t.toml:1: sources.accelex.secrets: is missing; as in secrets = ["),
        ("[sources.accelex]\nsecrets = []".to_owned(), "t.toml:2: sources.accelex.secrets: is empty"),
        ("[sources.accelex]\nsecrets = [1]".to_owned(), "sources.accelex.secrets[0]: is a whole number, where a table"),
        (
            "[sources.accelex]\nsecrets = \"env:A\"".to_owned(),
            "sources.accelex.secrets: is text, where a list of tables",
        ),
        (
            "[sources.acelex]".to_owned(),
            "t.toml:1: sources.acelex.preset: no preset is called `acelex`; did you mean `accelex`?",
        ),
        (
            "[sources.a]\npreset = \"paypal\"".to_owned(),
            "t.toml:2: sources.a.preset: no preset is called `paypal`; set `preset`",
        ),
        ("[sources.a]\npreset = 1".to_owned(), "t.toml:2: sources.a.preset: is a whole number"),
        ("sources.a = 1".to_owned(), "t.toml:1: sources.a: is a whole number, where a table is expected"),
        (source("A", ""), "t.toml:1: sources.A: is not a usable name"),
        (source("a", "") + &source("b", "").replace("/b", "/a"), "sources.b.path: is the path of source `a` too"),
        (source("a", "max_body = \"2MiB\""), "sources.a.max_body: is 2MiB, where 1B to 1MiB is allowed; four times"),
        (source("a", "ack_budget_percent = 100"), "sources.a.ack_budget_percent: is 100, where 5 to 80 is allowed"),
        (source("a", "allow_ips = true"), "t.toml:8: sources.a.allow_ips: is on, and `ip_ranges` is empty"),
        (source("a", "ip_ranges = [\"a.example\"]"), "sources.a.ip_ranges[0]: is not an address range; as in"),
        (source("a", "time = [\"created_at\"]"), "sources.a.time[0]: is not a JSON pointer; \"/created_at\"?"),
        (source("a", "").replace("[\"/id\"]", "[]"), "sources.a.id: names no pointer"),
        (source("a", "").replace("id = [\"/id\"]\n", ""), "t.toml:1: sources.a.id: is missing"),
        (source("a", "").replace("/a", "a"), "sources.a.path: is not a path"),
        (source("a", "").replace("/a", "/readyz"), "sources.a.path: is the receiver's own"),
        (source("a", "").replace("env:S", "literal"), "t.toml:7: sources.a.secrets[0].value: is not a reference"),
        (
            source("a", "").replace(", value = \"env:S\"", ""),
            "sources.a.secrets[0].value: is missing; write \"env:NAME\"",
        ),
        (source("a", "").replace("env:S\"", "env:S\", verify_only = true"), "are all `verify_only`"),
        (source("a", "").replace("env:S\"", "env:S\", verify = true"), "secrets[0].verify: is not an option"),
        (
            source("a", "").replace("}]", "}, { id = \"a\", value = \"env:T\" }]"),
            "sources.a.secrets[1].id: `a` is there twice",
        ),
        (source("a", "scheme.algorithm = \"sha256\""), "sources.a.scheme.algorithm: is \"sha256\"; it is one of"),
        (source("a", "scheme.encodings = []"), "sources.a.scheme.encodings: is empty"),
        (source("a", "scheme.encodings = [\"hax\"]"), "sources.a.scheme.encodings[0]: is \"hax\"; did you mean `hex`?"),
        (
            source("a", "scheme.prefix_required = true"),
            "sources.a.scheme.prefix_required: is true, and there is no prefix",
        ),
        (
            source("a", "scheme.signed = \"{url}{body}\""),
            "sources.a.scheme.signed: has another place than {id}, {timest",
        ),
        (source("a", "scheme.signed = \"{body}.\""), "sources.a.scheme.signed: does not end with {body}; as in"),
        (
            source("a", "scheme.signed = \"{timestamp}{body}\""),
            "sources.a.scheme.signed: has no text, or a digit, behind",
        ),
        (
            source("a", "scheme.signed = \"{timestamp}.{body}\""),
            "sources.a.scheme.signed: has {timestamp}, and nothing says where it stands; set `timestamp_header` or `time",
        ),
        (
            source("a", "scheme.signed = \"{id}.{body}\""),
            "sources.a.scheme.signed: has {id}, and nothing says where it stands; set `id_header`",
        ),
        (source("a", "scheme.id_header = \"X-I\""), "sources.a.scheme.id_header: is not signed: `signed` has no {id}"),
        (
            source("a", "scheme.timestamp_header = \"X-T\""),
            "sources.a.scheme.timestamp_header: is not signed: `signed` has no {timestamp}",
        ),
        (
            source("a", "scheme.signed = \"{timestamp}.{body}\"\nscheme.timestamp_member = \"t=\""),
            "sources.a.scheme.timestamp_member: is a member of the header, and nothing separates",
        ),
        (
            source(
                "a",
                "scheme.signed = \"{timestamp}.{body}\"\nscheme.timestamp_member = \"t=\"\nscheme.separator = \",\"\nscheme.timestamp_header = \"X-T\"",
            ),
            "sources.a.scheme.timestamp_member: is a second place for the time",
        ),
        (
            source("a", "scheme.separator = \",\"\nscheme.prefix = \"v1,\""),
            "sources.a.scheme.prefix: has the separator in it",
        ),
        (
            source("a", "scheme.separator = \"and\""),
            "sources.a.scheme.separator: is \"and\"; it is one of \",\", \";\", \" \"",
        ),
        (source("a", "scheme.tolerance = \"2d\""), "sources.a.scheme.tolerance: is 2d, where 1s to 1d is allowed"),
        (
            source("a", "scheme.key = \"whsec\""),
            "sources.a.secrets[0].value: leads to a secret that is not of the form",
        ),
        (source("a", "id_header = \"X-I\""), "sources.a.id_header: is not signed: whoever holds one signed body"),
        (
            source("a", "type_header = \"X-T\"").replace("[\"/type\"]", "[]"),
            "sources.a.type_header: is not signed: whoever holds one signed body",
        ),
        (source("a", "time_format = \"iso\""), "sources.a.time_format: is \"iso\"; it is one of"),
        (source("a", "").replace("X-S", "X S"), "sources.a.scheme.header: is not a header's name"),
        (source("a", "test_types = [\"a*b\"]"), "sources.a.test_types[0]: is not a pattern"),
        (source("a", "test_when = { pointer = \"/a\" }"), "sources.a.test_when.equals: is missing"),
        (source("a", "retry_schedule = [\"1ms\"]\nretry_until = \"1h\""), "makes more than 1000 attempts"),
        (source("a", "retry_schedule = [\"1\"]"), "sources.a.retry_schedule[0]: has no unit"),
    ] {
        let said = faults(&text);
        assert!(said.contains(expected) && said.lines().count() == 1, "{text}\n{said}");
    }
}

#[test]
fn faults_of_targets_and_routes() {
    let route = "[[routes]]\nsource = \"accelex\"\nevent_type = \"x\"\nrecord = \"cases\"\nmembers = \"/outcome\"\nentity = \"/id\"\n";
    for (text, expected) in [
        ("[targets.erp]\npreset = \"tryto\"".to_owned(), "t.toml:2: targets.erp.preset: no preset is called `tryto`"),
        (
            target("").replace("start = \"now\"\n", ""),
            "t.toml:1: targets.sandbox.start: is missing; \"now\", \"earliest\"",
        ),
        (target("").replace("records = [\"invoices\"]\n", ""), "t.toml:1: targets.sandbox.records: is missing"),
        (
            target("").replace("invoices", "invoice"),
            "targets.sandbox.records[0]: `invoice` is not a record topic; did you mean",
        ),
        (target("").replace("\"invoices\"", ""), "targets.sandbox.records: is empty"),
        (target("").replace("\"invoices\"", "\"cases\", \"cases\""), "targets.sandbox.records: names a topic twice"),
        (target("").replace("now", "soon"), "t.toml:3: targets.sandbox.start: is not a place to start"),
        (target("").replace("\"now\"", "2026-05-01"), "targets.sandbox.start: is not a place to start"),
        (target("url = \"https://u:p@h/\""), "targets.sandbox.url: has a user or password in it"),
        (target("proxy = \"http://u:p@h:1\""), "targets.sandbox.proxy: has a user or password in it"),
        (target("proxy = \"https://h:1\""), "targets.sandbox.proxy: is not the http URL of a proxy"),
        (target("proxy_login = \"env:P\""), "targets.sandbox.proxy_login: is there without `proxy`"),
        (
            target("on_give_up = \"drop\""),
            "targets.sandbox.on_give_up: is \"drop\"; it is one of \"dead_letter\", \"hold\"",
        ),
        (
            target("rate_limit = { requests = 0, per = \"1m\" }"),
            "rate_limit.requests: is 0, where 1 to 1000000 is allowed",
        ),
        (target("rate_limit = { requests = 9 }"), "targets.sandbox.rate_limit.per: is missing"),
        (target("tls = { client_key = \"env:K\" }"), "targets.sandbox.tls.client_certificate: is missing"),
        (target("tls = { ca = \"/etc/ca.pem\" }"), "targets.sandbox.tls.ca: is not a reference to a secret"),
        (target("timeout = \"1s\""), "t.toml:4: targets.sandbox.timeout: `connect_timeout` is longer than `timeout`"),
        (target("retry.first = \"1h\""), "t.toml:4: targets.sandbox.retry.first: `first` is longer than `max`"),
        (target("retry.give_up_after = \"1m\""), "t.toml:4: targets.sandbox.retry.give_up_after: `max` is longer than"),
        (
            target("").replace("sandbox", "webhook") + "url = \"https://h/\"",
            "targets.webhook.signing_secret: is missing",
        ),
        (
            target("settings.queue = \"x\"\n"),
            "t.toml:4: targets.sandbox.settings.queue: is not one of the preset's; this preset has none",
        ),
        (
            target("secrets.token = \"env:T\"\n"),
            "targets.sandbox.secrets.token: is not one of the preset's; known here",
        ),
        (
            route.replace("cases", "case"),
            "t.toml:4: routes[0].record: `case` is not a record topic; did you mean `cases`?",
        ),
        (route.replace("\"/outcome\"", "\"outcome\""), "t.toml:5: routes[0].members: is not a JSON pointer"),
        (route.replace("entity = \"/id\"\n", ""), "t.toml:1: routes[0].entity: is missing"),
        (
            route.replace("accelex", "acelex"),
            "t.toml:1: routes[0].source: no source reads the routes of `acelex`; did you mean",
        ),
        (format!("{route}{route}"), "t.toml:7: routes[1]: `x` of `accelex` has two routes"),
        (format!("{route}set = {{ A = \"b\" }}"), "t.toml:7: routes[0].set.A: is not a record field's name"),
        (format!("{route}rename = {{ a = \"b\" }}"), "t.toml:7: routes[0].rename.a: is not a JSON pointer"),
        (format!("{route}rename.a = \"/b\"\nset.a = \"c\""), "routes[0].rename: `a` stands in `set` too"),
        // Its own route is no second fault.
        (
            route.replace("accelex", "b") + "[sources.b]\npreset = \"paypal\"",
            "sources.b.preset: no preset is called `paypal`",
        ),
        (
            source("a", "routes = \"b\"") + &route.replace("accelex", "a"),
            "source `a` reads those of `b`: name `b` here",
        ),
        (
            source("a", "routes = \"accelx\""),
            "sources.a.routes: no route is there for `accelx`; did you mean `accelex`?",
        ),
        ("routes = 1".to_owned(), "t.toml:1: routes: is a whole number, where a list of tables is expected"),
    ] {
        let said = faults(&text);
        assert!(
            said.contains(expected) && (said.lines().count() == 1 || text.contains("routes = \"b\"")),
            "{text}\n{said}"
        );
    }
}

#[test]
fn all_faults_are_reported_at_once_in_order() {
    let text = "[log]\nlevel = \"loud\"\n[kafka]\npartitions = 0\nparts = 1\n[sources.accelex]\n[targets.t]\npreset = \"webhook\"\n";
    let missing = |_: &str| None;
    let overrides = [
        ("LEDGERHOOK__ROUTER__DEDUP_WINDOW".to_owned(), "30d".to_owned()),
        ("LEDGERHOOK__DATA_DIR__X".to_owned(), "1".to_owned()),
        ("LEDGERHOOK__ADMIN__TOKEN".to_owned(), "env:GONE".to_owned()),
    ];
    let said = Config::parse(text, "t.toml", &missing, &overrides).unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    let expected = [
        "log.level",
        "kafka.partitions",
        "kafka.parts",
        "sources.accelex.secrets",
        "targets.t.records",
        "targets.t.signing_secret",
        "targets.t.start",
        "targets.t.url",
        "admin.token",
        "data_dir",
        "router.dedup_window",
    ];
    assert_eq!(lines, expected, "{said}");
    assert!(said.contains("LEDGERHOOK__ADMIN__TOKEN: admin.token: environment variable `GONE` is not set; "), "{said}");
    assert!(said.contains("did you mean `dedupe_window`?"), "{said}");
}

#[test]
fn no_fault_quotes_what_may_be_a_secret() {
    for line in [
        "[admin]\ntoken = \"CANARY\"",
        "[schema_registry]\nurl = \"https://u:CANARY@h/\"",
        "[schema_registry]\nurl = \"CANARY\"",
        "[schema_registry.auth]\nuser = \"u\"\npassword = \"CANARY\"",
        "[kafka.properties]\nsasl.password = \"CANARY\"",
        "[kafka.properties]\nacks = \"CANARY\"",
        "[sources.accelex]\nsecrets = [\"CANARY\"]",
        "[sources.accelex]\nsecrets = [{ id = \"CANARY !\", value = \"CANARY\" }]",
        "[targets.webhook]\nsigning_secret = \"CANARY\"\nurl = \"https://h/?token=CANARY#\"",
        "[admin]\ntoken = \"CANARY",
        "[admin]\ntoken = CANARY",
        "[admin]\ntoken = \"CANARY\\q\"",
    ] {
        let faults = parse(&line.replace("CANARY", CANARY)).unwrap_err();
        assert!(!format!("{faults} {faults:?}").contains(CANARY), "{line}\n{faults}");
    }
}
